"""Finished replies: counted when they are asked about, and never a key for what differs."""

from __future__ import annotations

import pytest

from tests.core.world import World

NAME = "web.cluster.local"


def test_finished_replies_are_counted_when_they_are_folded() -> None:
    world = World()
    counters = world.engine.counters
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    for _ in range(5):
        world.resolve(NAME)
    assert counters.answers["hit", 0] == 1  # the others came from the finished reply
    world.engine.fold(world.now)
    assert counters.answers["hit", 0] == 5
    world.behave("closed")
    world.advance(60)
    for _ in range(4):
        world.resolve(NAME)
        world.advance(1)
    world.engine.fold(world.now)
    assert counters.answers["stale", 0] == 4
    assert sum(counters.stale.values()) == 4
    assert counters.stale["outage"] == 3
    assert counters.stale_age(world.now) == pytest.approx(33, abs=1.1)
    world.finish()


def test_queries_with_options_are_no_key_to_finished_replies() -> None:
    world = World()
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME, cookie=True)
    assert world.resolve(NAME, cookie=True).read().data == ("10.1.0.1",)
    world.behave("closed")
    world.advance(40)
    world.resolve(NAME, cookie=True)
    ((code, text),) = world.resolve(NAME, cookie=True).read().ede
    assert (code, text[:6]) == (3, "outage")
    assert not world.engine.datagrams.table
    world.finish()
