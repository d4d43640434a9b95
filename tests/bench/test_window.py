"""Whoever waits is answered once, or lost once; a plain dict is the judge."""

from __future__ import annotations

from hypothesis import given, strategies as st

from dnsguard.bench.window import IDS, IDS_ALL, IDS_MIN, Window, ids_of_each
from dnsguard.net.mmsg import BATCH

SIZE = 256

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, BATCH)),
        st.tuples(st.just("answer"), st.lists(st.integers(0, SIZE - 1), max_size=20)),
        st.tuples(st.just("expire"), st.integers(0, 400)),
        st.tuples(st.just("room"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_it_agrees_with_a_dict(script: list[tuple[str, int | list[int]]]) -> None:
    window, waiting, now = Window(SIZE), dict[int, int](), 0
    for what, value in script:
        now += 100
        if what == "add":
            assert isinstance(value, int)
            count, first = min(value, window.room()), window.next_id()
            dues = [now + number for number in range(count)]  # as time goes
            assert waiting.keys().isdisjoint(range(first, first + count))
            waiting.update(zip(range(first, first + count), dues, strict=True))
            window.add(dues)
        elif what == "answer":
            assert isinstance(value, list)
            strays: list[int] = []
            found = window.settle(value, now + 100, strays)
            expected = [now + 100 - waiting.pop(i) for i in dict.fromkeys(value) if i in waiting]
            assert found == expected
            assert len(found) + len(strays) == len(value)
        elif what == "expire":
            assert isinstance(value, int)
            expected = sorted(due for due in waiting.values() if due < now - value)
            assert window.expire(now - value) == expected
            waiting = {i: due for i, due in waiting.items() if due >= now - value}
        else:
            lost = window.make_room()
            assert window.room() > 0
            waiting = {i: due for i, due in waiting.items() if due not in lost}
        assert window.open == len(waiting)
    assert window.give_up() == sorted(waiting.values())
    assert window.open == 0


def test_ids_come_in_turn_and_then_again() -> None:
    window = Window(SIZE)
    for first in [0, 64, 128, 192, 0]:
        assert (window.next_id(), window.room()) == (first, BATCH)
        window.add([5] * BATCH)
        window.settle(range(first, first + BATCH), 6, [])
        window.expire(0)


def test_a_lost_query_holds_up_its_id_alone() -> None:
    window = Window(SIZE)
    window.add([1] * BATCH)
    window.settle(range(1, BATCH), 2, [])
    for _ in range(3):
        first = window.next_id()
        window.add([2] * BATCH)
        window.settle(range(first, first + BATCH), 3, [])
    window.expire(0)
    assert window.room() == 0
    assert window.make_room() == [1]
    assert window.room() == BATCH


def test_many_sockets_share_the_ids() -> None:
    assert ids_of_each(1) == ids_of_each(8) == IDS
    assert ids_of_each(9) == IDS // 2
    assert ids_of_each(1000) == IDS_MIN
    assert all(ids_of_each(n) * n <= max(IDS_ALL, IDS_MIN * n) for n in range(1, 1001))
