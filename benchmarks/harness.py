"""What the benchmark scripts share: processes, load, the kernel's accounting and the report.

It starts programs with their files in a temporary directory and stops all of them however the
script ends. It runs dnsperf and reads its report. It does not know what is compared or required,
which is the scripts' part, nor how a server is configured, which is in `servers`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.asking import LOOPBACK, Reply, ask, stub

PACKAGES = {
    "nsd": "nsd",
    "unbound": "unbound",
    "dnsperf": "dnsperf",
    "taskset": "util-linux",
}
SETTLE_SECONDS = 15.0  # the longest a server may take to answer its first query
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS = 5.0  # the longest a server may take to stop before it is killed


def say(text: str) -> None:
    """One line of progress, visible at once even through a pipe."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def require(*programs: str) -> None:
    """End the script with an instruction when a program is not installed."""
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES.get(name, name) for name in missing}))
        raise SystemExit(f"not installed: {', '.join(missing)}. Try: apt-get install {packages}")


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
        self, name: str, command: Sequence[str], port: int = 0, cpu: int | None = None
    ) -> Program:
        """Start `command`, its output in a file; pinned to one processor when `cpu` is given."""
        log = self.directory / f"{name}-{len(self.programs)}.log"
        with log.open("wb") as sink:
            started = time.monotonic()
            process = subprocess.Popen(
                pinned(command, cpu),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=os.environ | {"PYTHONPATH": python_path()},
                start_new_session=True,
            )
        program = Program(name, process, log, started, port)
        self.programs.append(program)
        return program

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


def python_path() -> str:
    """This checkout comes first, so that the benchmark measures the tree it lies in."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


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
    raise SystemExit("no port is free for both UDP and TCP on 127.0.0.1")


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
    last = "\n".join(server.output().splitlines()[-15:])
    raise SystemExit(
        f"{server.name} does not answer {name} on port {server.port}. It said:\n{last}"
    )


# --- dnsperf -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What dnsperf reported about one run."""

    sent: int
    completed: int
    lost: int
    rcodes: dict[str, int]
    seconds: float
    qps: float
    interrupted: int = 0


def dnsperf_command(port: int, names: Path, *options: str) -> list[str]:
    return ["dnsperf", "-s", LOOPBACK, "-p", str(port), "-d", str(names), *options]


def dnsperf(port: int, names: Path, *options: str, cpu: int | None = None) -> Load:
    """Run dnsperf to its end and read its report."""
    command = pinned(dnsperf_command(port, names, *options), cpu)
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return parse_dnsperf(run.stdout, run.stderr)


def parse_dnsperf(report: str, errors: str = "") -> Load:
    """Read the statistics that dnsperf prints at its end."""

    def number(label: str, default: str | None = None) -> str:
        found = re.search(rf"^ *{re.escape(label)}:? +([\d.]+)", report, re.MULTILINE)
        if found:
            return found[1]
        if default is None:
            raise SystemExit(f"dnsperf gave no '{label}':\n{report[-600:]}{errors[-600:]}")
        return default

    codes = re.search(r"^ *Response codes: +(.+)$", report, re.MULTILINE)
    pairs = re.findall(r"(\w+) (\d+) \(", codes[1]) if codes else []
    return Load(
        sent=int(number("Queries sent")),
        completed=int(number("Queries completed")),
        lost=int(number("Queries lost")),
        interrupted=int(number("Queries interrupted", "0")),
        rcodes={name: int(count) for name, count in pairs},
        seconds=float(number("Run time (s)")),
        qps=float(number("Queries per second")),
    )


def parse_latencies(lines: Iterable[str], order: Mapping[str, int]) -> list[tuple[int, float]]:
    """Read the per-query lines of `dnsperf -v` as (number in sending order, seconds).

    dnsperf prints answers as they arrive and goes through its file round after round, so the n-th
    line of a name is its question of round n. `order` maps each name of the file to its position.
    A lost query took for ever.
    """
    seen: Counter[str] = Counter()
    found: list[tuple[int, float]] = []
    for line in lines:
        if not line.startswith("> "):
            continue
        _, _, name, _, *seconds = line.split()
        latency = float(seconds[0]) if seconds else math.inf
        found.append((order[name] + len(order) * seen[name], latency))
        seen[name] += 1
    return found


# --- the kernel's accounting -------------------------------------------------------------------


def parse_stat(text: str, ticks: int) -> float:
    """CPU seconds (user and system) in a /proc/PID/stat line; the name may hold blanks and )."""
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks


def parse_status(text: str) -> dict[str, int]:
    """The sizes in /proc/PID/status, in KiB."""
    return {key: int(kib) for key, kib in re.findall(r"^(Vm\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def parse_busy(text: str, ticks: int) -> float:
    """CPU seconds that all processors together spent on work since boot, from /proc/stat.

    The first line is user, nice, system, idle, iowait, irq, softirq, steal (then guest, which user
    holds already). Time stolen by other virtual machines counts as busy: it was not ours.
    """
    user, nice, system, _idle, _iowait, *rest = map(int, text.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / ticks


def cpu_seconds(pid: int) -> float:
    return parse_stat(Path(f"/proc/{pid}/stat").read_text(), os.sysconf("SC_CLK_TCK"))


def group_cpu_seconds(groups: Collection[int]) -> float:
    """CPU seconds of every process in these groups: NSD answers from a child of the one started."""
    used = 0.0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(path.name)) in groups:
                used += cpu_seconds(int(path.name))
    return used


def busy_seconds() -> float:
    return parse_busy(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))


def resident_kib(pid: int) -> int:
    return parse_status(Path(f"/proc/{pid}/status").read_text())["VmRSS"]


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return {
        "cpu": model[1] if model else "unknown",
        "cpus": str(os.cpu_count()),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


class Noise:
    """How many processors strangers used since this was made: what spoils a measurement."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._start = time.monotonic()
        self._before = self._strangers()

    def processors(self) -> float:
        used = self._strangers() - self._before
        return max(0.0, used / (time.monotonic() - self._start))

    def _strangers(self) -> float:
        return busy_seconds() - self._bench.own_cpu_seconds()


# --- the report -----------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was really measured, never one in between."""
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def write_json(path: Path, value: object) -> None:
    """Dataclasses become objects and a number without end becomes null, as JSON knows none."""

    def plain(part: object) -> object:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return plain(dataclasses.asdict(part))
        if isinstance(part, dict):
            return {str(key): plain(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [plain(item) for item in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(value), indent=2) + "\n")


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main; Ctrl-C ends it without a traceback, after everything is torn down."""
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(130) from None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in (head, rule, *rows)
    )
