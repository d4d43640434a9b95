"""The tally against counts that are plain to see, its percentiles against a sorted list."""

from __future__ import annotations

import math
import random

import pytest

from dnsguard.sim.result import Kind, Outcome, Phase, Scenario, SystemRun
from dnsguard.sim.tally import BIN_SECONDS_MIN, BINS, Tally
from tests.sim.results import AFTER, BROKEN, QUIET, SCENARIO, entrant

ROUND_TRIP = 0.0004


def steady(tally: Tally, begin: int, end: int, outcome: Outcome = Outcome.RIGHT) -> None:
    """One look-up a second, in the middle of it."""
    for second in range(begin, end):
        tally.over(second + 0.5, second + 0.5 + ROUND_TRIP, outcome)


def summed(tally: Tally) -> SystemRun:
    return tally.run(entrant())


def test_nothing_counted_is_nothing() -> None:
    run = summed(Tally(SCENARIO))
    assert run.total.lookups == 0
    assert run.total.latency is None
    assert run.total.availability is None
    assert run.first_failure is None
    assert run.recovery == 0.0
    assert len(run.timeline) == BINS
    assert {one.availability for one in run.timeline} == {None}


def test_who_it_was_stands_in_the_result() -> None:
    run = Tally(SCENARIO).run(entrant("unbound", Kind.PEER), notes=["it died"])
    assert (run.name, run.kind, run.version) == ("unbound", Kind.PEER, "0.1.0")
    assert run.settings == {"stale.max_age": "3d"}
    assert run.notes == ("it died",)


def test_each_outcome_has_its_column() -> None:
    tally = Tally(SCENARIO)
    for times, outcome in enumerate(Outcome, 1):
        for _ in range(times):
            tally.over(40.0, 40.1, outcome)
    tally.over(40.0, 42.5, Outcome.RIGHT)
    total = summed(tally).total
    assert (total.right, total.late) == (1, 1)
    assert (total.wrong_negative, total.dead_address, total.deleted, total.failed) == (2, 3, 4, 5)
    assert total.lookups == 16


@pytest.mark.parametrize(("seconds", "right"), [(2.0, 1), (2.001, 0)])
def test_two_seconds_are_in_time(seconds: float, right: int) -> None:
    tally = Tally(SCENARIO)
    tally.over(0.0, seconds, Outcome.RIGHT)
    assert summed(tally).total.right == right


def test_a_lookup_belongs_to_the_phase_in_which_it_began() -> None:
    tally = Tally(SCENARIO)
    for began in (0.0, 29.9999, 30.0, 89.9, 90.0, 119.9):
        tally.over(began, began + 5, Outcome.FAILED)
    phases = summed(tally).phases
    assert list(phases) == [QUIET, BROKEN, AFTER]
    assert [numbers.failed for numbers in phases.values()] == [2, 2, 2]


def test_what_came_after_the_end_counts_in_the_last_phase() -> None:
    tally = Tally(SCENARIO)
    tally.over(120.3, 120.4, Outcome.RIGHT)
    tally.asked(120.3)
    run = summed(tally)
    assert run.phases[AFTER].lookups == run.phases[AFTER].upstream == 1
    assert len(run.timeline) == BINS


def test_order_does_not_matter() -> None:
    rng = random.Random(1)
    calls = [
        (at := rng.uniform(0, 120), at + rng.expovariate(2), rng.choice(list(Outcome)))
        for _ in range(500)
    ]
    ordered, shuffled = Tally(SCENARIO), Tally(SCENARIO)
    for call in sorted(calls):
        ordered.over(*call)
    for call in calls:
        shuffled.over(*call)
    assert summed(ordered) == summed(shuffled)


def test_percentiles_are_those_of_all_latencies() -> None:
    rng = random.Random(2)
    seconds = [rng.choice([50e-6, 400e-6, 0.03]) * rng.uniform(0.5, 40) for _ in range(1999)]
    tally = Tally(SCENARIO)
    for one in seconds:
        tally.over(1.0, 1.0 + one, Outcome.RIGHT)
    latency = summed(tally).total.latency
    assert latency is not None
    ordered = sorted(seconds)
    for share, found in ((0.5, latency.p50), (0.9, latency.p90), (0.99, latency.p99)):
        assert found == pytest.approx(ordered[math.ceil(share * 1999) - 1], abs=1e-4)
    assert latency.max == pytest.approx(ordered[-1], abs=1e-4)
    assert latency.p50 == pytest.approx(ordered[999], abs=1e-6)


def test_names_that_did_not_exist_before_count_apart() -> None:
    tally = Tally(SCENARIO)
    tally.over(40.0, 40.1, Outcome.RIGHT)
    tally.over(40.0, 40.1, Outcome.FAILED)
    tally.over(40.0, 40.1, Outcome.DELETED, known=False)
    total = summed(tally).total
    assert total.availability == pytest.approx(1 / 3)
    assert total.survival == pytest.approx(1 / 2)


def test_sources_are_counted_the_most_frequent_first() -> None:
    tally = Tally(SCENARIO)
    for source in ("hit", "stale", "stale", ""):
        tally.over(40.0, 40.1, Outcome.RIGHT, source=source)
    assert list(summed(tally).total.sources.items()) == [("stale", 2), ("hit", 1)]


def test_the_oldest_age_of_each_phase() -> None:
    tally = Tally(SCENARIO)
    for at, age in ((10.0, 4.0), (50.0, 25.0), (51.0, 24.0), (100.0, 1.0)):
        tally.over(at, at + 0.1, Outcome.RIGHT, age=age)
    run = summed(tally)
    assert [numbers.oldest for numbers in run.phases.values()] == [4.0, 25.0, 1.0]
    assert run.total.oldest == 25.0


