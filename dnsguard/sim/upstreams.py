"""Servers that a zone's questions go to, as an outage has them: what comes back, and when.

An address leads to one replica or, as a Service of Kubernetes, to any of several: a flow (a source
port) to each. What a replica does is what the scenario's phase has it do, the first rule that fits
a question first. Where it has a capacity there is a queue before it, and then no room. Time and
chance are given; what is true comes from `cluster`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from dnsguard.sim.cluster import Name
from dnsguard.sim.lookup import NOERROR, NXDOMAIN, SERVFAIL, A
from dnsguard.sim.scenario import (
    CLUSTER_DOMAIN,
    PORT_MEMORY_SECONDS,
    Does,
    Phase,
    Scenario,
    Upstream,
)
from dnsguard.sim.told import CLOSED, Flow, Question, Said

REFUSED = 5
P99_SIGMAS = 2.3263  # of a normal distribution
CLOSED_SECONDS = 0.0005  # until an ICMP error is back
CLUSTER_SUFFIX = "." + CLUSTER_DOMAIN
SMOOTH_SECONDS = 1.0
THROUGH = ("crashloop", "ports")  # where these do not strike, the rules below them hold
_CLOSED = CLOSED_SECONDS, Said(CLOSED)
PLACES_MAX = 1 << 16  # names and ports of which the number is remembered

Came = tuple[float, Said]  # after how many seconds, and what


class Chance(Protocol):
    """Randomness, handed in."""

    def random(self) -> float: ...
    def lognormvariate(self, mu: float, sigma: float) -> float: ...


@lru_cache(maxsize=PLACES_MAX)
def place(text: str) -> float:
    """Return a number in [0, 1) that is always the same for a text (FNV-1a, and mixed)."""
    number = 0x811C9DC5
    for octet in text.encode():
        number = (number ^ octet) * 0x01000193 & 0xFFFFFFFF
    number = (number ^ number >> 16) * 0x7FEB352D & 0xFFFFFFFF
    number = (number ^ number >> 15) * 0x846CA68B & 0xFFFFFFFF
    return (number ^ number >> 16) / 2**32


class Manner:
    """A rule of a phase, or what holds where none fits, made ready to be used a million times."""

    __slots__ = (
        "capacity", "does", "everything", "frozen_at", "kind", "mu", "phase", "queue", "sigma",
    )  # fmt: skip

    def __init__(
        self, upstream: Upstream, phase: Phase, does: Does | None, frozen_at: float
    ) -> None:
        self.does = does
        self.phase = phase
        self.frozen_at = frozen_at
        self.kind = does.does if does else "ok"
        self.everything = does is None or does.share == (1.0, 1.0) or self.kind == "ports"
        median, p99 = upstream.median, upstream.p99
        self.capacity, self.queue = upstream.capacity, upstream.queue
        if does is not None:
            median = upstream.median if does.median is None else does.median
            # A median of its own without a 99th percentile keeps the spread that was.
            p99 = upstream.p99 * median / (upstream.median or 1.0) if does.p99 is None else does.p99
            self.capacity = self.capacity if does.capacity is None else does.capacity
            self.queue = self.queue if does.queue is None else does.queue
        self.mu = math.log(max(median, 1e-6))
        self.sigma = max(0.0, math.log(max(p99, 1e-6)) - self.mu) / P99_SIGMAS

    def fits(self, question: Question, name: Name | None, now: float) -> bool:
        """True if the rule is for this question, at this instant of its phase."""
        return self.means(question, name) and self.strikes(question, name, now)

    def means(self, question: Question, name: Name | None) -> bool:
        """True if the rule is for questions like this one, at any instant."""
        return self.does is None or _belongs(self.does.names, question, name)

    def strikes(self, question: Question, name: Name | None, now: float) -> bool:
        """True if a rule that is for questions like this one is for this one now."""
        if self.everything:
            return True
        assert self.does is not None
        first, last = self.does.share
        lot = place(question.name) if name is None else name.lot
        passed = (now - self.phase.begin) / self.phase.seconds
        return lot < first + (last - first) * passed

    @property
    def moves(self) -> bool:
        """True if it comes to fit other questions as time goes by."""
        return self.does is not None and self.does.share[0] != self.does.share[1]

    def is_down(self, number: int, replicas: int, now: float) -> bool:
        """Of a crash loop: whether a replica (from 0) is not up. Each turn begins with being up."""
        assert self.does is not None
        every = self.does.every
        shift = 0.0 if self.does.together else every * number / replicas
        return (now - self.phase.begin + shift) % every >= every * self.does.up


class Replica:
    """One server. `number` counts from 0."""

    def __init__(
        self, scenario: Scenario, upstream: Upstream, number: int, names: Mapping[str, Name],
        chance: Chance,
    ) -> None:  # fmt: skip
        self._scenario = scenario
        self._upstream = upstream
        self._number = number
        self._names = names
        self._chance = chance
        self._negative_ttl = int(scenario.names.negative_ttl)
        self._manners: list[Manner] = []
        self._over: list[Manner] = []
        self._found: dict[Question, Manner] = {}
        self._about: dict[Question, list[Manner]] = {}  # the rules for questions like it
        self._moves = False
        self._busy_until = self._seen = -math.inf
        self._rate = self._line = 0.0
        self.down_until = -math.inf
        self.enter(scenario.phases[0])

    def enter(self, phase: Phase) -> None:
        """Behave as this phase has it."""
        frozen_at = self._scenario.frozen_at(phase)
        mine = [
            Manner(self._upstream, phase, does, frozen_at)
            for does in phase.does
            if does.upstream == self._upstream.name
            and (self._number < does.replicas or not does.replicas)
        ]
        self._over = [manner for manner in mine if manner.kind in THROUGH]
        self._manners = [manner for manner in mine if manner.kind not in THROUGH]
        self._manners.append(Manner(self._upstream, phase, None, frozen_at))
        self._moves = any(manner.moves for manner in self._manners)
        self._found.clear()
        self._about.clear()

    def take(self, question: Question, now: float, weight: float, flow: Flow | None) -> Came | None:
        """Return what comes back, None for nothing; `weight` questions like this one came.

        One of no weight stands in no line, and nobody behind it.
        """
        if now < self.down_until:
            return _CLOSED
        name = self._names.get(question.name)
        for manner in self._over:
            if manner.kind == "crashloop":
                if manner.is_down(self._number, self._upstream.replicas, now):
                    return _CLOSED
            elif manner.fits(question, name, now) and self._is_dead(flow, manner, now):
                return None
        found = self._found.get(question)
        if found is None:
            mine = self._about.get(question)
            if mine is None:
                mine = [manner for manner in self._manners if manner.means(question, name)]
                self._about[question] = mine
            found = next(manner for manner in mine if manner.strikes(question, name, now))
            if not self._moves:
                self._found[question] = found
        kind, does = found.kind, found.does
        if kind == "silent":
            return None
        if kind == "unreachable":
            return _CLOSED
        chance = self._chance
        if does is not None and does.loss and chance.random() < does.loss:
            return None
        delay = chance.lognormvariate(found.mu, found.sigma)
        if found.capacity and weight:
            waits = self._wait(found, now, weight)
            if waits is None:
                return None
            delay += waits
        return delay, self._say(found, name, question, now)

    def _say(self, manner: Manner, name: Name | None, question: Question, now: float) -> Said:
        kind, ttl = manner.kind, self._negative_ttl
        if kind in SAYS:
            return SAYS[kind](name, ttl)
        at = manner.frozen_at if kind == "frozen" else max(now, 0.0)
        addresses = name.at(at) if name is not None else ()
        if not addresses or name is None:
            return Said(SERVFAIL) if kind == "unsynced" else Said(NXDOMAIN, (), ttl)
        if question.rtype != A:
            return Said(NOERROR, (), ttl)
        if kind == "partial":
            assert manner.does is not None
            addresses = addresses[: max(1, round(len(addresses) * manner.does.keep))]
        return Said(NOERROR, addresses, name.ttl)

    def _is_dead(self, flow: Flow | None, manner: Manner, now: float) -> bool:
        """True for a flow that conntrack leads to where nobody is, as long as it is not idle."""
        if flow is None:
            return False  # from a port that nobody used before
        if now - flow.used > PORT_MEMORY_SECONDS:
            flow.opened = now
        assert manner.does is not None
        old = flow.opened < manner.phase.begin
        return old and place(f"{self._upstream.name} {flow.number}") < manner.does.share[0]

    def _wait(self, manner: Manner, now: float, weight: float) -> float | None:
        """Stand in line and return for how long; None if there is no room."""
        if weight > 1:
            return self._wait_with_others(manner, now, weight)
        begins = max(self._busy_until, now)
        if (begins - now) * manner.capacity >= manner.queue:
            return None
        self._busy_until = begins + 1 / manner.capacity
        return self._busy_until - now

    def _wait_with_others(self, manner: Manner, now: float, weight: float) -> float | None:
        """The same where each question stands for several, which come at about the same time.

        A mean-field queue: what comes is this one's rate over the last second, times `weight`, as a
        flow; what does not fit into capacity piles up, and what does not fit into the line is lost.
        """
        passed, self._seen = now - self._seen, now
        faded = math.exp(-passed / SMOOTH_SECONDS)
        came = self._rate * SMOOTH_SECONDS * (1 - faded) * weight
        self._rate = self._rate * faded + 1 / SMOOTH_SECONDS
        capacity, line = manner.capacity, float(manner.queue)
        self._line = min(line, max(0.0, self._line + came - capacity * passed))
        if self._line >= line and self._chance.random() * self._rate * weight > capacity:
            return None
        return (self._line + 1) / capacity


class Address:
    """What a cache is given as an upstream; `label` as it is written in settings."""

    def __init__(
        self, label: str, scenario: Scenario, upstream: Upstream, numbers: Sequence[int],
        names: Mapping[str, Name], chance: Chance,
    ) -> None:  # fmt: skip
        self.label = label
        self.upstream = upstream
        self._chance = chance
        self.replicas = [Replica(scenario, upstream, n, names, chance) for n in numbers]

    def take(self, question: Question, now: float, weight: float, flow: Flow | None) -> Came | None:
        """Return what comes back to a question, see `Replica.take`. No flow: a new one."""
        replicas = self.replicas
        if len(replicas) == 1:
            replica = replicas[0]
        elif flow is None:
            replica = replicas[int(self._chance.random() * len(replicas))]
        else:
            replica = replicas[int(place(f"flow {flow.number}") * len(replicas))]
        came = replica.take(question, now, weight, flow)
        if flow is not None:
            flow.used = now
        return came


def _belongs(group: str, question: Question, name: Name | None) -> bool:
    """True if a rule for `group` is for this question; steps of a search are in groups too."""
    if name is not None:
        return name.belongs(group)
    inside = question.name.endswith(CLUSTER_SUFFIX)
    if "." in group:
        return question.name == group or question.name.endswith("." + group)
    return group == "all" or group == ("cluster" if inside else "external")


SAYS: dict[str, Callable[[Name | None, int], Said]] = {
    "nxdomain": lambda name, ttl: Said(NXDOMAIN, (), ttl),
    # No record of what exists; what does not is still denied.
    "empty": lambda name, ttl: Said(NOERROR if name is not None else NXDOMAIN, (), ttl),
    "servfail": lambda name, ttl: Said(SERVFAIL),
    "refused": lambda name, ttl: Said(REFUSED),
}
