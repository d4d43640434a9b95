"""What is asked, held, believed and restored because of denials, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from dnsguard.core import guarding as module
from dnsguard.core.policy import GuardPolicy, Policy, StalePolicy, Upstream, Zone
from tests.core.watch import Asked
from tests.core.world import World, one_zone

NAMES = [f"n{n}.{space}.svc.cluster.local" for space in ("one", "two") for n in range(5)]
MORE_NAMES = [f"n{n}.{space}.svc.cluster.local" for space in ("one", "two") for n in range(10)]


def policy(guard: GuardPolicy | None = None, max_age: float = 86400.0) -> Policy:
    stale = StalePolicy(max_age=max_age)
    zone = Zone(".", (Upstream("10.0.0.53"),), stale, guard or GuardPolicy())
    return Policy(zones=(zone,))


def known(given: Policy | None = None, names: list[str] = NAMES) -> World:
    """A world whose names were asked for twice, and have expired."""
    world = World(given or policy())
    for name in names:
        world.put(name, "A", 5, "10.244.1.1")
    for _ in range(2):
        for name in names:
            world.resolve(name)
        world.advance(20.0)
    return world


def doubting(given: Policy | None = None, names: list[str] = NAMES) -> World:
    world = known(given, names)
    world.behave("nxdomain")
    for name in names:
        world.resolve(name)
    world.advance(0.1)
    assert world.engine.zones.root.state == "doubt"
    return world


def codes(asked: Asked) -> list[int]:
    return [code for code, _ in asked.read().ede]


def verdicts(world: World) -> dict[str, int]:
    return dict(world.engine.counters.guard)


def test_a_deletion_is_believed_and_counted() -> None:
    world = known()
    world.drop(NAMES[0])
    world.resolve(NAMES[0])
    world.advance(0.01)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    assert verdicts(world) == {"believed": 1}
    assert world.engine.guarding.inquiries == {}
    world.finish()


def test_samples_that_do_not_answer_are_not_waited_for_for_long() -> None:
    world = known()
    world.drop(NAMES[0])
    world.behave("silent")
    world.behave("ok", suffix=NAMES[0])
    asked = world.resolve(NAMES[0])
    assert codes(asked) == [3]
    world.advance(1.9)
    assert world.resolve(NAMES[0]).read().rcode == "NOERROR"
    world.advance(0.2)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"


def test_what_waits_for_its_samples_is_held_if_its_zone_is_in_doubt_by_then() -> None:
    """As when other settings give the name to a zone that is in doubt."""
    world = known()
    world.drop(NAMES[0])
    world.behave("silent")
    world.behave("ok", suffix=NAMES[0])
    assert codes(world.resolve(NAMES[0])) == [3]
    guard = world.engine.zones.root.guard
    guard.begin(world.now)
    world.advance(2.1)
    assert verdicts(world) == {"held": 1}
    assert len(guard.held) == 1
    guard.end()
    world.finish()


def test_a_second_look_that_nobody_answers_leaves_the_first_to_stand() -> None:
    world = known()
    world.drop(NAMES[0])
    world.behave("once-only", suffix=NAMES[0])
    asked = world.resolve(NAMES[0])
    assert codes(asked) == [3]
    world.advance(4.1)
    assert verdicts(world) == {"believed": 1}
    world.finish()


def test_in_an_outage_a_look_that_nobody_answers_proves_nothing() -> None:
    world = known(names=NAMES[:2])
    world.drop(NAMES[0])
    world.behave("once-only")
    world.resolve(NAMES[0])
    world.behave("silent")
    world.resolve(NAMES[1])
    world.advance(10.0)
    assert world.engine.zones.root.outage
    assert codes(world.resolve(NAMES[0])) == [3]
    assert verdicts(world) == {}
    world.finish()


def test_a_name_that_one_of_two_replicas_denies_stays() -> None:
    """CoreDNS that has missed what happened, behind a Service that picks one at random."""
    world = known()
    world.behave("either")
    wrong = 0
    for _ in range(2000):
        world.advance(7.0)
        wrong += world.resolve(NAMES[0]).read().rcode != "NOERROR"
    assert wrong <= 40, "one in fifty, where half of all answers are wrong"
    assert verdicts(world)["disputed"] > 100
    world.drop(NAMES[0])
    world.behave("ok")
    world.advance(7.0)
    world.resolve(NAMES[0])
    world.advance(module.PATIENCE)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"


def test_believed_deletions_that_come_back_late_are_no_dispute() -> None:
    world = known(policy(GuardPolicy(second_look=False)), NAMES[:1])
    world.upstreams["10.0.0.53:53"].negative_ttl = 5
    world.drop(NAMES[0])
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    world.advance(70.0)
    world.put(NAMES[0], "A", 5, "10.244.1.1")
    assert world.resolve(NAMES[0]).read().rcode == "NOERROR"
    assert not world.engine.zones.root.guard._disputed
    world.advance(20)
    world.drop(NAMES[0])
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    world.advance(10)
    world.put(NAMES[0], "A", 5, "10.244.1.1")
    assert world.resolve(NAMES[0]).read().rcode == "NOERROR"
    assert world.engine.zones.root.guard._disputed


def test_a_denial_while_it_is_still_fresh_is_believed_in_time() -> None:
    world = World(replace(policy(), keep_fresh=()))
    world.put(NAMES[0], "A", 100, "10.244.1.1")
    for _ in range(3):
        world.resolve(NAMES[0])
    world.advance(95.0)
    world.behave("nxdomain")
    assert codes(world.resolve(NAMES[0])) == []  # and is refreshed ahead
    world.advance(5.0 + module.PATIENCE - 0.1)
    assert codes(world.resolve(NAMES[0])) == [3]
    world.advance(0.2)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"


def test_a_canary_that_nobody_confirms_is_an_event_all_the_same() -> None:
    world = known(policy(GuardPolicy(canaries=(NAMES[0],))))
    world.drop(NAMES[0])
    world.behave("once-only", suffix=NAMES[0])
    world.resolve(NAMES[0])
    world.advance(4.1)
    root = world.engine.zones.root
    assert root.state == "doubt"
    assert world.now - 1.0 < root.since < world.now
    assert codes(world.resolve(NAMES[0])) == [3]


def test_an_inquiry_in_another_zone_goes_on() -> None:
    plain = policy().zones[0]
    corp = replace(plain, name="corp", upstreams=(Upstream("10.0.0.54"),))
    others = [f"n{n}.corp" for n in range(3)]
    world = known(Policy(zones=(plain, corp)), [*NAMES, *others])
    world.drop(others[0])
    for silent in others[1:]:
        world.behave("silent", suffix=silent)
    world.resolve(others[0])
    world.behave("nxdomain", at="10.0.0.53:53")
    world.resolve(NAMES[0])
    world.advance(0.1)
    assert [zone.state for zone in world.engine.zones.all] == ["doubt", "normal"]
    world.advance(2.0)
    assert world.resolve(others[0]).read().rcode == "NXDOMAIN"


def test_zones_are_in_doubt_each_for_itself() -> None:
    plain = policy().zones[0]
    corp = replace(plain, name="corp", upstreams=(Upstream("10.0.0.54"),))
    world = known(Policy(zones=(plain, corp)), [*NAMES, "web.corp"])
    world.behave("nxdomain", at="10.0.0.53:53")
    world.drop("web.corp")
    world.resolve("web.corp")
    world.advance(0.1)
    for name in NAMES:
        world.resolve(name)
    world.advance(0.1)
    assert [zone.state for zone in world.engine.zones.all] == ["doubt", "normal"]
    assert world.resolve("web.corp").read().rcode == "NXDOMAIN"
    assert one_zone().zones[0].guard.mode == "enforce"


def both_families(given: Policy | None = None) -> World:
    """A world whose names are known to have addresses of one family only."""
    world = known(given)
    for upstream in world.upstreams.values():
        upstream.negative_ttl = 5
    for _ in range(2):
        for name in NAMES:
            world.resolve(name, "AAAA")
            world.resolve(name)
        world.advance(6.0)
    return world


def test_in_doubt_the_other_family_is_not_denied_either() -> None:
    """Or a libc that asks for both would drop the addresses that are held (RFC 8020)."""
    world = both_families()
    world.advance(20.0)
    world.behave("nxdomain")
    for name in NAMES:
        for rtype in ("AAAA", "A"):
            read = world.resolve(name, rtype).read()
            assert (read.rcode, bool(read.data)) == ("NOERROR", rtype == "A")
    world.advance(1.0)
    assert world.engine.zones.root.state == "doubt"
    assert codes(world.resolve(NAMES[0], "AAAA")) == [3]
    world.behave("ok")
    world.advance(40.0)
    assert world.engine.zones.root.state == "normal"
    world.finish()


def test_a_deletion_that_the_other_family_shows_first_is_looked_at_and_believed() -> None:
    world = both_families()
    world.advance(20.0)
    world.drop(NAMES[0])
    assert world.resolve(NAMES[0], "AAAA").read().rcode == "NOERROR"
    world.advance(0.1)
    assert verdicts(world)["believed"] == 1
    world.advance(world.engine.zones.root.stale.recheck)
    assert world.resolve(NAMES[0]).read().rcode == "NXDOMAIN"
    assert world.resolve(NAMES[0], "AAAA").read().rcode == "NXDOMAIN"


def test_addresses_that_are_fresh_are_not_asked_for_again() -> None:
    world = both_families()
    world.put(NAMES[0], "A", 300, "10.244.1.1")
    world.advance(20.0)
    world.resolve(NAMES[0])
    world.drop(NAMES[0])
    before = world.packets()
    assert world.resolve(NAMES[0], "AAAA").read().rcode == "NOERROR"
    assert world.packets() == before + 1


def test_without_addresses_there_is_nothing_that_a_denial_could_take() -> None:
    name = "text.one.svc.cluster.local"
    world = both_families()
    world.put(name, "TXT", 5, "word")
    assert world.resolve(name, "AAAA").read().rcode == "NOERROR"
    world.advance(20.0)
    world.drop(name)
    assert world.resolve(name, "AAAA").read().rcode == "NXDOMAIN"


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_only_a_guard_that_holds_keeps_the_other_family(mode: Literal["observe", "off"]) -> None:
    world = both_families(policy(GuardPolicy(mode=mode)))
    world.advance(20.0)
    world.behave("nxdomain")
    assert world.resolve(NAMES[0], "AAAA").read().rcode == "NXDOMAIN"
