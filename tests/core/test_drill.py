"""Drills in virtual time: what clients get, what is counted, how they end, and what they leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dnsguard.core import drill as module
from dnsguard.core.drill import LOOKUPS_MIN, Drill, Plan, begin
from dnsguard.core.entry import NEVER
from dnsguard.core.learned import Learned
from dnsguard.core.pins import Pin
from dnsguard.core.policy import Kubernetes, Policy, StalePolicy, Upstream, Zone
from dnsguard.core.unanswered import NEVER_ANSWERED, TOO_OLD, TTL_ZERO
from dnsguard.core.wire import name_octets
from tests.core.watch import Asked
from tests.core.world import World, one_zone

NAMES = [f"n{n}.{space}.svc.cluster.local" for space in ("one", "two") for n in range(5)]


def known(policy: Policy | None = None, names: list[str] = NAMES, ttl: int = 5) -> World:
    """A world whose names were asked for, twice."""
    world = World(policy)
    for name in names:
        world.put(name, "A", ttl, "10.244.1.1")
        world.resolve(name)
    world.advance(ttl + 1)
    for name in names:
        world.resolve(name)
    return world


def drilled(world: World, kind: str = "silent", lasts: float = 300.0, **plan: Any) -> Drill:
    """Begin a drill that allows every look-up to fail, unless it is told otherwise."""
    given: dict[str, Any] = {"zone": ".", "abort_above": 1.0, **plan}
    found = begin(world.engine, Plan(kind=kind, lasts=lasts, **given), world.chance, world.now)
    assert isinstance(found, Drill), found
    world.watch.shadow = found.shadow
    world._collect()
    return found


def codes(asked: Asked) -> list[int]:
    return [code for code, _ in asked.read().ede]


def sight(world: World) -> dict[str, Any]:
    """All that a drill must leave as it is, but for refreshes by real answers."""
    engine = world.engine
    return {
        "zones": [(zone.state, zone.doubt, dict(zone.guard.held)) for zone in engine.zones.all],
        "guards": [
            (zone.guard._flips, zone.guard._disputed, zone.guard._asked)
            for zone in engine.zones.all
        ],
        "health": [
            (server.label, h.state, h.strikes, h.reason, h.backoff)
            for zone in engine.zones.all
            for server in zone.servers
            for h in (server.health, server.stream_health)
        ],
        "answers": {
            key: (entry.wire[2:], entry.kind, entry.failed)
            for key, entry in engine.cache.index.items()
        },
        "failures": dict(engine.failures),
        "unanswered": list(engine.unanswered.since(0.0)),
        "guard": dict(engine.counters.guard),
    }


@pytest.mark.parametrize("kind", ["silent", "failing", "wrong"])
@pytest.mark.parametrize("second", ["", "10.0.0.54"])
def test_clients_get_what_they_would_and_nothing_is_left_of_it(kind: str, second: str) -> None:
    world = known(one_zone("10.0.0.53", *([second] if second else [])))
    world.engine.learned = Learned(world.engine.cache)
    world.advance(20)
    before, packets = sight(world), world.packets()
    begun = drilled(world, kind)
    for _ in range(30):
        for name in NAMES:
            asked = world.resolve(name)
            assert asked.read().rcode == "NOERROR"
            assert codes(asked) == [3], "nobody has answered it anew"
        world.advance(5)
    tally = begun.tally
    assert (tally.lookups, tally.failed, tally.broken) == (300, 0, 0)
    assert len(begun.names) == len(NAMES)
    assert begun.sources == {"stale": 300}
    assert 0.0 < tally.longest < 4.1
    # Every five seconds one known name was asked for, to see whether the upstream is well.
    asked_for = {ask.flight.key for _, ask in world.sent[packets:]}
    assert 20 <= world.packets() - packets <= 40
    state = begun.shadow.zones.root.state
    assert state == ("doubt" if kind == "wrong" else "outage")
    assert any(state in event.text for event in begun.events)
    world.advance(300)
    assert begun.over
    assert not begun.aborted
    assert begun.ended == "its time is over"
    assert begun.lasted == pytest.approx(300, abs=0.1)
    assert sight(world) == before
    assert {key for key, _ in world.engine.learned.take(world.now)} <= asked_for
    assert [n.event for n in world.notices] == ["drill", "drill_over"]
    for name in NAMES:
        assert codes(world.resolve(name)) == [], "asked for real"
    assert world.engine.counters.drills == {"finished": 1}
    world.finish()


def test_what_is_fresh_is_answered_as_fresh() -> None:
    world = known(ttl=60)
    begun = drilled(world)
    assert codes(world.resolve(NAMES[0])) == []
    assert begun.sources == {"hit": 1}
    assert world.engine.counters.answers["hit", 0] == 1


def test_finished_replies_do_not_pass_it_by() -> None:
    world = known(ttl=60)
    world.resolve(NAMES[0])
    world.resolve(NAMES[0])
    begun = drilled(world)
    assert world.resolve(NAMES[0]).wait == 0.0
    assert begun.tally.lookups == 1
    begun.end("enough", world.now)
    world._collect()
    world.resolve(NAMES[0])
    assert begun.tally.lookups == 1


def test_names_without_an_answer_are_named_with_their_reason() -> None:
    stale = StalePolicy(max_age=30.0)
    policy = replace(one_zone(), zones=(Zone(".", (Upstream("10.0.0.53"),), stale),))
    world = known(policy, NAMES[:1])
    world.put("fleeting.test", "A", 0, "10.1.0.2")
    world.resolve("fleeting.test")
    world.advance(40)
    begun = drilled(world)
    for name in (NAMES[0], "fleeting.test", "new.test", "new.test"):
        assert world.resolve(name).read().rcode == "SERVFAIL"
    assert begun.tally.failed == 4
    found = {key[:-2]: told for key, told in begun.to_fix.items()}
    assert found == {
        name_octets(NAMES[0]): (1, TOO_OLD),
        name_octets("fleeting.test"): (1, TTL_ZERO),
        name_octets("new.test"): (2, NEVER_ANSWERED),
    }
    assert len(list(world.engine.unanswered.since(0.0))) == 1, "not what the drill made of it"


def test_a_name_that_fails_anyway_is_no_failure_of_the_drill() -> None:
    world = known()
    world.behave("servfail", suffix="bad.test")
    assert world.resolve("bad.test").read().rcode == "SERVFAIL"
    begun = drilled(world, "failing")
    assert world.resolve("bad.test").read().rcode == "SERVFAIL"
    assert (begun.tally.failed, begun.tally.broken, begun.to_fix) == (0, 1, {})


def test_a_wrong_upstream_denies_what_nobody_has_asked_before() -> None:
    world = known()
    assert world.resolve("missing.test").read().rcode == "NXDOMAIN"
    world.advance(400)
    begun = drilled(world, "wrong")
    asked = world.resolve("new.test")
    assert (asked.read().rcode, asked.read().negative_life) == ("NXDOMAIN", 5)
    assert world.resolve("missing.test").read().rcode == "NXDOMAIN", "as is true"
    assert [why for _, why in begun.to_fix.values()] == [module.DENIED]
    assert begun.tally.failed == 1


def test_wrong_for_a_zone_of_its_own_and_in_any_spelling() -> None:
    inner = Zone("cluster.local", (Upstream("10.0.0.10"),))
    ask = replace(one_zone().ask, case_randomization=True)
    world = known(replace(one_zone(), zones=(*one_zone().zones, inner), ask=ask))
    world.advance(20)
    begun = drilled(world, "wrong", zone="svc.cluster.local")
    assert [zone.name for zone in begun.zones] == ["cluster.local"]
    for name in NAMES:
        assert codes(world.resolve(name)) == [3]
    assert begun.tally.failed == 0


def test_it_ends_when_too_much_fails_and_asks_for_real_who_waits() -> None:
    world = known()
    begun = drilled(world, abort_above=0.1)
    waiting = [world.ask(f"new{n}.test") for n in range(LOOKUPS_MIN)]
    world.advance(5.0)
    assert begun.aborted
    assert begun.ended == "20 of 20 look-ups failed, more than 10%"
    assert world.engine.drill is None
    assert {asked.read().rcode for asked in waiting} == {"SERVFAIL"}
    assert world.resolve("new0.test").read().rcode == "NXDOMAIN", "what the real one says"
    assert world.engine.counters.drill == {"failed": 20}
    assert world.said("drill: over after")[0].level == "warning"


def test_who_waits_when_it_ends_is_answered_for_real() -> None:
    world = known()
    begun = drilled(world)
    waiting = [world.ask("new.test"), world.ask("new.test", stream=True)]
    world.put("new.test", "A", 60, "10.1.0.9")
    world.advance(0.1)
    assert not any(asked.reply for asked in waiting)
    begun.end("an operator has ended it", world.now)
    begun.end("once is enough", world.now)
    world._collect()
    for asked in waiting:
        world.until_answered(asked)
        assert asked.read().data == ("10.1.0.9",)
    assert begun.ended == "an operator has ended it"
    # A batch that was being read when it ended still hands its questions to the drill.
    begun.client(world.ask("late.test").data, Asked(b"", 0.0, False), world.now)
    assert begun.tally.lookups == 0
    world.engine.out.replies.clear()


def test_a_share_of_the_names_takes_part_each_with_all_of_its_questions() -> None:
    names = [f"n{n}.test" for n in range(40)]
    world = known(names=names, ttl=600)
    begun = drilled(world, fraction=0.25, zone="test")
    for name in names:
        for rtype in ("A", "AAAA"):
            world.ask(name, rtype)
    world.ask("elsewhere.example")
    world.advance(5.0)
    assert 1 <= len(begun.names) <= 20
    assert begun.tally.lookups == 2 * len(begun.names)


def test_with_one_salt_the_same_names_take_part_everywhere() -> None:
    names = [name_octets(f"n{n}.test") for n in range(200)]
    first, again, other = (
        {name for name in names if drilled(known(), fraction=0.5, salt=salt).covers(name)}
        for salt in (7, 7, 8)
    )
    assert first == again != other


def test_it_does_not_begin_in_an_outage_nor_twice() -> None:
    world = known()
    plan = Plan(".", "silent", 60.0)
    first = drilled(world)
    assert begin(world.engine, plan, world.chance, world.now) == (
        "a drill runs already: all names as if every upstream were silent"
    )
    first.end("enough", world.now)
    world.behave("silent")
    world.advance(6)
    world.resolve(NAMES[0])
    world.advance(10)
    found = begin(world.engine, plan, world.chance, world.now)
    assert found == "zone . is in outage: this is no drill"


def test_a_real_outage_ends_it() -> None:
    world = known()
    world.advance(10)
    begun = drilled(world, lasts=600.0)
    world.behave("silent")
    world.advance(30)
    assert begun.aborted
    assert begun.ended == "zone . is in outage for real"


def test_new_settings_and_the_end_of_the_process_end_it() -> None:
    world = known()
    begun = drilled(world)
    world.reload(one_zone())
    assert (begun.aborted, begun.ended) == (True, "the settings have changed")
    begun = drilled(world)
    asked = world.ask("new.test")
    world.stop()
    assert begun.ended == "dnsguard is stopping"
    assert asked.read().rcode == "SERVFAIL"


def test_pins_win_and_what_is_no_query_is_not_rehearsed() -> None:
    world = known()
    begun = drilled(world)
    world.engine.pin(Pin("pinned.test", ("10.9.9.9",), until=world.now + 60))
    assert world.resolve("pinned.test").read().data == ("10.9.9.9",)
    assert begun.sources == {"pin": 1}
    world.engine.client(b"no message at all", Asked(b"", 0.0, False), world.now)
    assert world.engine.counters.malformed == 1
    world.engine.out.replies.clear()
    assert begun.tally.lookups == 1


def test_our_own_question_that_comes_back_is_not_answered_from_what_is_known() -> None:
    """An upstream that leads back to us would be handed our stale answer as a fresh one."""
    world = known()
    world.advance(10)
    begun = drilled(world)
    world.behave("itself")
    world.advance(6)
    assert world.engine.counters.loops > 0
    assert begun.tally.lookups == 0
    world.behave("ok")
    world.finish()


def test_searches_that_are_walked_for_their_client_take_part_if_all_of_it_does() -> None:
    settings = Kubernetes(namespace="shop", autopath=True)
    name = "api.example.com.shop.svc.cluster.local"
    world = known(replace(one_zone(), kubernetes=settings), ["api.example.com"])
    assert world.resolve(name).read().rcode == "NOERROR"
    world.advance(200)
    begun = drilled(world, zone="cluster.local")
    assert codes(world.resolve(name)) == [], "the name that it comes to has a well upstream"
    assert begun.tally.lookups == 0
    begun.end("enough", world.now)
    world.advance(200)
    begun = drilled(world)
    asked = world.resolve(name)
    assert asked.read().data == ("10.244.1.1", "api.example.com.")
    assert codes(asked) == [3]
    assert (begun.tally.lookups, begun.tally.failed) == (1, 0)


def test_what_is_told_by_name_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 2)
    monkeypatch.setattr(module, "NAMES_COUNTED_MAX", 3)
    world = known(names=[])
    begun = drilled(world)
    for n in range(5):
        world.ask(f"new{n}.test")
    world.advance(5)
    assert (len(begun.to_fix), begun.unnamed, begun.tally.failed) == (2, 3, 5)
    assert len(begun.names) == 3


def test_the_upstream_is_not_asked_where_there_is_no_room_nor_twice_at_once() -> None:
    world = known(names=NAMES[:1])
    world.advance(10)
    given = world.engine.policy
    world.engine.policy = replace(given, limits=replace(given.limits, inflight=0))
    packets = world.packets()
    begun = drilled(world, zone="elsewhere.test", lasts=20.0)
    world.advance(6.0)
    assert world.packets() == packets
    world.engine.policy = given
    world.ask(NAMES[0])  # which does not take part
    assert world.packets() == packets + 1
    begun._pulse(world.now + 60)  # while that is under way
    world._collect()
    assert world.packets() == packets + 1
    world.advance(20)
    assert begun.over


def test_entries_that_are_asked_for_stay_where_they_are() -> None:
    world = known()
    key = name_octets(NAMES[0]) + b"\0\1\0\1\0"
    entry = world.engine.cache.get(key)
    assert entry is not None
    hits = entry.hits
    world.advance(20)
    drilled(world)
    asked = world.resolve(NAMES[0])
    assert (entry.hits, entry.asked, entry.recent) == (hits + 1, asked.at, 2)
    assert entry.failed == NEVER


def test_it_says_what_it_does_in_words() -> None:
    assert Plan("cluster.local.", "wrong", 1.0, 0.125).words == (
        "12.5% of all names in cluster.local as if every upstream were wrong"
    )
