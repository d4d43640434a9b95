"""What was learned and is worth writing down, so that a restart finds it again.

Not every answer is: a record with a TTL of five seconds would be written 17,000 times a day to say
the same. An answer is written when its name is not on disk yet; when it says something else than
the version on disk, but for one name not more often than every `CHANGE_PAUSE`, because some names
answer differently every time; and when it says the same, once the version on disk has become so
old that a restart would cost a noticeable part of its stale life. What is forgotten here is deleted
there. This file knows no disk: it fills a bounded list, and someone takes from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsguard.core.cache import Cache
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.wire import HEADER_OCTETS

# Seconds. Long enough that a load balancer with another address in every answer is written six
# times a minute and not with every TTL; short enough for what a client would try anyway.
CHANGE_PAUSE = 10.0
# A restart may cost a tenth of the stale life, and of a long one an hour: at three days that is
# 1.4 % of it, for one small row a name and hour.
RENEW_SHARE, RENEW_MAX = 0.1, 3600.0

# Answers that wait to be written. A flood of names is written at this rate and no faster (a row is
# some 300 octets); what finds no room is looked for again in the cache once there is.
WAITING_MAX = 4096
NEGATIVES_MAX = WAITING_MAX // 4  # names that do not exist are the cheapest flood
LOOKED_AT_ONCE = 8192  # entries of the cache looked through at a time: about a millisecond

Change = tuple[bytes, Entry | None]  # a key and what to write for it; None: delete it


class Learned:
    """The changes that are not on disk yet, at most one for a key."""

    __slots__ = ("_cache", "_negatives", "_rest", "missed", "waiting")

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.waiting: dict[bytes, Entry | None] = {}
        self._negatives = 0
        self.missed = False  # something found no room: the cache must be looked through
        self._rest: list[Entry] = []
        cache.on_evict = self.evicted

    def note(self, entry: Entry, old: Entry | None) -> None:
        """Take a new answer, which replaces `old`, if it is worth writing down."""
        if old is not None and old.written != NEVER:
            entry.written = old.written
            if (
                entry.stored - old.written < _renewal(entry)
                and entry.key not in self.waiting
                and alike(old, entry)
            ):
                return
        if entry.zone.stale.max_age > 0:  # else nothing of it could be served after a restart
            self._add(entry)

    def evicted(self, entry: Entry) -> None:
        """Note that the cache had no room for `entry`: the disk holds what memory holds.

        Otherwise a flood of names, which the cache survives, would push the good ones off the disk.
        """
        if entry.written == NEVER:
            self.waiting.pop(entry.key, None)
        else:
            self.forget(entry.key)

    def forget(self, key: bytes) -> None:
        """Have the answer under `key`, if there is one, deleted."""
        if key in self.waiting or len(self.waiting) < WAITING_MAX:
            self.waiting[key] = None

    def _add(self, entry: Entry) -> None:
        if entry.key not in self.waiting:
            if len(self.waiting) >= WAITING_MAX:
                self.missed = True
                return
            if entry.kind:  # POSITIVE is 0
                if self._negatives >= NEGATIVES_MAX:
                    self.missed = True
                    return
                self._negatives += 1
        self.waiting[entry.key] = entry

    # -- taking -----------------------------------------------------------------------------

    def take(self, now: float, everything: bool = False) -> list[Change]:
        """Return what is to be written now; the taker writes it, or gives it back with `again`.

        What changed a moment ago waits for its pause to end, unless `everything` is wanted.
        """
        if self.missed or self._rest:
            self._look()
        due: list[Change] = []
        rest: dict[bytes, Entry | None] = {}
        self._negatives = 0
        get = self._cache.get
        for key, entry in self.waiting.items():
            if entry is None:
                due.append((key, None))
            elif get(key) is not entry:
                pass  # something newer came from the disk itself
            elif everything or now - entry.written >= CHANGE_PAUSE:
                entry.written = entry.stored
                due.append((key, entry))
            else:
                rest[key] = entry
                self._negatives += entry.kind > 0
        self.waiting = rest
        return due

    def again(self, changes: list[Change]) -> None:
        """Take back what could not be written."""
        get = self._cache.get
        for key, _ in changes:
            current = get(key)
            if current is None:
                self.forget(key)
            else:
                current.written = NEVER
        self.missed = True

    def adopt(self, entry: Entry) -> None:
        """Take an answer that another process has learned, to be written by this one."""
        entry.written = NEVER
        self._add(entry)

    def restart(self) -> None:
        """Begin anew with an empty disk: everything is to be written."""
        for entry in self._cache.index.values():
            entry.written = NEVER
        self._rest = []
        self.missed = True

    def _look(self) -> None:
        """Look through a part of the cache for what has never been written."""
        if not self._rest:
            self.missed = False
            self._rest = list(self._cache.index.values())
        get = self._cache.get
        for entry in self._next():
            if entry.written == NEVER and entry.zone.stale.max_age > 0 and get(entry.key) is entry:
                self._add(entry)

    def _next(self) -> Iterator[Entry]:
        """Yield the next entries to look at, while there is room for what is found."""
        for _ in range(min(LOOKED_AT_ONCE, len(self._rest))):
            if len(self.waiting) >= WAITING_MAX:
                return
            yield self._rest.pop()


def _renewal(entry: Entry) -> float:
    """Return how old the version on disk may get, in seconds, while the answer stays the same."""
    return min(max(entry.zone.stale.max_age * RENEW_SHARE, CHANGE_PAUSE), RENEW_MAX)


def alike(old: Entry, new: Entry) -> bool:
    """True if two answers to one question say the same, TTLs and order apart.

    Of an answer that denies something only the denial counts: its SOA has a new serial number
    after every change elsewhere in the zone.
    """
    if old.kind is not new.kind:
        return False
    if old.kind or old.wire[HEADER_OCTETS:] == new.wire[HEADER_OCTETS:]:
        return True
    return _records(old) == _records(new)


def _records(entry: Entry) -> set[tuple[bytes, bytes]]:
    """Return the answer section as a set of (owner, type and class; RDATA), as they lie there."""
    wire = entry.wire
    start = HEADER_OCTETS + len(entry.key) - 1
    found = set()
    for at in entry.offsets[: wire[6] << 8 | wire[7]]:
        end = at + 6 + (wire[at + 4] << 8 | wire[at + 5])
        found.add((wire[start:at], wire[at + 6 : end]))
        start = end
    return found
