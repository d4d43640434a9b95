"""Whatever happens, in whatever order: worlds made up by hypothesis and by seeds.

Clients, upstreams that fail in every way we know, lost packets, time, and the end of the process
come in any order. The `Watch` of each world holds the engine to its promises at every step; at the
end everybody must have been answered, and a world that is healthy again must serve fresh answers.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dnsguard.core.policy import (
    AskPolicy,
    CachePolicy,
    Limits,
    Policy,
    PrefetchPolicy,
    StalePolicy,
    Upstream,
    Zone,
)
from tests.core.upstreams import KINDS
from tests.core.watch import Asked
from tests.core.world import World

NAMES = [*(f"web{n}.cluster.local" for n in range(4)), "www.shop.example", "gone.cluster.local"]
TYPES = ["A", "AAAA", "TXT", "CNAME", "ANY"]
MANNERS = [*sorted(KINDS), "itself"]
HOSTS = ("10.0.0.1", "10.0.0.2")
MAX_AGES = (0.0, 20.0, 3600.0)


def policies() -> st.SearchStrategy[Policy]:
    """Policies with short lives, small limits and one or two upstreams."""
    stale = st.builds(
        StalePolicy,
        max_age=st.sampled_from(MAX_AGES),
        answer_ttl=st.sampled_from([1, 30]),
        client_timeout=st.sampled_from([None, 0.01, 1.8]),
        recheck=st.sampled_from([0.1, 5.0, 30.0]),
        mode=st.sampled_from(["verify", "immediate"]),
    )
    upstreams = st.integers(1, 2).map(lambda n: tuple(Upstream(host) for host in HOSTS[:n]))
    return st.builds(
        lambda stale, root, more, **parts: Policy(
            zones=(Zone(".", root, stale), Zone("example", more, stale)), **parts
        ),
        stale,
        upstreams,
        upstreams,
        cache=st.sampled_from([CachePolicy(), CachePolicy(max_bytes=6000)]),
        ask=st.builds(
            AskPolicy,
            deadline=st.sampled_from([0.5, 4.0]),
            attempts=st.integers(1, 3),
            policy=st.sampled_from(["sequential", "fastest", "hedged"]),
            case_randomization=st.booleans(),
        ),
        prefetch=st.sampled_from([PrefetchPolicy(), PrefetchPolicy(0.0), PrefetchPolicy(0.9, 1)]),
        limits=st.sampled_from([Limits(), Limits(inflight=3, waiters_per_question=2)]),
        keep_fresh=st.sampled_from([(), ("web0.cluster.local",)]),
    )


class Weather(RuleBasedStateMachine):
    """Rules are what the world does to the engine; the invariants are the watch's."""

    world: World

    @initialize(policy=policies(), seed=st.integers(0, 2**32), jitter=st.sampled_from([0.0, 1.0]))
    def begin(self, policy: Policy, seed: int, jitter: float) -> None:
        self.world = World(policy, seed, jitter)
        self.serial = 0
        self.stopped = False
        for name in NAMES[:-1]:
            self.world.put(name, "A", 5, "10.1.0.1")

    @precondition(lambda self: not self.stopped)
    @rule(
        name=st.sampled_from(NAMES), rtype=st.sampled_from(TYPES), stream=st.booleans(),
        edns=st.sampled_from([None, 512, 1232]), do=st.booleans(), cookie=st.booleans(),
        times=st.integers(1, 4),
    )  # fmt: skip
    def ask(
        self, name: str, rtype: str, stream: bool, edns: int | None, do: bool, cookie: bool,
        times: int,
    ) -> None:  # fmt: skip
        for _ in range(times):
            self.world.ask(name, rtype, edns, do, stream=stream, cookie=cookie)

    @rule(seconds=st.sampled_from([0.0005, 0.001, 0.03, 0.3, 1.0, 4.2, 6.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(
        kind=st.sampled_from(MANNERS), latency=st.sampled_from([0.0, 0.001, 0.2, 1.0, 5.0]),
        loss=st.sampled_from([0.0, 0.0, 0.5]), at=st.sampled_from(["", *HOSTS]),
        suffix=st.sampled_from([".", ".", "example"]),
    )  # fmt: skip
    def behave(self, kind: str, latency: float, loss: float, at: str, suffix: str) -> None:
        label = f"{at}:53" if f"{at}:53" in self.world.upstreams else ""
        self.world.behave(kind, latency, loss, suffix, label)

    @rule(name=st.sampled_from(NAMES[:-1]), ttl=st.sampled_from([1, 5, 40]))
    def change(self, name: str, ttl: int) -> None:
        self.serial += 1
        self.world.put(name, "A", ttl, f"10.1.0.{self.serial % 250 + 1}")

    @rule(policy=policies())
    def reload(self, policy: Policy) -> None:
        self.world.reload(policy)

    @precondition(lambda self: not self.stopped)
    @rule()
    def stop(self) -> None:
        self.world.stop()
        self.stopped = True

    @invariant()
    def books(self) -> None:
        if hasattr(self, "world"):
            self.world.watch.books()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


TestWeather = Weather.TestCase
TestWeather.settings = settings(stateful_step_count=40)


def storm(seed: int, policy: Policy) -> World:
    """Several hours of clients and of trouble, drawn from a seed."""
    chance = random.Random(seed)
    world = World(policy, seed, jitter=1.0)
    names = [f"web{n}.cluster.local" for n in range(30)]
    for name in names:
        world.put(name, "A", chance.choice([5, 30, 300]), "10.1.0.1")
    for _ in range(25):
        kind = chance.choice([*MANNERS, "ok", "ok"])
        world.behave(kind, chance.choice([0.001, 0.02, 0.9]), chance.choice([0.0, 0.0, 0.2]))
        for _ in range(chance.randrange(60)):
            world.ask(chance.choice(names), chance.choice(["A", "A", "AAAA"]))
            world.advance(chance.choice([0.0, 0.01, 0.3, 3.0]))
        world.advance(chance.choice([0.0, 10.0, 700.0]))
    return world


@pytest.mark.parametrize("seed", range(12))
def test_after_every_storm_answers_are_fresh_again(seed: int) -> None:
    plain = Zone(".", tuple(Upstream(host) for host in HOSTS[: 1 + seed % 2]))
    stale = StalePolicy(max_age=MAX_AGES[seed % 3])
    policy = Policy(zones=(replace(plain, stale=stale),))
    world = storm(seed, policy)
    world.behave("ok")
    world.advance(1.0)  # what was asked in the storm comes to its end
    world.advance(stale.recheck + 0.1)
    asked: list[Asked] = []
    for number in range(30):
        name = f"web{number}.cluster.local"
        world.put(name, "A", 30, "10.1.0.9")
        asked.append(world.resolve(name))
    world.advance(0.5)
    world.finish()
    assert {a.read().rcode for a in asked} == {"NOERROR"}
    assert not any(a.read().ede for a in asked)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10)
def test_a_seed_replays_to_the_same_end(seed: int) -> None:
    def trace() -> list[object]:
        world = storm(seed, Policy(zones=(Zone(".", (Upstream(HOSTS[0]),)),)))
        return [(label, ask.wire, ask.sent) for label, ask in world.sent]

    assert trace() == trace()
