"""An outage as data: who asks, who answers, what goes wrong and when; read from a YAML file.

A scenario says nothing of the caches that are put through it. What stands in a file is documented
in docs/scenarios.md, which a test holds against the fields below; `scenario_file` reads it. All
durations and instants are seconds, shares are between 0 and 1.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from dnsguard.config import units
from dnsguard.sim import scenario_values as values
from dnsguard.sim.scenario_values import key

GROUPS = {
    "all": "every question",
    "cluster": "everything below cluster.local, steps of a search too",
    "services": "Services",
    "headless": "headless Services",
    "external": "everything that is not below cluster.local",
}
KINDS = {
    "ok": "says what is true",
    "silent": "takes questions and says nothing",
    "refused": "answers REFUSED",
    "unreachable": "the host says that nobody listens (ICMP port unreachable)",
    "servfail": "answers SERVFAIL",
    "nxdomain": "answers NXDOMAIN",
    "empty": "answers NOERROR without any record",
    "partial": "leaves addresses out, see `keep`",
    "frozen": "says what was true when it froze; phases in a row are one frost",
    "unsynced": "answers SERVFAIL where it would say NXDOMAIN, as CoreDNS before its first list",
    "crashloop": "is up for the share `up` of every `every`, in which the rules below it hold, and "
    "unreachable for the rest",
    "ports": "is silent to the share `share` of the source ports that were in use in the 30 s "
    "before the phase; for others the rules below it hold",
}
DEEDS = {
    "create": "names are there from now on, and not before",
    "delete": "names are deleted",
    "scale-down": "headless Services lose all pods, so that their names are gone; others stay",
    "scale-up": "names that were scaled down or deleted are back, with new addresses",
    "move": "names get new addresses",
    "roll": "the replicas of `upstream` are restarted one after another, each `for` so long",
    "restart": "the cache under test is stopped and started again",
    "kill": "the cache under test is killed and started again",
    "new-node": "the cache under test starts anew with an empty disk",
}
OF_THE_CACHE = ("restart", "kill", "new-node")
OF_AN_UPSTREAM = ("roll",)
MODELS = ("glibc", "musl", "go", "java")
SERVES = ("all", "cluster", "external")
CLUSTER_DOMAIN = "cluster.local"
PORT_MEMORY_SECONDS = 30.0  # nf_conntrack_udp_timeout: how long an idle UDP flow is remembered
PEOPLE_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Names:
    """What there is to be found. Names are drawn by a Zipf law over all groups together."""

    services: int = key(values.count(0, 100_000), "Services with one stable address", 200)
    headless: int = key(values.count(0, 10_000), "headless Services: addresses of pods", 40)
    pods: int = key(values.count(1, 50), "pods of each headless Service", 3)
    external: int = key(values.count(0, 10_000), "names outside of the cluster", 40)
    external_addresses: int = key(values.count(1, 50), "addresses of each of them", 1)
    hosts: tuple[str, ...] = key(
        values.host, "more names outside, which matter; they are asked for most", ()
    )
    absent: int = key(
        values.count(0, 10_000), "names outside that are asked for and do not exist", 0
    )
    namespaces: int = key(values.count(1, 1000), "namespaces that the Services are in", 8)
    ttl: float = key(values.duration(0, 86400), "TTL of the cluster's records", 30.0)
    external_ttl: float = key(values.duration(0, 86400), "TTL of the others", 60.0)
    negative_ttl: float = key(values.duration(0, 86400), "TTL of every denial", 30.0)
    popularity: float = key(values.number(0, 3), "exponent of the Zipf law; 0: all alike", 1.0)
    churn: float = key(values.duration(0), "between two moves of a pod, over all; 0s: none", 0.0)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that caches forward to."""

    name: str
    serves: str = key(values.one_of(*SERVES), "the names it answers", "all")
    replicas: int = key(values.count(1, 20), "how many servers it is", 1)
    service: bool = key(
        units.read_switch, "all behind one address, a flow to each (on), or an address each", True
    )
    median: float = key(values.duration(0, 60), "median round trip", 0.001)
    p99: float = key(values.duration(0, 60), "its 99th percentile", 0.005)
    capacity: float = key(
        values.number(0, 1e7),
        "queries a second of one replica, for all instances of the cache; 0: no end",
        0.0,
    )
    queue: int = key(
        values.count(0, 1_000_000), "queries that wait there before more are lost", 1000
    )


