"""What a replay on real sockets has to do: the scenario in less time, who asks what and when.

Time is compressed by a factor: phases, events, the churn of pods and the TTLs get shorter by it (a
TTL is a whole second at the least). The time-outs of programs and of caches, round trips and
retries stay as they are, for they are what is looked at. Everything is drawn from a seed, so the
processes of a replay work it out each for itself and agree. Pure.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from dnsguard.sim import result
from dnsguard.sim.cluster import Cluster, Name
from dnsguard.sim.scenario import MODELS, Scenario
from dnsguard.sim.workload import spread

CLIENTS_MAX = 100  # programs that are played; more would only have colder caches of their own
WARM_NAMES_MAX = 600  # looked up before the start, the most popular first


class Plan(msgspec.Struct, frozen=True):
    """All that the processes of a replay must agree on. `scenario` is compressed already."""

    scenario: Scenario
    seed: int
    rate: float  # look-ups a second at each system, where the scenario's load is 1
    scale: float  # of the upstreams' capacity, for the one instance of a cache that is played
    systems: tuple[str, ...]


class Arrival(NamedTuple):
    """A look-up that a program begins."""

    at: float  # seconds since the start
    client: int
    name: Name


def factor_for(scenario: Scenario, budget: float) -> float:
    """How often it must be compressed to take `budget` seconds; 1 if it does not take longer."""
    return max(1.0, scenario.length / budget)


def plan(scenario: Scenario, factor: float, seed: int, rate: float, systems: list[str]) -> Plan:
    """Compress a scenario by `factor` and scale what its upstreams can do to `rate`.

    Names run out `factor` times as often, and it is that which a cache asks its upstream for.
    """
    clients = scenario.clients
    scale = factor * rate / clients.rate / clients.instances
    return Plan(compressed(scenario, factor), seed, rate, scale, tuple(systems))


def compressed(scenario: Scenario, factor: float) -> Scenario:
    """The same in less time."""

    def ttl(seconds: float) -> float:
        return float(max(1, round(seconds / factor))) if seconds else 0.0

    names = dataclasses.replace(
        scenario.names,
        ttl=ttl(scenario.names.ttl),
        external_ttl=ttl(scenario.names.external_ttl),
        negative_ttl=ttl(scenario.names.negative_ttl),
        churn=scenario.names.churn / factor,
    )
    phases = tuple(
        dataclasses.replace(
            phase,
            begin=phase.begin / factor,
            seconds=phase.seconds / factor,
            does=tuple(dataclasses.replace(does, every=does.every / factor) for does in phase.does),
        )
        for phase in scenario.phases
    )
    events = tuple(
        (at / factor, dataclasses.replace(e, at=e.at / factor, seconds=e.seconds / factor))
        for at, e in scenario.events
    )
    return dataclasses.replace(scenario, names=names, phases=phases, events=events)


def facts(scenario: Scenario, factor: float, rate: float) -> result.Scenario:
    """A compressed scenario as the report has it."""
    phases = [
        result.Phase(phase.name, phase.begin, phase.end, phase.what, phase.outage)
        for phase in scenario.phases
    ]
    names = scenario.names
    notes = [f"Assumed: {scenario.assumed}"] if scenario.assumed else []
    how = (
        f"{rate:g} look-ups a second at each system, times the phase's load; TTLs as run: "
        f"{names.ttl:g} s in the cluster, {names.external_ttl:g} s outside, "
        f"{names.negative_ttl:g} s of denials."
    )
    return result.Scenario(
        name=scenario.name,
        title=scenario.title,
        date="" if scenario.date == "none" else scenario.date,
        length=scenario.length,
        phases=tuple(phases),
        compression=factor,
        sources=scenario.sources,
        notes=(*notes, how),
    )


# --- who asks ------------------------------------------------------------------------------------


def models(scenario: Scenario) -> list[str]:
    """The resolver library of each program, in the scenario's proportions and mixed."""
    clients = scenario.clients
    shares = {model: getattr(clients, model) for model in MODELS}
    return spread(shares, min(clients.count, CLIENTS_MAX))


def arrivals(plan: Plan, cluster: Cluster) -> Iterator[Arrival]:
    """Every look-up from the start to the end: a Poisson stream, names by their popularity.

    A name is asked for once it exists or has existed, and those that never do are asked for always.
    """
    chance = random.Random(f"arrivals {plan.seed}")
    people = min(plan.scenario.clients.count, CLIENTS_MAX)
    for phase in plan.scenario.phases:
        rate, at = plan.rate * phase.load, phase.begin
        while rate:
            at += chance.expovariate(rate)
            if at >= phase.end:
                break
            name = cluster.draw(chance)
            while name.group != "absent" and not name.ever(at):
                name = cluster.draw(chance)
            yield Arrival(at, chance.randrange(people), name)


def warm_names(cluster: Cluster) -> list[Name]:
    """What everybody has looked up already when the scenario begins."""
    there = [name for name in cluster.names if name.at(0.0) or name.group == "absent"]
    return there[:WARM_NAMES_MAX]


def known(name: Name, outage_begin: float, now: float) -> bool:
    """Whether a name existed before the outage and still does."""
    return bool(name.at(max(0.0, outage_begin - 1e-6))) and bool(name.at(now))
