"""If the upstream died now: which names of the last hour would still be answered, and which not.

The cache is walked a part at a time, so that a large one holds up no query; a whole walk makes one
`Coverage`. Nothing is counted on the way of a query for this: an entry knows when it was last
asked, and what could not be kept stands in `unanswered`. Along the way the walk notes the names
that are asked most and the first one to run out of stale life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING

from dnsguard.core.entry import Entry
from dnsguard.core.unanswered import TOO_OLD
from dnsguard.core.wire import name_text

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine

RECENT_SECONDS = 3600.0  # what counts as asked of late
ENTRIES_AT_ONCE = 1024  # some 0.3 ms
NAMES_MAX = 100  # told by name; the rest are counted
HOT_MAX = 20


@dataclass(slots=True)
class Share:
    """Of how many questions how many are covered, and the seconds until the first one is not."""

    asked: int = 0
    covered: int = 0
    dies: float = float("inf")

    def runway(self, now: float) -> float:
        """Return the seconds until the first covered name has no answer; 0 if none is covered."""
        return max(self.dies - now, 0.0) if self.covered else 0.0


@dataclass(slots=True)
class Coverage:
    """What one walk found. Questions are counted by name, type and class."""

    at: float
    zones: dict[str, Share] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)  # by reason
    names: list[tuple[str, int, str]] = field(default_factory=list)  # name, type, reason
    hot: list[tuple[int, bytes]] = field(default_factory=list)  # a heap of (hits, key)

    @property
    def whole(self) -> Share:
        """All zones as one."""
        found = Share()
        for share in self.zones.values():
            found.asked += share.asked
            found.covered += share.covered
            found.dies = min(found.dies, share.dies)
        return found

    @property
    def ratio(self) -> float:
        """The covered share; 1 while nobody has asked anything."""
        whole = self.whole
        return whole.covered / whole.asked if whole.asked else 1.0

    def hottest(self) -> list[tuple[str, int, int]]:
        """Return (name, type, hits) of what was asked most, most first."""
        return [
            (name_text(key), key[-5] << 8 | key[-4], hits)
            for hits, key in sorted(self.hot, reverse=True)
        ]

    def lose(self, zone: str, key: bytes, why: str) -> None:
        """Count a question that would have no answer."""
        self.zones.setdefault(zone, Share()).asked += 1
        self.lost[why] = self.lost.get(why, 0) + 1
        if len(self.names) < NAMES_MAX:
            self.names.append((name_text(key), key[-5] << 8 | key[-4], why))


class Census:
    """Walks the cache of one engine again and again; `coverage` is what the last walk found."""

    def __init__(self, engine: Engine, now: float) -> None:
        self._engine = engine
        self._rest: list[Entry] = []
        self._under_way: Coverage | None = None
        self.coverage = Coverage(now)

    def step(self, now: float) -> bool:
        """Walk on a little; return True when that was the end of a walk."""
        if self._under_way is None:
            self._under_way = Coverage(now)
            self._rest = list(self._engine.cache.index.values())
        part = self._rest[-ENTRIES_AT_ONCE:]
        del self._rest[-ENTRIES_AT_ONCE:]  # in place: of a million entries no copy for every part
        self._walk(part, self._under_way, now)
        if self._rest:
            return False
        self._look_at_unanswered(self._under_way, now)
        self.coverage, self._under_way = self._under_way, None
        return True

    def seen(self, now: float) -> Coverage:
        """Return what the last walk found, or what is there now where that is a matter of one step.

        So whoever asks a moment after the first question or the first failure sees it counted.
        """
        if self._under_way is None and len(self._engine.cache.index) <= ENTRIES_AT_ONCE:
            self.step(now)
        return self.coverage

    def take(self, now: float) -> Coverage:
        """Walk through all of it at once, as for a person who asks."""
        self._under_way = None
        while not self.step(now):
            pass
        return self.coverage

    def _walk(self, entries: list[Entry], found: Coverage, now: float) -> None:
        since, hot = now - RECENT_SECONDS, found.hot
        shares: Mapping[str, Share] = found.zones
        for entry in entries:
            if entry.asked < since:
                continue
            zone, dies = entry.zone.name, entry.dies()
            if now >= dies:
                found.lose(zone, entry.key, TOO_OLD)
                continue
            share = shares.get(zone)
            if share is None:
                share = found.zones[zone] = Share()
            share.asked += 1
            share.covered += 1
            share.dies = min(share.dies, dies)
            if len(hot) < HOT_MAX:
                heappush(hot, (entry.hits, entry.key))
            elif entry.hits > hot[0][0]:
                heappushpop(hot, (entry.hits, entry.key))

    def _look_at_unanswered(self, found: Coverage, now: float) -> None:
        engine, since = self._engine, now - RECENT_SECONDS
        for key, why in engine.unanswered.since(since):
            entry = engine.cache.get(key)
            if entry is None or (now >= entry.dies() and entry.asked < since):
                found.lose(engine.zones.find(key).name, key, why)
