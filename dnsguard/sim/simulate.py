"""Puts a replay together: a scenario, one system, a seed; and what comes out of it.

Everything that happens is drawn from the seed by streams of its own (names, arrivals, network, the
system), so that one system's luck does not depend on what another one asked, and the same seed
gives the same numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from operator import itemgetter

from dnsguard import __version__
from dnsguard.core.policy import Policy, Upstream as PolicyUpstream
from dnsguard.sim import result
from dnsguard.sim.caches import Cache, Caching, NoCache, Zones
from dnsguard.sim.cluster import Cluster
from dnsguard.sim.guarded import Dnsguard
from dnsguard.sim.replay import Replay, Site
from dnsguard.sim.scenario import CLUSTER_DOMAIN, OF_THE_CACHE, Event, Phase, Scenario
from dnsguard.sim.servers import SERVERS
from dnsguard.sim.tally import Entrant, Tally
from dnsguard.sim.targets import Target
from dnsguard.sim.told import Questions, Restart, System
from dnsguard.sim.upstreams import Address, Replica
from dnsguard.sim.workload import Programs

DNSGUARD, NO_CACHE = "dnsguard", "no-cache"
SAMPLE_MAX = 10  # instances of a fleet that are replayed; the others do much the same
RESTART_SECONDS = 1.0  # from the end of a process until the next one listens, whatever it is
_RESTARTS = {"restart": Restart.CLEAN, "kill": Restart.KILL, "new-node": Restart.NEW_NODE}

Tell = Callable[[float], None]  # is told the virtual instant now and then


@dataclass(frozen=True)
class Contender:
    """A system by what it is: dnsguard with a policy, a model of another server, or no cache."""

    entrant: Entrant
    policy: Policy | None = None
    caching: Caching | None = None

    @property
    def name(self) -> str:
        return self.entrant.name


def dnsguard(
    policy: Policy, version: str, settings: Mapping[str, str], name: str = DNSGUARD
) -> Contender:
    """dnsguard itself, with these settings; its zones' upstreams are the scenario's."""
    return Contender(Entrant(name, result.Kind.DNSGUARD, version, settings), policy)


def models() -> list[Contender]:
    """All the other ones."""
    settings = {"settings": "programs ask the cluster's DNS"}
    nothing = Contender(Entrant(NO_CACHE, result.Kind.MODEL, "", settings))
    return [nothing] + [
        Contender(
            Entrant(name, result.Kind.MODEL, one.version, {"settings": one.settings}), None, one
        )
        for name, one in SERVERS.items()
    ]


class Ground:
    """What all instances of a system in one replay stand on."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.questions = Questions()
        cluster = Cluster(scenario, seed)
        begin, _ = scenario.outage
        self.targets = [Target(name, begin) for name in cluster.names]
        chance = random.Random(f"network {seed}")
        self.addresses: list[Address] = []
        groups: dict[str, list[int]] = {"external": [], "cluster": []}
        for upstream in scenario.upstreams:
            everyone = range(upstream.replicas)
            parts = [everyone] if upstream.service else [everyone[n : n + 1] for n in everyone]
            for numbers in parts:
                for group, members in groups.items():
                    if upstream.serves in ("all", group):
                        members.append(len(self.addresses))
                label = str(PolicyUpstream(f"10.96.0.{10 + len(self.addresses)}"))
                address = Address(label, scenario, upstream, numbers, cluster.by_text, chance)
                self.addresses.append(address)
        self.zones = [(".", tuple(groups["external"]))]
        if groups["cluster"] != groups["external"]:
            self.zones.append((CLUSTER_DOMAIN, tuple(groups["cluster"])))

    def build(self, contender: Contender, stage: Replay, number: int) -> System:
        """One instance of a system."""
        chance = random.Random(f"system {self.seed} {number}")
        if contender.policy is not None:
            numbers = {address.label: n for n, address in enumerate(self.addresses)}
            policy = self.policy(contender.policy)
            return Dnsguard(policy, stage, self.questions, numbers, chance)
        zones = Zones(self.zones, CLUSTER_DOMAIN)
        if contender.caching is None:
            return NoCache(stage, zones, chance)
        return Cache(contender.caching, stage, zones)

    def policy(self, policy: Policy) -> Policy:
        """The policy with the scenario's upstreams.

        A zone that only the policy has keeps its settings and gets the upstreams of the scenario's
        zone around it; one that only the scenario has gets the settings of the policy's around it.
        """
        zones = dict(self.zones)
        mine = {zone.name: zone for zone in policy.zones}
        found = []
        for name in dict.fromkeys([*zones, *mine]):
            numbers = zones[_around(name, zones)]
            hosts = [self.addresses[n].label.rpartition(":")[0] for n in numbers]
            upstreams = tuple(PolicyUpstream(host) for host in hosts)
            found.append(replace(mine[_around(name, mine)], name=name, upstreams=upstreams))
        return replace(policy, zones=tuple(found))


