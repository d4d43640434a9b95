"""Queries are due when they are due, whatever the server or the generator is up to."""

from __future__ import annotations

from dnsguard.bench.pace import FlatOut, Steady

SECOND = 1_000_000


def test_a_stall_does_not_move_the_schedule() -> None:
    """Coordinated omission: what was due during a stall still counts from when it was due."""
    pace = Steady(1000, start=0, end=SECOND)
    first = pace.due(0, 64)
    pace.sent(first, 0)
    late = pace.due(10_500, 64)  # nothing could be sent for ten milliseconds
    assert first == [0]
    assert late == [1000 * number for number in range(1, 11)]
    pace.sent(late, 10_500)
    assert pace.late == {0: 1, **{10_500 - due: 1 for due in late}}


def test_what_does_not_leave_stays_due() -> None:
    pace = Steady(1000, start=0, end=SECOND)
    assert pace.due(5000, 64) == [0, 1000, 2000, 3000, 4000, 5000]
    pace.sent([0, 1000], 5000)
    assert pace.due(5000, 2) == [2000, 3000]
    assert pace.unsent(5000) == 3


def test_rest_is_the_time_until_the_next() -> None:
    pace = Steady(1000, start=500, end=SECOND)
    assert pace.rest(0) == 500
    pace.sent(pace.due(500, 64), 500)
    assert pace.rest(700) == 800
    assert pace.due(1499, 64) == []
    assert pace.rest(1500) == 0
    assert pace.due(1500, 64) == [1500]


def test_all_that_belong_into_the_time_are_due_and_no_more() -> None:
    for qps in (1, 3, 7, 333, 1000, 9999.5):
        pace = Steady(qps, start=123, end=123 + SECOND)
        dues, now = [], 123
        while found := pace.due(now, 10_000_000):
            dues += found
            pace.sent(found, now)
            now += pace.rest(now) or 0
        assert len(dues) == -(-qps // 1)
        assert all(123 <= due < 123 + SECOND for due in dues)
        assert dues == sorted(dues)
        assert pace.unsent(123 + SECOND) == 0


def test_flat_out_is_due_as_room_comes() -> None:
    pace = FlatOut(end=100)
    assert pace.due(5, 3) == [5, 5, 5]
    assert pace.due(100, 3) == []
    pace.sent([5], 9)
    assert pace.late == {}
    assert pace.rest(5) is None
    assert pace.unsent(100) == 0
