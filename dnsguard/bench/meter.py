"""What came of the queries: latencies as a histogram, reply codes, and both over time.

Latencies are counted by whole microseconds and nothing is thrown away, so percentiles are exact.
Counting is one call a batch, and nothing is worked out before the end: a pause of a millisecond
would be found again in the result. `Measured` is what is left at the end, plain numbers that fit
into JSON. Knows no socket and no clock; instants are whole microseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from dnsguard.bench.window import Window
from dnsguard.core import wire

Order = Literal["big", "little"]

POINTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
FEW = 8  # up to so many are counted faster one by one
BUCKET_DIGITS = 3  # of a latency in the histogram that is written out


@dataclass(frozen=True, slots=True)
class Slice:
    """One piece of the time line."""

    at: float  # seconds since the first query
    seconds: float
    sent: int
    answered: int
    lost: int  # of those that were due in it
    p50_us: int | None
    p99_us: int | None
    max_us: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one measurement. Latencies are whole microseconds."""

    seconds: float  # from the first query to the last
    qps: float  # answers within these seconds
    sent: int
    answered: int
    lost: int
    unsent: int  # due by the pace, but held back
    rcodes: dict[str, int]
    truncated: int
    not_replies: int  # answers without the QR bit
    strays: int  # answers that nobody waited for: late, doubled or forged
    reply_octets: float  # the mean
    latency_us: dict[str, float]
    late_us: dict[str, float]  # how long after it was due a query left
    histogram: list[tuple[int, int]]  # latency and how many; three digits
    timeline: list[Slice]
    dropped_here: int = 0  # answers that found no room in the generator's own sockets
    refused: int = 0  # times that ICMP said that nobody listens
    reconnects: int = 0
    cpu_user: float = 0.0  # seconds that the generator used
    cpu_system: float = 0.0
    interrupted: bool = False


@dataclass(slots=True)
class _Interval:
    start: int
    end: int = 0
    sent: int = 0
    lost: int = 0
    latencies: Counter[int] = field(default_factory=Counter)


class Meter:
    """Counts during one measurement that begins at `start`.

    `order` is how the two octets of flags lie in the numbers that `take` is given.
    """

    def __init__(self, start: int, interval: int, order: Order) -> None:
        self.start = start
        self.sent = 0
        self.answered = 0
        self.lost = 0
        self.strays = 0
        self.octets = 0
        self.flags: Counter[int] = Counter()
        self.late: Counter[int] = Counter()
        self.latencies: Counter[int] = Counter()  # of the present interval
        self.turns_at = start + interval
        self._order = order
        self._interval = interval
        self._intervals = [_Interval(start, latencies=self.latencies)]
        self._starts = [start]
        self._sent_before = 0

    def take(self, window: Window, ids: list[int], flags: list[int], now: int) -> None:
        """Count answers with these ids and flags that came at `now`."""
        strays: list[int] = []
        latencies = window.settle(ids, now, strays)
        if strays:
            self.strays += len(strays)
            for stray in strays:
                # Of two with one id it is the later that nobody waited for.
                at = len(ids) - 1 - ids[::-1].index(stray)
                del ids[at], flags[at]
        if len(ids) < FEW:
            for latency in latencies:
                self.latencies[latency] += 1
            for word in flags:
                self.flags[word] += 1
        else:
            self.latencies.update(latencies)
            self.flags.update(flags)
        self.answered += len(latencies)

    def turn(self, now: int) -> None:
        """Begin the next interval of the time line."""
        self._close(now)
        self.latencies = Counter()
        self._intervals.append(_Interval(now, latencies=self.latencies))
        self._starts.append(now)
        self.turns_at += self._interval

    def lose(self, dues: Iterable[int]) -> None:
        """Count queries that got no answer, where they were due."""
        for due in dues:
            self.lost += 1
            self._intervals[bisect_right(self._starts, due) - 1].lost += 1

    def _close(self, now: int) -> None:
        interval = self._intervals[-1]
        interval.end = now
        interval.sent = self.sent - self._sent_before
        self._sent_before = self.sent

    def measured(self, stopped: int, answered_by_then: int, unsent: int) -> Measured:
        """Work everything out. No query was sent after `stopped`."""
        self._close(max(stopped, self._intervals[-1].start + 1))
        whole: Counter[int] = Counter()
        for interval in self._intervals:
            whole.update(interval.latencies)
        seconds = max(stopped - self.start, 1) / 1e6
        rcodes, truncated, not_replies = read_flags(self.flags, self._order)
        return Measured(
            seconds=seconds,
            qps=answered_by_then / seconds,
            sent=self.sent,
            answered=self.answered,
            lost=self.lost,
            unsent=unsent,
            rcodes=rcodes,
            truncated=truncated,
            not_replies=not_replies,
            strays=self.strays,
            reply_octets=self.octets / max(self.answered + self.strays, 1),
            latency_us=summary(whole),
            late_us=summary(self.late),
            histogram=bucketed(whole),
            timeline=[self._slice(interval) for interval in self._intervals],
        )

    def _slice(self, interval: _Interval) -> Slice:
        points = percentiles(interval.latencies, {"p50": 0.5, "p99": 0.99, "max": 1.0})
        return Slice(
            at=(interval.start - self.start) / 1e6,
            seconds=(interval.end - interval.start) / 1e6,
            sent=interval.sent,
            answered=interval.latencies.total(),
            lost=interval.lost,
            p50_us=points.get("p50"),
            p99_us=points.get("p99"),
            max_us=points.get("max"),
        )


def percentiles(counts: Mapping[int, int], points: Mapping[str, float]) -> dict[str, int]:
    """The nearest-rank percentiles: values that were measured, none in between; empty if none."""
    total = sum(counts.values())
    if not total:
        return {}
    found: dict[str, int] = {}
    ranks = sorted((max(1, math.ceil(share * total)), name) for name, share in points.items())
    passed = 0
    values = iter(sorted(counts.items()))
    value = 0
    for rank, name in ranks:
        while passed < rank:
            value, count = next(values)
            passed += count
        found[name] = value
    return {name: found[name] for name in points}


def summary(counts: Mapping[int, int]) -> dict[str, float]:
    """The percentiles that everyone asks for, the mean and the least; empty if there is nothing."""
    total = sum(counts.values())
    if not total:
        return {}
    mean = sum(value * count for value, count in counts.items()) / total
    return {"min": min(counts), "mean": round(mean, 1), **percentiles(counts, POINTS)}


def bucketed(counts: Mapping[int, int]) -> list[tuple[int, int]]:
    """The histogram with its values cut to three digits, in their order."""
    found: Counter[int] = Counter()
    for value, count in counts.items():
        unit = 10 ** max(0, len(str(value)) - BUCKET_DIGITS)
        found[value // unit * unit] += count
    return sorted(found.items())


def read_flags(words: Mapping[int, int], order: Order) -> tuple[dict[str, int], int, int]:
    """Reply codes (most frequent first), truncated answers, and answers that are none by QR."""
    rcodes: Counter[str] = Counter()
    truncated = not_replies = 0
    for word, count in words.items():
        flags = int.from_bytes(word.to_bytes(2, order), "big")
        code = flags & wire.RCODE
        rcodes[wire.RCODE_NAMES.get(code, f"RCODE{code}")] += count
        truncated += count if flags & wire.TC else 0
        not_replies += 0 if flags & wire.QR else count
    return dict(rcodes.most_common()), truncated, not_replies
