"""What is true in a scenario at any instant: which names exist, and with which addresses.

Everything is drawn from a seed before the first look-up, so that the caches that are compared live
through the same cluster. A headless Service has addresses of pods, which move; whatever else there
is has one address of its own. Addresses are given out once and never again, so that an old one is
known to be dead.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

from dnsguard.sim.scenario import CLUSTER_DOMAIN, OF_AN_UPSTREAM, OF_THE_CACHE, Event, Scenario

POD_NET, SERVICE_NET, OUTSIDE_NET = 10 << 24 | 244 << 16, 10 << 24 | 96 << 16, 198 << 24 | 18 << 16
Addresses = tuple[bytes, ...]


@dataclass(slots=True)
class Name:
    """One name, absolute and without a dot at its end. `history` is when it got which addresses."""

    text: str
    group: str  # services, headless, external or absent
    namespace: int
    ttl: int  # seconds
    lot: float  # from 0 to 1: who is hit when a share of the names is
    starts: list[float] = field(default_factory=list)
    addresses: list[Addresses] = field(default_factory=list)  # empty: it does not exist

    def at(self, now: float) -> Addresses:
        """Its addresses at an instant (seconds since the start); none if it does not exist."""
        return self.addresses[bisect_right(self.starts, now) - 1]

    def since(self, now: float) -> float:
        """Since when that is so."""
        return self.starts[bisect_right(self.starts, now) - 1]

    def ever(self, now: float) -> bool:
        """True if it existed at some time up to now."""
        return any(self.addresses[: bisect_right(self.starts, now)])

    def become(self, at: float, addresses: Addresses) -> None:
        """Have these addresses from now on."""
        if self.starts and at <= self.starts[-1]:
            self.addresses[-1] = addresses
        else:
            self.starts.append(at)
            self.addresses.append(addresses)

    def belongs(self, group: str) -> bool:
        """True if a scenario means this name by `group`."""
        if group == "cluster":
            return self.group in ("services", "headless")
        if "." in group:
            return self.text == group or self.text.endswith("." + group)
        return group in ("all", self.group) or (group == "external" and self.group == "absent")


class Cluster:
    """The names of a scenario and their history, drawn from `seed`."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._chance = random.Random(f"cluster {seed}")
        self._given = dict.fromkeys((POD_NET, SERVICE_NET, OUTSIDE_NET), 0)
        want = scenario.names
        self._counts = {"headless": want.pods, "external": want.external_addresses}
        self.names: list[Name] = []
        made = (
            ("services", want.services, want.ttl),
            ("headless", want.headless, want.ttl),
            ("external", want.external, want.external_ttl),
            ("absent", want.absent, want.external_ttl),
        )
        for group, count, ttl in made:
            for number in range(count):
                self.names.append(self._make(group, number, want.namespaces, int(ttl)))
        self._chance.shuffle(self.names)
        hosts = [
            Name(host, "external", 0, int(want.external_ttl), self._chance.random())
            for host in want.hosts
        ]
        self.names = hosts + self.names
        self._weights = list(
            accumulate(1 / (rank + 1) ** want.popularity for rank in range(len(self.names)))
        )
        self.by_text = {name.text: name for name in self.names}
        self._live(scenario)

    def _make(self, group: str, number: int, namespaces: int, ttl: int) -> Name:
        namespace = self._chance.randrange(namespaces)
        text = {
            "services": f"svc{number}.ns{namespace}.svc.{CLUSTER_DOMAIN}",
            "headless": f"set{number}.ns{namespace}.svc.{CLUSTER_DOMAIN}",
            "external": f"api{number}.example.com",
            "absent": f"gone{number}.example.net",
        }[group]
        return Name(text, group, namespace, ttl, self._chance.random())

    def _addresses(self, name: Name) -> Addresses:
        """New addresses, which nobody had before."""
        net = {"services": SERVICE_NET, "headless": POD_NET}.get(name.group, OUTSIDE_NET)
        count = self._counts.get(name.group, 1)
        self._given[net] += count
        last = net + self._given[net]
        return tuple(number.to_bytes(4, "big") for number in range(last - count + 1, last + 1))

    def _live(self, scenario: Scenario) -> None:
        """Let everything happen that happens to the cluster, from the start to the end."""
        unborn = {
            name.text
            for _, event in scenario.events
            if event.do == "create"
            for name in self._meant(event.names, event.share)
        }
        for name in self.names:
            exists = name.group != "absent" and name.text not in unborn
            name.become(0.0, self._addresses(name) if exists else ())
        deeds: list[tuple[float, int, Event | None]] = [
            (at, n, event) for n, (at, event) in enumerate(scenario.events)
        ]
        moving = [name for name in self.names if name.group == "headless"]
        churn, at = scenario.names.churn, 0.0
        while churn and moving:
            at += self._chance.expovariate(1 / churn)
            if at >= scenario.length:
                break
            if not any(begin <= at < end for begin, end in scenario.still):
                deeds.append((at, -1, None))
        for at, _, event in sorted(deeds, key=lambda deed: deed[:2]):
            if event is None:
                self._move(self._chance.choice(moving), at)
            elif event.do not in (*OF_THE_CACHE, *OF_AN_UPSTREAM):
                for name in self._meant(event.names, event.share):
                    self._do(event.do, name, at)

    def _meant(self, group: str, share: float) -> list[Name]:
        return [name for name in self.names if name.belongs(group) and name.lot < share]

    def _do(self, deed: str, name: Name, at: float) -> None:
        if deed in ("delete", "scale-down"):
            # A Service keeps its address when its Deployment has no pod; a headless one has none.
            if deed == "delete" or name.group == "headless":
                name.become(at, ())
        elif deed in ("create", "scale-up"):
            if not name.addresses[-1]:
                name.become(at, self._addresses(name))
        elif name.addresses[-1]:  # move
            name.become(at, self._addresses(name))

    def _move(self, name: Name, at: float) -> None:
        """One pod of a headless Service goes and another comes."""
        have = name.addresses[-1]
        if have:
            index = self._chance.randrange(len(have))
            self._given[POD_NET] += 1
            fresh = (POD_NET + self._given[POD_NET]).to_bytes(4, "big")
            name.become(at, (*have[:index], fresh, *have[index + 1 :]))

    def draw(self, chance: random.Random) -> Name:
        """A name, as clients ask for it: by its popularity."""
        return chance.choices(self.names, cum_weights=self._weights)[0]
