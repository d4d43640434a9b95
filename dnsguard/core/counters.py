"""What has happened since the start, as plain numbers that a scrape reads.

Counting must cost next to nothing on the way of a query, so nothing here locks, formats or looks
up a label; names and help texts live with the exporter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate

# Seconds. A hit takes microseconds, a client timer at most 1.8 s, a cold name's life is 4 s.
BUCKETS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
)  # fmt: skip
# Those of CoreDNS, from a quarter of a millisecond on, each twice the one before: dashboards add up
# both servers' counts, which is right only where the bounds are the same.
DOUBLED = tuple(0.00025 * 2**n for n in range(16))
_BOUNDS = tuple(sorted({*BUCKETS, *DOUBLED}))  # what is counted, so that both can be told

SOURCES = ("hit", "stale", "upstream", "pin", "synthesized", "failure")
VERDICTS = ("believed", "held", "restored", "disputed", "observed")  # of the guard
RESULTS, ENDS = ("answered", "failed", "broken"), ("finished", "aborted")  # of drills
STALE_WINDOW = 60.0  # seconds over which the oldest stale answer is reported


class Histogram:
    """Counts by bucket. `counts` has one more place than there are bounds, for what is above."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` observations of `seconds`."""
        self.counts[bisect_left(_BOUNDS, seconds)] += times
        self.total += seconds * times

    def below(self, bounds: tuple[float, ...]) -> list[int]:
        """Return how many observations there were up to each bound, and at last of all of them.

        `bounds` is `BUCKETS` or `DOUBLED`.
        """
        running = list(accumulate(self.counts))
        return [running[bisect_left(_BOUNDS, bound)] for bound in bounds] + running[-1:]


class SharedCounts:
    """The numbers of the store that a fleet shares, as this process sees it."""

    __slots__ = ("errors", "found", "missed", "taken", "up", "writes")

    def __init__(self) -> None:
        self.up = False
        self.taken = 0  # answers taken at the start
        self.found = 0  # names that it knew, of those looked for
        self.missed = 0
        self.writes = 0
        self.errors: defaultdict[str, int] = defaultdict(int)  # kind


class StoreCounts:
    """The numbers of the store of last-known-good answers, kept by whoever runs it."""

    __slots__ = (
        "errors", "flushed", "loaded", "octets", "peers", "received", "rows", "shared", "up",
        "writes",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.up = False
        self.rows = 0  # on disk
        self.octets = 0
        self.loaded = 0  # answers taken back at the start
        self.writes = 0  # rows written or deleted
        self.errors: defaultdict[str, int] = defaultdict(int)  # kind
        self.flushed = now  # when all that was due was on disk
        self.peers = 0  # other processes of our address that we are connected with
        self.received = 0  # answers that they have told us
        self.shared: SharedCounts | None = None


class Counters:
    """The numbers of one engine."""

    __slots__ = (
        "_oldest", "_oldest_before", "_window", "answers", "coalesced", "drill", "drills", "found",
        "guard", "ignored", "latency", "loops", "malformed", "prefetches", "queries", "searches",
        "shed", "stale", "upstream",
    )  # fmt: skip

    def __init__(self) -> None:
        self.queries: dict[str, int] = {"udp": 0, "tcp": 0}
        self.answers: defaultdict[tuple[str, int], int] = defaultdict(int)  # (source, rcode)
        self.stale: defaultdict[str, int] = defaultdict(int)  # reason
        self.guard: defaultdict[str, int] = defaultdict(int)  # verdict on a denial of a good name
        self.drill: defaultdict[str, int] = defaultdict(int)  # look-ups, by result
        self.drills: defaultdict[str, int] = defaultdict(int)  # how they ended
        self.upstream: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.ignored: defaultdict[str, int] = defaultdict(int)  # upstream datagrams not accepted
        self.latency = Histogram()
        self.malformed = 0
        self.coalesced = 0
        self.prefetches = 0
        self.shed = 0
        self.loops = 0
        self.searches = 0  # names looked for elsewhere before their clients were refused
        self.found = 0
        self._window = 0.0
        self._oldest = self._oldest_before = 0.0

    def served_stale(self, reason: str, age: float, now: float, times: int = 1) -> None:
        """Count stale answers; `age` is seconds since the answer's TTL ended."""
        self.stale[reason] += times
        self._turn(now)
        if age > self._oldest:
            self._oldest = age

    def stale_age(self, now: float) -> float:
        """Return the age in seconds of the oldest stale answer of the last minute or two."""
        self._turn(now)
        return max(self._oldest, self._oldest_before)

    def _turn(self, now: float) -> None:
        if now - self._window >= STALE_WINDOW:
            fresh = now - self._window < 2 * STALE_WINDOW
            self._oldest_before = self._oldest if fresh else 0.0
            self._oldest = 0.0
            self._window = now - now % STALE_WINDOW
