"""What is counted, and that nothing is counted in dnsguard's favour."""

from __future__ import annotations

import pytest

from dnsguard.demo.tally import GUARD, PLAIN, TARGETS, Cell, Outcome, Sample, Tally, quantile


def sample(
    sent: float,
    outcome: Outcome = Outcome.FRESH,
    seconds: float = 0.001,
    age: float | None = None,
    target: str = GUARD,
) -> Sample:
    return Sample(target, sent, outcome, seconds, age)


def test_a_second_that_is_not_over_is_not_yet_answered() -> None:
    tally = Tally()
    tally.sent(3, 4)
    tally.add([sample(3.1), sample(3.2, Outcome.STALE)])
    cell = tally.cells[GUARD][3]
    assert cell.share == 0.5
    assert cell.quantile(0.5) == 0.001
    assert cell.quantile(0.99) is None
    assert not tally.settled(4)
    assert tally.settled(3)


def test_failures_and_losses_are_never_answers() -> None:
    tally = Tally()
    tally.sent(0, 4)
    tally.add(
        [sample(0), sample(0, Outcome.STALE), sample(0, Outcome.FAILED), sample(0, Outcome.LOST, 2)]
    )
    assert tally.cells[GUARD][0].share == 0.5
    assert tally.never_answered(GUARD) == 2
    assert tally.never_answered(PLAIN) == 0
    assert tally.share_since(GUARD, 0, 1) == 0.5
    assert tally.share_since(GUARD, 1, 2) is None


def test_a_second_without_queries_has_no_share() -> None:
    assert Cell().share is None
    assert Cell().quantile(0.5) is None


@pytest.mark.parametrize(
    ("answered", "q", "of", "expected"),
    [
        ([3.0, 1.0, 2.0, 4.0], 0.5, 4, 2.0),
        ([1.0] * 98 + [5.0, 9.0], 0.99, 100, 5.0),
        ([1.0] * 98, 0.99, 100, None),
        ([1.0] * 99, 0.99, 100, 1.0),
        ([7.0], 0.99, 1, 7.0),
    ],
)
def test_quantiles_count_the_unanswered(
    answered: list[float], q: float, of: int, expected: float | None
) -> None:
    assert quantile(answered, q, of) == expected


def test_the_summary_is_of_the_outage_and_the_way_out() -> None:
    tally = Tally()
    tally.add(
        [
            sample(1.0, age=3.0),
            sample(11.0, Outcome.FRESH, 0.002, 5.0),
            sample(12.0, Outcome.STALE, 0.050, 6.0),
            sample(19.0, Outcome.STALE, 0.001, 13.0),
            sample(19.5, Outcome.LOST, 2.0),
            sample(19.7, Outcome.FAILED, 0.001),
            sample(20.5, Outcome.STALE, 0.001, 14.5),
            sample(20.8, Outcome.FRESH, 0.001),  # a Service: its address says nothing
            sample(21.0, Outcome.FRESH, 0.001, 0.4),
            sample(21.5, Outcome.STALE, 0.001, 15.5),
            sample(22.0, Outcome.FRESH, 0.001, 0.4),
        ]
    )
    tally.asked(0.0, {GUARD: 5, PLAIN: 5})
    tally.asked(9.9, {GUARD: 30, PLAIN: 40})
    tally.asked(19.9, {GUARD: 37, PLAIN: 140})
    tally.asked(25.0, {GUARD: 60, PLAIN: 150})
    summary = tally.summary(GUARD, 10.0, 20.0)
    assert (summary.sent, summary.answered, summary.failed, summary.lost) == (5, 3, 1, 1)
    assert summary.stale == 4
    assert summary.share == 0.6
    assert summary.first_stale == 0.050
    assert summary.slowest == 0.050
    assert summary.oldest == 15.5
    assert summary.p50 == 0.050  # two of the five never came
    assert summary.p99 is None
    assert summary.fresh_after == pytest.approx(1.001)
    assert summary.all_fresh_after == pytest.approx(1.501)
    assert summary.upstream_asked == 7
    assert tally.summary(PLAIN, 10.0, 20.0).upstream_asked == 100


def test_a_target_that_never_recovered_has_no_time_for_it() -> None:
    summary = Tally().summary(GUARD, 10.0, 20.0)
    assert (summary.sent, summary.share) == (0, 0.0)
    assert summary.fresh_after is None
    assert summary.all_fresh_after is None
    assert summary.first_stale is None


def test_an_old_answer_that_is_not_marked_is_not_taken_for_new() -> None:
    tally = Tally()
    tally.add([sample(21.0, Outcome.FRESH, 0.0, 11.5)])
    assert tally.summary(GUARD, 10.0, 20.0).fresh_after is None


def test_upstream_queries_are_told_per_second() -> None:
    tally = Tally()
    tally.asked(float("-inf"), {GUARD: 9, PLAIN: 0})  # before the clients began
    tally.asked(0.5, {GUARD: 10, PLAIN: 3})
    tally.asked(0.9, {GUARD: 12, PLAIN: 3})
    tally.asked(1.1, {GUARD: 12, PLAIN: 7})
    assert dict(tally.asked_in[GUARD]) == {0: 3, 1: 0}
    assert dict(tally.asked_in[PLAIN]) == {0: 3, 1: 4}


def test_what_is_long_ago_is_forgotten() -> None:
    tally = Tally()
    for second in range(10):
        tally.sent(second, 1)
        tally.add(sample(second, target=target) for target in TARGETS)
        tally.asked(second, {GUARD: second, PLAIN: second})
    tally.forget(8)
    assert sorted(tally.cells[GUARD]) == [8, 9]
    assert sorted(tally.asked_in[PLAIN]) == [8, 9]
    tally.asked(10.0, {GUARD: 12, PLAIN: 9})
    assert tally.asked_in[GUARD][10] == 3
    tally.add([sample(10.0)])
    assert tally.summary(GUARD, 0, 100).sent == 0
    assert tally.answered[GUARD] == 11
