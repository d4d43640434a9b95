"""Holds the models of `bench simulate` against the real servers of `bench outage`.

    python -m benchmarks.models REAL.json --rate 10

REAL.json is what `dnsguard bench outage --rate 10 --json REAL.json` wrote. Every scenario in it is
replayed in virtual time as it was run: compressed by the same factor, at the same rate, with the
same seed and four more, after a while in which every name is looked up. For every server that has
a model, the survivals of each phase, and of all together, stand side by side. They differ if they
are further apart than chance explains: three standard errors of the real share (look-ups of one
name fail together, so that they count as a third of their number), the spread over the seeds, and
two per cent for restarts and a busy machine. The exit status is 1 if any differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness, reporting
from benchmarks.harness import say
from dnsguard import __version__
from dnsguard.bench import outage_words as words
from dnsguard.bench.outage_plan import CLIENTS_MAX, plan
from dnsguard.config import load
from dnsguard.sim import library, simulate
from dnsguard.sim.result import Numbers, Result, ScenarioRun, SystemRun, from_json
from dnsguard.sim.scenario import Does, Phase, Scenario, Upstream

WARM_SECONDS = 600.0
WARM_LOOKUPS = 60  # of each name, on average, so that the rarest is known too
RUNS = 5
FRIENDS = 3.0  # look-ups that fail together
SIGMAS = 3.0
TOLERANCE = 0.02
PHASE_LOOKUPS_MIN = 30  # in a phase with fewer, chance explains everything
WARMING = "warming up"
WHOLE = "(all)"  # phases are short: what is off in each of them by a little shows in their sum
# A server and its model, where they are not called alike.
MODELS = {"coredns verify": "coredns-verify", "coredns immediate": "coredns-immediate"}


@dataclass(frozen=True)
class Difference:
    """One phase of one server."""

    scenario: str
    system: str
    phase: str
    real: Numbers
    modelled: tuple[float, ...]  # survivals, by seed
    p99: float | None  # seconds, in the model; of all phases together it is not kept

    @property
    def model(self) -> float:
        return sum(self.modelled) / len(self.modelled)

    @property
    def noise(self) -> float:
        """How far apart they may be by chance."""
        share = self.real.survival or 0.0
        count = max(1.0, self.real.known / FRIENDS)
        # A share of 0 or 1 is not certain: as if one more look-up had gone the other way.
        likely = min(max(share, 1 / (count + 1)), 1 - 1 / (count + 1))
        error = math.sqrt(likely * (1 - likely) / count)
        spread = max(self.modelled) - min(self.modelled)
        return SIGMAS * error + spread + TOLERANCE

    @property
    def differs(self) -> bool:
        return abs((self.real.survival or 0.0) - self.model) > self.noise


def as_it_was_run(scenario: Scenario, factor: float, seed: int, rate: float) -> Scenario:
    """Compressed and scaled as `bench outage` does it, with a time before to learn all names."""
    planned = plan(scenario, factor, seed, rate, [])
    short, scale = planned.scenario, planned.scale

    def upstream(one: Upstream) -> Upstream:
        return dataclasses.replace(
            one, capacity=one.capacity * scale, queue=math.ceil(one.queue * scale)
        )

    def does(one: Does) -> Does:
        return dataclasses.replace(
            one,
            capacity=None if one.capacity is None else one.capacity * scale,
            queue=None if one.queue is None else math.ceil(one.queue * scale),
        )

    names = short.names
    count = names.services + names.headless + names.external + names.absent + len(names.hosts)
    load = WARM_LOOKUPS * count / (WARM_SECONDS * rate)
    first = Phase(WARMING, WARM_SECONDS, "every name is looked up", load=load, still=True)
    phases = [
        dataclasses.replace(
            one, begin=one.begin + WARM_SECONDS, does=tuple(does(d) for d in one.does)
        )
        for one in short.phases
    ]
    people = min(short.clients.count, CLIENTS_MAX)
    return dataclasses.replace(
        short,
        upstreams=tuple(upstream(one) for one in short.upstreams),
        phases=(first, *phases),
        events=tuple((at + WARM_SECONDS, event) for at, event in short.events),
        clients=dataclasses.replace(short.clients, rate=rate, count=people, instances=1),
    )


def contenders() -> dict[str, simulate.Contender]:
    """dnsguard with its defaults, and every model, by name."""
    policy = load((), {}, None, lambda: ("192.0.2.53",)).policy
    found = [simulate.dnsguard(policy, __version__, {}), *simulate.models()]
    return {one.name: one for one in found}


def through(scenario: Scenario, one: simulate.Contender, seeds: Sequence[int]) -> list[SystemRun]:
    return [simulate.run(scenario, one, seed, lambda _: None).run(one.entrant) for seed in seeds]


def compared(
    real: ScenarioRun, seed: int, rate: float, runs: int, known: dict[str, simulate.Contender]
) -> Iterator[Difference]:
    """Every phase of every server of a scenario that has a model."""
    name = real.scenario.name
    factor = real.scenario.compression
    scenario = as_it_was_run(library.load(name), factor, seed, rate)
    for system in real.systems:
        model = known.get(MODELS.get(system.name, system.name))
        if model is None:
            continue
        say(f"{name}: {system.name} in virtual time, {runs} times")
        found = through(scenario, model, range(seed, seed + runs))
        for phase, numbers in {**system.phases, WHOLE: system.total}.items():
            modelled = [stretch(run, phase) for run in found]
            shares = tuple(s for one in modelled if (s := one.survival) is not None)
            if numbers.known < PHASE_LOOKUPS_MIN or not shares:
                continue
            p99 = max(
                (one.latency.p99 for one in modelled if one.latency is not None), default=None
            )
            yield Difference(name, system.name, phase, numbers, shares, p99)


def stretch(run: SystemRun, phase: str) -> Numbers:
    """A phase of a replay, or all of them but the while in which names were learned."""
    if phase != WHOLE:
        return run.phases[phase]
    counted = [numbers for name, numbers in run.phases.items() if name != WARMING]
    return Numbers(
        known=sum(one.known for one in counted),
        known_right=sum(one.known_right for one in counted),
    )


def table(found: Sequence[Difference]) -> str:
    rows = [
        [
            one.scenario,
            one.system,
            one.phase,
            words.share(one.real.survival),
            words.share(one.model),
            f"{100 * one.noise:.1f}",
            words.latency(one.real.latency.p99 if one.real.latency else None),
            words.latency(one.p99),
            "DIFFERS" if one.differs else "",
        ]
        for one in found
    ]
    heads = ["scenario", "server", "phase", "real", "model", "noise, points", "p99", "p99", ""]
    return reporting.table(heads, rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", type=Path, help="what `dnsguard bench outage --json` wrote")
    parser.add_argument("--rate", type=float, default=20.0, help="its --rate (20)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"seeds of each model ({RUNS})")
    options = parser.parse_args()
    result: Result = from_json(options.real.read_bytes())
    known = contenders()
    found = [
        one
        for real in result.scenarios
        for one in compared(real, result.made.seeds[0], options.rate, options.runs, known)
    ]
    print(table(found))
    apart = [one for one in found if one.differs]
    print(f"\n{len(found)} stretches compared, {len(apart)} differ by more than chance explains.")
    return int(bool(apart))


if __name__ == "__main__":
    harness.run_script(main)
