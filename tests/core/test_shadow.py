"""The engine to rehearse with knows what the real one knows, and spoils nothing of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsguard.core.engine import Engine
from dnsguard.core.health import State
from dnsguard.core.policy import CachePolicy, Policy, Upstream, Zone
from dnsguard.core.shadow import MEMORY_SHARE, Lending, shadow_of
from dnsguard.core.wire import name_octets
from tests.core.world import World, one_zone

A = b"\0\1\0\1\0"


def key(name: str) -> bytes:
    return name_octets(name) + A


def shadowed(world: World) -> Engine:
    return shadow_of(world.engine, world.chance, world.now)


def test_it_lends_copies_and_leaves_the_originals_alone() -> None:
    world = World()
    world.put("web.test", "A", 60, "10.1.0.1")
    world.resolve("web.test")
    shadow = shadowed(world)
    assert len(shadow.cache) == 1  # the name to probe with
    real, lent = world.engine.cache.get(key("web.test")), shadow.cache.get(key("web.test"))
    assert real is not None
    assert lent is not None
    assert lent is not real
    assert (lent.wire, lent.stored, lent.expires) == (real.wire, real.stored, real.expires)
    assert lent.zone is shadow.zones.root
    assert shadow.cache.get(key("web.test")) is lent, "lent once"
    assert shadow.cache.get(key("none.test")) is None
    lent.failed, lent.reason = world.now, "outage"
    shadow.forget(key("web.test"))
    assert world.engine.cache.get(key("web.test")) is real
    assert real.reason == "timeout"


def test_what_no_upstream_must_be_asked_for_is_found_as_well() -> None:
    """The schema looks at names beside the one that is asked for."""
    world = World()
    world.put("web.one.svc.cluster.local", "A", 60, "10.1.0.1")
    world.resolve("web.one.svc.cluster.local")
    shadow = shadowed(world)
    shadow.forget(key("web.one.svc.cluster.local"))
    root = shadow.zones.root
    root.outage, root.outage_since = True, world.now
    assert shadow.schema is not None
    asked = name_octets("web.one.svc.cluster.local") + b"\0\x1c\0\1\0"
    denial = shadow.schema.denial(asked, root, world.now)
    assert denial is not None
    assert denial.why == "it has addresses of the other family"
    index = shadow.schema._index
    assert list(index) == [key("web.one.svc.cluster.local")]
    assert len(index) == 1
    with pytest.raises(KeyError):
        index[key("none.test")]


def test_it_begins_as_well_or_as_ill_as_the_real_one() -> None:
    world = World(one_zone("10.0.0.53", "10.0.0.54"))
    world.put("web.test", "A", 5, "10.1.0.1")
    world.resolve("web.test")
    world.behave("silent", at="10.0.0.53:53")
    world.advance(6)
    world.resolve("web.test")
    world.advance(3)
    shadow = shadowed(world)
    for server, twin in zip(
        world.engine.zones.root.servers, shadow.zones.root.servers, strict=True
    ):
        assert twin.health is not server.health
        assert twin.health.trip is not server.health.trip
        assert twin.health.state is server.health.state
        assert twin.health.trip.usual == server.health.trip.usual
    assert not shadow.zones.root.servers[0].health.up
    assert shadow.deadline() is not None, "it will probe who is not up"
    assert shadow.zones.root.known == world.engine.zones.root.known
    assert shadow.pins is world.engine.pins
    assert world.engine.zones.root.servers[1].health.state is State.UP


def test_its_memory_has_a_bound_of_its_own_and_what_goes_is_lent_anew() -> None:
    policy = Policy(
        zones=(Zone(".", (Upstream("10.0.0.53"),)),), cache=CachePolicy(max_bytes=1 << 17)
    )
    world = World(policy)
    names = [f"n{n}.test" for n in range(60)]
    for name in names:
        world.put(name, "A", 600, "10.1.0.1")
        world.resolve(name)
        world.resolve(name)
    shadow = shadowed(world)
    cache = shadow.cache
    assert isinstance(cache, Lending)
    assert all(cache.get(key(name)) is not None for name in names)
    assert cache.total <= cache.max_octets == int((1 << 17) * MEMORY_SHARE)
    assert len(cache) < len(names)
    assert cache.get(key(names[0])) is not None
    assert len(world.engine.cache) == len(names)


def test_it_keeps_no_names_fresh_and_shares_its_times_of_answers() -> None:
    world = World(replace(one_zone(), keep_fresh=("kept.test",)))
    shadow = shadowed(world)
    shadow.tick(world.now + 10)
    assert shadow.out.asks == []
    assert shadow.counters.latency is world.engine.counters.latency
    assert shadow.counters.guard is not world.engine.counters.guard
