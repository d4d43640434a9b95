"""A comparison is fair and survives what goes wrong: rounds, repetitions, medians, goals, report.

The works here are made by hand and measure nothing; the last test runs the real harness, with its
own upstream in place of NSD and the servers that need nothing installed.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import goals, medians, rounds
from benchmarks.harness import Broken
from benchmarks.medians import Row
from benchmarks.peers.everyone import ECHO, NAIVE, PRODUCT
from benchmarks.peers.peer import Peer
from benchmarks.results import Facts, Report
from benchmarks.rounds import Outcome, Run, Sample
from benchmarks.stage import Entrant, Stage
from benchmarks.works import NORMAL, Bars, Column, Plan, Values, Work, everyone, whole

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan("test", 3, 1.0, 0.0, 1.0, 1, 1.0, 1, (), 2, 0.0)


class QuietStage:
    """As much of a stage as a run needs, its neighbours' noise given beforehand."""

    def __init__(self, noise: Sequence[float]) -> None:
        self.bench = self
        self._noise = iter(noise)

    def noise(self) -> QuietStage:
        return self

    def processors(self) -> float:
        return next(self._noise, 0.0)


def work(measure: Any, key: str = "hit-udp") -> Work:
    return Work(
        key=key,
        title="Hits",
        note="A note.",
        measure=measure,
        columns=lambda _: (Column("qps", "answers/s", whole, less=False, ratio=True),),
        bars=lambda _: (Bars(("qps",), "answers/s"),),
        entrants=everyone,
        rounds=lambda plan: plan.rounds,
    )


def run(measure: Any, *peers: Peer, noise: Sequence[float] = ()) -> Outcome:
    stage = cast(Stage, QuietStage(noise))
    return Run(stage, PLAN, [work(measure)], peers).carry_out()


def test_everyone_has_each_turn_once_a_round() -> None:
    order: list[str] = []

    def measure(_stage: Stage, entrant: Entrant, _plan: Plan) -> Values:
        order.append(entrant.label)
        return {"qps": 1.0}

    outcome = run(measure, PRODUCT, NAIVE, ECHO)
    names = [PRODUCT.name, NAIVE.name, ECHO.name]
    assert order == names + names[1:] + names[:1] + names[2:] + names[:2]
    assert [sample.round for sample in outcome.samples] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_disturbed_sample_is_repeated_and_the_quietest_kept() -> None:
    measured = iter(range(100))
    outcome = run(
        lambda *_: {"qps": float(next(measured))},
        PRODUCT,
        noise=(0.9, 0.4, 0.8, 0.5, 0.1),
    )
    first, second, third = outcome.samples
    assert (first.values["qps"], first.others, first.disturbed) == (1.0, 0.4, True)
    assert (second.values["qps"], second.others, second.disturbed) == (4.0, 0.1, False)
    assert second.repeats == 1
    assert third.repeats == 0


def test_who_fails_twice_is_left_out_and_the_others_go_on() -> None:
    def measure(_stage: Stage, entrant: Entrant, _plan: Plan) -> Values:
        if entrant.peer is NAIVE and len(seen) > 2:
            raise Broken("it died; its log ends with: no memory")
        seen.append(entrant.label)
        return {"qps": 1.0}

    seen: list[str] = []
    outcome = run(measure, PRODUCT, NAIVE)
    assert [sample.label for sample in outcome.samples] == [PRODUCT.name] * PLAN.rounds
    (failure,) = outcome.failures
    assert (failure.work, failure.label) == ("hit-udp", NAIVE.name)
    assert "no memory" in failure.reason


def test_one_failure_is_forgiven() -> None:
    failures = iter([True])

    def measure(*_: object) -> Values:
        if next(failures, False):
            raise Broken("once")
        return {"qps": 1.0}

    outcome = run(measure, PRODUCT)
    assert len(outcome.samples) == PLAN.rounds
    assert not outcome.failures


# --- medians -------------------------------------------------------------------------------------


def sample(number: int, label: str, others: float = 0.0, **values: float) -> Sample:
    return Sample("hit-udp", label, number, values, others, 0)


def test_ratios_are_taken_within_a_round() -> None:
    """Round 2 was slow for both alike: that must not shift the ratio."""
    found = medians.rows(
        [
            sample(1, "dnsguard", qps=100.0, lost=0),
            sample(1, "peer", qps=80.0, lost=3),
            sample(2, "dnsguard", qps=10.0, lost=0),
            sample(2, "peer", qps=8.0, lost=4, others=0.9),
            sample(3, "dnsguard", qps=100.0, lost=0),
            sample(3, "peer", qps=90.0, lost=0),
        ],
        "hit-udp",
        "dnsguard",
    )
    own, peer = found
    assert (own.values["qps"], own.ratios["qps"]) == (100.0, 1.0)
    assert peer.values["qps"] == 80.0
    assert peer.ratios["qps"] == pytest.approx(0.8)
    assert peer.values["lost"] == 7  # added up: a median would hide it
    assert (peer.rounds, peer.disturbed) == (3, 1)


def test_no_ratio_to_nothing() -> None:
    (found,) = medians.rows([sample(1, "peer", qps=80.0)], "hit-udp", "dnsguard")
    assert found.ratios == {}
    _, peer = medians.rows(
        [sample(1, "dnsguard", lost=0.0), sample(1, "peer", lost=2.0)], "hit-udp", "dnsguard"
    )
    assert "lost" not in peer.ratios


# --- goals ---------------------------------------------------------------------------------------