def test_the_first_failure_counts_from_the_outages_begin() -> None:
    tally = Tally(SCENARIO)
    tally.over(10.0, 10.1, Outcome.FAILED)  # before it
    tally.over(35.0, 35.1, Outcome.FAILED, known=False)  # nobody could have answered it
    assert summed(tally).first_failure is None
    tally.over(47.0, 52.0, Outcome.RIGHT)  # late is failed
    tally.over(42.0, 42.1, Outcome.WRONG_NEGATIVE)
    assert summed(tally).first_failure == pytest.approx(12.0)


class TestRecovery:
    def test_at_once(self) -> None:
        tally = Tally(SCENARIO)
        steady(tally, 0, 30)
        steady(tally, 30, 90, Outcome.FAILED)
        steady(tally, 90, 120)
        assert summed(tally).recovery == 0.0

    def test_later(self) -> None:
        tally = Tally(SCENARIO)
        steady(tally, 30, 97, Outcome.FAILED)
        steady(tally, 97, 120)
        assert summed(tally).recovery == pytest.approx(6.5)

    def test_it_relapsed(self) -> None:
        tally = Tally(SCENARIO)
        steady(tally, 90, 110)
        steady(tally, 110, 112, Outcome.DEAD_ADDRESS)
        steady(tally, 112, 120)
        assert summed(tally).recovery == pytest.approx(21.5)

    def test_never(self) -> None:
        tally = Tally(SCENARIO)
        steady(tally, 90, 110)
        steady(tally, 110, 120, Outcome.FAILED)
        assert summed(tally).recovery is None

    def test_one_in_a_thousand_is_no_relapse(self) -> None:
        tally = Tally(SCENARIO)
        steady(tally, 90, 120)
        for n in range(1000):
            tally.over(105.0, 105.1, Outcome.FAILED if n == 0 else Outcome.RIGHT)
        assert summed(tally).recovery == 0.0


class TestUpstream:
    def test_by_phase_with_the_worst_second_of_each(self) -> None:
        tally = Tally(SCENARIO)
        tally.asked(29.9)
        for at in (30.0, 30.9, 31.0, 89.99):
            tally.asked(at)
        tally.asked(90.0, 50)
        tally.asked(90.5, 20)
        run = summed(tally)
        assert [numbers.upstream for numbers in run.phases.values()] == [1, 4, 70]
        assert [numbers.upstream_peak for numbers in run.phases.values()] == [1, 2, 70]
        assert (run.outage_upstream, run.recovery_peak) == (4, 70)
        assert run.total.upstream == 75

    def test_an_outage_to_the_very_end_has_no_recovery(self) -> None:
        phases = (Phase("all", 0.0, 10.0, "dead", outage=True),)
        tally = Tally(Scenario("short", "Short", "", 10.0, phases))
        tally.asked(5.0, 7)
        run = summed(tally)
        assert (run.outage_upstream, run.recovery_peak) == (7, 0)

    def test_a_scenario_without_outage(self) -> None:
        phases = (Phase("all", 0.0, 10.0, "well"),)
        tally = Tally(Scenario("calm", "Calm", "", 10.0, phases))
        tally.asked(5.0, 7)
        tally.over(5.0, 5.1, Outcome.FAILED)
        run = summed(tally)
        assert (run.outage_upstream, run.recovery_peak) == (0, 0)
        assert run.first_failure is None


class TestTimeline:
    def test_bins_span_the_scenario(self) -> None:
        run = summed(Tally(SCENARIO))
        assert run.bin_seconds == 0.5
        assert [one.at for one in run.timeline] == [n * 0.5 for n in range(BINS)]

    def test_bins_of_a_short_scenario_are_not_shorter_than_useful(self) -> None:
        tally = Tally(Scenario("short", "Short", "", 3.2, (Phase("all", 0.0, 3.2, "well"),)))
        assert [one.at for one in summed(tally).timeline] == [n * BIN_SECONDS_MIN for n in range(7)]

    def test_a_bin_that_two_phases_share(self) -> None:
        phases = (Phase("a", 0.0, 0.7, "well"), Phase("b", 0.7, 3.0, "dead", outage=True))
        tally = Tally(Scenario("odd", "Odd", "", 3.0, phases))
        tally.over(0.6, 0.61, Outcome.RIGHT)
        tally.over(0.8, 0.82, Outcome.FAILED)
        tally.asked(0.65, 2)
        tally.asked(0.75)
        second = summed(tally).timeline[1]
        assert (second.at, second.availability) == (0.5, 0.5)
        assert second.p99 == pytest.approx(0.02)
        assert second.upstream_qps == 3 / BIN_SECONDS_MIN


class TestMerge:
    def tallies(self) -> tuple[Tally, Tally]:
        one, other = Tally(SCENARIO), Tally(SCENARIO)
        one.over(40.0, 40.1, Outcome.FAILED)
        other.over(35.0, 35.1, Outcome.FAILED, age=9.0)
        other.over(95.0, 95.1, Outcome.RIGHT)
        one.asked(40.0, 10)
        other.asked(40.0, 30)
        return one, other

    def test_another_run(self) -> None:
        one, other = self.tallies()
        one.merge(other)
        run = summed(one)
        assert (run.total.lookups, run.total.failed, run.total.oldest) == (3, 2, 9.0)
        assert (run.total.upstream, run.total.upstream_peak) == (20, 30)
        assert run.timeline[80].upstream_qps == 20 / 0.5
        assert run.first_failure == pytest.approx(5.0)

    def test_another_instance_in_the_same_run(self) -> None:
        one, other = self.tallies()
        one.merge(other, beside=True)
        run = summed(one)
        assert (run.total.upstream, run.total.upstream_peak) == (40, 40)
