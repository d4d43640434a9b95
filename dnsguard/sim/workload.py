"""The programs of a scenario and the stream of their look-ups, drawn from a seed.

It is the same for every system that is put through the scenario with that seed, whatever becomes of
the look-ups. The programs are pods of namespace ns0 and write names as pods do: their own
namespace's Services by the first label, others' by two, foreign names in full.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from dnsguard.sim.clients import STUBS
from dnsguard.sim.cluster import Name
from dnsguard.sim.lookup import TYPES, Resolv, Stub
from dnsguard.sim.replay import WARM_SECONDS, Arrival, Client, Plan, Retry, Site
from dnsguard.sim.scenario import CLUSTER_DOMAIN, MODELS, Phase, Scenario
from dnsguard.sim.targets import Target
from dnsguard.sim.told import Questions

SEARCH = (f"ns0.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN)
DRAWN_AT_ONCE = 2048


def spelled(name: Name, search: bool) -> str:
    """Return how a program writes a name; without a search list in full, with a final dot."""
    if not search:
        return f"{name.text}."
    if not name.belongs("cluster"):
        return name.text
    labels = name.text.split(".")
    return labels[0] if not name.namespace else ".".join(labels[:2])


class Programs:
    """The clients of one site."""

    def __init__(
        self, scenario: Scenario, targets: Sequence[Target], questions: Questions, site: Site,
        seed: str,
    ) -> None:  # fmt: skip
        clients = scenario.clients
        resolv = Resolv(SEARCH if clients.search else ())
        self._scenario = scenario
        popularity = scenario.names.popularity
        self._weights = list(accumulate(1 / (n + 1) ** popularity for n in range(len(targets))))
        self._chance = random.Random(f"arrivals {seed}")
        retry = Retry(clients.retries, clients.retry_after)
        models = spread({model: getattr(clients, model) for model in MODELS}, clients.count)
        self.clients = [Client(STUBS[model](resolv), site, retry) for model in models]
        plans = {
            model: [_plan(target, STUBS[model](resolv), questions) for target in targets]
            for model in set(models)
        }  # fmt: skip
        self._plans = [plans[client.stub.model] for client in self.clients]

    def arrivals(self) -> Iterator[Arrival]:
        """Yield look-ups with their instants to the scenario's end: a Poisson stream.

        Before the start every name is looked up once, by one program after the other.
        """
        for number in range(len(self._weights)):
            person = number % len(self.clients)
            at = -WARM_SECONDS * (1 - number / len(self._weights))
            yield at, self.clients[person], self._plans[person][number]
        for phase in self._scenario.phases:
            if phase.load:
                yield from self._stretch(phase)

    def _stretch(self, phase: Phase) -> Iterator[Arrival]:
        chance, clients, plans = self._chance, self.clients, self._plans
        rate = self._scenario.clients.rate * phase.load
        names, people, draw = range(len(self._weights)), range(len(clients)), chance.expovariate
        at, end = phase.begin, phase.end
        while True:
            drawn = chance.choices(names, cum_weights=self._weights, k=DRAWN_AT_ONCE)
            who = chance.choices(people, k=DRAWN_AT_ONCE)
            for name, person in zip(drawn, who, strict=True):
                at += draw(rate)
                if at >= end:
                    return
                yield at, clients[person], plans[person][name]


def spread(shares: Mapping[str, float], count: int) -> list[str]:
    """Return `count` models, at every length as near to their shares as whole clients allow."""
    total = sum(shares.values())
    given = dict.fromkeys(shares, 0)
    found = []
    for turn in range(1, count + 1):
        model = max(shares, key=lambda one: shares[one] / total * turn - given[one])
        given[model] += 1
        found.append(model)
    return found


def _plan(target: Target, stub: Stub, questions: Questions) -> Plan:
    asked = spelled(target.name, bool(stub.resolv.search))
    pairs = tuple(
        (questions.get(name, TYPES[0]), questions.get(name, TYPES[1]))
        for name in stub.candidates(asked)
    )
    return Plan(asked, target, pairs)