def _around(name: str, zones: Iterable[str]) -> str:
    """The longest of the zones that a name is in; the root is one of them."""
    inside = [zone for zone in zones if zone == "." or f".{name}".endswith(f".{zone}")]
    return max(inside, key=lambda zone: len(zone) if zone != "." else 0)


def made(command: str, seeds: Sequence[int], notes: Sequence[str]) -> result.Made:
    """How a result came about: nothing of the machine or the day, so that bytes can be the same."""
    return result.Made(
        command=command, mode=result.Mode.SIMULATE, seeds=tuple(seeds), dnsguard=__version__,
        machine="", date="", notes=tuple(notes),
    )  # fmt: skip


def described(scenario: Scenario) -> result.Scenario:
    """A scenario as a report has it."""
    phases = tuple(result.Phase(p.name, p.begin, p.end, p.what, p.outage) for p in scenario.phases)
    date = "" if scenario.date == "none" else scenario.date
    return result.Scenario(
        scenario.name, scenario.title, date, scenario.length, phases, sources=scenario.sources
    )


def run(
    scenario: Scenario, contender: Contender, seed: int, tell: Tell, fleet: int | None = None
) -> Tally:
    """Put one system through a scenario; return what its clients saw.

    One instance is replayed. Where the scenario has more, they do at about the same time what this
    one does, and stand in line with it before upstreams of finite capacity. With a fleet there are
    so many of them, of which a sample is replayed (see `sampled`), and what was sent upstream is
    what all of them sent.
    """
    ground = Ground(scenario, seed)
    tally = Tally(described(scenario))
    if fleet is None:
        stage, sample = Replay(ground.addresses, tally, scenario.clients.instances), 1
    else:
        sample = sampled(fleet)
        stage = Replay(ground.addresses, tally, fleet // sample, fleet // sample)
    sites = [Site() for _ in range(sample)]
    streams = []
    for number, site in enumerate(sites):
        site.system = ground.build(contender, stage, number)
        programs = Programs(scenario, ground.targets, ground.questions, site, f"{seed} {number}")
        streams.append(programs.arrivals())
    _script(ground, stage, sites, contender)
    arrivals = streams[0] if sample == 1 else merge(*streams, key=itemgetter(0))
    stage.run(arrivals, scenario.length, tell)
    return tally


def sampled(fleet: int) -> int:
    """Return how many instances of a fleet are replayed: the most that it is a multiple of."""
    return next(n for n in range(min(fleet, SAMPLE_MAX), 0, -1) if fleet % n == 0)


def _script(ground: Ground, stage: Replay, sites: list[Site], contender: Contender) -> None:
    """Put everything on the stage's list that the scenario has happen."""

    def change(target: Target) -> None:
        target.change(stage.now)

    def stop(how: Restart) -> None:
        for site in sites:
            site.system.stop(stage.now, how)
            stage.close(site, RESTART_SECONDS)
            stage.after(RESTART_SECONDS, begin, site)

    def begin(site: Site) -> None:
        site.system.begin(stage.now)

    def enter(phase: Phase) -> None:
        for address in ground.addresses:
            for replica in address.replicas:
                replica.enter(phase)

    def roll(event: Event) -> None:
        rolled = [a for a in ground.addresses if a.upstream.name == event.upstream]
        replicas = [replica for address in rolled for replica in address.replicas]
        for number, replica in enumerate(replicas):
            stage.after(number * event.seconds, close, replica, event.seconds)

    def close(replica: Replica, seconds: float) -> None:
        replica.down_until = stage.now + seconds

    for phase in ground.scenario.phases[1:]:
        stage.at(phase.begin, enter, phase)
    for target in ground.targets:
        for at in target.name.starts[1:]:
            stage.at(at, change, target)
    for at, event in ground.scenario.events:
        if event.do in OF_THE_CACHE and contender.name != NO_CACHE:
            stage.at(at, stop, _RESTARTS[event.do])
        elif event.do == "roll":
            stage.at(at, roll, event)
