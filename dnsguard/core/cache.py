"""All remembered answers within a budget of octets, kept by worth and not by date.

Three queues, after S3-FIFO (Yang et al., SOSP 2023): newcomers on probation, names asked again
protected, negatives on a budget of their own. A hit writes no order, only a number in the entry;
the queues move when something must go. So a flood of names that nobody asks twice passes through
probation and through the negatives, and leaves the hot and the last-known-good names alone.
Whether an entry is fresh, stale or dead is not asked here, except that the dead go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from dnsguard.core.entry import Entry

PROBATION, PROTECTED, NEGATIVE = 0, 1, 2
SEGMENT_NAMES = ("probation", "protected", "negative")

# Search-path negatives matter (a musl client fails without them) but are cheap to make up, so they
# get a bounded share. Probation needs room for a name to be asked a second time.
NEGATIVE_SHARE = 1 / 8
PROBATION_SHARE = 1 / 5
HITS_TO_PROTECT = 2
RECENT_MAX = 2  # passes through the queue that a name survives without a further question
LAPS_MAX = 4  # second chances given in a row before one must go: bounds the work of one insertion
SEATS_SLACK = 64


class Cache:
    """Entries by key, at most `max_octets` of them by their own account."""

    __slots__ = ("_live", "_queues", "evicted", "get", "index", "max_octets", "octets")

    def __init__(self, max_octets: int) -> None:
        self.max_octets = max_octets
        self.index: dict[bytes, Entry] = {}
        self.get = self.index.get
        self._queues: tuple[deque[bytes], ...] = (deque(), deque(), deque())
        self._live = [0, 0, 0]
        self.octets = [0, 0, 0]
        self.evicted = [0, 0, 0]

    def __len__(self) -> int:
        return len(self.index)

    def live(self, segment: int) -> int:
        """Return the number of entries in one segment."""
        return self._live[segment]

    def put(self, entry: Entry, now: float) -> None:
        """Store `entry` in place of what had its key; make room if that takes too much."""
        old = self.index.get(entry.key)
        segment = NEGATIVE if entry.negative else PROBATION
        seated = False
        if old is not None:
            old.spoil()
            entry.hits = old.hits
            entry.recent = old.recent
            self._charge(old.segment, -1, -old.size)
            seated = old.negative == entry.negative
            if seated:
                segment = old.segment
        entry.segment = segment
        self.index[entry.key] = entry
        self._charge(segment, 1, entry.size)
        if not seated:
            self._seat(entry.key, segment)
        if self.octets[NEGATIVE] > self.max_octets * NEGATIVE_SHARE:
            self._shrink(NEGATIVE, now)
        self._fit(now)

    def resize(self, max_octets: int, now: float) -> None:
        """Keep to another bound from now on."""
        self.max_octets = max_octets
        while self.octets[NEGATIVE] > max_octets * NEGATIVE_SHARE and self._shrink(NEGATIVE, now):
            pass
        self._fit(now)

    def _fit(self, now: float) -> None:
        """Evict from probation while it is over its share, else from what is protected."""
        while sum(self.octets) > self.max_octets:
            small = self.octets[PROBATION] > self.max_octets * PROBATION_SHARE
            if not self._shrink(PROBATION if small or not self._live[PROTECTED] else PROTECTED, now):
                break

    def remove(self, key: bytes) -> Entry | None:
        """Forget the entry under `key`; return it, or None if there was none."""
        entry = self.index.pop(key, None)
        if entry is not None:
            entry.spoil()
            self._charge(entry.segment, -1, -entry.size)
        return entry

    def newest(self, most: int) -> Iterator[Entry]:
        """Yield up to `most` entries that are not negative, latest learned first."""
        for queue in self._queues[:NEGATIVE]:
            for key in islice(reversed(queue), most):
                entry = self.index.get(key)
                if entry is not None and not entry.negative:
                    yield entry

    def _charge(self, segment: int, count: int, octets: int) -> None:
        self._live[segment] += count
        self.octets[segment] += octets

    def _seat(self, key: bytes, segment: int) -> None:
        """Put `key` at the end of a queue; sweep out empty seats once they are the majority."""
        queue = self._queues[segment]
        queue.append(key)
        if len(queue) > 2 * self._live[segment] + SEATS_SLACK:
            seats = dict.fromkeys(k for k in queue if self._sits(k, segment))
            queue.clear()
            queue.extend(seats)

    def _sits(self, key: bytes, segment: int) -> bool:
        entry = self.index.get(key)
        return entry is not None and entry.segment == segment

    def _shrink(self, segment: int, now: float) -> bool:
        """Take one entry out of a segment, by eviction or promotion; False if it has none."""
        queue = self._queues[segment]
        laps = 0
        while queue:
            key = queue.popleft()
            entry = self.index.get(key)
            if entry is None or entry.segment != segment:
                continue  # an empty seat: purged, or turned from positive to negative
            alive = now < entry.dies()
            if segment == PROBATION and entry.hits >= HITS_TO_PROTECT and alive:
                self._charge(PROBATION, -1, -entry.size)
                entry.segment = PROTECTED
                self._charge(PROTECTED, 1, entry.size)
                self._seat(key, PROTECTED)
                return True
            if entry.recent > 0 and alive and segment != PROBATION and laps < LAPS_MAX:
                entry.recent -= 1
                laps += 1
                queue.append(key)
                continue
            self.remove(key)
            self.evicted[segment] += 1
            return True
        return False
