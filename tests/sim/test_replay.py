"""A whole replay: look-ups that are walked through and look-ups by machine end alike, and truth."""

from __future__ import annotations

import dataclasses
import random

import pytest

from dnsguard.core.policy import Policy, Upstream, Zone
from dnsguard.sim import simulate
from dnsguard.sim.clients import STUBS
from dnsguard.sim.cluster import Name
from dnsguard.sim.compare import compare, interval
from dnsguard.sim.lookup import Resolv, Status
from dnsguard.sim.replay import Client, Plan, Replay, Retry, Site
from dnsguard.sim.result import Outcome, Result, to_json
from dnsguard.sim.scenario import Does, Event, Names, Upstream as UpstreamOf
from dnsguard.sim.tally import Tally
from dnsguard.sim.targets import Target
from dnsguard.sim.told import Answer, Question, Questions, Restart, Said, Walk, Walked
from dnsguard.sim.workload import SEARCH, spelled, spread
from tests.sim.stages import scenario

DEFAULTS = Policy(zones=(Zone(".", (Upstream("192.0.2.53"),)),))
DNSGUARD = simulate.dnsguard(DEFAULTS, "0", {})
SYSTEMS = [DNSGUARD, *simulate.models()]
HERE = (b"\x0a\x60\0\1",)


class Oracle:
    """A cache that knows everything at once; every rcode of a question is drawn once."""

    def __init__(self, seed: int, late: bool, stage: Replay) -> None:
        self._chance = random.Random(seed)
        self._late = late
        self._stage = stage
        self._answers: dict[Question, Answer] = {}

    def ask(self, question: Question, token: int, now: float) -> Answer | None:
        if question not in self._answers:
            rcode = self._chance.choice((0, 0, 3, 3, 2))
            found = HERE if rcode == 0 and self._chance.random() < 0.5 else ()
            self._answers[question] = (rcode, found, "hit", now, 30)
        answer = self._answers[question]
        if self._late:
            self._stage.after(0.0, self._stage.reply, token, answer)
            return None
        return answer

    def again(self, plan: Walked, now: float) -> Walk | None:
        return None

    def walked(self, plan: Walked, walk: Walk) -> None:
        pass

    def heard(self, token: object, said: Said, now: float) -> None:
        raise AssertionError

    def stop(self, now: float, how: Restart) -> None:
        raise AssertionError

    def begin(self, now: float) -> None:
        raise AssertionError


def outcome(model: str, name: str, seed: int, late: bool) -> dict[str, int]:
    """How one look-up ends that an oracle answers at once, or a moment later."""
    one = scenario(("healthy", 100.0, ()), ("dark", 1.0, (Does("kube-dns"),)))
    tally = Tally(simulate.described(one))
    stage = Replay([], tally)
    site = Site()
    site.system = Oracle(seed, late, stage)
    stub = STUBS[model](Resolv(SEARCH))
    questions = Questions()
    target = Target(Name("db.ns1.svc.cluster.local", "services", 1, 30, 0.5, [0.0], [HERE]), 100.0)
    pairs = tuple((questions.get(n, 1), questions.get(n, 28)) for n in stub.candidates(name))
    plan = Plan(name, target, pairs)
    stage.run([(1.0, Client(stub, site, Retry()), plan)], 90.0, lambda at: None)
    numbers = tally.run(DNSGUARD.entrant).total
    assert numbers.lookups == 1
    return {kind: getattr(numbers, kind) for kind in ("wrong_negative", "failed", "dead_address")}


@pytest.mark.parametrize("model", sorted(STUBS))
@pytest.mark.parametrize("name", ["db.ns1", "db", "api.example.com", "a.b.c.d.e.f"])
def test_a_lookup_ends_alike_whether_it_is_walked_through_or_driven(model: str, name: str) -> None:
    seen = set()
    for seed in range(80):
        walked = outcome(model, name, seed, late=False)
        assert walked == outcome(model, name, seed, late=True), seed
        seen.add(tuple(walked.values()))
    assert len(seen) > 1  # found, and denied or failed


# -- truth ----------------------------------------------------------------------------------


def target() -> Target:
    name = Name("db.ns1.svc.cluster.local", "headless", 1, 30, 0.5, [0.0], [HERE])
    return Target(name, 50.0)


def test_what_was_true_within_the_ttl_is_not_held_against_anybody() -> None:
    db = target()
    db.name.become(100.0, (b"\x0a\xf4\0\2",))
    db.change(100.0)
    assert db.judge(Status.FOUND, HERE, 30, 129.0) is Outcome.RIGHT
    assert db.judge(Status.FOUND, HERE, 30, 131.0) is Outcome.DEAD_ADDRESS
    assert db.judge(Status.FOUND, (*HERE, b"\x0a\xf4\0\2"), 30, 131.0) is Outcome.RIGHT
    assert db.judge(Status.NOT_FOUND, (), 30, 101.0) is Outcome.WRONG_NEGATIVE
    assert db.judge(Status.FAILED, (), 30, 101.0) is Outcome.FAILED


