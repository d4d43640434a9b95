"""The table of health, pair by pair; strikes; the clock of an outage; probes; round trips."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from dnsguard.core.health import (
    BAD_STRIKES,
    JITTER,
    PRESENT_SECONDS,
    PROBE_FIRST,
    SILENCE_TIMES,
    TABLE,
    TIMEOUT_MAX,
    TIMEOUT_MIN,
    TIMEOUT_UNKNOWN,
    Event,
    Health,
    RoundTrip,
    State,
)

EVIDENCE = (Event.SILENT, Event.REFUSED, Event.UNREACHABLE, Event.BAD)


def health_in(state: State, now: float = 0.0) -> Health:
    health = Health(now)
    for _ in range({State.UP: 0, State.SUSPECT: 1}.get(state, 2)):
        health.note(Event.SILENT, now)
    if state is State.PROBING:
        health.note(Event.PROBE, now)
    assert health.state is state
    return health


def test_every_pair_is_in_the_table() -> None:
    assert set(TABLE) == set(State)
    for row in TABLE.values():
        assert set(row) == set(Event)


@pytest.mark.parametrize("state", list(State))
def test_one_good_answer_ends_every_doubt(state: State) -> None:
    health = health_in(state)
    assert health.note(Event.GOOD, 9.0) is (state is not State.UP)
    assert health.up
    assert not health.dead
    assert health.heard == 9.0
    assert health.probe_at == float("inf")
    assert health.backoff == PROBE_FIRST


@pytest.mark.parametrize("event", EVIDENCE)
@pytest.mark.parametrize(
    ("state", "after"),
    [
        (State.SUSPECT, State.DOWN),
        (State.DOWN, State.DOWN),
        (State.PROBING, State.DOWN),
    ],
)
def test_more_evidence_takes_it_down(state: State, event: Event, after: State) -> None:
    health = health_in(state)
    health.note(event, 3.0)
    assert health.state is after
    assert health.dead
    assert health.reason == event.value


@pytest.mark.parametrize("event", EVIDENCE[:3])
def test_one_piece_of_evidence_is_suspicion_and_a_probe_at_once(event: Event) -> None:
    health = Health(0.0)
    assert health.note(event, 4.0) is True
    assert health.state is State.SUSPECT
    assert not health.up
    assert not health.dead
    assert health.probe_at == 4.0
    assert health.since == 4.0


def test_bad_rcodes_need_a_row_of_them() -> None:
    health = Health(0.0)
    for index in range(BAD_STRIKES - 1):
        assert health.note(Event.BAD, float(index)) is False
        assert health.up
    health.note(Event.GOOD, 5.0)
    for index in range(BAD_STRIKES - 1):
        health.note(Event.BAD, 6.0 + index)
        assert health.up
    assert health.note(Event.BAD, 9.0) is True
    assert health.state is State.SUSPECT
    assert health.heard == 9.0  # it did say something


def test_the_clock_of_an_outage_starts_once() -> None:
    health = health_in(State.DOWN, 10.0)
    assert health.since == 10.0
    for now in (11.0, 12.0, 13.0):
        health.probed(now, 5.0, 0.0)
        assert health.note(Event.SILENT, now + 0.2) is True  # from probing to down
        assert health.dead
    assert health.since == 10.0
    health.note(Event.GOOD, 20.0)
    assert health.since == 20.0


def test_a_probe_changes_nothing_for_the_healthy() -> None:
    health = Health(0.0)
    assert health.note(Event.PROBE, 1.0) is False
    assert health.up


def measured(seconds: float = 0.001) -> Health:
    health = health_in(State.DOWN)
    health.trip.add(seconds, 0.0)
    return health


def test_probes_back_off_up_to_recheck() -> None:
    health = measured()
    pauses, now = [], 0.0
    for _ in range(7):
        health.probed(now, 5.0, 0.0)
        assert health.probed_at == now
        pauses.append(health.probe_at - now)
        now = health.probe_at
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 60), st.integers(0, 12))
def test_chance_only_shortens_the_pause(chance: float, recheck: float, before: int) -> None:
    health = measured()
    for _ in range(before):
        health.probed(0.0, recheck, 0.0)
    health.probed(0.0, recheck, chance)
    most = min(PROBE_FIRST * 2**before, recheck)
    assert most * (1 - JITTER) <= health.probe_at <= most


def test_no_probe_before_the_one_before_could_be_answered() -> None:
    slow = measured(1.0)
    slow.probed(10.0, 0.1, 0.9)
    assert slow.probe_at == 10.0 + slow.trip.silence()
    unknown = health_in(State.DOWN)
    unknown.probed(10.0, 0.1, 0.9)
    assert unknown.probe_at == 10.0 + TIMEOUT_UNKNOWN


def test_silence_is_longer_than_the_slowest_answer_of_late() -> None:
    trip = settled(0.001)
    assert trip.silence() == TIMEOUT_MIN
    trip.add(1.0, 59.1)
    assert trip.silence() == pytest.approx(SILENCE_TIMES)
    for index in range(60):
        trip.add(0.001, 59.2 + index / 10)
    assert trip.silence() == TIMEOUT_MIN


def test_timeouts_before_and_after_the_first_measurement() -> None:
    trip = RoundTrip()
    assert trip.timeout() == TIMEOUT_UNKNOWN
    assert not trip.lagging(0.0)
    trip.add(0.0001, 0.0)
    assert trip.timeout() == TIMEOUT_MIN
    slow = RoundTrip()
    slow.add(3.0, 0.0)
    assert slow.timeout() == TIMEOUT_MAX


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_a_timeout_stays_within_its_bounds(trips: list[float]) -> None:
    trip = RoundTrip()
    for index, seconds in enumerate(trips):
        trip.add(seconds, float(index))
        assert TIMEOUT_MIN <= trip.timeout() <= TIMEOUT_MAX
        assert min(trips) <= trip.present <= max(trips)
        assert min(trips) <= trip.usual <= max(trips)


def settled(seconds: float, samples: int = 60) -> RoundTrip:
    trip = RoundTrip()
    for index in range(samples):
        trip.add(seconds, float(index))
    return trip


def test_turning_slow_is_noticed_and_not_merely_awaited_longer() -> None:
    trip = settled(0.002)
    before = trip.timeout()
    for index in range(3):
        trip.add(1.0, 61.0 + index)
    assert trip.lagging(63.0)
    assert trip.timeout() < 2 * before + TIMEOUT_MIN
    for index in range(30):
        trip.add(0.002, 64.0 + index)
    assert not trip.lagging(94.0)


def test_what_was_slow_long_ago_says_nothing_of_now() -> None:
    trip = settled(0.002)
    for index in range(3):
        trip.add(1.0, 61.0 + index)
    assert trip.lagging(63.0 + PRESENT_SECONDS)
    assert not trip.lagging(63.1 + PRESENT_SECONDS)
    trip.add(0.002, 100.0)  # and the first answer after a pause speaks for itself
    assert trip.present == pytest.approx(0.002)
    assert not trip.lagging(100.0)


def test_slow_for_good_becomes_the_usual() -> None:
    trip = settled(0.002)
    for index in range(3600):
        trip.add(0.5, 61.0 + index)
    assert trip.usual == pytest.approx(0.5, rel=0.05)
    assert not trip.lagging(3660.0)


def test_a_far_upstream_is_not_lagging() -> None:
    assert not settled(0.3).lagging(60.0)
