"""New settings while the engine runs: what is remembered stays, what is obeyed is new."""

from __future__ import annotations

from dataclasses import replace

from dnsguard.core.policy import CachePolicy, Policy, StalePolicy, Upstream, Zone
from tests.core.world import World, one_zone

NAME = "web.cluster.local"
OTHER = Upstream("10.0.0.54")


def outage(world: World) -> bool:
    return world.engine.zones.root.outage


def test_new_settings_keep_what_is_remembered() -> None:
    world = World()
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    world.advance(40)
    stale = StalePolicy(max_age=5.0)
    world.reload(Policy(zones=(Zone(".", (OTHER,), stale),)))
    world.behave("silent")
    asked = world.resolve(NAME)  # dead by the new settings
    assert asked.read().rcode == "SERVFAIL"
    assert {label for label, _ in world.sent[1:]} == {str(OTHER)}
    world.finish()


def test_new_settings_end_an_outage_that_was_the_old_upstreams() -> None:
    world = World()
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    world.behave("closed")
    world.advance(40)
    world.resolve(NAME)
    world.resolve("cold.cluster.local")
    assert outage(world)
    world.advance(0.1)
    world.reload(Policy(zones=(Zone(".", (OTHER,)),)))
    world.put(NAME, "A", 30, "10.1.0.2")
    assert not outage(world)
    assert world.resolve(NAME).read().data == ("10.1.0.2",)
    assert world.resolve("cold.cluster.local").read().rcode == "NXDOMAIN"
    world.advance(600)
    before = world.packets(at="10.0.0.53:53")
    world.advance(600)
    assert world.packets(at="10.0.0.53:53") == before  # nobody probes what nobody uses
    world.finish()


def test_what_failed_under_old_settings_is_tried_again() -> None:
    world = World()
    world.behave("servfail")
    for _ in range(10):
        world.resolve(NAME)
        world.advance(1.0)
    world.reload(Policy(zones=(Zone(".", (OTHER,)),)))
    assert world.resolve(NAME).read().rcode == "NXDOMAIN"
    world.finish()


def test_an_upstream_that_stays_keeps_its_health() -> None:
    world = World()
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    world.behave("closed")
    world.advance(40)
    world.resolve(NAME)
    world.reload(replace(one_zone(), keep_fresh=(NAME,)))
    assert outage(world)
    assert world.resolve(NAME).read().ede[0][0] == 3
    world.behave("ok")
    world.advance(6)
    assert not outage(world)
    world.finish()


def test_questions_under_way_go_on_in_their_new_zone() -> None:
    world = World()
    world.put("intra.corp", "A", 30, "10.2.0.1")
    world.behave("ok", latency=0.1)
    asked = world.ask("intra.corp")
    policy = one_zone()
    short = StalePolicy(max_age=7.0)
    corp = Zone("corp", policy.zones[0].upstreams, short)
    world.reload(replace(policy, zones=(*policy.zones, corp)))
    world.until_answered(asked)
    (entry,) = world.engine.cache.index.values()
    assert entry.zone.name == "corp"
    assert entry.dies() == entry.expires + 7.0
    world.finish()


def test_questions_that_wait_for_their_turn_are_not_forgotten() -> None:
    world = World()
    for n in range(40):
        world.put(f"web{n}.cluster.local", "A", 30, "10.1.0.1")
    world.resolve("web0.cluster.local")
    world.behave("closed")
    world.advance(40)
    world.resolve("web0.cluster.local")
    world.behave("ok", latency=0.2)
    world.advance(6)
    asked = [world.ask(f"web{n}.cluster.local") for n in range(1, 40)]
    assert any(flight.queued for flight in world.engine.asking.flights.values())
    world.reload(one_zone())
    world.advance(0.5)
    assert all(one.read().rcode == "NOERROR" for one in asked)
    world.finish()


def test_less_memory_is_obeyed_at_once() -> None:
    world = World()
    for n in range(50):
        world.put(f"web{n}.cluster.local", "A", 30, "10.1.0.1")
        world.resolve(f"web{n}.cluster.local")
    assert len(world.engine.cache) == 50
    world.reload(replace(one_zone(), cache=CachePolicy(max_bytes=6000)))
    assert 0 < len(world.engine.cache) < 20
    world.finish()


def test_names_that_are_kept_no_longer_are_asked_for_no_longer() -> None:
    world = World(replace(one_zone(), keep_fresh=(NAME,)))
    world.put(NAME, "A", 30, "10.1.0.1")
    world.advance(100)
    assert world.packets() > 6
    world.reload(one_zone())
    before = world.packets()
    world.advance(100)
    assert world.packets() == before


def test_a_kept_name_is_not_asked_for_twice_at_once() -> None:
    world = World(replace(one_zone(), keep_fresh=(NAME,)))
    world.behave("silent")
    world.advance(3.0)
    before = world.packets(probes=False)
    world.reload(replace(one_zone(), keep_fresh=(NAME,)))
    world.advance(0.1)
    assert world.packets(probes=False) == before
    world.finish()
