"""Storms from a seed: everything that can go wrong around an engine, in an order drawn by lot.

A storm is a world with a disk beside it. Links lose, delay and turn answers around, upstreams fail
in every manner, settings are reloaded, the machine sleeps, the process is killed and takes back
what the disk holds, a little late or a little old. The watch holds the engine to its promises at
every step; when the storm is over everybody has been answered, nothing is left under way, and what
is asked is fresh. `python -m tests.core.storms --seeds 0-1000` runs many, `--seed N` replays one;
with `--searching` every other name is asked for as a pod's libc does, and its search list walked.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from dnsguard.core.engine import Engine
from dnsguard.core.kept import older, restore
from dnsguard.core.learned import Learned
from dnsguard.core.policy import (
    AskPolicy,
    CachePolicy,
    Kubernetes,
    Limits,
    Policy,
    PrefetchPolicy,
    StalePolicy,
    Transport,
    Upstream,
    Zone,
)
from tests.core.upstreams import KINDS
from tests.core.watch import Asked, Watch
from tests.core.world import World

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
NAMES = [*(f"web{n}.cluster.local" for n in range(8)), "www.shop.example", "gone.cluster.local"]
MANNERS = [*sorted(KINDS), "itself"]
TRANSPORTS: tuple[Transport, ...] = ("udp", "udp", "udp", "tcp", "tls")
SEARCHED = "shop.svc.cluster.local"  # where the search of a pod of the namespace begins
SLEEPS = (2.0, 400.0, 100_000.0)  # how long a machine is suspended: a moment, a lunch, a day
PROGRESS = 200  # storms between two lines of progress


class DurableWorld(World):
    """A world whose engine can be killed, and begins anew from what its disk holds."""

    def __init__(self, policy: Policy, seed: int) -> None:
        super().__init__(policy, seed, jitter=1.0)
        self.disk: dict[bytes, tuple[bytes, float]] = {}
        self.engine.learned = Learned(self.engine.cache)

    def write(self, fails: bool = False) -> None:
        """Do what the store's writer does once a second; `fails`: the disk takes nothing."""
        learned = self.engine.learned
        assert learned is not None
        changes = learned.take(self.now)
        if fails:
            learned.again(changes)
            return
        for key, entry in changes:
            if entry is None:
                self.disk.pop(key, None)
            else:
                self.disk[key] = entry.wire, entry.stored

    def kill(self, at_once: bool, aged: float = 0.0) -> None:
        """Kill the process and start it again; its answers are found `aged` seconds too old.

        `at_once` says whether the disk is read before the first question or after it. Whoever
        waited has lost its answer with the process, as a client of any server has.
        """
        self.watch.forget_waiting()
        self._open.clear()
        self._events.clear()
        before = self.watch
        self.engine = Engine(self.engine.policy, self.chance, self.now, self._is_ours)
        self.engine.learned = Learned(self.engine.cache)
        self.watch = Watch(self.engine)
        self.watch.inherit(before)
        rows, self.disk = self.disk, {}
        if not at_once:
            self.ask(NAMES[0])
        for key, (wire, stored) in rows.items():
            if restore(self.engine, key, wire, stored - aged, self.now):
                self.watch.restored(key, wire, stored - aged, self.now)
        self._collect()

    def sleep(self, seconds: float) -> None:
        """Suspend the machine: the clock goes on, and nothing else does."""
        self.now += seconds
        self.watch.slept(seconds)