@dataclass(frozen=True, slots=True)
class Does:
    """What an upstream does during a phase; the first that fits a question holds."""

    upstream: str = key(values.word, "its name above")
    does: str = key(values.one_of(*KINDS), "see below", "ok")
    names: str = key(
        values.group_or_host(*GROUPS),
        "only to questions for these names: a group, or a domain name and what is below it",
        "all",
    )
    share: tuple[float, float] = key(
        values.shares,
        "only to this share of the names; `0%..100%` grows over the phase",
        (1.0, 1.0),
    )
    replicas: int = key(values.count(0, 20), "only the first so many replicas; 0: all", 0)
    loss: float = key(values.share, "share of the packets that get lost", 0.0)
    median: float | None = key(
        values.duration(0, 60), "median round trip, instead of its own", None
    )
    p99: float | None = key(values.duration(0, 60), "and its 99th percentile", None)
    keep: float = key(
        values.share, "of `partial`: the share of the addresses that is left, one at least", 0.5
    )
    every: float = key(values.duration(0.1), "of `crashloop`: from one start to the next", 60.0)
    up: float = key(values.share, "of `crashloop`: the share of that time in which it answers", 0.3)
    together: bool = key(
        units.read_switch, "of `crashloop`: all replicas at once (on), or evenly apart", True
    )
    capacity: float | None = key(values.number(0, 1e7), "instead of its own", None)
    queue: int | None = key(values.count(0, 1_000_000), "instead of its own", None)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at an instant: to names, an upstream, or the cache under test."""

    at: float = key(values.duration(0), "after the phase's begin")
    do: str = key(values.one_of(*DEEDS), "see below")
    names: str = key(values.group_or_host(*GROUPS), "to these names", "services")
    share: float = key(values.share, "to this share of them", 1.0)
    upstream: str = key(values.word, "of `roll`: whose replicas", "")
    seconds: float = key(
        values.duration(0.1), "of `roll`: how long each replica is unreachable", 5.0
    )


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time; `begin` and `end` are seconds since the scenario's start."""

    name: str = key(values.text, "what it is called, in a word or two")
    seconds: float = key(values.duration(0.1), "how long it takes")
    what: str = key(values.text, "what goes on, in a sentence")
    does: tuple[Does, ...] = key(None, "what upstreams do; where nothing fits they are ok", ())
    outage: bool = key(units.read_switch, "DNS is not as it should be", False)
    load: float = key(values.number(0, 1000), "look-ups, as a multiple of `clients.rate`", 1.0)
    still: bool = key(units.read_switch, "no pod moves: nobody schedules any", False)
    begin: float = 0.0

    @property
    def end(self) -> float:
        """The instant at which it is over."""
        return self.begin + self.seconds


@dataclass(frozen=True, slots=True)
class Clients:
    """Who asks. The shares of the resolver libraries need not add up: they are weights."""

    count: int = key(values.count(1, PEOPLE_MAX), "how many, all of one node or pod", 100)
    rate: float = key(values.number(0.001, 1e6), "look-ups a second of all together", 100.0)
    instances: int = key(
        values.count(1, PEOPLE_MAX),
        "of the cache in the cluster, each with such clients; they share the upstreams' capacity",
        1,
    )
    glibc: float = key(values.share, "how many have glibc", 0.5)
    musl: float = key(values.share, "how many have musl", 0.2)
    go: float = key(values.share, "how many are Go's own resolver", 0.2)
    java: float = key(values.share, "how many are a JVM, which keeps 30 s itself", 0.1)
    search: bool = key(units.read_switch, "ndots:5 and the search list of a pod", True)
    retries: int = key(values.count(0, 20), "how often a failed look-up is begun again", 0)
    retry_after: float = key(values.duration(0, 600), "and after how long", 1.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole outage. `name` is the file's name without its ending."""

    name: str
    title: str = key(values.text, "what it is called")
    date: str = key(values.day, "when it was; `none` for one that happens every day")
    summary: str = key(values.text, "one line for a list")
    known: str = key(values.text, "what the sources say")
    assumed: str = key(values.text, "what they do not say and is put here")
    sources: tuple[str, ...] = key(None, "where that is said")
    upstreams: tuple[Upstream, ...] = key(None, "who answers, by name")
    phases: tuple[Phase, ...] = key(None, "what happens, in order")
    names: Names = field(
        default=Names(), metadata={"read": None, "means": "what there is to be found"}
    )
    clients: Clients = field(default=Clients(), metadata={"read": None, "means": "who asks"})
    events: tuple[tuple[float, Event], ...] = ()  # seconds since the start, in order

    @property
    def length(self) -> float:
        """Seconds from the start to the end."""
        return self.phases[-1].end

    @property
    def outage(self) -> tuple[float, float]:
        """From the begin of the first phase of outage to the end of the last."""
        bad = [phase for phase in self.phases if phase.outage]
        return bad[0].begin, bad[-1].end

    @property
    def still(self) -> tuple[tuple[float, float], ...]:
        """The stretches in which no pod moves."""
        return tuple((phase.begin, phase.end) for phase in self.phases if phase.still)

    def phase(self, at: float) -> Phase:
        """The phase at an instant."""
        return next((p for p in self.phases if at < p.end), self.phases[-1])

    def frozen_at(self, phase: Phase) -> float:
        """The instant whose truth is said in a phase by what is `frozen`."""
        index = self.phases.index(phase)
        while index and any(does.does == "frozen" for does in self.phases[index - 1].does):
            index -= 1
        return self.phases[index].begin


def keys_of(cls: type[Any]) -> dict[str, Field[Any]]:
    """The keys that a file may set of one of the classes above; metadata says what they mean."""
    renamed = {"seconds": "for"}
    return {renamed.get(f.name, f.name): f for f in fields(cls) if f.metadata}


def read(path: Path) -> Scenario:
    """Return the scenario in a file. Raises `ConfigError` with every mistake that is in it."""
    from dnsguard.sim import scenario_file  # which knows the classes above

    return scenario_file.read(path)
