"""Names that are kept fresh stand in the wheel, both questions of each, until others are kept."""

from __future__ import annotations

from dnsguard.core.keeping import KEEP_TYPES, Keep, Keeping
from dnsguard.core.wheel import Due, Wheel
from tests.core import build


def test_both_questions_of_each_name_are_due_at_once() -> None:
    wheel: Wheel[Due] = Wheel()
    Keeping(wheel).begin(("Web.Cluster.local", "db.cluster.local."), 5.0)
    due = wheel.due(5.01)
    keys = {thing.key for thing in due if isinstance(thing, Keep)}
    assert keys == {
        build.read(build.query(name, qtype)).key
        for name in ("web.cluster.local", "db.cluster.local")
        for qtype in ("A", "AAAA")
    }
    assert len(due) == 2 * len(KEEP_TYPES)


def test_other_names_take_the_place_of_the_former() -> None:
    wheel: Wheel[Due] = Wheel()
    keeping = Keeping(wheel)
    keeping.begin(("web.cluster.local",), 5.0)
    keeping.begin(("db.cluster.local",), 6.0)
    due = wheel.due(7.0)
    assert {thing.key[:3] for thing in due if isinstance(thing, Keep)} == {b"\2db"}
    keeping.begin((), 8.0)
    assert all(thing.over for thing in due)
