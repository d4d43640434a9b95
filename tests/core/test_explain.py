"""What is said of a name at stations that a scenario seldom meets; the usual ones are in
`scenarios/explain.txt`.
"""

from __future__ import annotations

import pytest

from dnsguard.core.explain import Explanation, explain
from dnsguard.core.health import Event
from dnsguard.core.policy import Policy, StalePolicy, Upstream, Zone
from dnsguard.errors import WireError
from tests.core.world import World, one_zone

NAME = "web.cluster.local"
A = 1


def told(world: World, name: str = NAME) -> Explanation:
    return explain(world.engine, name, A, world.now)


def known(stale: StalePolicy | None = None, *hosts: str) -> World:
    """A world in which the name was answered and has expired."""
    upstreams = tuple(Upstream(host) for host in hosts or ("10.0.0.53",))
    world = World(Policy(zones=(Zone(".", upstreams, stale or StalePolicy()),)))
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    world.advance(40)
    return world


def test_a_question_under_way() -> None:
    world = World()
    world.behave("silent")
    world.ask(NAME)
    assert told(world).words["why"] == "nothing is remembered, and the question is under way"
    world.advance(5)
    world.finish()


def test_a_failure_that_is_remembered_and_one_that_is_past() -> None:
    world = World()
    world.behave("servfail")
    world.resolve(NAME)
    found = told(world)
    assert (found.source, found.words["answer"]) == ("nothing", "SERVFAIL at once")
    assert found.words["why"] == (
        "nothing is remembered, and the last try failed (10.0.0.53:53 answered SERVFAIL); "
        "not asked again for 1 s"
    )
    world.advance(2)
    assert told(world).words["answer"].startswith("asked for")
    world.finish()


def test_stale_at_once_and_why_nobody_waits() -> None:
    world = known(StalePolicy(mode="immediate"))
    assert told(world).words["answer"] == "stale at once, refreshed behind it"
    assert told(world).words["why"].endswith("and stale.mode is immediate")
    world.finish()

    world = known()
    (server,) = world.engine.zones.root.servers
    server.health.trip.present, server.health.trip.at = 9.0, world.now
    assert told(world).words["why"].endswith("the upstream answers far later than it usually does")
    server.health.trip.present = 0.001
    zone = world.engine.zones.root
    zone.ramp, zone.ramp_until, zone.inflight = 8, world.now + 10, 8
    assert (
        told(world)
        .words["why"]
        .endswith("and zone . is recovering, and as much is under way as may be")
    )
    zone.inflight = 0
    world.behave("servfail")
    world.resolve(NAME)
    assert "the last try failed 0 s ago: the upstream answered SERVFAIL" in told(world).words["why"]
    world.finish()


def test_every_upstream_under_suspicion() -> None:
    world = known()
    (server,) = world.engine.zones.root.servers
    server.health.note(Event.REFUSED, world.now)
    found = told(world)
    assert found.words["why"].endswith("every upstream of zone . is under suspicion")
    assert found.words["upstreams"].startswith("10.0.0.53:53 (suspect for 0 s: it refuses our")


def test_an_answer_with_dnssec_data_is_told_apart() -> None:
    world = World()
    world.put(NAME, "A", 30, "10.1.0.1")
    world.ask(NAME, do=True)
    world.advance(0.1)
    assert told(world).words["answer"] == "fresh (to queries with DO or CD)"
    world.finish()


def test_without_stale_answers_it_dies_with_its_ttl() -> None:
    world = World(Policy(zones=(Zone(".", (Upstream("10.0.0.53"),), StalePolicy(max_age=0.0)),)))
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    assert told(world).words["dies"] == "in 30 s: stale answers are switched off"
    world.finish()


def test_what_is_no_name_is_no_question() -> None:
    with pytest.raises(WireError):
        explain(World(one_zone()).engine, "a..b", A, 0.0)
