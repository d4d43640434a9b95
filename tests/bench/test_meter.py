"""Percentiles are values that were measured; sums add up; nothing of the time line is lost."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given, strategies as st

from dnsguard.bench.meter import (
    POINTS,
    Meter,
    bucketed,
    percentiles,
    read_flags,
    summary,
)  # fmt: skip
from dnsguard.bench.window import Window

latencies = st.lists(st.integers(0, 3_000_000), min_size=1, max_size=300)


@given(latencies)
def test_percentiles_are_the_nearest_ranks(values: list[int]) -> None:
    ordered = sorted(values)
    expected = {
        name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in POINTS.items()
    }
    assert percentiles(Counter(values), POINTS) == expected


def test_no_answers_have_no_percentiles() -> None:
    assert percentiles({}, POINTS) == {}
    assert summary({}) == {}


@given(latencies)
def test_the_written_histogram_keeps_three_digits_and_every_count(values: list[int]) -> None:
    found = bucketed(Counter(values))
    assert sum(count for _, count in found) == len(values)
    assert [value for value, _ in found] == sorted({value for value, _ in found})
    for value in values:
        below = max(bucket for bucket, _ in found if bucket <= value)
        assert value - below <= value // 100


def test_flags_are_read_in_either_order() -> None:
    words = {0x8180: 5, 0x8183: 3, 0x8382: 2, 0x0100: 1, 0x818F: 1}
    expected = ({"NOERROR": 6, "NXDOMAIN": 3, "SERVFAIL": 2, "RCODE15": 1}, 2, 1)
    assert read_flags(words, "big") == expected
    swapped = {(word & 255) << 8 | word >> 8: count for word, count in words.items()}
    assert read_flags(swapped, "little") == expected


def test_a_measurement_adds_up() -> None:
    meter, window = Meter(1000, 500, "big"), Window()
    window.add([1000, 1001, 1002, 1003])
    meter.sent += 4
    meter.take(window, [0, 2, 9], [0x8180, 0x8183, 0x8185], 1100)
    meter.turn(1500)
    window.add([1600, 1700])
    meter.sent += 2
    meter.take(window, list(range(1, 12)), [0x8180] * 11, 1800)  # 3 and more at once
    window.add([1900])
    meter.sent += 1
    meter.lose(window.give_up())
    found = meter.measured(stopped=2000, answered_by_then=meter.answered, unsent=3)
    assert (found.sent, found.answered, found.lost, found.unsent) == (7, 6, 1, 3)
    assert found.strays == 1 + 7
    assert found.rcodes == {"NOERROR": 5, "NXDOMAIN": 1}
    assert found.latency_us["max"] == 1800 - 1001
    assert found.latency_us["min"] == 100 - 2
    first, second = found.timeline
    assert (first.sent, first.answered, first.lost, first.p50_us) == (4, 2, 0, 98)
    assert (second.sent, second.answered, second.lost) == (3, 4, 1)
    assert (first.seconds, second.seconds) == (0.0005, 0.0005)
    assert found.qps == 6 / found.seconds


def test_a_loss_is_told_where_it_was_due() -> None:
    meter = Meter(0, 10, "big")
    for now in (10, 20, 30):
        meter.turn(now)
    meter.lose([0, 9, 10, 29, 30, 99])
    found = meter.measured(stopped=40, answered_by_then=0, unsent=0)
    assert [one.lost for one in found.timeline] == [2, 1, 1, 2]
    assert found.lost == 6
