"""How the numbers of a replayed outage are put into words, the same in a terminal and on a page.

The columns stand here once: their titles, the text of a cell, and which value is the best. Knows
neither rich nor HTML.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dnsguard.sim.result import Mode, Numbers, Result, Scenario, ScenarioRun, SystemRun

NOTHING = "-"
NEVER = "never"
NONE = "none"
# From which share up a survival counts as so good; the words name it, colours only repeat it.
BANDS = (
    (0.9999, "held"),
    (0.99, "nearly"),
    (0.9, "hurt"),
    (0.5, "broken"),
    (0.0, "down"),
)
MODES = {
    Mode.SIMULATE: "simulated in virtual time",
    Mode.OUTAGE: "real processes on real sockets",
}
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def share(value: float | None) -> str:
    """In per cent, rounded down: 100 % only if nothing is missing."""
    if value is None:
        return NOTHING
    if value >= 1:
        return "100 %"
    digits = 4 if value > 0.9999 else 2 if value > 0.99 else 1
    scale = 10**digits
    return f"{math.floor(value * 100 * scale + 1e-9) / scale:.{digits}f} %"


def band(value: float | None) -> str:
    """The word of BANDS, or nothing where nobody asked."""
    if value is None:
        return ""
    return next(word for least, word in BANDS if value >= least)


def latency(seconds: float | None) -> str:
    """Two or three digits and the unit that suits."""
    if seconds is None:
        return NOTHING
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{1 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.{1 if seconds < 100 else 0}f} s"


def duration(seconds: float | None) -> str:
    """The two largest units."""
    if seconds is None:
        return NEVER
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds else "0 s"
    units = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s"))
    whole = round(seconds)
    for (size, name), (smaller, small_name) in pairwise(units):
        if whole >= size:
            many, rest = divmod(whole, int(size))
            few = round(rest / smaller)
            return f"{many} {name}" + (f" {few} {small_name}" if few else "")
    return f"{whole} s"


def clock(seconds: float, whole: float) -> str:
    """An instant of a scenario that is `whole` seconds long: h:min, or min:s of a short one."""
    size, unit = (HOUR, " h") if whole >= HOUR else (MINUTE, "")
    many, rest = divmod(round(seconds), int(size))
    return f"{many}:{int(rest * 60 / size):02}{unit}"


def count(number: float) -> str:
    return f"{number:,.0f}"


# --- columns -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a system in a scenario."""

    title: str
    meaning: str
    text: Callable[[SystemRun], str]
    rank: Callable[[SystemRun], float] | None = None  # the less, the better


def _point(name: str) -> Callable[[SystemRun], float]:
    def of(run: SystemRun) -> float:
        return math.inf if run.total.latency is None else float(getattr(run.total.latency, name))

    return of


def _latency(name: str) -> Callable[[SystemRun], str]:
    of = _point(name)
    return lambda run: latency(None if math.isinf(of(run)) else of(run))


def interval(run: SystemRun) -> str:
    """The confidence interval of the survival; empty where there was one run."""
    if run.interval is None or run.interval.runs < 2:
        return ""
    low, high = share(run.interval.low), share(run.interval.high)
    return f"{low.removesuffix(' %')} to {high}"


SURVIVED = Column(
    "survived",
    "of the look-ups of names that existed before the outage: right within 2 s",
    lambda run: share(run.total.survival),
    lambda run: -(run.total.survival or 0.0),
)
COLUMNS = (
    SURVIVED,
    Column("look-ups", "whole getaddrinfo calls", lambda run: count(run.total.lookups)),
    Column(
        "wrong negatives",
        "“no such name” or “no address” of what exists",
        lambda run: count(run.total.wrong_negative),
        lambda run: run.total.wrong_negative,
    ),
    Column(
        "dead addresses",
        "only addresses where nobody listens any more",
        lambda run: count(run.total.dead_address),
        lambda run: run.total.dead_address,
    ),
    Column(
        "deleted names",
        "answers with addresses of a name that was deleted",
        lambda run: count(run.total.deleted),
        lambda run: run.total.deleted,
    ),
    Column(
        "failed",
        "an error, or no answer until the client gave up",
        lambda run: count(run.total.failed),
        lambda run: run.total.failed,
    ),
    Column(
        "late",
        "right, after more than 2 s",
        lambda run: count(run.total.late),
        lambda run: run.total.late,
    ),
    Column("p50", "median wait of a look-up", _latency("p50"), _point("p50")),
    Column("p99", "of 100 look-ups, 99 waited less", _latency("p99"), _point("p99")),
    Column("max", "the longest wait", _latency("max"), _point("max")),
    Column(
        "first failure",
        "after the outage's begin",
        lambda run: NONE if run.first_failure is None else duration(run.first_failure),
        lambda run: -math.inf if run.first_failure is None else -run.first_failure,
    ),
    Column(
        "recovered",
        "after the outage's end",
        lambda run: duration(run.recovery),
        lambda run: math.inf if run.recovery is None else run.recovery,
    ),
    Column(
        "upstream in outage",
        "queries sent upstream while it was ill",
        lambda run: count(run.outage_upstream),
        lambda run: run.outage_upstream,
    ),
    Column(
        "herd",
        "queries sent upstream in the worst second after the outage",
        lambda run: count(run.recovery_peak),
        lambda run: run.recovery_peak,
    ),
    Column(
        "oldest",
        "age of the oldest answer served, since the upstream gave it",
        lambda run: duration(run.total.oldest),
    ),
)


def best(column: Column, runs: Sequence[SystemRun]) -> set[str]:
    """The names of the systems that are first, or level, in this column; nobody if all are."""
    if column.rank is None or len(runs) < 2:
        return set()
    ranks = {run.name: column.rank(run) for run in runs}
    first = min(ranks.values())
    found = {name for name, rank in ranks.items() if rank == first}
    return set() if len(found) == len(runs) else found


# --- sentences -----------------------------------------------------------------------------------


def length(scenario: Scenario) -> str:
    """How long the outage was, and in how much time it was run."""
    whole = duration(scenario.length * scenario.compression)
    if scenario.compression == 1:
        return whole
    return (
        f"{whole}, run in {duration(scenario.length)} (compressed {scenario.compression:.4g} times)"
    )


def headline(result: Result) -> str:
    """One sentence about dnsguard, or about nothing where it took no part."""
    ours = [
        (run.total.survival, one.scenario.title)
        for one in result.scenarios
        for run in one.systems
        if run.name == "dnsguard" and run.total.survival is not None
    ]
    if not ours:
        return ""
    worst, title = min(ours)
    if len(ours) == 1:
        return f"dnsguard answered {share(worst)} of the look-ups right and in time."
    if worst >= 1:
        return f"dnsguard answered every look-up right and in time, in all {len(ours)} outages."
    return f"dnsguard answered {share(worst)} right and in time in its worst outage, {title}."


def during(run: SystemRun, scenario: Scenario) -> Counter[str]:
    """Look-ups within the outage by where they were answered; all, where there was no outage."""
    bad = [phase.name for phase in scenario.phases if phase.outage] or list(run.phases)
    found: Counter[str] = Counter()
    for name in bad:
        found.update(run.phases.get(name, Numbers()).sources)
    return found


def sources(one: ScenarioRun) -> list[str]:
    """All places that answers came from, the most frequent first."""
    found: Counter[str] = Counter()
    for run in one.systems:
        found.update(during(run, one.scenario))
    return [name for name, _ in found.most_common()]


def seeds(numbers: Iterable[int]) -> str:
    """`7`, or `1 to 20` for a row without gaps."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    return ", ".join(map(str, ordered)) or NONE
