"""Servers in an outage: what each rule of a phase says, to whom, and how long it takes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dnsguard.sim.cluster import Cluster
from dnsguard.sim.scenario import Does, Names, Scenario, Upstream
from dnsguard.sim.told import CLOSED, Flow, Question, Questions, Said
from dnsguard.sim.upstreams import Address
from tests.sim.stages import scenario

NAMES = Names(services=200, headless=50, external=50, namespaces=3)
UPSTREAM = Upstream("kube-dns")
DARK = 100.0  # when the second phase begins


class World:
    """One address that behaves so in the second phase."""

    def __init__(self, *does: Does, upstream: Upstream = UPSTREAM) -> None:
        self.scenario: Scenario = scenario(
            ("healthy", DARK, ()), ("dark", 100.0, does), names=NAMES, upstreams=(upstream,)
        )
        self.cluster = Cluster(self.scenario, 1)
        numbers = range(upstream.replicas)
        chance = random.Random(1)
        by_text = self.cluster.by_text
        self.address = Address("x", self.scenario, upstream, numbers, by_text, chance)
        for replica in self.address.replicas:
            replica.enter(self.scenario.phases[1])
        self.questions = Questions()

    def all(self, group: str) -> list[Question]:
        return [
            self.questions.get(name.text, 1)
            for name in self.cluster.names
            if name.belongs(group) and name.group != "absent"
        ]

    def ask(
        self, question: Question, at: float = DARK, flow: Flow | None = None
    ) -> tuple[float, Said] | None:
        return self.address.take(question, at, 1.0, flow)

    def rcodes(self, group: str, at: float = DARK) -> set[int | None]:
        found = [self.ask(question, at) for question in self.all(group)]
        return {None if came is None else came[1].rcode for came in found}


@pytest.mark.parametrize(
    ("kind", "rcode"),
    [("silent", None), ("unreachable", CLOSED), ("servfail", 2), ("refused", 5), ("nxdomain", 3)],
)
def test_a_rule_is_for_its_group_alone(kind: str, rcode: int | None) -> None:
    world = World(Does("kube-dns", kind, names="headless"))
    assert world.rcodes("headless") == {rcode}
    assert world.rcodes("services") == {0}
    assert world.rcodes("external") == {0}


def test_an_answer_has_the_addresses_of_the_moment_and_aaaa_has_none() -> None:
    world = World()
    name = next(name for name in world.cluster.names if name.group == "headless")
    came = world.ask(world.questions.get(name.text, 1))
    assert came is not None
    assert came[1] == Said(0, name.at(DARK), name.ttl)
    six = world.ask(world.questions.get(name.text, 28))
    assert six is not None
    assert six[1] == Said(0, (), 30)
    step = world.ask(world.questions.get("web.ns1.ns0.svc.cluster.local", 1))
    assert step is not None
    assert step[1] == Said(3, (), 30)


def test_an_empty_answer_is_no_denial_and_a_partial_one_has_the_first_addresses() -> None:
    empty = World(Does("kube-dns", "empty")).ask(World().all("headless")[0])
    assert empty is not None
    assert empty[1] == Said(0, (), 30)
    world = World(Does("kube-dns", "partial", keep=0.34))
    for question in world.all("headless"):
        came = world.ask(question)
        assert came is not None
        assert len(came[1].addresses) == 1


def test_frost_says_what_was_true_and_unsynced_denies_nothing() -> None:
    world = World(Does("kube-dns", "frozen"))
    name = world.cluster.names[0]
    before = name.at(DARK)
    name.become(DARK + 1, (b"\1\2\3\4",))
    came = world.ask(world.questions.get(name.text, 1), DARK + 2)
    assert came is not None
    assert came[1].addresses == before
    world = World(Does("kube-dns", "unsynced"))
    nowhere = world.ask(world.questions.get("nowhere.ns1.svc.cluster.local", 1))
    assert nowhere is not None
    assert nowhere[1] == Said(2)


def test_a_share_grows_over_its_phase_and_never_takes_a_name_back() -> None:
    world = World(Does("kube-dns", "servfail", share=(0.0, 1.0)))
    hit: set[Question] = set()
    for percent in range(0, 100, 5):
        at = DARK + percent
        now = {q for q in world.all("all") if (came := world.ask(q, at)) and came[1].rcode == 2}
        assert hit <= now
        hit = now
        assert len(hit) == pytest.approx(300 * percent / 100, abs=30)


def test_the_first_rule_that_fits_holds() -> None:
    world = World(Does("kube-dns", "refused", names="external"), Does("kube-dns", "servfail"))
    assert world.rcodes("external") == {5}
    assert world.rcodes("cluster") == {2}


def test_a_crash_loop_is_up_first_and_lets_the_rules_below_it_speak() -> None:
    rules = Does("kube-dns", "crashloop", every=60.0, up=0.5), Does("kube-dns", "servfail")
    world = World(*rules)
    seen = [world.rcodes("services", DARK + at) for at in (1, 29, 31, 59, 61)]
    assert seen == [{2}, {2}, {CLOSED}, {CLOSED}, {2}]


def test_replicas_crash_apart_and_a_flow_stays_with_its_own() -> None:
    upstream = replace(UPSTREAM, replicas=2)
    loop = Does("kube-dns", "crashloop", every=60.0, up=0.5, together=False)
    world = World(loop, upstream=upstream)
    question = world.all("services")[0]
    for number in range(8):
        flow = Flow(number, DARK)
        seen = {
            (came and came[1].rcode) for _ in range(9) for came in [world.ask(question, DARK, flow)]
        }
        assert len(seen) == 1
    assert {world.ask(question, DARK)[1].rcode for _ in range(50)} == {0, CLOSED}  # type: ignore[index]


def test_old_ports_lead_nowhere_until_they_were_idle_and_new_ones_do() -> None:
    world = World(Does("kube-dns", "ports", share=(1.0, 1.0)))
    question = world.all("services")[0]
    old = Flow(1, DARK - 50)
    old.used = DARK - 1
    assert world.ask(question, DARK, old) is None
    assert world.ask(question, DARK + 20, old) is None
    assert world.ask(question, DARK + 20 + 31, old) is not None
    assert world.ask(question, DARK + 1, Flow(2, DARK + 1)) is not None
    assert world.ask(question, DARK + 1) is not None


def test_round_trips_have_the_median_and_the_99th_percentile_that_are_asked_for() -> None:
    world = World(Does("kube-dns", median=0.02, p99=0.5))
    question = world.all("services")[0]
    times = sorted(world.ask(question)[0] for _ in range(20_000))  # type: ignore[index]
    assert times[10_000] == pytest.approx(0.02, rel=0.05)
    assert times[19_800] == pytest.approx(0.5, rel=0.15)


def test_a_share_of_packets_is_lost() -> None:
    world = World(Does("kube-dns", loss=0.3))
    question = world.all("services")[0]
    lost = sum(world.ask(question) is None for _ in range(10_000))
    assert lost == pytest.approx(3000, abs=150)


def test_questions_stand_in_line_for_a_capacity_and_are_lost_when_there_is_no_room() -> None:
    world = World(upstream=replace(UPSTREAM, capacity=100.0, queue=10, median=0.001, p99=0.001))
    question = world.all("services")[0]
    waits = [world.ask(question) for _ in range(15)]
    times = [came[0] for came in waits if came is not None]
    assert times == pytest.approx([0.001 + (n + 1) / 100 for n in range(10)])
    assert waits[10:] == [None] * 5
    later = world.ask(question, DARK + 1)
    assert later is not None
    assert later[0] == pytest.approx(0.011)


def test_a_question_of_no_weight_stands_in_no_line() -> None:
    """As when caches are warmed up before the start: the clock stands still at 0 meanwhile."""
    world = World(upstream=replace(UPSTREAM, capacity=100.0, queue=10, median=0.001, p99=0.001))
    question = world.all("services")[0]
    for _ in range(50):
        came = world.address.take(question, DARK, 0.0, None)
        assert came is not None
        assert came[0] == pytest.approx(0.001)
    first = world.ask(question)
    assert first is not None
    assert first[0] == pytest.approx(0.011)


def flood(weight: float, rate: float) -> tuple[list[float], float]:
    """Waits over ten seconds of questions at this rate, and the share that was lost."""
    upstream = replace(UPSTREAM, capacity=1000.0, queue=500, median=0.001, p99=0.001)
    world = World(upstream=upstream)
    question = world.all("services")[0]
    chance, at, waits, lost = random.Random(2), DARK, [], 0
    while at < DARK + 10:
        at += chance.expovariate(rate)
        came = world.address.take(question, at, weight, None)
        if came is None:
            lost += 1
        else:
            waits.append(came[0] - 0.001)
    return waits, lost / (lost + len(waits))


def test_a_question_that_stands_for_many_waits_as_long_as_one_of_many() -> None:
    """Half the capacity: nobody waits; twice the capacity: the line is full, half is lost."""
    for rate in (500.0, 2000.0):
        exact, lost = flood(1.0, rate)
        field, field_lost = flood(50.0, rate / 50)
        assert sorted(field)[len(field) // 2] == pytest.approx(
            sorted(exact)[len(exact) // 2], rel=0.3, abs=0.02
        )
        assert field_lost == pytest.approx(lost, abs=0.08)
