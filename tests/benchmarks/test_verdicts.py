"""The benchmarks' verdicts: every requirement can be missed, and ratios are fair.

Works on results made by hand; nothing is measured here.
"""

from __future__ import annotations

import math

import pytest

from benchmarks import survival, versus
from benchmarks.dnsperf import Load


def sample(number: int, server: str, qps: float, cpu_us: float) -> versus.Sample:
    return versus.Sample(number, "hit", server, qps, cpu_us, 0.9, 0.1, lost=1, errors=0)


def test_ratios_are_taken_within_a_round() -> None:
    """Round 2 was disturbed for both alike: that must not shift the ratio."""
    rows = versus.summary(
        [
            sample(1, "unbound", 100_000, 8.0),
            sample(1, "dnsguard", 110_000, 7.2),
            sample(2, "unbound", 50_000, 16.0),
            sample(2, "dnsguard", 55_000, 14.4),
            sample(3, "unbound", 100_000, 8.0),
            sample(3, "dnsguard", 110_000, 7.2),
        ]
    )
    by_name = {row.server: row for row in rows}
    assert [row.server for row in rows] == ["dnsguard", "unbound"]
    assert by_name["dnsguard"].qps == 110_000
    assert by_name["dnsguard"].qps_ratio == pytest.approx(1.1)
    assert by_name["dnsguard"].cpu_ratio == pytest.approx(0.9)
    assert by_name["dnsguard"].lost == 3
    assert "1.10" in versus.report(rows)


def test_no_ratio_without_unbound() -> None:
    assert versus.summary([sample(1, "echo", 150_000, 5.0)])[0].qps_ratio is None


GOOD = Load(1000, 1000, 0, {"NOERROR": 1000}, 1.0, 1000.0)
POINTS = {"p50": 0.0001, "p90": 0.0002, "p99": 0.002, "p99.9": 0.003, "max": 0.004}


def record(
    load: Load = GOOD,
    p99: float = 0.002,
    last_stale: float = 5.9,
    stale_names: int = 0,
    idle: int = 36_000_000,
    start: float = 0.3,
    unanswered: int = 0,
) -> survival.Record:
    healthy = survival.Phase("dnsguard", "healthy", GOOD, 0.0, POINTS, 0.1)
    latency = POINTS | {"p99": p99}
    phase = survival.Phase("dnsguard", "killed", load, 0.9, latency, 0.1, unanswered, {"3": 5})
    back = survival.Return("dnsguard", "killed", GOOD, 0.2, last_stale, stale_names, 0)
    return survival.Record("dnsguard", idle, 50_000_000, [start] * 5, [healthy, phase], [back])


def missed(found: survival.Record) -> list[str]:
    return [text for text, _, good in survival.requirements(found) if not good]


def test_requirements_hold_at_their_limits() -> None:
    assert missed(record()) == []
    assert "dnsguard, back after killed" in survival.report([record()])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (record(load=Load(1000, 999, 1, {"NOERROR": 999}, 1, 1)), "no query lost"),
        (record(load=Load(0, 0, 0, {}, 1, 0)), "no query lost"),
        (record(load=Load(9, 9, 0, {"NOERROR": 8, "SERVFAIL": 1}, 1, 1)), "no SERVFAIL"),
        (record(unanswered=1), "no query lost"),
        (record(p99=0.0021), "p99"),
        (record(p99=math.inf), "p99"),
        (record(last_stale=6.1), "fresh within 6 s"),
        (record(stale_names=1), "fresh within 6 s"),
        (record(idle=36_000_001), "resident"),
        (record(start=0.301), "first answer"),
    ],
)
def test_each_requirement_can_be_missed(found: survival.Record, words: str) -> None:
    (text,) = missed(found)
    assert words in text
