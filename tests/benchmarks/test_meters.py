"""What a load generator says becomes one result, whoever said it; and a silent server is told of.

The generator is dnsguard's own and runs for a moment against the harness's stand-in for NSD.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import harness, meters
from benchmarks.harness import Bench, Broken
from benchmarks.meters import OwnMeter, Task

ANSWERS = Path(meters.__file__).with_name("answers.py")
MEASURED = {
    "seconds": 2.0,
    "qps": 45.0,
    "answered": 100,
    "lost": 3,
    "unsent": 2,
    "rcodes": {"NOERROR": 80, "SERVFAIL": 20},
    "latency_us": {"min": 5, "mean": 9.5, "p50": 10, "p90": 20, "p99": 30, "p99.9": 40, "max": 50},
    "reconnects": 1,
}


def test_failures_count_for_nothing() -> None:
    found = meters.read_measured(MEASURED, used=0.5)
    assert (found.answers, found.errors, found.lost) == (80, 20, 5)
    assert found.qps == pytest.approx(36.0)
    assert found.latency == pytest.approx({"p50": 1e-5, "p99": 3e-5, "p99.9": 4e-5, "max": 5e-5})
    assert (found.cpu_seconds, found.reconnects) == (0.5, 1)


def test_own_generator_measures_a_server_between_its_marks() -> None:
    readings = iter([1.0, 1.75])
    with Bench() as bench:
        port = harness.free_port()
        server = bench.start("answers", [sys.executable, str(ANSWERS), str(port)], port)
        harness.await_answer(server, "n0.hit.test")
        task = Task(port, None, seconds=0.2, warm_up=0.1, suffix="miss.test")
        found = OwnMeter(None).run(task, lambda: next(readings))
    assert found.answers > 0
    assert found.errors == 0
    assert found.cpu_seconds == 0.75
    assert set(found.latency) == set(meters.POINTS)


def test_nobody_there_is_said() -> None:
    with pytest.raises(Broken, match="nothing listens"):
        OwnMeter(None).run(Task(harness.free_port(), None, 0.1, suffix="a.test"), lambda: 0.0)
