"""The last resort of a question that would fail: somebody else may know the answer.

Other processes of the same address may have learned it, or a store that a fleet shares may hold it.
They are asked when a client would get SERVFAIL and at no other time; the client waits a moment for
them, and then gets what it would have got at once. Who they are and how they are reached is not
known here: a search is an action, and its result comes back through `found` and `nowhere`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from dnsguard.core import reply
from dnsguard.core.actions import Actions
from dnsguard.core.entry import Entry
from dnsguard.core.kept import restore
from dnsguard.core.unanswered import NEVER_ANSWERED
from dnsguard.core.wire import SERVFAIL, Query
from dnsguard.errors import WireError

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine

# Seconds. A process beside us answers in one millisecond, a store in the cluster in a few; a client
# that has waited for `upstream.deadline` already gives up after five.
WAIT_SECONDS = 0.4
AGAIN_SECONDS = 5.0  # until a name that nobody knew is looked for again
SEARCHES_MAX = 2048  # under way at once: a client's flood must not become one elsewhere
MISSES_MAX = 8192  # names that nobody knew


class Search:
    """One question that is looked for, and who waits for the result."""

    def __init__(self, key: bytes, at: float) -> None:
        self.key = key
        self.at = at
        self.over = False
        self.waiters: list[tuple[Query, int | None, str]] = []


class Elsewhere:
    """All searches of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._out: Actions = engine.out
        self._searches: dict[bytes, Search] = {}
        self._misses: OrderedDict[bytes, float] = OrderedDict()  # until when it is not looked for
        self.at_least = 0.0  # who waits, waits until then: what somebody knows is on its way

    def look(self, query: Query, code: int | None, text: str, now: float) -> bool:
        """Have `query`, which fails with `code` and `text`, wait for a search; False if it cannot.

        False means that nobody knew it a moment ago, or that there is no room.
        """
        key = query.key
        search = self._searches.get(key)
        if search is None:
            until = self._misses.get(key)
            if (until is not None and now < until) or len(self._searches) >= SEARCHES_MAX:
                return False
            search = self._searches[key] = Search(key, max(now + WAIT_SECONDS, self.at_least))
            self._engine.asking.wheel.set(search)
            self._out.searches.append(key)
            self._engine.counters.searches += 1
        elif len(search.waiters) >= self._engine.policy.limits.waiters_per_question:
            return False
        search.waiters.append((query, code, text))
        return True

    def found(self, key: bytes, wire: bytes, stored: float, now: float) -> bool:
        """Take what was found, as a stranger's; False if it is of no use."""
        try:
            restore(self._engine, key, wire, stored, now)
        except WireError:
            return False
        return self.settle(key, now)

    def settle(self, key: bytes, now: float) -> bool:
        """Answer who waits for `key` from what is remembered now; False if that is nothing."""
        entry = self._engine.cache.get(key)
        if entry is None or now >= entry.dies():
            return False
        self._misses.pop(key, None)
        search = self._searches.pop(key, None)
        if search is not None:
            search.over = True
            self._engine.counters.found += 1
            for query, _, _ in search.waiters:
                self._answer(entry, query, now)
        return True

    def _answer(self, entry: Entry, query: Query, now: float) -> None:
        """Answer a query that was about to fail from an entry that has come."""
        engine = self._engine
        if now < entry.expires:
            self._out.replies.append((query.client, reply.fresh(entry, query, now)))
            engine.counters.answers["hit", entry.rcode] += 1
        else:
            reason = "outage" if entry.zone.outage else entry.reason
            engine.answering.stale(entry, query, reason, now)

    def nowhere(self, key: bytes, now: float) -> None:
        """Nobody knows `key`, or nobody has said so in time: its clients get their failure."""
        search = self._searches.pop(key, None)
        if search is None:
            return
        search.over = True
        self._misses.pop(key, None)
        if len(self._misses) >= MISSES_MAX:
            self._misses.popitem(last=False)
        self._misses[key] = now + AGAIN_SECONDS
        entry = self._engine.cache.get(key)
        for query, code, text in search.waiters:
            if entry is not None and now < entry.dies():  # an upstream came back meanwhile
                self._answer(entry, query, now)
            else:
                self._engine.unanswered.note(key, NEVER_ANSWERED, now)
                self._engine.answering.refuse(query, SERVFAIL, code, text)

    def end(self, now: float) -> None:
        """Wait for nothing any more."""
        for key in list(self._searches):
            self.nowhere(key, now)
