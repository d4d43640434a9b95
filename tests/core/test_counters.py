"""Numbers that only grow, buckets with upper bounds, and how old the last minute's answers were."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from dnsguard.core.counters import (
    BUCKETS,
    DOUBLED,
    SOURCES,
    STALE_WINDOW,
    Counters,
    Histogram,
    SharedCounts,
    StoreCounts,
)

START = 60 * 16667.0  # seconds since boot, at a minute's beginning


def test_buckets_rise() -> None:
    for bounds in (BUCKETS, DOUBLED):
        assert list(bounds) == sorted(set(bounds))
        assert bounds[0] > 0
        assert len(Histogram().below(bounds)) == len(bounds) + 1  # the last is all of them


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(0.0, 0), (BUCKETS[0], 0), (BUCKETS[0] * 1.01, 1), (BUCKETS[-1], len(BUCKETS) - 1),
     (BUCKETS[-1] * 1.01, len(BUCKETS)), (3600.0, len(BUCKETS))],
)  # fmt: skip
def test_a_bucket_holds_what_is_not_above_it(seconds: float, place: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.below(BUCKETS) == [0] * place + [1] * (len(BUCKETS) + 1 - place)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5)), max_size=20))
def test_a_histogram_loses_nothing(seen: list[tuple[float, int]]) -> None:
    histogram = Histogram()
    for seconds, times in seen:
        histogram.observe(seconds, times)
    assert sum(histogram.counts) == sum(times for _, times in seen)
    assert histogram.total == pytest.approx(sum(seconds * times for seconds, times in seen))
    for bounds in (BUCKETS, DOUBLED):
        expected = [sum(n for seconds, n in seen if seconds <= bound) for bound in bounds]
        assert histogram.below(bounds) == [*expected, sum(histogram.counts)]


def test_counters_start_at_nothing() -> None:
    counters = Counters()
    assert counters.queries == {"udp": 0, "tcp": 0}
    single = (counters.malformed, counters.coalesced, counters.prefetches, counters.shed)
    assert (*single, counters.loops) == (0, 0, 0, 0, 0)
    assert not counters.answers
    assert counters.answers[SOURCES[0], 0] == 0
    assert counters.stale_age(START) == 0.0
    assert sum(counters.latency.counts) == 0


def test_a_store_that_was_never_opened_has_nothing() -> None:
    store = StoreCounts(START)
    assert (store.up, store.rows, store.octets, store.loaded, store.writes) == (False, 0, 0, 0, 0)
    assert store.errors["full"] == 0
    assert store.flushed == START  # nothing is due yet, so nothing is late


def test_stale_answers_are_counted_by_reason() -> None:
    counters = Counters()
    counters.served_stale("timeout", 1.0, START)
    counters.served_stale("outage", 2.0, START, times=3)
    counters.served_stale("outage", 2.0, START)
    assert counters.stale == {"timeout": 1, "outage": 4}


@pytest.mark.parametrize(
    ("later", "age"),
    [
        (0.0, 90.0),
        (STALE_WINDOW - 1, 90.0),
        (STALE_WINDOW, 90.0),  # the window before still counts
        (2 * STALE_WINDOW - 1, 90.0),
        (2 * STALE_WINDOW, 0.0),
        (50 * STALE_WINDOW, 0.0),
    ],
)
def test_the_oldest_stale_answer_is_forgotten_in_time(later: float, age: float) -> None:
    counters = Counters()
    counters.served_stale("timeout", 90.0, START)
    counters.served_stale("timeout", 30.0, START)
    assert counters.stale_age(START + later) == age


def test_the_oldest_of_two_windows_is_told() -> None:
    counters = Counters()
    counters.served_stale("outage", 90.0, START)
    counters.served_stale("outage", 10.0, START + STALE_WINDOW)
    assert counters.stale_age(START + STALE_WINDOW) == 90.0
    assert counters.stale_age(START + 2 * STALE_WINDOW) == 10.0
    assert counters.stale_age(START + 3 * STALE_WINDOW) == 0.0


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 1000)), min_size=1, max_size=20))
def test_nothing_of_the_last_minute_is_forgotten(steps: list[tuple[float, float]]) -> None:
    counters, now = Counters(), START
    seen: list[tuple[float, float]] = []
    for pause, age in steps:
        now += pause
        counters.served_stale("timeout", age, now)
        seen.append((now, age))
        told = counters.stale_age(now)
        assert told >= max(age for at, age in seen if now - at < STALE_WINDOW)
        assert told in {age for at, age in seen if now - at <= 2 * STALE_WINDOW}


def test_a_shared_store_begins_unknown() -> None:
    counts = SharedCounts()
    assert not any(getattr(counts, name) for name in SharedCounts.__slots__)
