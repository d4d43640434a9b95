"""All remembered answers within a budget of octets, kept by worth and not by date.

Three queues, after S3-FIFO (Yang et al., SOSP 2023): newcomers on probation, names asked again
protected, negatives on a budget of their own. A hit writes no order, only a number in the entry;
the queues move when something must go. So a flood of names that nobody asks twice passes through
probation and through the negatives, and leaves the hot and the last-known-good names alone.
Whether an entry is fresh, stale or dead is not asked here, except that the dead go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dnsguard.core.entry import ENTRY_OVERHEAD, Entry

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

    __slots__ = (
        "_live", "_queues", "evicted", "get", "index", "max_octets", "octets", "on_evict",
        "on_loss", "total",
    )  # fmt: skip

    def __init__(self, max_octets: int) -> None:
        self.max_octets = max_octets
        self.index: dict[bytes, Entry] = {}
        self.get = self.index.get
        self._queues: tuple[deque[bytes], ...] = (deque(), deque(), deque())
        self._live = [0, 0, 0]
        self.octets = [0, 0, 0]  # by segment
        self.total = 0
        self.evicted = [0, 0, 0]
        self.on_evict: Callable[[Entry], None] | None = None
        self.on_loss: Callable[[Entry], None] | None = None  # of what could still be served

    def __len__(self) -> int:
        return len(self.index)

    def live(self, segment: int) -> int:
        """Return the number of entries in one segment."""
        return self._live[segment]

    def put(self, entry: Entry, now: float) -> None:
        """Store `entry` in place of what had its key; make room if that takes too much."""
        key = entry.key
        old = self.index.get(key)
        segment = NEGATIVE if entry.kind else PROBATION  # POSITIVE is 0
        seated = False
        if old is not None:
            if old.packets is not None:
                old.spoil()
            entry.hits = old.hits
            entry.recent = old.recent
            entry.asked = old.asked
            self._charge(old.segment, -1, -old.size)
            seated = old.negative == entry.negative
            if seated:
                segment = old.segment
        entry.segment = segment
        self.index[key] = entry
        size = len(entry.wire) + len(key) + ENTRY_OVERHEAD  # entry.size, spelled out
        self._live[segment] += 1
        self.octets[segment] += size
        self.total += size
        if not seated:
            queue = self._queues[segment]
            queue.append(key)
            if len(queue) > 2 * self._live[segment] + SEATS_SLACK:
                self._sweep(segment)
        if segment == NEGATIVE:  # first, lest a negative push out what is good
            self._fit_negatives(now)
        if self.total > self.max_octets:
            self._fit(now)

    def resize(self, max_octets: int, now: float) -> None:
        """Keep to another bound from now on."""
        self.max_octets = max_octets
        self._fit_negatives(now)
        self._fit(now)

    def _fit_negatives(self, now: float) -> None:
        """Evict negatives, however many it takes, until they keep to their own budget."""
        while self.octets[NEGATIVE] > self.max_octets * NEGATIVE_SHARE:
            self._shrink(NEGATIVE, now)

    def _fit(self, now: float) -> None:
        """Evict from probation while it is over its share, else from what is protected."""
        while self.total > self.max_octets:
            crowded = self.octets[PROBATION] > self.max_octets * PROBATION_SHARE
            self._shrink(PROBATION if crowded else PROTECTED, now)

    def remove(self, key: bytes) -> Entry | None:
        """Forget the entry under `key`; return it, or None if there was none."""
        entry = self.index.pop(key, None)
        if entry is not None:
            entry.spoil()
            self._charge(entry.segment, -1, -entry.size)
        return entry

    def _charge(self, segment: int, count: int, octets: int) -> None:
        self._live[segment] += count
        self.octets[segment] += octets
        self.total += octets

    def _sweep(self, segment: int) -> None:
        """Take the empty seats out of a queue, now that they are the majority."""
        queue = self._queues[segment]
        seats = dict.fromkeys(key for key in queue if self._sits(key, segment))
        queue.clear()
        queue.extend(seats)

    def _sits(self, key: bytes, segment: int) -> bool:
        entry = self.index.get(key)
        return entry is not None and entry.segment == segment

    def _shrink(self, segment: int, now: float) -> None:
        """Take one entry out of a segment that has any, by eviction or promotion."""
        queue = self._queues[segment]
        laps = 0
        while True:
            key = queue.popleft()  # whatever is in a segment has a seat in its queue
            entry = self.index.get(key)
            if entry is None or entry.segment != segment:
                continue  # an empty seat: purged, or turned from positive to negative
            alive = now < entry.dies()
            if segment == PROBATION and entry.hits >= HITS_TO_PROTECT and alive:
                self._charge(PROBATION, -1, -entry.size)
                entry.segment = PROTECTED
                self._charge(PROTECTED, 1, entry.size)
                self._queues[PROTECTED].append(key)
                if len(self._queues[PROTECTED]) > 2 * self._live[PROTECTED] + SEATS_SLACK:
                    self._sweep(PROTECTED)
                return
            if entry.recent > 0 and alive and segment != PROBATION and laps < LAPS_MAX:
                entry.recent -= 1
                laps += 1
                queue.append(key)
                continue
            self.remove(key)
            self.evicted[segment] += 1
            if alive and self.on_loss is not None:
                self.on_loss(entry)
            if self.on_evict is not None:
                self.on_evict(entry)
            return
