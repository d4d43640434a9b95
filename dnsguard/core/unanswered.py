"""Questions of late that would get no answer in an outage, and why: a bounded memory.

Most of what is asked is in the cache, and the cache itself says when. What is asked and cannot be
kept leaves no trace there: names that nobody has ever answered, answers with a TTL of 0, good
answers that had to make room. Whoever looks ahead (`census`) finds them here. Nothing here is on
the way of a query that gets an answer from what is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dnsguard.core.cache import HITS_TO_PROTECT

if TYPE_CHECKING:
    from dnsguard.core.entry import Entry

UNANSWERED_MAX = 1024  # a flood of random names fills it and costs no more than this
NEVER_ANSWERED, TTL_ZERO, EVICTED, TOO_OLD = "never_answered", "ttl_0", "evicted", "too_old"


class Unanswered:
    """Keys with the instant they were last asked, and why there is nothing to answer with."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, key: bytes, why: str, now: float) -> None:
        """Remember that `key` was asked now and that nothing is kept to answer it with."""
        seen = self._seen
        if key in seen:
            seen.move_to_end(key)
        elif len(seen) >= UNANSWERED_MAX:
            seen.popitem(last=False)
        seen[key] = now, why

    def evicted(self, entry: Entry) -> None:
        """Take note of an answer that had to make room; one that nobody asked twice is no loss."""
        if entry.hits >= HITS_TO_PROTECT:
            self.note(entry.key, EVICTED, entry.asked)

    def why(self, key: bytes) -> str | None:
        """Return why nothing is kept to answer `key` with, if that was noted."""
        return self._seen.get(key, (0.0, None))[1]

    def since(self, instant: float) -> Iterator[tuple[bytes, str]]:
        """Yield (key, why) for what was asked at `instant` or later."""
        for key, (at, why) in self._seen.items():
            if at >= instant:
                yield key, why
