"""What the clients saw, second by second and in sum: the source of every number that is shown.

Pure bookkeeping on samples that carry their own times, counted from the clients' first query; knows
no clock. A query counts for the second in which it was sent. Only a right answer counts as
answered: a failure or silence has no latency, and a percentile that falls on one is None.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

GUARD, PLAIN = "dnsguard", "plain"
TARGETS = (GUARD, PLAIN)


class Outcome(StrEnum):
    """How one query ended."""

    FRESH = "fresh"
    STALE = "stale"  # the right answer, marked by EDE 3 or 19
    FAILED = "failed"  # an answer, but not the right one: SERVFAIL, as a rule
    LOST = "lost"  # none in the client's time


ANSWERED = frozenset({Outcome.FRESH, Outcome.STALE})


@dataclass(frozen=True, slots=True)
class Sample:
    """One query of one client, over."""

    target: str
    sent: float
    outcome: Outcome
    seconds: float  # until the answer, or until the client gave up
    age: float | None = None  # of what the answer says, where the answer shows it

    @property
    def at(self) -> float:
        """When it was over."""
        return self.sent + self.seconds


@dataclass(slots=True)
class Cell:
    """One second of one target. `sent` may be ahead of the outcomes."""

    sent: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of the right answers
    oldest: float = 0.0

    @property
    def answered(self) -> int:
        return self.outcomes[Outcome.FRESH] + self.outcomes[Outcome.STALE]

    @property
    def share(self) -> float | None:
        """Answered of sent; None for a second in which nothing was sent."""
        return min(1.0, self.answered / self.sent) if self.sent else None

    def quantile(self, q: float) -> float | None:
        return quantile(self.seconds, q, self.sent)


@dataclass(frozen=True, slots=True)
class Summary:
    """One target's outage in numbers; None where the thing never happened."""

    sent: int
    answered: int
    failed: int
    lost: int
    stale: int
    p50: float | None
    p99: float | None
    slowest: float | None
    first_stale: float | None  # how long the first stale answer took
    oldest: float | None  # age of the oldest answer
    fresh_after: float | None  # from the upstream's return to the first fresh answer
    all_fresh_after: float | None  # and to the last stale or failed one
    upstream_asked: int

    @property
    def share(self) -> float:
        return self.answered / self.sent if self.sent else 0.0


def quantile(answered: Sequence[float], q: float, of: int) -> float | None:
    """The q-quantile of `of` latencies, all but `answered` of them endless."""
    rank = math.ceil(q * of) - 1
    return sorted(answered)[rank] if 0 <= rank < len(answered) else None


class Tally:
    """Collects samples, counts of sent queries and counts of upstream queries."""

    def __init__(self) -> None:
        self.cells: dict[str, defaultdict[int, Cell]] = {t: defaultdict(Cell) for t in TARGETS}
        self.stale: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.oldest: dict[str, float] = dict.fromkeys(TARGETS, 0.0)
        self.asked_in: dict[str, Counter[int]] = {t: Counter() for t in TARGETS}
        self._samples: list[Sample] = []
        self._asked: list[tuple[float, dict[str, int]]] = []
        self._kept = True

    def sent(self, second: int, count: int) -> None:
        """`count` queries went to each target in this second."""
        for target in TARGETS:
            self.cells[target][second].sent += count

    def add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            cell = self.cells[sample.target][int(sample.sent)]
            cell.outcomes[sample.outcome] += 1
            self.ended[sample.target] += 1
            if sample.outcome in ANSWERED:
                cell.seconds.append(sample.seconds)
                self.answered[sample.target] += 1
                self.stale[sample.target] += sample.outcome is Outcome.STALE
                if sample.age is not None:
                    cell.oldest = max(cell.oldest, sample.age)
                    self.oldest[sample.target] = max(self.oldest[sample.target], sample.age)
            if self._kept:
                self._samples.append(sample)

    def asked(self, at: float, counts: dict[str, int]) -> None:
        """The upstream's counters, growing, as they stood at `at`."""
        before = self._asked[-1][1] if self._asked else dict.fromkeys(TARGETS, 0)
        for target in TARGETS:
            if at >= 0:
                self.asked_in[target][int(at)] += counts[target] - before[target]
        self._asked.append((at, dict(counts)))

    def forget(self, second: int) -> None:
        """Drop what happened before `second`, and keep single samples no more: the sum is drawn."""
        self._kept = False
        self._samples.clear()
        del self._asked[:-1]
        for target in TARGETS:
            for old in [s for s in self.cells[target] if s < second]:
                del self.cells[target][old]
            for old in [s for s in self.asked_in[target] if s < second]:
                del self.asked_in[target][old]

    def settled(self, until: float) -> bool:
        """True if every query of the seconds before `until` is over."""
        return all(
            cell.outcomes.total() >= cell.sent
            for cells in self.cells.values()
            for second, cell in cells.items()
            if second < until
        )

    def never_answered(self, target: str) -> int:
        """Queries of the whole run that got no right answer."""
        return self.ended[target] - self.answered[target]

    def asked_between(self, target: str, start: float, end: float) -> int:
        """How many queries the upstream counted from `target` between two moments."""
        before = [counts[target] for at, counts in self._asked if at <= start]
        within = [counts[target] for at, counts in self._asked if at <= end]
        return (within[-1] if within else 0) - (before[-1] if before else 0)

    def share_since(self, target: str, start: float, end: float) -> float | None:
        """Answered of sent in whole seconds from `start` to `end`; None before any."""
        cells = [c for s, c in self.cells[target].items() if math.floor(start) <= s < end]
        sent = sum(cell.sent for cell in cells)
        return min(1.0, sum(cell.answered for cell in cells) / sent) if sent else None

    def summary(self, target: str, died: float, back: float) -> Summary:
        """The outage from `died` to `back`, and the way out of it."""
        mine = [sample for sample in self._samples if sample.target == target]
        outage = [sample for sample in mine if died <= sample.sent < back]
        answers = [sample for sample in outage if sample.outcome in ANSWERED]
        stale = [sample for sample in mine if sample.outcome is Outcome.STALE]
        fresh = sorted(s.at for s in mine if s.at >= back and is_new(s, back))
        bad = [s.at for s in mine if s.sent >= back and s.outcome is not Outcome.FRESH]
        ages = [
            s.age for s in mine if s.age is not None and s.outcome in ANSWERED and s.sent >= died
        ]
        latencies = [sample.seconds for sample in answers]
        return Summary(
            sent=len(outage),
            answered=len(answers),
            failed=sum(sample.outcome is Outcome.FAILED for sample in outage),
            lost=sum(sample.outcome is Outcome.LOST for sample in outage),
            stale=len(stale),
            p50=quantile(latencies, 0.5, len(outage)),
            p99=quantile(latencies, 0.99, len(outage)),
            slowest=max(latencies, default=None),
            first_stale=min(stale, key=lambda s: s.at).seconds if stale else None,
            oldest=max(ages, default=None),
            fresh_after=fresh[0] - back if fresh else None,
            all_fresh_after=max([fresh[0], *bad]) - back if fresh else None,
            upstream_asked=self.asked_between(target, died, back),
        )


def is_new(sample: Sample, back: float) -> bool:
    """True if the answer shows that it was made after the upstream's return.

    Births are whole seconds, so an answer made right after the return may seem born one second
    before it.
    """
    return (
        sample.outcome is Outcome.FRESH
        and sample.age is not None
        and sample.at - sample.age > back - 1.01
    )
