"""What dnsguard is meant to reach beside its peers, and by how much it does or does not.

Each goal compares medians of one run. A goal whose numbers are not in the run is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.medians import Row
from benchmarks.peers.everyone import ECHO, PRODUCT, YARDSTICKS

Table = Mapping[str, Sequence[Row]]  # rows by work

IDLE_BYTES = 36_000_000
ENTRY_BYTES = 900
START_MS = 300


@dataclass(frozen=True)
class Verdict:
    """One goal and what was measured."""

    goal: str
    measured: str
    against: str
    met: bool


def row(table: Table, work: str, label: str) -> Row | None:
    return next((row for row in table.get(work, ()) if row.label == label), None)


def peers(table: Table, work: str) -> list[Row]:
    """Everyone but dnsguard and the yardsticks."""
    return [
        row
        for row in table.get(work, ())
        if not row.label.startswith(PRODUCT.name) and row.label not in YARDSTICKS
    ]


def best(found: Sequence[Row], key: str, pick: Callable[..., Row]) -> Row | None:
    usable = [row for row in found if key in row.values]
    return pick(usable, key=lambda row: row.values[key]) if usable else None


def verdict(
    goal: str, own: Row | None, other: Row | None, key: str, form: str, factor: float, less: bool
) -> list[Verdict]:
    """`own` against `factor` times `other`."""
    if own is None or other is None:
        return []
    mine, theirs = own.values[key], other.values[key]
    limit = factor * theirs
    met = mine <= limit if less else mine > limit
    gap = f" ({mine / theirs:.2f} x)" if theirs else ""
    return [Verdict(goal, form.format(mine) + gap, f"{other.label} {form.format(theirs)}", met)]


def limited(goal: str, own: Row | None, key: str, form: str, limit: float) -> list[Verdict]:
    if own is None or key not in own.values:
        return []
    value = own.values[key]
    return [Verdict(goal, form.format(value), form.format(limit), value <= limit)]


def verdicts(table: Table) -> list[Verdict]:
    name = PRODUCT.name
    hit, tcp, miss, steady, memory, start = (
        row(table, work, name)
        for work in ("hit-udp", "hit-tcp", "miss", "steady", "memory", "start")
    )
    us, qps = "{:.2f} µs", "{:,.0f}/s"
    found = verdict(
        "hit, UDP: CPU <= 1.25 x the bare C echo",
        *(hit, row(table, "hit-udp", ECHO.name), "cpu_us", us, 1.25, True),
    )
    found += verdict(
        "hit, UDP: CPU below every peer",
        *(hit, best(peers(table, "hit-udp"), "cpu_us", min), "cpu_us", us, 1.0, True),
    )
    found += verdict(
        "hit, UDP: answers/s above every peer",
        *(hit, best(peers(table, "hit-udp"), "qps", max), "qps", qps, 1.0, False),
    )
    for label in ("unbound", "coredns"):
        found += verdict(
            f"hit, TCP: answers/s above {label}",
            *(tcp, row(table, "hit-tcp", label), "qps", qps, 1.0, False),
        )
    found += verdict(
        "miss: CPU <= 0.5 x unbound",
        *(miss, row(table, "miss", "unbound"), "cpu_us", us, 0.5, True),
    )
    found += verdict(
        "miss: CPU below every peer",
        *(miss, best(peers(table, "miss"), "cpu_us", min), "cpu_us", us, 1.0, True),
    )
    found += verdict(
        "10,000/s steady: p99 <= 1.2 x the best peer",
        *(steady, best(peers(table, "steady"), "p99", min), "p99", "{:,.0f} µs", 1.2, True),
    )
    for entrant in table.get("stale", ()):
        if entrant.label.startswith(name):
            share = entrant.values["of_hits"]
            goal = f"{entrant.label}: rate within 10 % of its hit rate"
            found.append(Verdict(goal, f"{share:.0%}", "90%", share >= 0.9))
    found += limited("memory, empty <= 36 MB", memory, "bytes_0", "{:,.0f} bytes", IDLE_BYTES)
    found += limited("memory <= 900 bytes an entry", memory, "per_entry", "{:,.0f}", ENTRY_BYTES)
    if memory and "bytes_100000" in memory.values:
        found += verdict(
            "memory at 100 k entries below coredns",
            *(memory, row(table, "memory", "coredns"), "bytes_100000", "{:,.0f} bytes", 1.0, True),
        )
    return found + limited(
        "start to first answer <= 300 ms", start, "start_ms", "{:.0f} ms", START_MS
    )
