"""Every scenario of the library through dnsguard in virtual time, held to its promises throughout.

A scenario is thinned out first: a few names and programs, some thousand look-ups, spread over the
phases so that each has its share; what goes wrong, when and for how long stays as it is. Every
question and every answer passes a `Watch`. `python -m tests.sim.replays --scenario NAME --seed S`
replays one; without arguments it runs the library with a few seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from dnsguard.core.policy import Policy, StalePolicy, Upstream, Zone
from dnsguard.sim import library, simulate
from dnsguard.sim.cluster import Cluster
from dnsguard.sim.guarded import Dnsguard
from dnsguard.sim.replay import Replay
from dnsguard.sim.result import SystemRun
from dnsguard.sim.scenario import Phase, Scenario
from dnsguard.sim.told import (
    HIT,
    STALE,
    SYNTHESIZED,
    Answer,
    Flow,
    Question,
    Restart,
    System,
    Walk,
    Walked,
)

LOOKUPS = 2000  # of a thinned scenario, retries not counted
RATE_MAX = 10.0  # look-ups a second
SECOND = 1.0  # what the clock of a TTL and timers may be late
# What the seeds take turns with: the defaults, and lives so short that outages outlast them.
STALES = (StalePolicy(), StalePolicy(max_age=600.0, headless_max_age=300.0))
DEAD = ("silent", "unreachable")


class Broken(AssertionError):
    """A promise that was not kept."""


def thinned(scenario: Scenario) -> Scenario:
    """The same outage with fewer names, programs and look-ups."""
    names = scenario.names
    share = LOOKUPS / len(scenario.phases)
    phases = tuple(
        replace(phase, load=min(RATE_MAX, share / phase.seconds)) for phase in scenario.phases
    )
    return replace(
        scenario,
        names=replace(
            names, services=min(names.services, 16), headless=min(names.headless, 8),
            external=min(names.external, 10), absent=min(names.absent, 2),
        ),
        # One instance: programs that ask so seldom hardly ever hit a cache, and a cluster of them
        # would flood upstreams that are well.
        clients=replace(scenario.clients, count=12, rate=1.0, instances=1),
        phases=phases,
    )  # fmt: skip


class Watch:
    """What passes between programs, an instance and its upstreams; raises at a broken promise."""

    def __init__(self, scenario: Scenario, seed: int, policy: Policy) -> None:
        self.scenario = scenario
        self.policy = policy
        self.well = scenario.outage[1]  # from when on the upstreams are
        self.headless = {
            name.text for name in Cluster(scenario, seed).names if name.group == "headless"
        }
        self.waiting: dict[int, tuple[float, Question]] = {}
        self.asked = 0
        self.answered = 0
        self.lost = 0  # with a process that was killed
        self.sources: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()  # to upstreams, by phase
        self.peak: Counter[int] = Counter()  # to upstreams, by second
        self.last_stale = 0.0
        self.stale: dict[Question, tuple[float, float]] = {}  # since when, and of which age

    def question(self, token: int, question: Question, now: float) -> None:
        if token in self.waiting:
            raise Broken(f"{now}: a token twice: {token}")
        self.waiting[token] = now, question
        self.asked += 1

    def answer(self, token: int, answer: Answer, now: float) -> None:
        found = self.waiting.pop(token, None)
        if found is None:
            raise Broken(f"{now:.3f}: a reply to a question that has one, or to nobody: {answer}")
        began, question = found
        self.answered += 1
        if now - began > self.policy.ask.deadline + SECOND:
            raise Broken(f"{now:.3f}: {question.name} was answered after {now - began:.1f} s")
        _, _, source, stored, ttl = answer
        self.sources[source] += 1
        if source == SYNTHESIZED and answer[1]:
            raise Broken(f"{now:.3f}: {question.name}: addresses out of nowhere")
        if source == STALE:
            self.stale_again(question, stored, now)
        if source in (HIT, STALE):
            stale = self.policy.zones[0].stale
            pods = question.name in self.headless and answer[1]
            life = stale.headless_max_age if pods else stale.max_age
            if source == HIT:
                life = 0.0
            if now - stored > ttl + life + SECOND:
                raise Broken(
                    f"{now:.3f}: {question.name} ({source}) is {now - stored:.1f} s old, "
                    f"with a TTL of {ttl} s and {life:.0f} s beyond"
                )

    def stale_again(self, question: Question, stored: float, now: float) -> None:
        """P3: once the upstream is well, a stale answer is its own end: fresh within recheck.

        One alone may come at any time, when the upstream is slower for once than a client waits.
        """
        self.last_stale = now
        since, before = self.stale.get(question, (now, stored))
        if before != stored or since < self.well:
            since = now
        self.stale[question] = since, stored
        if now - since > self.policy.zones[0].stale.recheck + SECOND:
            raise Broken(
                f"{now:.3f}: {question.name} was stale {now - since:.1f} s ago, and still is"
            )

    def packet(self, now: float) -> None:
        self.sent[self.scenario.phase(now).name] += 1
        self.peak[int(now)] += 1

    def stopped(self) -> None:
        self.lost += len(self.waiting)
        self.waiting.clear()

    def over(self) -> None:
        """Look at the whole once it is over."""
        end = self.scenario.length - self.policy.ask.deadline - SECOND
        left = [f"{q.name} at {at:.3f}" for at, q in self.waiting.values() if at < end]
        if left:
            raise Broken(f"{len(left)} questions were never answered: {left[:5]}")
        if self.asked != self.answered + self.lost + len(self.waiting):
            raise Broken(f"{self.asked} questions, {self.answered} answers")
        self.bounded()

    def bounded(self) -> None:
        """P5: while all upstreams are dead, packets are few, however many programs ask."""
        for phase in self.scenario.phases:
            if is_dead(phase, self.scenario):
                rate = self.sent[phase.name] / phase.seconds
                if rate > DEAD_RATE_MAX:
                    raise Broken(f"{rate:.2f} packets a second to dead upstreams in {phase.name}")
        # Every question may be asked three times, with refreshes and second looks; and a zone in
        # outage has a probe every `stale.recheck`, for days if need be.
        probes = self.scenario.length * len(self.scenario.upstreams) / RECHECK_MIN
        if sum(self.sent.values()) > SENT_MAX * self.asked + probes:
            raise Broken(f"{sum(self.sent.values())} packets upstream for {self.asked} questions")


DEAD_RATE_MAX = 2.0
SENT_MAX = 3.0
RECHECK_MIN = 4.0  # stale.recheck with its jitter


def is_dead(phase: Phase, scenario: Scenario) -> bool:
    """True if no upstream answers anything all the phase long."""
    dead = {
        does.upstream
        for does in phase.does
        if does.does in DEAD and (does.names, does.share, does.replicas) == ("all", (1.0, 1.0), 0)
    }
    return {upstream.name for upstream in scenario.upstreams} == dead


class WatchedStage:
    """The stage of one instance."""

    def __init__(self, stage: Replay, watch: Watch) -> None:
        self._stage = stage
        self._watch = watch

    @property
    def now(self) -> float:
        return self._stage.now

    def send(
        self, system: System, upstream: int, question: Question, token: object,
        flow: Flow | None = None,
    ) -> None:  # fmt: skip
        self._watch.packet(self.now)
        self._stage.send(system, upstream, question, token, flow)

    def after(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        self._stage.after(seconds, what, *arguments)

    def reply(self, token: int, answer: Answer) -> None:
        self._watch.answer(token, answer, self.now)
        self._stage.reply(token, answer)


class Watched(Dnsguard):
    """An instance of which every question and answer is seen: nothing is said once more unseen."""

    watch: Watch

    def __init__(
        self, policy: Policy, stage: Replay, questions: Any, numbers: Mapping[str, int], chance: Any
    ) -> None:
        seen: Any = WatchedStage(stage, self.watch)
        super().__init__(policy, seen, questions, numbers, chance)

    def ask(self, question: Question, token: int, now: float) -> Answer | None:
        self.watch.question(token, question, now)
        found = super().ask(question, token, now)
        if found is not None:
            self.watch.answer(token, found, now)
        return found

    def again(self, plan: Walked, now: float) -> Walk | None:
        return None

    def stop(self, now: float, how: Restart) -> None:
        super().stop(now, how)
        self.watch.stopped()


@dataclass(frozen=True)
class Lived:
    """A replay that kept every promise."""

    run: SystemRun
    watch: Watch


def policy(seed: int) -> Policy:
    """The settings that a seed is replayed with."""
    return Policy(zones=(Zone(".", (Upstream("192.0.2.53"),), STALES[seed % len(STALES)]),))


def replay(name: str, seed: int) -> Lived:
    """Put dnsguard through a scenario; raises `Broken` at the first promise that is not kept."""
    scenario = thinned(library.load(name))
    contender = simulate.dnsguard(policy(seed), "", {})
    watch = Watch(scenario, seed, policy(seed))
    instance = type("Instance", (Watched,), {"watch": watch})
    with mock.patch.object(simulate, "Dnsguard", instance):
        tally = simulate.run(scenario, contender, seed, lambda at: None)
    watch.over()
    return Lived(tally.run(contender.entrant), watch)


def command(name: str, seed: int) -> str:
    """The one command that replays this."""
    return f"python -m tests.sim.replays --scenario {name} --seed {seed}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay one, or the library with many seeds."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.replays", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=sorted(library.paths()))
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--seeds", type=int, default=2, help="so many, from 1 (%(default)s)")
    given = parser.parse_args(arguments)
    seeds = [given.seed] if given.seed is not None else range(1, given.seeds + 1)
    broken = 0
    for name in given.scenario or library.paths():
        for seed in seeds:
            begun = time.process_time()
            try:
                lived = replay(name, seed)
            except Broken as error:
                broken += 1
                print(f"{name}, seed {seed}: {error}\n  {command(name, seed)}", flush=True)
                continue
            total, watch = lived.run.total, lived.watch
            print(
                f"{name}, seed {seed}: {total.lookups} look-ups, {watch.asked} questions, "
                f"{sum(watch.sent.values())} packets, most {max(watch.peak.values())} in a second; "
                f"known names right in time {total.survival or 0:.2%}; last stale answer "
                f"{watch.last_stale - watch.well:.1f} s after the end; "
                f"{total.wrong_negative} wrong negatives, {total.dead_address} dead, "
                f"{total.deleted} deleted, {total.failed} failed, {total.late} late; "
                f"{time.process_time() - begun:.1f} s",
                flush=True,
            )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
