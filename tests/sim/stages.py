"""A stage for one system, played by hand: what it sends stands in a list, time goes when told."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from dnsguard.sim.caches import Zones
from dnsguard.sim.scenario import Clients, Does, Event, Names, Phase, Scenario, Upstream
from dnsguard.sim.told import Answer, Flow, Question, Questions, System

QUESTIONS = Questions()
WEB = QUESTIONS.get("web.ns1.svc.cluster.local", 1)
ZONES = Zones([(".", (0,))], "cluster.local")


class Scripted:
    """Nothing comes back unless a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, int, Question, object, Flow | None]] = []
        self.replies: dict[int, tuple[float, Answer]] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []

    def send(
        self, system: System, upstream: int, question: Question, token: object,
        flow: Flow | None = None,
    ) -> None:  # fmt: skip
        self.sent.append((self.now, upstream, question, token, flow))

    def after(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        heappush(self._heap, (self.now + seconds, len(self._heap), what, arguments))

    def reply(self, token: int, answer: Answer) -> None:
        assert token not in self.replies, f"a second reply to {token}"
        self.replies[token] = self.now, answer

    def advance(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, what, arguments = heappop(self._heap)
            what(*arguments)
        self.now = until


def scenario(
    *phases: tuple[str, float, tuple[Does, ...]], rate: float = 10.0,
    names: Names | None = None, upstreams: tuple[Upstream, ...] = (),
    events: tuple[tuple[float, Event], ...] = (), retries: int = 0, musl: float = 0.2,
) -> Scenario:  # fmt: skip
    """A scenario of phases (name, seconds, what upstreams do); those with rules are outage."""
    found, begin = [], 0.0
    for name, seconds, does in phases:
        found.append(Phase(name, seconds, name, does, outage=bool(does), begin=begin))
        begin += seconds
    return Scenario(
        "test", "A test", "none", "a test", "nothing", "all of it", (),
        upstreams or (Upstream("kube-dns"),), tuple(found),
        names or Names(services=20, headless=5, external=5, namespaces=3),
        Clients(count=20, rate=rate, musl=musl, retries=retries), events,
    )  # fmt: skip
