"""Where the programs come from: Debian packages, Go modules, a C compiler, this very checkout.

What is built lies in a directory outside the tree and is built once. What cannot be had raises
MissingError with the reason, which the report passes on. A package that starts a service when it is
installed is kept from doing so, and its service is disabled, so that nothing listens afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.peer import MissingError

BUILD = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dnsguard-bench"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # where servers live, which is not on everyone's PATH
START_POLICY = Path("/usr/sbin/policy-rc.d")  # Debian asks it before it starts a service
GO_FALLBACK = Path("/usr/local/go/bin/go")
BUILD_SECONDS = 1800


def which(program: str) -> Path | None:
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    return Path(found) if found else None


def attempt(what: str, command: Sequence[str], **environment: str) -> None:
    """Run a command to its end; MissingError with its last words if it fails."""
    try:
        run = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=BUILD_SECONDS,
            env=os.environ | environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{what} failed: {error}") from None
    if run.returncode:
        raise MissingError(f"{what} failed: {last_words(run.stdout)}")


def last_words(output: str) -> str:
    """The end of a failed command's output in one line, without the hosts it spoke to."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    kept = [line for line in lines if "downloading" not in line][-2:]
    return re.sub(r"https?://\S+", "the registry", " ".join(kept))[-300:] or "it said nothing"


# --- Debian --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DebianPackage:
    """A program of a Debian package, installed when we may."""

    package: str
    program: str
    services: tuple[str, ...] = ()

    def origin(self) -> str:
        return f"Debian package {self.package}"

    def there(self, build: Path) -> Path:
        """The program's path if it is installed; raises MissingError."""
        if found := which(self.program):
            return found
        raise MissingError(f"not installed; install it with: apt-get install {self.package}")

    def obtain(self, build: Path) -> Path:
        with contextlib.suppress(MissingError):
            return self.there(build)
        if os.geteuid() or not which("apt-get"):
            return self.there(build)  # which says how
        with no_service_starts():
            install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends"]
            update = ["apt-get", "-qq", "update"]
            attempt("apt-get update", update)
            attempt(
                f"apt-get install {self.package}",
                [*install, self.package],
                DEBIAN_FRONTEND="noninteractive",
            )
        if self.services and which("systemctl"):
            # Or it would come up at the next boot: it was installed to be measured, not to serve.
            subprocess.run(
                ["systemctl", "disable", *self.services], capture_output=True, check=False
            )
        if found := which(self.program):
            return found
        raise MissingError(f"the Debian package {self.package} has no program {self.program}")


@contextlib.contextmanager
def no_service_starts() -> Iterator[None]:
    """A policy that is there already stays as it is: it is the machine's owner's."""
    try:
        with START_POLICY.open("x") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
    except OSError:
        yield
        return
    try:
        START_POLICY.chmod(0o755)
        yield
    finally:
        START_POLICY.unlink()


# --- Go ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoModule:
    """A program of a Go module, fetched by the Go command and built once for each version.

    A main module of our own requires it, rather than `go install program@version`: that one also
    wants the list of all versions, which not every module proxy has.
    """

    module: str
    version: str
    package: str  # of the program; the module itself, or a directory below it

    def origin(self) -> str:
        return f"Go module {self.module}"

    def there(self, build: Path) -> Path:
        """The program's path if it is built; raises MissingError."""
        program = self._folder(build) / self._name
        if program.exists():
            return program
        raise MissingError("not built; `make bench` builds it, where Go is installed")

    @property
    def _name(self) -> str:
        return self.package.rpartition("/")[2]

    def _folder(self, build: Path) -> Path:
        return build / f"{self._name}-{self.version}"

    def obtain(self, build: Path) -> Path:
        with contextlib.suppress(MissingError):
            return self.there(build)
        name, folder = self._name, self._folder(build)
        go = which("go") or (GO_FALLBACK if GO_FALLBACK.exists() else None)
        if go is None:
            raise MissingError("not built: Go is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        text = f"module bench\n\ngo 1.26\n\nrequire {self.module} {self.version}\n"
        (folder / "go.mod").write_text(text)
        command = [str(go), "build", "-C", str(folder), "-mod=mod", "-o", f"{name}.new"]
        attempt("go build", [*command, self.package], GOFLAGS="-buildvcs=false", CGO_ENABLED="0")
        (folder / f"{name}.new").rename(folder / name)
        return folder / name


# --- C and Python --------------------------------------------------------------------------------


@dataclass(frozen=True)
class CSource:
    """A C file beside this one, compiled again when it is newer than the program."""

    file: str

    def origin(self) -> str:
        return f"benchmarks/peers/{self.file}"

    def there(self, build: Path) -> Path:
        return self.obtain(build)

    def obtain(self, build: Path) -> Path:
        source = Path(__file__).with_name(self.file)
        program = build / source.stem
        if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
            return program
        compiler = which("gcc") or which("cc")
        if compiler is None:
            raise MissingError("not compiled: no C compiler; apt-get install gcc libc6-dev")
        build.mkdir(parents=True, exist_ok=True)
        fresh = build / f"{source.stem}.{os.getpid()}"
        attempt("compiling", [str(compiler), "-O2", "-o", str(fresh), str(source)])
        fresh.rename(program)
        return program


@dataclass(frozen=True)
class ThisPython:
    """The interpreter that runs the benchmark, with what lies in this checkout."""

    what: str

    def origin(self) -> str:
        return self.what

    def there(self, build: Path) -> Path:
        return self.obtain(build)

    def obtain(self, build: Path) -> Path:
        return Path(sys.executable)
