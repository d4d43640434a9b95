"""Refreshes that nobody waits for: when there are none, and when a client joins one."""

from __future__ import annotations

from dataclasses import replace

from dnsguard.core.policy import Limits, Policy, StalePolicy, Upstream, Zone
from tests.core import build
from tests.core.world import World, one_zone

NAME = "web.cluster.local"
KEY = build.read(build.query(NAME)).key


def test_a_name_with_a_ttl_of_one_second_is_not_prefetched() -> None:
    world = World()
    world.put(NAME, "A", 1, "10.1.0.1")
    for _ in range(9):
        world.resolve(NAME)
        world.advance(0.1)
    assert world.packets() == 1


def test_what_is_only_probed_for_is_asked_for_when_a_client_wants_it() -> None:
    stale = StalePolicy(mode="immediate")
    zone = Zone(".", (Upstream("10.0.0.1"), Upstream("10.0.0.2")), stale)
    world = World(Policy(zones=(zone,)))
    world.put(NAME, "A", 5, "10.1.0.1")
    world.resolve(NAME)
    world.behave("silent", at="10.0.0.1:53")
    world.advance(10)
    world.resolve(NAME)
    world.advance(10)  # the first upstream is down, and a probe for the name is under way
    assert all(ask.probe for ask in world.engine.asking.flights[KEY].asks)
    world.put(NAME, "A", 5, "10.1.0.2")
    assert world.resolve(NAME).read().ede[0][0] == 3
    assert world.resolve(NAME).read().ede[0][0] == 3
    world.advance(0.01)
    assert world.resolve(NAME).read().data == ("10.1.0.2",)
    world.finish()


def test_no_prefetch_while_as_much_is_under_way_as_may_be() -> None:
    policy = replace(one_zone(), limits=Limits(inflight=1))
    world = World(policy)
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    world.resolve(NAME)
    world.advance(28.5)
    world.behave("silent")
    world.ask("cold.cluster.local")
    assert world.resolve(NAME).wait == 0
    assert world.packets() == 2
    world.finish()