def test_an_answer_with_one_address_of_a_moment_within_the_ttl_is_right() -> None:
    db = target()
    for number in range(3):
        db.name.become(100.0 + number, (bytes((10, 244, 0, number)),))
        db.change(100.0 + number)
    assert db.judge(Status.FOUND, HERE, 30, 129.0) is Outcome.RIGHT
    assert db.judge(Status.FOUND, (bytes((10, 244, 0, 0)),), 30, 130.5) is Outcome.RIGHT
    assert db.judge(Status.FOUND, HERE, 30, 130.5) is Outcome.DEAD_ADDRESS


def test_a_deleted_name_may_be_denied_and_may_not_be_found_for_ever() -> None:
    db = target()
    db.name.become(100.0, ())
    db.change(100.0)
    assert db.judge(Status.NOT_FOUND, (), 30, 101.0) is Outcome.RIGHT
    assert db.judge(Status.FOUND, HERE, 30, 129.0) is Outcome.RIGHT
    assert db.judge(Status.FOUND, HERE, 30, 131.0) is Outcome.DELETED
    db.name.become(200.0, HERE)
    db.change(200.0)
    assert db.judge(Status.NOT_FOUND, (), 30, 229.0) is Outcome.RIGHT
    assert db.judge(Status.NOT_FOUND, (), 30, 231.0) is Outcome.WRONG_NEGATIVE


# -- programs -------------------------------------------------------------------------------


def test_names_are_spelled_as_pods_spell_them() -> None:
    mine = Name("db.ns0.svc.cluster.local", "services", 0, 30, 0.5)
    other = Name("db.ns1.svc.cluster.local", "services", 1, 30, 0.5)
    foreign = Name("api.example.com", "external", 0, 30, 0.5)
    assert [spelled(name, True) for name in (mine, other, foreign)] == [
        "db", "db.ns1", "api.example.com",
    ]  # fmt: skip
    assert spelled(mine, False) == "db.ns0.svc.cluster.local."


def test_models_are_spread_by_their_shares_at_every_number() -> None:
    shares = {"glibc": 0.5, "musl": 0.2, "go": 0.2, "java": 0.1}
    assert spread(shares, 1) == ["glibc"]
    hundred = spread(shares, 100)
    assert {model: hundred.count(model) for model in shares} == {
        "glibc": 50, "musl": 20, "go": 20, "java": 10,
    }  # fmt: skip


# -- systems --------------------------------------------------------------------------------


@pytest.mark.parametrize("contender", SYSTEMS, ids=[one.name for one in SYSTEMS])
def test_every_system_is_right_in_health_and_the_same_seed_gives_the_same(
    contender: simulate.Contender,
) -> None:
    dark = scenario(("healthy", 120.0, ()), ("dark", 60.0, (Does("kube-dns", "silent"),)))
    runs = [simulate.run(dark, contender, 7, lambda at: None).run(contender.entrant) for _ in "12"]
    assert runs[0] == runs[1]
    healthy = runs[0].phases["healthy"]
    assert healthy.lookups > 1000
    assert healthy.availability == 1.0
    other = simulate.run(dark, contender, 8, lambda at: None).run(contender.entrant)
    assert other != runs[0]


def test_dnsguard_survives_silence_and_a_plain_cache_does_not() -> None:
    names = Names(services=20, headless=0, external=0, namespaces=2, ttl=5.0, negative_ttl=5.0)
    dark = scenario(
        ("healthy", 300.0, ()), ("dark", 120.0, (Does("kube-dns", "silent"),)), names=names
    )
    found = compare(dark, [DNSGUARD, SYSTEMS[2]], [1], lambda system, turn, at: None)
    ours, plain = found.systems
    assert ours.total.survival == 1.0
    assert plain.name == "node-cache"
    assert plain.phases["dark"].survival is not None
    assert plain.phases["dark"].survival < 0.2
    assert ours.outage_upstream < 100


@pytest.mark.parametrize("deed", ["restart", "kill", "new-node"])
def test_dnsguard_finds_again_what_it_knew_unless_the_disk_is_new(deed: str) -> None:
    names = Names(services=20, headless=0, external=0, namespaces=2)
    dark = scenario(
        ("healthy", 300.0, ()), ("dark", 120.0, (Does("kube-dns", "silent"),)),
        names=names, events=((330.0, Event(30.0, deed)),),
    )  # fmt: skip
    run = simulate.run(dark, DNSGUARD, 1, lambda at: None).run(DNSGUARD.entrant)
    down = 1.0 * 10.0  # a second of restart in which nobody listens, at ten look-ups a second
    lost = run.total.known - run.total.known_right
    if deed == "new-node":
        assert lost > 300
    else:
        assert lost < 3 * down


