"""dnsperf: how it is run and what it reports.

It is written apart from dnsguard, so that a fault there cannot hide itself in its own measurement.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.asking import LOOPBACK
from benchmarks.harness import Broken, pinned

BUFFER_KIB = "2048"


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
    # Its own receive buffer of 32 kB would lose answers that come in a burst, and blame the server.
    always = ["-s", LOOPBACK, "-p", str(port), "-d", str(names), "-b", BUFFER_KIB]
    return ["dnsperf", *always, *options]


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
            raise Broken(f"dnsperf gave no '{label}':\n{report[-600:]}{errors[-600:]}")
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


def plain_latencies(text: str) -> list[float]:
    """The seconds of every query in the output of `dnsperf -v`; a lost query took for ever."""
    words = (line.split() for line in text.splitlines() if line.startswith("> "))
    return [float(one[4]) if len(one) > 4 else math.inf for one in words]
