"""Counts look-ups and upstream queries of one system in one scenario, and sums them up at the end.

It is called once for every look-up, a million times in a run, so counting is a few steps and all
arithmetic waits for the end. Latencies are counted by microsecond (by 100 of them above 10 ms), so
that percentiles are exact to that and memory is bounded. Pure: knows no clock, takes instants in
seconds since the scenario's start.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from dnsguard.sim.result import (
    IN_TIME_SECONDS,
    Bin,
    Interval,
    Kind,
    Latency,
    Numbers,
    Outcome,
    Scenario,
    SystemRun,
)

BINS = 240  # of a time line: about a pixel column each on a phone
BIN_SECONDS_MIN = 0.5
FINE_US = 10_000  # latencies below are counted by microsecond
COARSE_US = 100
RECOVERED = 0.99  # the share right in time from which a piece of the time line counts as recovered


class Cell:
    """What happened in a stretch that lies within one phase and one bin."""

    __slots__ = (
        "begin", "end", "known", "known_right", "last_failure", "latencies", "oldest", "outcomes",
        "right", "sources", "upstream",
    )  # fmt: skip

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self.right = 0
        self.known = 0
        self.known_right = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.latencies: Counter[int] = Counter()
        self.sources: Counter[str] = Counter()
        self.oldest = 0.0
        self.upstream = 0
        self.last_failure = -math.inf  # of a known name

    def add(self, other: Cell) -> None:
        self.right += other.right
        self.known += other.known
        self.known_right += other.known_right
        self.outcomes.update(other.outcomes)
        self.latencies.update(other.latencies)
        self.sources.update(other.sources)
        self.oldest = max(self.oldest, other.oldest)
        self.upstream += other.upstream
        self.last_failure = max(self.last_failure, other.last_failure)


@dataclass(frozen=True, slots=True)
class Entrant:
    """Whose numbers these are."""

    name: str
    kind: Kind
    version: str
    settings: Mapping[str, str]


class Tally:
    """Fed one by one; `run` sums up. Instants may come in any order."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.bin_seconds = max(scenario.length / BINS, BIN_SECONDS_MIN)
        self.runs = 1
        self._cells: dict[tuple[int, int], Cell] = {}  # by phase and bin
        self._seconds: Counter[tuple[int, int]] = Counter()  # upstream by phase and whole second
        self._first_failure = math.inf
        self._outage = scenario.outage
        self._begins = [phase.begin for phase in scenario.phases]
        self._cell = Cell(0.0, 0.0)  # the one used last; to begin with, one where nothing fits
        self._asking = self._cell, 0  # the same for queries sent upstream, and its phase

    def over(
        self,
        began: float,
        ended: float,
        outcome: Outcome,
        *,
        known: bool = True,
        source: str = "",
        age: float = 0.0,
    ) -> None:
        """Count a look-up that began and ended at these instants.

        `known`: the name existed before the outage and still does. `source`: where its answer came
        from, such as hit, stale or upstream. `age`: seconds since the upstream gave that answer.
        """
        cell = self._cell
        if not cell.begin <= began < cell.end:
            cell = self._cell = self._at(began)
        seconds = ended - began
        us = int(seconds * 1e6 + 0.5)
        if us > FINE_US:
            us -= us % COARSE_US
        cell.latencies[us] += 1
        cell.outcomes[outcome] += 1
        right = outcome is Outcome.RIGHT and seconds <= IN_TIME_SECONDS
        cell.right += right
        if known:
            cell.known += 1
            if right:
                cell.known_right += 1
            else:
                cell.last_failure = max(cell.last_failure, began)
                if self._outage[0] <= began < self._first_failure:
                    self._first_failure = began
        if source:
            cell.sources[source] += 1
        if age > cell.oldest:
            cell.oldest = age

    def asked(self, at: float, times: int = 1) -> None:
        """Count queries that the system sent upstream at this instant."""
        cell, phase = self._asking
        if not cell.begin <= at < cell.end:
            cell, phase = self._asking = self._at(at), self._phase(at)
        cell.upstream += times
        self._seconds[phase, int(at)] += times

    def merge(self, other: Tally, *, beside: bool = False) -> None:
        """Add the counts of the same scenario from elsewhere.

        `beside`: from another instance in the same run, so that upstream queries add up. Else from
        another run: then upstream queries are a mean over the runs and their peak is the highest.
        """
        for key, theirs in other._cells.items():
            if key not in self._cells:
                self._cells[key] = Cell(theirs.begin, theirs.end)
            self._cells[key].add(theirs)
        self._first_failure = min(self._first_failure, other._first_failure)
        if beside:
            self._seconds.update(other._seconds)
        else:
            self._seconds |= other._seconds
            self.runs += other.runs

    def run(
        self, entrant: Entrant, interval: Interval | None = None, notes: Iterable[str] = ()
    ) -> SystemRun:
        """All numbers."""
        phases = self.scenario.phases
        begin, end = self._outage
        during = {n for n, phase in enumerate(phases) if begin <= phase.begin < end}
        after = {n for n, phase in enumerate(phases) if phase.begin >= end}
        first = self._first_failure
        return SystemRun(
            name=entrant.name,
            kind=entrant.kind,
            version=entrant.version,
            settings=dict(entrant.settings),
            total=self._numbers(set(range(len(phases)))),
            phases={phase.name: self._numbers({n}) for n, phase in enumerate(phases)},
            timeline=tuple(self._timeline()),
            bin_seconds=self.bin_seconds,
            first_failure=None if math.isinf(first) else max(0.0, first - begin),
            recovery=self._recovery(end),
            outage_upstream=self._numbers(during).upstream,
            recovery_peak=self._peak(after),
            interval=interval,
            notes=tuple(notes),
        )

    def _phase(self, at: float) -> int:
        return max(0, bisect_right(self._begins, at) - 1)

    def _at(self, at: float) -> Cell:
        phase, number = self._phase(at), int(at / self.bin_seconds)
        cell = self._cells.get((phase, number))
        if cell is None:
            begins = self._begins
            last = phase + 1 == len(begins)
            cell = self._cells[phase, number] = Cell(
                max(number * self.bin_seconds, begins[phase]),
                min((number + 1) * self.bin_seconds, math.inf if last else begins[phase + 1]),
            )
        return cell

    def _numbers(self, phases: set[int]) -> Numbers:
        whole = _sum(cell for (phase, _), cell in self._cells.items() if phase in phases)
        count = whole.outcomes
        return Numbers(
            lookups=count.total(),
            right=whole.right,
            late=count[Outcome.RIGHT] - whole.right,
            wrong_negative=count[Outcome.WRONG_NEGATIVE],
            dead_address=count[Outcome.DEAD_ADDRESS],
            deleted=count[Outcome.DELETED],
            failed=count[Outcome.FAILED],
            known=whole.known,
            known_right=whole.known_right,
            latency=_latency(whole.latencies),
            upstream=round(whole.upstream / self.runs),
            upstream_peak=self._peak(phases),
            oldest=whole.oldest,
            sources=dict(sorted(whole.sources.items(), key=lambda item: (-item[1], item[0]))),
        )

    def _peak(self, phases: set[int]) -> int:
        return max((n for (phase, _), n in self._seconds.items() if phase in phases), default=0)

    def _bins(self) -> list[tuple[int, Cell]]:
        """Every bin with something in it, its cells of several phases in one."""
        found: dict[int, list[Cell]] = {}
        for (_, number), cell in self._cells.items():
            found.setdefault(number, []).append(cell)
        return [(number, _sum(found[number])) for number in sorted(found)]

    def _timeline(self) -> Iterator[Bin]:
        """Every bin from the start to the end of the scenario; look-ups count where they began."""
        found = dict(self._bins())
        for number in range(max(1, math.ceil(self.scenario.length / self.bin_seconds - 1e-9))):
            cell = found.get(number, Cell(0.0, 0.0))
            total = cell.outcomes.total()
            latency = _latency(cell.latencies)
            yield Bin(
                at=number * self.bin_seconds,
                availability=cell.right / total if total else None,
                p99=latency.p99 if latency else None,
                upstream_qps=cell.upstream / self.bin_seconds / self.runs,
            )

    def _recovery(self, end: float) -> float | None:
        """Until the last failure in the last bin that was not well; None if no bin follows it."""
        bins = [
            cell
            for number, cell in self._bins()
            if cell.known and (number + 1) * self.bin_seconds > end
        ]
        ill = [n for n, cell in enumerate(bins) if cell.known_right < RECOVERED * cell.known]
        if not ill:
            return 0.0
        if ill[-1] == len(bins) - 1:
            return None
        return max(0.0, bins[ill[-1]].last_failure - end)


def _sum(cells: Iterable[Cell]) -> Cell:
    whole = Cell(0.0, 0.0)
    for cell in cells:
        whole.add(cell)
    return whole


def _latency(counts: Counter[int]) -> Latency | None:
    """Percentiles by nearest rank."""
    if not counts:
        return None
    ordered = sorted(counts)
    upto = list(accumulate(counts[us] for us in ordered))

    def point(share: float) -> float:
        rank = max(1, math.ceil(share * upto[-1]))
        return ordered[bisect_left(upto, rank)] / 1e6

    return Latency(point(0.5), point(0.9), point(0.99), ordered[-1] / 1e6)
