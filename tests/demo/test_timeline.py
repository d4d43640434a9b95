"""The order of events, and where a moment falls in it."""

from __future__ import annotations

import pytest

from dnsguard.demo.timeline import WHAT_IT_DOES, Mode, timeline

PLAN = timeline(8, 12, 7, 9)


def test_the_phases_follow_each_other() -> None:
    assert [(p.title, p.start, p.end) for p in PLAN.phases] == [
        ("healthy", 0, 8), ("dead", 8, 20), ("SERVFAIL", 20, 27), ("back", 27, 36)
    ]  # fmt: skip
    assert PLAN.total == 36
    assert PLAN.outage == (8, 27)


@pytest.mark.parametrize(
    ("now", "mode"),
    [(0, Mode.HEALTHY), (7.9, Mode.HEALTHY), (8, Mode.DEAD), (20, Mode.SERVFAIL),
     (27, Mode.HEALTHY), (99, Mode.HEALTHY)],
)  # fmt: skip
def test_each_moment_has_a_phase(now: float, mode: Mode) -> None:
    assert PLAN.at(now).mode is mode


def test_every_mode_is_put_into_words() -> None:
    assert set(WHAT_IT_DOES) == set(Mode)
