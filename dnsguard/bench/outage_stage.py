"""The caches under test as processes: started, waited for, restarted as the scenario wants, ended.

A `Rival` says how one is started. Of dnsguard that is known here; of others it comes from a
checkout's benchmarks/, whose list is found if there is one: the installed package compares with
nobody. Each cache has a directory of its own that is gone at the end, and stands in a process group
of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dnsguard import __version__, offspring
from dnsguard.bench.outage_upstream import HOST, bind_pair
from dnsguard.sim.result import Kind

NO_CHECKOUT = (
    "No other servers: they are started by benchmarks/peers/ of a source checkout, and this "
    "dnsguard is installed without one."
)
START_SECONDS = 15.0  # the longest a cache may take to give its first answer
STOP_SECONDS = 5.0
TRY_SECONDS = 0.05
TAIL_LINES = 3
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
PORT_MIN, PORT_TRIES = 10_240, 50
# A question for the root: whatever a cache says to it, it is there.
HELLO = b"\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a cache runs."""

    directory: Path  # its own, for configuration and state; a new node empties it
    port: int
    spare_port: int  # for what insists on a second listener
    upstream: int


@dataclass(frozen=True)
class Rival:
    """A cache that takes part."""

    name: str
    kind: Kind
    version: str
    settings: Mapping[str, str]
    command: Callable[[Spot], list[str]]  # writes the configuration; may be called again
    environment: Mapping[str, str] = field(default_factory=dict)


def dnsguard(settings: Sequence[tuple[str, str]] = ()) -> Rival:
    """dnsguard of this interpreter, with a state directory, as a sidecar has one."""

    def command(spot: Spot) -> list[str]:
        given = [word for key, value in settings for word in ("--set", f"{key}={value}")]
        return [
            *(sys.executable, "-m", "dnsguard", "serve", "--listen", f"{HOST}:{spot.port}"),
            *("--upstream", f"{HOST}:{spot.upstream}", "--admin", "off"),
            *("--state-dir", str(spot.directory / "state"), *given),
        ]

    shown = dict(settings) or {"defaults": "", "--state-dir": ""}
    return Rival("dnsguard", Kind.DNSGUARD, __version__, shown, command)


def others() -> tuple[list[Rival], list[str]]:
    """The peers that can be had here, and a line for each that cannot."""
    root = Path(offspring.PACKAGE_HOME)
    if not (root / "benchmarks" / "rivals.py").is_file():
        return [], [NO_CHECKOUT]
    if str(root) not in sys.path:
        sys.path.append(str(root))
    module = importlib.import_module("benchmarks.rivals")
    found: tuple[list[Rival], list[str]] = module.rivals()
    return found


class Cache:
    """One rival, running."""

    def __init__(self, rival: Rival, upstream: int, home: Path) -> None:
        self.rival = rival
        self._directory = Path(tempfile.mkdtemp(prefix="cache-", dir=home))
        self._bytecode = home / "bytecode"
        self._log = home / f"{self._directory.name}.log"
        self.spot = Spot(self._directory, free_port(), free_port(), upstream)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        around = offspring.environment(settings=False, bytecode=self._bytecode)
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.rival.command(self.spot),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                env=around | dict(self.rival.environment),
                start_new_session=True,
            )

    def why_not(self) -> str:
        """Wait for its first answer; returns why there is none, or nothing."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((HOST, self.spot.port))
            sock.settimeout(TRY_SECONDS)
            while time.monotonic() < deadline and self._process.poll() is None:
                with contextlib.suppress(OSError):
                    sock.send(b"\0\1" + HELLO)
                    sock.recv(4096)
                    return ""
                time.sleep(TRY_SECONDS)
        code = self._process.poll()
        how = "gives no answer" if code is None else f"ended with exit code {code}"
        return f"{how}: {self.tail()}"

    def death(self) -> str:
        """How it ended by itself; nothing while it runs."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return ""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{how}: {self.tail()}"

    def tail(self) -> str:
        """The end of what it said, in one line."""
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return " | ".join(line.strip() for line in lines) or "it said nothing"

    def happen(self, deed: str) -> None:
        """`restart`, `kill` or `new-node`, as scenarios call them."""
        self.stop(kill=deed != "restart")
        if deed == "new-node":
            shutil.rmtree(self._directory)
            self._directory.mkdir()
        self.start()

    def stop(self, kill: bool = False) -> None:
        """End it and all that it started; returns when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        if not kill and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A port that is free for UDP and TCP; raises OSError if there is none.

    Not one of those that the kernel gives to whoever asks a question: while a cache is restarted,
    its port would be taken.
    """
    lowest = int(PORT_RANGE.read_text().split()[0])
    if lowest <= PORT_MIN:
        return _number(*bind_pair())
    return _number(*bind_pair([random.randrange(PORT_MIN, lowest) for _ in range(PORT_TRIES)]))


def _number(udp: socket.socket, tcp: socket.socket) -> int:
    with udp, tcp:
        return int(udp.getsockname()[1])
