"""How doubt begins, goes on and ends, and what is restored by it, in virtual time."""

from __future__ import annotations

import pytest

from dnsguard.core import doubting as module
from dnsguard.core.guard import QUIET_SECONDS
from dnsguard.core.learned import Learned
from dnsguard.core.policy import GuardPolicy
from tests.core.test_guarding import (
    MORE_NAMES,
    NAMES,
    both_families,
    codes,
    doubting,
    known,
    policy,
    verdicts,
)
from tests.core.world import World


def test_accepted_names_are_gone() -> None:
    world = doubting()
    root = world.engine.zones.root
    assert world.engine.guarding.doubting.accept(root, world.now) == len(NAMES)
    assert root.state == "normal"
    assert {world.resolve(name).read().rcode for name in NAMES} == {"NXDOMAIN"}
    assert world.said("an operator has accepted it: 10 names are believed gone")
    world.advance(60)
    world.finish()


def test_rejected_names_are_held_for_longer() -> None:
    world = doubting(policy(GuardPolicy(max_hold=3600.0)))
    world.advance(3000)
    assert world.engine.guarding.doubting.reject(world.engine.zones.root, world.now) == len(NAMES)
    world.advance(3000)
    assert codes(world.resolve(NAMES[0])) == [3]
    world.advance(700)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"


def test_what_dies_in_doubt_is_held_no_longer() -> None:
    world = doubting(policy(max_age=600.0))
    world.advance(700)
    assert world.engine.zones.root.state == "normal"
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    world.finish()


def test_what_was_deleted_meanwhile_does_not_keep_up_doubt() -> None:
    """Half are back. The rest look like victims, and go on to, until they have been long enough."""
    world = doubting(names=MORE_NAMES)
    world.advance(60.0)
    assert world.engine.zones.root.state == "doubt"
    for name in MORE_NAMES[5:15]:
        world.drop(name)
    world.behave("ok")
    world.advance(QUIET_SECONDS - 10.0)
    assert world.engine.zones.root.state == "doubt"
    assert codes(world.resolve(MORE_NAMES[5])) == [3]
    world.advance(30.0)
    assert world.engine.zones.root.state == "normal"
    assert world.said("10 of 20 names are back and no other has followed for 5")
    for name in MORE_NAMES:
        world.advance(6.0)
        rcode = world.resolve(name).read().rcode
        assert rcode == ("NXDOMAIN" if name in MORE_NAMES[5:15] else "NOERROR")
    assert world.engine.zones.root.state == "normal"
    world.finish()


def test_victims_that_are_not_back_by_half_are_held_for_longer() -> None:
    world = doubting(names=MORE_NAMES)
    for name in MORE_NAMES[4:16]:
        world.drop(name)
    world.behave("ok")
    world.advance(3 * QUIET_SECONDS)
    assert world.engine.zones.root.state == "doubt"
    assert codes(world.resolve(MORE_NAMES[5])) == [3]


def test_doubt_goes_on_through_new_settings() -> None:
    world = doubting()
    world.reload(policy(GuardPolicy(max_hold=60.0)))
    assert world.engine.zones.root.state == "doubt"
    world.advance(70)
    assert world.engine.zones.root.state == "normal"
    assert world.said("guard.max_hold has run out")


def test_doubt_ends_with_the_guard() -> None:
    world = doubting()
    world.reload(policy(GuardPolicy(mode="off")))
    assert world.engine.zones.root.state == "normal"
    assert world.said("doubt is switched off, with 10 names denied")
    world.advance(6)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"


def test_restored_are_only_what_is_alive_and_still_gone() -> None:
    world = known(policy(GuardPolicy(second_look=False), max_age=60.0))
    world.upstreams["10.0.0.53:53"].negative_ttl = 5
    world.engine.learned = Learned(world.engine.cache)
    late = [f"n{n}.late.svc.cluster.local" for n in range(2)]
    for name in late:
        world.put(name, "A", 5, "10.244.1.1")
        world.resolve(name)
    world.advance(55)
    for name in late:
        world.drop(name)
        assert world.resolve(name).read().rcode == "NXDOMAIN"
    for name in NAMES:
        world.resolve(name)
    world.advance(10)  # what was believed gone is dead by now
    world.put(late[1], "A", 5, "10.244.1.2")
    assert world.resolve(late[1]).read().rcode == "NOERROR"
    world.behave("nxdomain")
    for name in NAMES:
        world.resolve(name)
    assert world.engine.zones.root.state == "doubt"
    assert world.resolve(late[0]).read().rcode == "NXDOMAIN"
    assert codes(world.resolve(NAMES[0])) == [3]


def test_what_can_be_taken_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASIDE_MAX", 2)
    world = known(policy(GuardPolicy(second_look=False)))
    world.behave("nxdomain")
    for name in NAMES:
        world.resolve(name)
    assert verdicts(world)["restored"] == 2


def test_what_is_back_by_itself_is_not_restored() -> None:
    world = known(policy(GuardPolicy(second_look=False)))
    world.drop(NAMES[0])
    world.resolve(NAMES[0])
    (gone,) = (key for key, entry in world.engine.cache.index.items() if entry.kind)
    world.engine.forget(gone)  # as a flood of names would have it
    world.put(NAMES[0], "A", 5, "10.244.9.9")
    assert world.resolve(NAMES[0]).read().data == ("10.244.9.9",)
    world.behave("nxdomain")
    for name in NAMES[1:]:
        world.resolve(name)
    assert world.engine.zones.root.state == "doubt"
    assert verdicts(world)["restored"] == 3
    world.advance(6.0)
    assert world.resolve(NAMES[0]).read().data == ("10.244.9.9",)


