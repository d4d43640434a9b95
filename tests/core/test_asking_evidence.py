"""What is concluded about an upstream from what it does, and how it is probed, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dnsguard.core.health import BAD_STRIKES, State
from dnsguard.core.policy import Policy, StalePolicy, Upstream, Zone
from dnsguard.core.wire import name_octets
from dnsguard.core.zones import Server
from tests.core.world import World, one_zone

NAME = "web.cluster.local"


def server_of(world: World) -> Server:
    return world.engine.zones.root.servers[0]


def known_world(names: int = 4, *hosts: str) -> World:
    """A world in which these names were answered a while ago and have expired."""
    world = World(one_zone(*hosts))
    for n in range(names):
        world.put(f"web{n}.cluster.local", "A", 10, "10.1.0.1")
        world.resolve(f"web{n}.cluster.local")
        world.advance(1.0)
    world.advance(60.0)
    return world


def test_bad_rcodes_for_names_never_answered_prove_nothing() -> None:
    world = known_world()
    world.behave("servfail", suffix="cold.example")
    for n in range(10):
        world.resolve(f"x{n}.cold.example")
    assert world.packets() == 4 + 10 * 3
    assert server_of(world).health.state is State.UP
    world.finish()


def test_bad_rcodes_for_all_known_names_are_an_outage() -> None:
    world = known_world()
    world.behave("servfail")
    for n in range(BAD_STRIKES):
        assert world.resolve(f"web{n}.cluster.local").wait < 0.01
    world.advance(0.1)
    assert world.engine.zones.root.outage
    probed = {ask.flight.key for _, ask in world.sent if ask.probe}
    assert len(probed) == 4  # each of them was tried before the verdict
    world.finish()


def test_one_broken_name_among_good_ones_is_no_outage() -> None:
    world = known_world()
    world.behave("servfail", suffix="web3.cluster.local")
    for _ in range(10):
        world.resolve("web3.cluster.local")
        world.advance(5.0)
        assert world.resolve("web1.cluster.local").read().ede == ()
    assert not world.said("outage")
    world.finish()


def test_many_questions_lost_together_are_one_piece_of_evidence() -> None:
    world = known_world(30)
    world.behave("silent")
    asked = [world.ask(f"web{n}.cluster.local") for n in range(30)]
    world.advance(0.01)
    world.behave("ok")
    world.advance(1.0)
    assert all(one.read().rcode == "NOERROR" for one in asked)
    assert not world.said("down")
    world.finish()


def test_a_server_is_heard_although_one_answer_is_missing() -> None:
    world = known_world()
    world.behave("silent", suffix="web0.cluster.local")
    lost = world.ask("web0.cluster.local")
    for n in range(1, 4):
        world.advance(0.01)
        world.resolve(f"web{n}.cluster.local")
    world.until_answered(lost)
    assert lost.read().ede[0][0] == 3
    again = world.resolve("web0.cluster.local")
    assert again.wait == 0  # it has been waited for already
    assert again.read().ede[0][0] == 3
    world.advance(1.0)
    assert server_of(world).health.state is State.UP
    assert not any(ask.probe for _, ask in world.sent)
    world.finish()


def test_a_server_is_not_judged_by_the_one_name_that_stays_without_an_answer() -> None:
    world = known_world()
    world.behave("silent", suffix="web3.cluster.local")  # the last one that was answered
    for _ in range(5):
        world.resolve("web3.cluster.local")
        world.advance(10.0)
    assert not world.said("down")
    world.finish()


def test_it_is_too_early_to_tell_slow_from_silent() -> None:
    world = known_world()
    trip = server_of(world).health.trip
    trip.slowest = 1.0
    world.behave("silent")
    world.resolve("web0.cluster.local")
    world.advance(1.3)
    assert server_of(world).health.state is State.UP
    world.advance(0.3)
    assert server_of(world).health.state is State.SUSPECT
    world.finish()


def test_an_upstream_in_two_zones_takes_both_down_and_up() -> None:
    upstream = (Upstream("10.0.0.53"),)
    world = World(Policy(zones=(Zone(".", upstream), Zone("corp", upstream))))
    world.put(NAME, "A", 10, "10.1.0.1")
    world.resolve(NAME)
    world.behave("closed")
    world.advance(20)
    world.resolve(NAME)
    assert [zone.outage for zone in world.engine.zones.all] == [True, True]
    assert len(world.said("is down")) == 1
    world.behave("ok")
    world.advance(6)
    assert [zone.outage for zone in world.engine.zones.all] == [False, False]
    assert len(world.said("answers again")) == 1
    world.finish()


# -- probes -------------------------------------------------------------------------------------


def test_without_a_known_name_the_zone_itself_is_asked_for() -> None:
    upstream = (Upstream("10.0.0.53"),)
    world = World(Policy(zones=(Zone(".", upstream), Zone("corp", upstream))))
    world.behave("closed")
    world.resolve("intra.corp")
    world.advance(10)
    probed = [ask.flight.key for _, ask in world.sent if ask.probe]
    assert set(probed[::2]) | set(probed[1::2]) == {b"\0\0\6\0\1\0", b"\4corp\0\0\6\0\1\0"}
    assert probed[0] != probed[1]  # each zone in turn
    world.put("web.corp", "A", 30, "10.2.0.1")
    world.behave("ok")
    world.advance(6)
    assert not any(zone.outage for zone in world.engine.zones.all)
    world.finish()


def test_the_reason_that_operators_see_is_the_last_evidence() -> None:
    world = known_world()
    world.behave("closed")
    world.resolve("web0.cluster.local")
    world.advance(60)
    assert server_of(world).health.reason == "refused"
    world.behave("silent")
    world.advance(60)
    assert server_of(world).health.reason == "silent"
    world.finish()


def test_probes_back_off_while_nothing_answers() -> None:
    world = known_world()
    world.behave("silent")
    world.resolve("web0.cluster.local")
    world.advance(3600)
    probes = [ask.sent for _, ask in world.sent if ask.probe]
    assert 3600 / 5 <= len(probes) <= 3600 / 3.75 + 5
    pauses = [after - before for before, after in pairwise(probes)]
    assert min(pauses) >= 0.25 * 0.75
    assert max(pauses) <= 5.01
    assert {ask.flight.key for _, ask in world.sent if ask.probe} == {
        name_octets(f"web{n}.cluster.local") + b"\0\1\0\1\0" for n in range(4)
    }
    world.finish()


def test_a_probe_may_ride_on_a_question_under_way_and_is_not_lost_with_it() -> None:
    world = known_world(1)
    world.behave("silent")
    world.resolve("web0.cluster.local")
    world.advance(3.9)  # the question's deadline is near, and a probe has gone out for its name
    world.behave("ok", latency=0.2)
    world.advance(4.0)
    assert not world.engine.zones.root.outage
    assert world.resolve("web0.cluster.local").read().ede == ()
    assert not any(ask.flight.key[0] == 0 for _, ask in world.sent)
    world.finish()


def test_days_of_probing_with_one_name_pile_up_nothing() -> None:
    zone = Zone(".", (Upstream("10.0.0.53"),), StalePolicy(recheck=0.5))
    world = World(Policy(zones=(zone,)))
    world.put(NAME, "A", 10, "10.1.0.1")
    world.resolve(NAME)
    world.advance(20)
    world.behave("silent")
    world.resolve(NAME)
    for _ in range(60):
        world.advance(10)
        assert sum(len(flight.asks) for flight in world.engine.asking.flights.values()) < 25
    world.behave("ok")
    world.advance(1.0)
    assert world.resolve(NAME).read().ede == ()
    world.finish()


def test_a_probe_that_meets_a_client_of_a_dead_name_does_not_prolong_its_wait() -> None:
    zone = Zone(".", (Upstream("10.0.0.53"),), StalePolicy(max_age=0.0))
    world = World(Policy(zones=(zone,)))
    world.put(NAME, "A", 10, "10.1.0.1")
    world.resolve(NAME)
    world.advance(20)
    world.behave("silent")
    asked = world.resolve(NAME)
    assert asked.read().rcode == "SERVFAIL"
    assert asked.wait == pytest.approx(4.0, abs=0.01)
    world.finish()


def test_a_probe_takes_a_waiting_question_out_of_the_line() -> None:
    zone = Zone(".", (Upstream("10.0.0.53"),), StalePolicy(max_age=0.0))
    world = World(Policy(zones=(zone,)))
    names = [f"web{n}.cluster.local" for n in range(4)]
    for name in names:
        world.put(name, "A", 1, "10.1.0.1")
        world.resolve(name)
        world.advance(1.0)
    world.behave("closed")
    world.resolve(names[0])
    world.behave("ok")
    world.advance(7.5)  # there was a probe within 5 s, and what it learned has expired
    root = world.engine.zones.root
    assert root.ramp
    world.behave("silent")
    others = [world.ask(f"x{n}.cluster.local") for n in range(root.ramp)]
    asked = [world.ask(name) for name in names]
    flights = world.engine.asking.flights
    assert [flights[key].queued for key in root.known] == [True] * 4
    world.advance(0.1)
    assert [flights[key].queued for key in root.known].count(False) == 1
    world.behave("ok")
    world.advance(4.0)
    assert {one.read().rcode for one in others} <= {"NXDOMAIN", "SERVFAIL"}
    assert {one.read().rcode for one in asked} == {"NOERROR"}
    world.finish()


def test_who_waits_in_line_has_a_deadline_too() -> None:
    world = known_world(1)
    world.behave("closed")
    world.resolve("web0.cluster.local")
    world.behave("ok")
    world.advance(5.1)
    world.behave("silent")
    asked = [world.ask(f"x{n}.cluster.local") for n in range(10)]
    world.advance(2.0)
    assert world.engine.zones.root.outage
    assert any(flight.queued for flight in world.engine.asking.flights.values())
    before = world.packets(probes=False)
    world.advance(2.01)
    assert {one.read().rcode for one in asked} == {"SERVFAIL"}
    assert world.packets(probes=False) == before
    world.finish()


def test_in_an_outage_nobody_gets_their_turn() -> None:
    world = known_world(1)
    world.behave("closed")
    world.resolve("web0.cluster.local")
    world.behave("ok")
    world.advance(5.1)
    world.behave("silent")
    first = [world.ask(f"x{n}.cluster.local") for n in range(10)]
    world.advance(0.1)
    second = [world.ask(f"y{n}.cluster.local") for n in range(10)]
    world.advance(1.0)
    assert world.engine.zones.root.outage
    before = world.packets(probes=False)
    world.advance(3.1)
    assert world.packets(probes=False) == before
    assert {one.read().rcode for one in (*first, *second)} == {"SERVFAIL"}
    world.finish()


def test_a_server_that_no_zone_uses_any_more_is_not_probed() -> None:
    world = known_world(1, "10.0.0.1", "10.0.0.2")
    world.behave("closed", at="10.0.0.1:53")
    world.resolve("web0.cluster.local")
    world.reload(one_zone("10.0.0.2"))
    before = world.packets(at="10.0.0.1:53")
    world.advance(60)
    assert world.packets(at="10.0.0.1:53") == before
    world.finish()


# -- TCP for what is cut ------------------------------------------------------------------------


def test_while_tcp_is_known_to_fail_a_cut_answer_is_a_failure() -> None:
    world = known_world(4)
    world.behave("tcp-closed")
    for n in range(3):
        assert world.resolve(f"web{n}.cluster.local").wait < 0.01
    server = server_of(world)
    assert server.stream_health.dead
    assert server.health.up
    streams = sum(ask.stream for _, ask in world.sent)
    assert world.resolve("web3.cluster.local").wait < 0.01
    assert sum(ask.stream for _, ask in world.sent) == streams
    world.advance(60)
    world.behave("over-tcp")
    world.advance(6)
    assert world.resolve("web0.cluster.local").read().ede == ()
    assert server.stream_health.up
    world.finish()
