"""The processes of a benchmark: started, waited for, and all gone however the script ends.

Programs run with their files in a temporary directory. It does not know what is compared or
required, which is the scripts' part, nor how a server is configured, which is in `peers`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.accounting import Noise, group_cpu_seconds
from benchmarks.asking import LOOPBACK, Reply, ask, ask_all, stub
from dnsguard import offspring

PACKAGES = {
    "nsd": "nsd",
    "unbound": "unbound",
    "dnsperf": "dnsperf",
    "taskset": "util-linux",
}
SETTLE_SECONDS = 15.0  # the longest a server may take to answer its first query
LEARN_SECONDS = 10.0  # the longest it may take until it has answered every name once
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS = 5.0  # the longest a server may take to stop before it is killed


class Broken(SystemExit):
    """What a benchmark needs is not there or does not answer; ends the script if nobody minds."""


def say(text: str) -> None:
    """One line of progress, visible at once even through a pipe."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def require(*programs: str) -> None:
    """End the script with an instruction when a program is not installed."""
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES.get(name, name) for name in missing}))
        raise Broken(f"not installed: {', '.join(missing)}. Try: apt-get install {packages}")


# --- processes ---------------------------------------------------------------------------------


@dataclass
class Program:
    """One running program in a process group of its own, so that signals reach its children too."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started: float  # the moment before exec
    port: int = 0  # where it listens, if it is a server
    ended: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it the hard way, as a crash would."""
        self.ended = True
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it the polite way; a paused one is woken first, a deaf one is killed."""
        if self.ended:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.kill()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])


class Bench:
    """The temporary directory and the processes of one run, all gone when the run is over."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dnsguard-bench-"))
        self.programs: list[Program] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Bench:
        self._handlers = {number: signal.getsignal(number) for number in ENDINGS}
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        for ending in ENDINGS:  # a second Ctrl-C must not leave half of it running
            signal.signal(ending, signal.SIG_IGN)
        for program in reversed(self.programs):
            program.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(
        self,
        name: str,
        command: Sequence[str],
        port: int = 0,
        cpu: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start `command`, its output in a file; pinned to one processor when `cpu` is given."""
        log = self.directory / f"{name.replace(' ', '-')}-{len(self.programs)}.log"
        around = offspring.environment(bytecode=self.directory / "bytecode")
        with log.open("wb") as sink:
            started = time.monotonic()
            process = subprocess.Popen(
                pinned(command, cpu),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=around | dict(environment or {}),
                start_new_session=True,
            )
        program = Program(name, process, log, started, port)
        self.programs.append(program)
        return program

    def noise(self) -> Noise:
        """The use of the processors by strangers from now on."""
        return Noise(self.own_cpu_seconds)

    def own_cpu_seconds(self) -> float:
        """CPU seconds so far of this script and all it started, the ended ones included."""
        groups = {program.pid for program in self.programs if not program.ended}
        return sum(os.times()[:4]) + group_cpu_seconds(groups)

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def pinned(command: Sequence[str], cpu: int | None) -> list[str]:
    """`taskset` replaces itself by the command, so the process id stays that of the server."""
    return [*(() if cpu is None else ("taskset", "-c", str(cpu))), *command]


def free_port() -> int:
    """A port that is free for UDP and TCP on the loopback address, as a DNS server needs it."""
    for _ in range(100):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind((LOOPBACK, 0))
            port = int(udp.getsockname()[1])
            with contextlib.suppress(OSError):
                tcp.bind((LOOPBACK, port))
                return port
    raise Broken("no port is free for both UDP and TCP on 127.0.0.1")


def await_answer(server: Program, name: str, address: str | None = None) -> Reply:
    """Wait until `server` answers `name` with NOERROR (and `address`, when one is given)."""
    deadline = time.monotonic() + SETTLE_SECONDS
    with stub(server.port, timeout=0.02) as sock:
        while time.monotonic() < deadline:
            if server.process.poll() is not None:
                break
            reply = ask(sock, name)
            if reply and reply.rcode == "NOERROR" and address in (None, reply.address):
                return reply
            time.sleep(0.005)
    raise Broken(
        f"{server.name} does not answer {name} on port {server.port}. It said:\n{server.tail()}"
    )


def learn(server: Program, names: Sequence[str]) -> None:
    """Ask until the server has answered every name; raises Broken if it does not.

    In the form that the load has too, without EDNS: some keep their answers by the whole query.
    """
    left = list(names)
    deadline = time.monotonic() + LEARN_SECONDS
    while left and time.monotonic() < deadline:
        replies = ask_all(server.port, left, edns=False)
        left = [n for n in left if n not in replies or replies[n].rcode != "NOERROR"]
    if left:
        raise Broken(f"it does not answer {len(left)} of {len(names)} names, as {left[0]}")


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main; Ctrl-C ends it without a traceback, after everything is torn down."""
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(130) from None
