"""What is asked for after a denial, and for how long, in virtual time."""

from __future__ import annotations

from math import ceil

import pytest

from dnsguard.core import watching as module
from dnsguard.core.answer import Kind
from dnsguard.core.policy import GuardPolicy
from dnsguard.core.watching import ROUNDS, Watch
from dnsguard.core.wire import name_text
from tests.core.test_guarding import NAMES, known
from tests.core.world import World


def watches(world: World) -> dict[bytes, Watch]:
    return world.engine.guarding.watching.watches


def test_a_denied_name_is_asked_for_again_for_a_while() -> None:
    world = known()
    world.upstreams["10.0.0.53:53"].negative_ttl = 60
    world.drop(NAMES[0])
    world.resolve(NAMES[0])
    world.advance(1.0)
    asked = len(watches(world))
    before = world.packets()
    world.advance(20.0)
    again = world.packets() - before
    assert asked == 1
    assert not watches(world)
    assert len(ROUNDS) < again <= len(ROUNDS) * (1 + ceil(1 / GuardPolicy().mass_fraction))


def test_in_an_outage_nobody_asks_for_what_was_denied() -> None:
    world = known()
    world.drop(NAMES[0])
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    world.behave("silent")
    for name in NAMES[1:]:
        world.resolve(name)
    world.advance(1.1)
    assert world.engine.zones.root.outage
    before = world.packets(probes=False)
    world.advance(20.0)
    assert world.packets(probes=False) == before
    assert not watches(world)


def test_what_is_watched_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHES_MAX", 2)
    world = known()
    for name in NAMES[:3]:
        world.drop(name)
        world.resolve(name)
    assert len(watches(world)) == 2
    world.finish()


def test_a_deleted_namespace_is_found_out_without_a_client() -> None:
    """Two of its names are asked for; the others are not, and are denied as well soon after."""
    doomed = [f"n{n}.gone.svc.cluster.local" for n in range(12)]
    world = known(names=[*NAMES, *doomed])
    for name in doomed:
        world.drop(name)
    world.resolve(doomed[0])
    world.resolve(doomed[1])
    world.advance(1.0)
    index = world.engine.cache.index
    kinds = {name_text(key[:-5]).rstrip("."): entry.kind for key, entry in index.items()}
    assert {kinds[name] for name in doomed} == {Kind.NXDOMAIN}
    assert {kinds[name] for name in NAMES} == {Kind.POSITIVE}
    assert world.engine.zones.root.state == "normal"
    world.finish()
