"""The judgement in doubt: what is held, what is judged by itself, when it is over."""

from __future__ import annotations

import pytest

from dnsguard.core.guard import Guard
from tests.core.test_guard import NOW, POOL, guard, names


def test_doubt_ends_when_most_are_back_and_not_at_once() -> None:
    watching = guard()
    watching.begin(NOW)
    for one in [*names(20), *names(20, "bank")] * 2:
        watching.hold(one)
        watching.denied(one, POOL, NOW + 14)
    assert watching.ever_held == 40
    for one in [*names(18), *names(17, "bank")]:
        watching.held.pop(one)
    assert not watching.healed(NOW + 14)
    assert not watching.healed(NOW + 16)  # five of forty are left, and more than that are denied
    watching.held.pop(names(20)[19])
    assert watching.healed(NOW + 16)
    watching.held.clear()
    assert watching.healed(NOW + 1)
    assert watching.end() == []
    assert not watching.doubt


def test_what_was_deleted_meanwhile_does_not_keep_up_doubt() -> None:
    """Half of what was denied is really gone, but it is one namespace's, and the others stand."""
    watching = guard()
    watching.begin(NOW)
    for one in names(10):
        watching.hold(one)
        watching.denied(one, POOL, NOW + 20)
    assert not watching.healed(NOW + 20)
    for other in names(10, "bank"):
        watching.affirmed(other, POOL, NOW + 20)
    assert watching.healed(NOW + 20)
    for other in names(2, "mail"):
        watching.hold(other)
        watching.denied(other, POOL, NOW + 20)
    assert not watching.healed(NOW + 20)


def ebbing(back: int) -> Guard:
    """A guard in doubt since NOW, with ten names held of which so many came back a second later."""
    watching = guard()
    watching.begin(NOW)
    for one in names(10):
        watching.affirmed(one, POOL, NOW - 1)
        watching.hold(one)
    for one in names(back):
        watching.affirmed(one, POOL, NOW + 1)
        watching.returned(one, NOW + 1)
    return watching


@pytest.mark.parametrize(("back", "quiet"), [(5, 15.0), (4, 30.0), (2, 30.0)])
def test_once_an_event_ebbs_who_was_good_since_is_judged_by_itself(back: int, quiet: float) -> None:
    watching = ebbing(back)
    later = NOW + 1 + quiet
    watching.affirmed(names(1, "mail")[0], POOL, NOW + 0.9)
    assert watching.doubts(names(1, "mail")[0], POOL, later)  # not since the first was back
    assert watching.doubts(names(1)[0], POOL, later - 0.1)
    assert not watching.doubts(names(1)[0], POOL, later)
    assert watching.doubts(names(10)[9], POOL, later)  # held
    assert watching.doubts(names(1, "bank")[0], POOL, later)  # never heard of
    watching.returned(names(10)[9], later)
    assert not watching.doubts(names(1)[0], POOL, later), "another's return is no bad sign"
    watching.returned(names(1)[0], later)
    assert watching.doubts(names(1)[0], POOL, later)


def test_while_hardly_any_is_back_all_that_is_denied_is_held() -> None:
    watching = ebbing(1)
    watching.affirmed(names(1)[0], POOL, NOW + 2)
    assert watching.doubts(names(1)[0], POOL, NOW + 600)
    assert not guard().doubts(names(1)[0], POOL, NOW)


def test_what_is_held_makes_no_event_of_what_is_judged_by_itself() -> None:
    watching = ebbing(5)
    for one in [*names(10)[5:], names(1)[0]]:
        watching.denied(one, POOL, NOW + 20)
    assert not watching.suspicion(names(1)[0], POOL, NOW + 20)
    for one in names(5):
        watching.denied(one, POOL, NOW + 21)
    for one in names(2, "bank"):
        watching.denied(one, POOL, NOW + 21)
    assert "7 of 7 names" in watching.suspicion(names(1)[0], POOL, NOW + 21)
    watching.begin(NOW + 21)
    assert (watching.ever_held, watching.doubt_since) == (5, NOW + 21)