def test_what_is_restored_is_restored_in_both_families() -> None:
    """A name fell before the event was one, and was denied for the family that it has not, too."""
    world = both_families()
    world.advance(10.0)
    world.drop(NAMES[0])
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    assert world.resolve(NAMES[0], "AAAA").read().rcode == "NXDOMAIN"
    world.advance(6.0)
    world.behave("nxdomain")
    for name in NAMES[1:]:
        world.resolve(name)
    assert world.engine.zones.root.state == "doubt"
    for _ in range(4):
        assert world.resolve(NAMES[0]).read().rcode == "NOERROR"
        assert world.resolve(NAMES[0], "AAAA").read().rcode == "NOERROR"
        world.advance(15.0)
    assert verdicts(world)["restored"] == 1
    world.behave("ok")
    for _ in range(2):
        world.advance(60.0)
        for name in NAMES:
            world.resolve(name)
    world.advance(60.0)
    assert world.resolve(NAMES[0], "AAAA").read().rcode == "NXDOMAIN"  # it is gone indeed
    world.finish()


def ebbing(deleted: list[str]) -> World:
    """A world in doubt whose event is over, but for some names that were deleted meanwhile."""
    world = doubting(names=MORE_NAMES)
    world.upstreams["10.0.0.53:53"].negative_ttl = 5
    world.advance(60.0)
    for name in deleted:
        world.drop(name)
    world.behave("ok")
    for _ in range(10):
        world.advance(6.0)
        for name in MORE_NAMES:
            world.resolve(name)
    assert world.engine.zones.root.state == "doubt"
    return world


MEANWHILE = [*MORE_NAMES[:4], *MORE_NAMES[-4:]]  # of both namespaces: by themselves an event


def test_a_deletion_after_the_event_is_believed_while_others_are_held() -> None:
    world = ebbing(MEANWHILE)
    world.drop(MORE_NAMES[5])
    world.advance(5.1)
    assert codes(world.resolve(MORE_NAMES[5])) == [3]
    world.advance(4.0)
    assert world.resolve(MORE_NAMES[5]).read().rcode == "NXDOMAIN"
    assert world.engine.zones.root.state == "doubt"
    for name in MEANWHILE:
        assert codes(world.resolve(name)) == [3]
    world.advance(QUIET_SECONDS)
    assert world.engine.zones.root.state == "normal"
    world.finish()


def test_a_name_that_came_back_and_goes_again_is_judged_anew() -> None:
    world = ebbing(MEANWHILE)
    world.drop(MORE_NAMES[5])
    world.advance(5.1)
    world.resolve(MORE_NAMES[5])
    world.put(MORE_NAMES[5], "A", 5, "10.244.1.1")
    world.advance(5.1)
    assert codes(world.resolve(MORE_NAMES[5])) == []
    assert not world.engine.zones.root.guard._apart
    world.finish()


def test_another_event_while_the_last_is_not_over_leads_deeper_into_doubt() -> None:
    world = ebbing(MEANWHILE)
    alone = MORE_NAMES[4]
    world.drop(alone)
    world.advance(5.1)
    world.resolve(alone)
    world.advance(4.0)
    assert world.resolve(alone).read().rcode == "NXDOMAIN"
    world.behave("nxdomain")
    world.advance(6.0)
    for name in MORE_NAMES:
        assert world.resolve(name).read().rcode == "NOERROR", name
    guard = world.engine.zones.root.guard
    assert len(guard.held) == guard.ever_held == len(MORE_NAMES)
    assert world.said("also for 1 that were believed to be gone")
    world.behave("ok")
    world.put(alone, "A", 5, "10.244.1.1")
    world.advance(QUIET_SECONDS + 60.0)
    assert world.engine.zones.root.state == "normal"
    world.finish()


@pytest.mark.parametrize(("between", "victim"), [([], False), ([6.0], True), ([6.0, 6.0], True)])
def test_what_was_denied_long_before_the_others_is_no_victim(
    between: list[float], victim: bool
) -> None:
    """It is one if others were denied in between, one after the other without a long pause."""
    world = known(names=MORE_NAMES)
    alone, *others = MORE_NAMES
    world.drop(alone)
    world.resolve(alone)
    world.advance(0.1)
    for pause in between:
        world.advance(pause)
        name = others.pop(0)
        world.drop(name)
        world.resolve(name)
        world.advance(0.1)
    world.advance(module.GAP_SECONDS + (-3.0 if between else 1.0))
    assert world.engine.zones.root.state == "normal"
    assert world.resolve(alone).read().rcode == "NXDOMAIN"
    world.behave("nxdomain")
    for _ in range(6):  # some were asked for by the guard, and are fresh
        for name in others:
            world.resolve(name)
        world.advance(1.0)
    assert world.engine.zones.root.state == "doubt"
    assert (world.resolve(alone).read().rcode == "NOERROR") == victim
    assert ("restored" in verdicts(world)) == victim