def row(label: str, **values: float) -> Row:
    return Row("any", label, values, {}, 0.0, 1, 0, 0)


def missed(**table: list[Row]) -> set[str]:
    found = goals.verdicts({key.replace("_", "-"): rows for key, rows in table.items()})
    assert found
    return {verdict.goal for verdict in found if not verdict.met}


def test_goals_hold_at_their_limits() -> None:
    assert not missed(
        hit_udp=[
            row("dnsguard", cpu_us=6.25, qps=101.0),
            row("C echo", cpu_us=5.0, qps=200.0),
            row("unbound", cpu_us=6.25, qps=100.0),
            row("naive Python", cpu_us=1.0, qps=900.0),
        ],
        miss=[row("dnsguard", cpu_us=10.0, qps=1.0), row("unbound", cpu_us=20.0, qps=1.0)],
        steady=[row("dnsguard", p99=120.0), row("unbound", p99=100.0)],
        stale=[row("dnsguard (verify)", of_hits=0.9)],
        memory=[
            row("dnsguard", bytes_0=36e6, per_entry=900.0, bytes_100000=1e6),
            row("coredns", bytes_0=9e6, per_entry=900.0, bytes_100000=1e6),
        ],
        start=[row("dnsguard", start_ms=300.0)],
    )


@pytest.mark.parametrize(
    ("work_key", "rows", "words"),
    [
        ("hit_udp", [row("dnsguard", cpu_us=6.3, qps=9.0), row("C echo", cpu_us=5.0)], "C echo"),
        ("hit_udp", [row("dnsguard", cpu_us=5.0, qps=9.0), row("a", cpu_us=4.9)], "CPU below"),
        ("hit_udp", [row("dnsguard", cpu_us=5.0, qps=9.0), row("a", qps=9.0)], "answers/s"),
        ("hit_tcp", [row("dnsguard", qps=9.0), row("unbound", qps=9.0)], "above unbound"),
        ("hit_tcp", [row("dnsguard", qps=9.0), row("coredns", qps=10.0)], "above coredns"),
        ("miss", [row("dnsguard", cpu_us=5.1), row("unbound", cpu_us=10.0)], "0.5 x unbound"),
        ("steady", [row("dnsguard", p99=121.0), row("a", p99=100.0)], "steady"),
        ("stale", [row("dnsguard (at once)", of_hits=0.89)], "within 10 %"),
        ("memory", [row("dnsguard", bytes_0=37e6, per_entry=1.0)], "empty"),
        ("memory", [row("dnsguard", bytes_0=1.0, per_entry=901.0)], "an entry"),
        ("start", [row("dnsguard", start_ms=301.0)], "first answer"),
    ],
)
def test_each_goal_can_be_missed(work_key: str, rows: list[Row], words: str) -> None:
    (goal,) = missed(**{work_key: rows})
    assert words in goal


# --- the report ----------------------------------------------------------------------------------


def report(outcome: Outcome) -> Report:
    facts = Facts("c", "m", {"cpus": "2"}, True, "u", "r", "now", 1.0, {}, {"node-cache": "no Go"})
    return Report(NORMAL, [work(None)], [], outcome, facts)


def test_report_puts_the_best_first_and_names_who_is_missing(tmp_path: Path) -> None:
    samples = [
        sample(1, "dnsguard", qps=100.0),
        sample(1, "faster", qps=125.0, others=0.5),
        sample(1, "slower", qps=math.inf),
    ]
    failure = rounds.Failure("hit-udp", "gone", "it died\nout of memory")
    found = report(Outcome(samples[:2], [failure]))
    found.write(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.index("| faster | 125 | 1.25 |") < text.index("| dnsguard | 100 | 1.00 |")
    assert "Left out: gone. it died / out of memory" in text
    assert "faster 1 of 1" in text
    assert "node-cache: no Go" in text
    assert "![Hits](results/hit-udp.svg)" in text
    assert "faster" in (tmp_path / "results" / "hit-udp.svg").read_text()
    read = json.loads((tmp_path / "results" / "run.json").read_text())
    assert [one["label"] for one in read["samples"]] == ["dnsguard", "faster"]


def test_the_same_numbers_give_the_same_chart(tmp_path: Path) -> None:
    outcome = Outcome([sample(1, "dnsguard", qps=100.0)])
    for name in ("a", "b"):
        report(outcome).write(tmp_path / name)
    first, second = ((tmp_path / n / "results" / "hit-udp.svg").read_bytes() for n in ("a", "b"))
    assert first == second


def test_the_harness_is_alive(tmp_path: Path) -> None:
    """Real processes, real packets, a second of each; no number is judged."""
    script = str(ROOT / "benchmarks" / "compare.py")
    chosen = ["--servers", f"{PRODUCT.name},{NAIVE.name}", "--works", "hit-udp,hit-tcp,miss,start"]
    command = [sys.executable, script, "--smoke", "--no-pin", *chosen, "--output", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=100, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    read = json.loads((tmp_path / "results" / "run.json").read_text())
    assert read["failures"] == []
    measured = {(one["work"], one["label"]) for one in read["samples"]}
    works = ("hit-udp", "hit-tcp", "miss", "start")
    assert measured == {(key, name) for key in works for name in (PRODUCT.name, NAIVE.name)}
    for one in read["samples"]:
        assert one["values"].get("qps", 1) > 0
        assert one["values"].get("errors", 0) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "## Cached answers over UDP" in text
    assert "## Goals" in text
