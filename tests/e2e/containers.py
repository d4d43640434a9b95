"""podman and buildah as the end-to-end run uses them: in a store of their own below build/image.

The image is made by image.sh from this checkout. Nothing is pulled, and nothing of what the machine
itself has in its own store is seen or touched.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence

from benchmarks.harness import Broken, say
from tests.e2e import parts

IMAGE, BASE = "localhost/dnsguard", "localhost/dnsguard-base"
STORE = parts.ROOT / "build" / "image"


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """A command's output. Raises Broken with its last words if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=900,
            env=os.environ | dict(environment or {}), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Broken(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-600:]
        raise Broken(f"{' '.join(command)} failed with {done.returncode}. It said: {said}")
    return done.stdout


def ip(*words: str) -> None:
    """ip(8). Raises Broken with what it said."""
    run(["ip", *words])


class Podman:
    """podman; called with its words it returns what it prints. Raises MissingError if not there."""

    def __init__(self) -> None:
        """Build the image of dnsguard from this checkout, once a run. Raises Broken."""
        parts.podman()
        _build("--build-only")
        driver = (STORE / "driver").read_text().strip()
        self._environment = {"CONTAINERS_CONF": str(STORE / "containers.conf")}
        self._store = ["--log-level", "error", "--storage-driver", driver, "--root",
                       str(STORE / driver), "--runroot", str(STORE / f"run-{driver}")]  # fmt: skip

    def __call__(self, *words: str, before: Sequence[str] = ()) -> str:
        """podman's output; `before` is what it is run by. Raises Broken."""
        return run([*before, "podman", *self._store, *words], self._environment)

    def buildah(self, *words: str) -> str:
        """buildah's output. Raises Broken."""
        return run(["buildah", *self._store, *words], self._environment)

    @staticmethod
    def with_iptables(kind: str) -> str:
        """An image that has iptables too, "nft" or "legacy", built once a run. Raises Broken."""
        _build("--iptables")
        return f"{IMAGE}-iptables-{kind}"

    def pid(self, container: str) -> int:
        """The process of a container, as this machine numbers it."""
        return int(self("inspect", "-f", "{{.State.Pid}}", container))

    def log(self, container: str) -> str:
        """What a container has written, to either stream; nothing if there is none."""
        done = subprocess.run(
            ["podman", *self._store, "logs", container],
            capture_output=True, text=True, check=False, env=os.environ | self._environment,
        )  # fmt: skip
        return done.stdout + done.stderr


@functools.cache
def _build(what: str) -> None:
    say(f"image.sh {what} (minutes the first time)")
    run([str(parts.ROOT / "tests" / "e2e" / "image.sh"), what])