def test_a_rollout_hits_one_replica_after_the_other() -> None:
    roll = (110.0, Event(10.0, "roll", upstream="kube-dns", seconds=20.0))
    dark = scenario(
        ("healthy", 100.0, ()), ("rolling", 100.0, (Does("kube-dns", "ok"),)), events=(roll,)
    )
    nothing = SYSTEMS[1]
    run = simulate.run(dark, nothing, 1, lambda at: None).run(nothing.entrant)
    bins = {one.at: one.availability for one in run.timeline}
    hit = [share for at, share in bins.items() if 111 <= at < 129 and share is not None]
    rest = [share for at, share in bins.items() if 150 <= at < 190 and share is not None]
    assert max(hit) < 0.5
    assert min(rest) == 1.0  # from 20 s on: a JVM remembers for 10 s that it failed


def test_runs_of_several_seeds_have_an_interval_and_one_has_none() -> None:
    dark = scenario(("healthy", 30.0, ()), ("dark", 30.0, (Does("kube-dns", "silent"),)))
    found = compare(dark, [DNSGUARD], [1, 2, 3], lambda system, turn, at: None)
    measured = found.systems[0].interval
    assert measured is not None
    assert (measured.runs, measured.low <= measured.high) == (3, True)
    assert compare(dark, [DNSGUARD], [1], lambda s, t, a: None).systems[0].interval is None


def test_an_interval_is_students() -> None:
    """t(0.975, 2) = 4.303; mean 0.5, deviation 0.1, three values."""
    found = interval([0.4, 0.5, 0.6])
    assert found is not None
    assert found.high - 0.5 == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert interval([1.0]) is None


def test_failed_lookups_are_begun_again_by_programs_that_do_so() -> None:
    does = (Does("kube-dns", "servfail"),)
    counts = []
    for retries in (0, 3):
        dark = scenario(("healthy", 1.0, ()), ("dark", 60.0, does), retries=retries, musl=0.0)
        run = simulate.run(dark, SYSTEMS[1], 1, lambda at: None).run(SYSTEMS[1].entrant)
        counts.append(run.total.lookups)
    assert counts[1] == pytest.approx(counts[0] * 4, rel=0.15)


def test_the_policys_own_zones_keep_their_settings_and_get_the_scenarios_upstreams() -> None:
    root = DEFAULTS.zones[0]
    stale = dataclasses.replace(root.stale, max_age=60.0)
    mine = dataclasses.replace(root, name="cluster.local", stale=stale)
    policy = dataclasses.replace(DEFAULTS, zones=(root, mine))
    ground = simulate.Ground(scenario(("a", 1.0, ()), ("b", 1.0, (Does("kube-dns"),))), 1)
    zones = {zone.name: zone for zone in ground.policy(policy).zones}
    assert zones["cluster.local"].stale.max_age == 60.0
    assert zones["."].stale.max_age == root.stale.max_age
    assert {str(zone.upstreams[0]) for zone in zones.values()} == {"10.96.0.10:53"}


def test_a_result_says_nothing_of_the_machine() -> None:
    dark = scenario(("healthy", 5.0, ()), ("dark", 5.0, (Does("kube-dns"),)))
    documents = set()
    for _ in range(2):
        found = compare(dark, [DNSGUARD], [1], lambda system, turn, at: None)
        documents.add(to_json(Result(simulate.made("x", [1], []), (found,))))
    assert len(documents) == 1


# -- fleets ---------------------------------------------------------------------------------


def test_a_fleet_is_sampled_by_a_number_that_it_is_a_multiple_of() -> None:
    found = {fleet: simulate.sampled(fleet) for fleet in (1, 7, 10, 11, 100, 1234, 10_000)}
    assert found == {1: 1, 7: 7, 10: 10, 11: 1, 100: 10, 1234: 2, 10_000: 10}


def test_a_fleet_sends_as_much_as_all_its_caches_and_fills_the_line_of_a_small_upstream() -> None:
    names = Names(services=20, headless=0, external=0, namespaces=2, ttl=5.0, negative_ttl=5.0)
    small = UpstreamOf("kube-dns", capacity=2000.0, queue=1000)
    dark = scenario(
        ("healthy", 60.0, ()), ("dark", 60.0, (Does("kube-dns", "silent"),)), ("after", 60.0, ()),
        names=names, upstreams=(small,),
    )  # fmt: skip
    nothing = SYSTEMS[1]
    one = simulate.run(dark, nothing, 1, lambda at: None, 1).run(nothing.entrant)
    fleet = simulate.run(dark, nothing, 1, lambda at: None, 20).run(nothing.entrant)
    crowd = simulate.run(dark, nothing, 1, lambda at: None, 1000).run(nothing.entrant)
    assert fleet.outage_upstream == pytest.approx(one.outage_upstream * 20, rel=0.15)
    assert fleet.phases["healthy"].availability == 1.0
    assert crowd.phases["healthy"].availability is not None
    assert crowd.phases["healthy"].availability < 0.9  # 1000 times 20 queries a second for 2000
    assert crowd.recovery_peak > fleet.recovery_peak
