"""Who would still be answered if the upstream died now, told in worlds where it then does."""

from __future__ import annotations

import pytest

from dnsguard.core import census
from dnsguard.core.census import HOT_MAX, NAMES_MAX, Census, Coverage
from dnsguard.core.policy import CachePolicy, Policy, StalePolicy, Upstream, Zone
from dnsguard.core.unanswered import EVICTED, NEVER_ANSWERED, TOO_OLD, TTL_ZERO
from tests.core.world import World


def taken(world: World) -> Coverage:
    world.engine.fold(world.now)
    return Census(world.engine, world.now).take(world.now)


def a_world(**stale: float) -> World:
    policy = StalePolicy(max_age=stale.get("max_age", 7200.0))
    return World(Policy(zones=(Zone(".", (Upstream("10.0.0.53"),), policy),)))


def test_nobody_has_asked_anything() -> None:
    found = taken(a_world())
    assert (found.ratio, found.whole.asked, found.whole.runway(0.0)) == (1.0, 0, 0.0)


def test_what_it_promises_is_what_happens() -> None:
    world = a_world()
    world.put("good.test", "A", 60, "10.1.0.1")
    world.put("fleeting.test", "A", 0, "10.1.0.2")
    world.resolve("good.test")
    world.resolve("fleeting.test")
    world.behave("servfail", suffix="bad.test")
    world.resolve("bad.test")
    found = taken(world)
    assert found.lost == {TTL_ZERO: 1, NEVER_ANSWERED: 1}
    assert (found.whole.asked, found.whole.covered) == (3, 1)
    assert found.ratio == pytest.approx(1 / 3)
    assert sorted(found.names) == [
        ("bad.test.", 1, NEVER_ANSWERED), ("fleeting.test.", 1, TTL_ZERO),
    ]  # fmt: skip
    runway = found.whole.runway(world.now)
    assert runway == pytest.approx(7260, abs=5)
    world.behave("silent")
    world.advance(runway - 10)
    assert world.resolve("good.test").read().rcode == "NOERROR"
    assert world.resolve("fleeting.test").read().rcode == "SERVFAIL"
    world.finish()


def test_a_name_that_is_answered_again_is_covered_again() -> None:
    world = a_world()
    world.behave("silent")
    world.resolve("slow.test")
    assert taken(world).lost == {NEVER_ANSWERED: 1}
    world.behave("ok")
    world.put("slow.test", "A", 60, "10.1.0.1")
    world.advance(60)
    world.resolve("slow.test")
    assert taken(world).ratio == 1.0
    world.finish()


def test_too_old_to_be_served_and_too_long_ago_to_matter() -> None:
    world = a_world(max_age=600.0)
    world.put("old.test", "A", 60, "10.1.0.1")
    world.resolve("old.test")
    world.behave("silent")
    world.advance(700)
    assert taken(world).lost == {TOO_OLD: 1}
    world.resolve("old.test")  # in vain, and it is still one name
    assert taken(world).lost == {TOO_OLD: 1}
    world.advance(3000)
    assert taken(world).lost == {NEVER_ANSWERED: 1}  # asked in vain less than an hour ago
    world.advance(700)
    assert taken(world).whole.asked == 0
    world.finish()


def test_a_good_answer_that_had_to_make_room() -> None:
    world = World(Policy(
        zones=(Zone(".", (Upstream("10.0.0.53"),)),), cache=CachePolicy(max_bytes=1 << 20)
    ))  # fmt: skip
    for number in range(2200):
        name = f"n{number}.test"
        world.put(name, "A", 60, "10.1.0.1")
        for _ in range(3):
            world.resolve(name, edns=None)
    found = taken(world)
    assert found.lost[EVICTED] > 100
    assert len(found.names) == NAMES_MAX
    assert found.whole.covered + found.lost[EVICTED] <= 2200
    world.finish()


def test_a_large_cache_is_walked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "ENTRIES_AT_ONCE", 10)
    world = a_world()
    for number in range(HOT_MAX + 5):
        name = f"n{number}.test"
        world.put(name, "A", 60, "10.1.0.1")
        for _ in range(number % 7 + 1):
            world.resolve(name)
    walk = Census(world.engine, world.now)
    assert [walk.step(world.now) for _ in range(3)] == [False, False, True]
    found = walk.coverage
    assert found.whole.asked == HOT_MAX + 5
    hits = [hits for _, _, hits in found.hottest()]
    assert len(hits) == HOT_MAX
    assert hits == sorted(hits, reverse=True)
    world.finish()


def test_whoever_looks_sees_what_was_asked_a_moment_ago_unless_that_is_a_walk() -> None:
    world = a_world()
    world.put("good.test", "A", 60, "10.1.0.1")
    counted = Census(world.engine, world.now)
    world.resolve("good.test")
    assert counted.seen(world.now).whole.asked == 1
    world.put("more.test", "A", 60, "10.1.0.2")
    world.resolve("more.test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "ENTRIES_AT_ONCE", 1)
        assert counted.seen(world.now).whole.asked == 1, "two steps away"
        assert not counted.step(world.now)
    assert counted.seen(world.now).whole.asked == 1, "a walk is under way"
    assert counted.step(world.now)
    assert counted.seen(world.now).whole.asked == 2
    world.finish()
