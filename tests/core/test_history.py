"""Samples of what happened, taken while it happens."""

from __future__ import annotations

from dnsguard.core.counters import SOURCES
from dnsguard.core.history import SAMPLES_MAX, History
from tests.core.world import World, one_zone


def test_samples_hold_what_happened_since_the_one_before() -> None:
    world = World()
    world.put("www.test", "A", 60, "10.1.0.1")
    history = History(world.now)
    world.resolve("www.test")
    history.sample(world.engine, world.now)
    for _ in range(3):
        world.resolve("www.test")
    history.sample(world.engine, world.now)
    first, second = (dict(zip(SOURCES, sample, strict=True)) for sample in history.answers)
    assert (first["upstream"], first["hit"]) == (1, 0)
    assert (second["upstream"], second["hit"]) == (0, 3)
    (trips,) = history.trips.values()
    assert list(trips) == [trips[0]] * 2
    assert trips[0] > 0
    world.behave("silent")
    world.advance(60)
    world.resolve("www.test")
    world.advance(10)
    history.sample(world.engine, world.now)
    assert trips[-1] == -1.0
    world.finish()


def test_rings_are_bounded_and_upstreams_that_went_are_gone() -> None:
    world = World()
    history = History(world.now)
    for _ in range(SAMPLES_MAX + 5):
        history.sample(world.engine, world.now)
    assert len(history.answers) == SAMPLES_MAX
    world.reload(one_zone("10.0.0.54"))
    history.sample(world.engine, world.now)
    assert list(history.trips) == ["10.0.0.54:53"]