def draw_policy(chance: random.Random, kubernetes: Kubernetes) -> Policy:
    """Draw settings: short lives, small limits, one to three upstreams in one or two zones."""
    stale = StalePolicy(
        max_age=chance.choice([0.0, 20.0, 200.0, 3600.0, 259_200.0]),
        answer_ttl=chance.choice([1, 30]),
        client_timeout=chance.choice([None, None, 0.01, 1.8]),
        recheck=chance.choice([0.5, 5.0, 30.0]),
        mode=chance.choice(["verify", "verify", "immediate"]),
    )

    def upstreams() -> tuple[Upstream, ...]:
        transport: Transport = chance.choice(TRANSPORTS)
        hosts = HOSTS[: chance.choice([1, 1, 2, 3])]
        return tuple(Upstream(host, transport=transport) for host in hosts)

    zones = [Zone(".", upstreams(), stale)]
    if chance.random() < 0.3:
        zones.append(Zone("example", upstreams(), stale))
    return Policy(
        zones=tuple(zones),
        cache=chance.choice([CachePolicy(), CachePolicy(), CachePolicy(max_bytes=6000)]),
        ask=AskPolicy(
            deadline=chance.choice([0.5, 4.0]),
            attempts=chance.randrange(1, 4),
            policy=chance.choice(["sequential", "fastest", "hedged"]),
            case_randomization=chance.random() < 0.2,
        ),
        prefetch=chance.choice([PrefetchPolicy(), PrefetchPolicy(0.0), PrefetchPolicy(0.9, 1)]),
        limits=chance.choice([Limits(), Limits(), Limits(inflight=3, waiters_per_question=2)]),
        keep_fresh=chance.choice([(), (), (), (), (), (NAMES[0],)]),
        kubernetes=kubernetes,
    )


class Storm:
    """One world and the lots that are drawn in it."""

    def __init__(self, seed: int, searching: bool) -> None:
        self.chance = random.Random(seed)
        self.searches = random.Random(~seed) if searching else None  # leaves the other lots as is
        self.kubernetes = Kubernetes(namespace="shop", autopath=searching)
        self.world = DurableWorld(draw_policy(self.chance, self.kubernetes), seed)
        for name in NAMES[:-1]:
            self.world.put(name, "A", self.chance.choice([1, 5, 30, 60]), "10.1.0.1")

    def rage(self) -> None:
        """Let it all happen."""
        chance = self.chance
        blows: Sequence[tuple[int, Callable[[], object]]] = (
            (6, self._behave), (2, self._change), (1, self._reload), (2, self._kill),
            (1, self._sleep), (1, lambda: self.world.write(fails=True)), (2, self.world.write),
        )  # fmt: skip
        weights, acts = [w for w, _ in blows], [a for _, a in blows]
        for _ in range(chance.randrange(4, 16)):
            chance.choices(acts, weights)[0]()
            for _ in range(chance.randrange(12)):
                self._ask()
                self.world.advance(chance.choice([0.0, 0.0, 0.001, 0.3, 3.0]))
            self.world.advance(chance.choice([0.0, 1.0, 10.0, 90.0]))

    def _ask(self) -> None:
        chance = self.chance
        for _ in range(chance.choice([1, 1, 1, 5])):
            name = chance.choice(NAMES)
            if self.searches is not None and self.searches.random() < 0.5:
                name = f"{name}.{SEARCHED}"
            self.world.ask(
                name, chance.choice(["A", "A", "A", "AAAA", "TXT", "ANY"]),
                chance.choice([None, 512, 1232]), do=chance.random() < 0.1,
                stream=chance.random() < 0.2, cookie=chance.random() < 0.1,
            )  # fmt: skip

    def _behave(self) -> None:
        chance = self.chance
        kind = chance.choice([*MANNERS, *["ok"] * 12])
        at = chance.choice(["", "", *self.world.upstreams])
        latency, loss = chance.choice([0.001, 0.02, 0.9, 5.0]), chance.choice([0.0, 0.0, 0.3])
        self.world.behave(kind, latency, loss, chance.choice([".", ".", "example"]), at)

    def _change(self) -> None:
        number = self.chance.randrange(1, 250)
        name = self.chance.choice(NAMES[:-1])
        self.world.put(name, "A", self.chance.choice([1, 5, 30]), f"10.1.0.{number}")

    def _reload(self) -> None:
        old = next(iter(self.world.upstreams.values()))
        self.world.reload(draw_policy(self.chance, self.kubernetes))
        for upstream in self.world.upstreams.values():
            if not upstream.names:  # one that is new holds what the others hold
                upstream.names = {name: dict(types) for name, types in old.names.items()}

    def _kill(self) -> None:
        aged = self.chance.choice([0.0, 0.0, 0.0, 1.0, 5000.0])
        self.world.kill(self.chance.random() < 0.8, aged)
        if self.chance.random() < 0.2:
            older(self.world.engine.cache, 3.0)  # of this boot: nothing may come of it

    def _sleep(self) -> None:
        self.world.sleep(self.chance.choice(SLEEPS))

    def calm(self) -> None:
        """The storm is over: everyone is answered, nothing is left, and answers are fresh."""
        world = self.world
        world.behave("ok")
        world.behave("ok", suffix="example")
        world.finish()
        recheck = max(zone.stale.recheck for zone in world.engine.zones.all)
        # RFC 9520: a cold name's failure is remembered for 30 s at the most.
        world.advance(max(recheck, 30.0) + 1.0)
        for name in NAMES[:-1]:
            world.put(name, "A", 30, "10.1.0.251")
        world.advance(301.0)  # longer than any TTL and any negative answer's
        searches = [f"{name}.{SEARCHED}" for name in NAMES[:-1] if self.searches is not None]
        if any(zone.stale.mode == "immediate" for zone in world.engine.zones.all):
            for name in (*NAMES[:-1], *searches * 4):  # the first answer of each step may be stale
                world.resolve(name)
                world.advance(0.5 if name in NAMES else 0.1)
        asked: list[Asked] = []
        for name in NAMES[:-1]:
            asked.append(world.resolve(name))
            world.advance(0.5)
        for one in asked:
            said = one.read()
            assert (said.rcode, said.data, said.ede) == ("NOERROR", ("10.1.0.251",), ()), said
        for search in searches:
            said = world.resolve(search).read()
            found = search.removesuffix(SEARCHED)
            assert (said.rcode, said.data) == ("NOERROR", ("10.1.0.251", found)), said
            world.advance(0.5)
        world.finish()
        asking = world.engine.asking
        left = [f for f in asking.flights.values() if f.waiters]
        assert not left, f"clients left behind: {left}"
        assert len(asking.flights) <= 1 + len(world.engine.zones.all), "questions left under way"


