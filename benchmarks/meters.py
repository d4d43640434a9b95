"""Two ways to load a server and to measure it: dnsguard's own generator, and dnsperf.

The own one sends in batches, so it is not the bottleneck, knows every latency and every
disconnection, and holds its pace when the server stalls. dnsperf is somebody else's, which is the
reason to have it: what one finds the other must find too. The server's CPU time is read when the
measured part begins and when it ends, without the warm-up.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks import dnsperf
from benchmarks.asking import LOOPBACK
from benchmarks.harness import Broken, pinned
from benchmarks.reporting import percentile
from dnsguard import offspring

TIMEOUT = 2.0  # seconds until a query counts as lost
CONNECTIONS = 4  # source ports over UDP; connections over TCP
UNIQUE_RATE = 120_000  # names written for each second: more than any server here asks for
POINTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True)
class Task:
    """What a server is asked, how fast and how long."""

    port: int
    names: Path | None  # None: names that never come twice, under `suffix`
    seconds: float
    warm_up: float = 0.0
    suffix: str = ""
    tcp: bool = False
    qps: float | None = None  # None: flat out
    outstanding: int | None = None
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Result:
    """What came of it."""

    answers: int  # with NOERROR
    qps: float  # of them, within the seconds
    errors: int  # with another rcode
    lost: int
    seconds: float
    cpu_seconds: float  # that the server used
    latency: dict[str, float]  # seconds, by POINTS; empty where the meter does not tell
    reconnects: int = 0


class Meter(Protocol):
    """Loads a server and says what came of it."""

    @property
    def name(self) -> str:
        """For the report."""

    def run(self, task: Task, cpu_seconds: Callable[[], float]) -> Result:
        """Raises Broken when there is nothing to report."""

    def version(self) -> str:
        """For the report."""


@dataclass(frozen=True)
class OwnMeter:
    """The generator behind `dnsguard bench load`, in a process of its own."""

    cpu: int | None
    name: str = "dnsguard bench load"

    def version(self) -> str:
        return "of this checkout"

    def run(self, task: Task, cpu_seconds: Callable[[], float]) -> Result:
        load = {
            "host": LOOPBACK,
            "port": task.port,
            "names": str(task.names or "unique"),
            "suffix": task.suffix or None,
            "tcp": task.tcp,
            "connections": CONNECTIONS,
            "qps": task.qps,
            "outstanding": task.outstanding,
            "duration": task.seconds,
            "warmup": task.warm_up,
            "timeout": task.timeout,
        }
        command = pinned([sys.executable, "-m", "dnsguard.bench.child"], self.cpu)
        before = used = 0.0
        measured: dict[str, Any] | None = None
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=offspring.environment(),
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(load).encode())
            process.stdin.close()
            for line in process.stdout:
                word = json.loads(line)
                if word["begins"]:
                    before = cpu_seconds()
                elif word["ends"]:
                    used = cpu_seconds() - before
                elif word["failure"]:
                    raise Broken(word["failure"])
                measured = word["measured"] or measured
            process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if measured is None:
            raise Broken(f"the load generator broke: {said[-600:]}")
        return read_measured(measured, used)


def read_measured(measured: dict[str, Any], used: float) -> Result:
    """The generator's result as one of ours; what was lost is the slowest of all."""
    rcodes: dict[str, int] = measured["rcodes"]
    answered, lost = int(measured["answered"]), int(measured["lost"]) + int(measured["unsent"])
    good = rcodes.get("NOERROR", 0)
    latency = {point: value / 1e6 for point, value in measured["latency_us"].items()}
    return Result(
        answers=good,
        qps=float(measured["qps"]) * good / max(answered, 1),
        errors=answered - good,
        lost=lost,
        seconds=float(measured["seconds"]),
        cpu_seconds=used,
        latency={point: latency[point] for point in POINTS if point in latency},
        reconnects=int(measured["reconnects"]),
    )


@dataclass(frozen=True)
class DnsperfMeter:
    """dnsperf; the warm-up is a run by itself."""

    cpu: int | None
    name: str = "dnsperf"

    def version(self) -> str:
        run = subprocess.run(["dnsperf", "-h"], capture_output=True, text=True, check=False)
        words = (run.stdout + run.stderr).split()
        return words[words.index("Version") + 1] if "Version" in words else "unknown"

    def run(self, task: Task, cpu_seconds: Callable[[], float]) -> Result:
        if task.warm_up:
            self._run(task, task.warm_up)
        before = cpu_seconds()
        load, latencies = self._run(task, task.seconds)
        used = cpu_seconds() - before
        good = load.rcodes.get("NOERROR", 0)
        return Result(
            answers=good,
            qps=load.qps * good / max(load.completed, 1),
            errors=load.completed - good,
            lost=load.sent - load.completed,
            seconds=load.seconds,
            cpu_seconds=used,
            latency={p: percentile(latencies, share) for p, share in POINTS.items() if latencies},
        )

    def _run(self, task: Task, seconds: float) -> tuple[dnsperf.Load, list[float]]:
        options = ["-l", str(seconds), "-t", str(task.timeout)]
        if task.tcp:
            options += ["-m", "tcp", "-c", str(CONNECTIONS)]
        if task.qps is None:
            options += ["-q", str(task.outstanding or 100)]
        else:
            options += ["-Q", str(task.qps), "-q", "65000", "-v", "-W"]
        with tempfile.NamedTemporaryFile("w", suffix=".names") as unique:
            names = task.names or Path(unique.name)
            if task.names is None:
                # A file of names that is gone through once.
                tag = secrets.token_hex(3)
                lines = (f"{tag}{n:x}.{task.suffix} A\n" for n in range(int(UNIQUE_RATE * seconds)))
                unique.writelines(lines)
                unique.flush()
                options += ["-n", "1"]
            command = pinned(dnsperf.dnsperf_command(task.port, names, *options), self.cpu)
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        latencies = dnsperf.plain_latencies(run.stdout) if task.qps else []
        return dnsperf.parse_dnsperf(run.stdout, run.stderr), latencies
