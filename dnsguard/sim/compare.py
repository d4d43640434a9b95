"""Several systems through one scenario, over several seeds, and what is sure about the outcome."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial

from dnsguard.sim import simulate
from dnsguard.sim.result import Interval, ScenarioRun, SystemRun
from dnsguard.sim.scenario import Scenario
from dnsguard.sim.simulate import Contender
from dnsguard.sim.tally import Tally

# Student's t, two-sided 95 %, by degrees of freedom from 1; beyond the table the normal's is near.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
T_MANY = 1.960

Tell = Callable[[str, int, float], None]  # system, which run of it, virtual seconds


def compare(
    scenario: Scenario, contenders: Sequence[Contender], seeds: Sequence[int], tell: Tell,
    fleet: int | None = None,
) -> ScenarioRun:  # fmt: skip
    """Put every system, or a fleet of it, through the scenario once for each seed."""
    found = [_through(scenario, contender, seeds, tell, fleet) for contender in contenders]
    return ScenarioRun(simulate.described(scenario), tuple(found))


def _through(
    scenario: Scenario, contender: Contender, seeds: Sequence[int], tell: Tell, fleet: int | None
) -> SystemRun:
    total: Tally | None = None
    survivals = []
    for turn, seed in enumerate(seeds):
        tally = simulate.run(scenario, contender, seed, partial(tell, contender.name, turn), fleet)
        survival = tally.run(contender.entrant).total.survival
        if survival is not None:
            survivals.append(survival)
        if total is None:
            total = tally
        else:
            total.merge(tally)
    assert total is not None
    return total.run(contender.entrant, interval(survivals))


def interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % confidence interval of a mean; None of fewer than two values.

    It ends at 0 and at 1: a share cannot be beyond.
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    freedom = len(values) - 1
    t = T_95[freedom - 1] if freedom <= len(T_95) else T_MANY
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(max(0.0, mean - half), min(1.0, mean + half), len(values))