def run(seed: int, searching: bool = False) -> World:
    """Live through one storm; raises at the step that broke a promise."""
    storm = Storm(seed, searching)
    storm.rage()
    storm.calm()
    return storm.world


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the storms of many seeds, or replay one."""
    parser = argparse.ArgumentParser(prog="python -m tests.core.storms", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and show where it breaks")
    parser.add_argument("--seeds", default="0-1000", metavar="A-B", help="run these (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this long")
    parser.add_argument("--searching", action="store_true", help="walk the search lists of pods")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        world = run(given.seed, given.searching)
        print(f"seed {given.seed}: {len(world.sent)} packets, every promise kept")
        return 0
    first, _, last = given.seeds.partition("-")
    begun, broken, done = time.monotonic(), [], 0
    for seed in range(int(first), int(last)):
        try:
            run(seed, given.searching)
        except Exception as error:
            broken.append(seed)
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).splitlines()[0][:200] if str(error) else where.line
            print(f"seed {seed}: {type(error).__name__}: {text}", flush=True)
        done += 1
        spent = time.monotonic() - begun
        if done % PROGRESS == 0:
            print(f"{done} storms, {len(broken)} broke a promise, {spent:.0f} s", flush=True)
        if given.seconds and spent > given.seconds:
            break
    spent = time.monotonic() - begun
    print(f"{done} storms in {spent:.0f} s; {len(broken)} broke a promise: {broken[:20]}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
