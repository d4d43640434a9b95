"""The queries that left by one socket and have no answer yet.

Ids are given out in turn (0 to 65535 and again from 0), so that the id of a lost query comes again
as late as can be and a late answer does not pass for another's. For each id this keeps the instant
from which its latency counts. Knows no socket and no clock; instants are whole microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnsguard.net.mmsg import BATCH

IDS = 65536
_WAITING = b"\1" * BATCH


class Window:
    """Who waits on one socket. Queries must be added in the order of their instants."""

    __slots__ = ("_due", "_head", "_tail", "_waits", "open")

    def __init__(self) -> None:
        self.open = 0
        # Counted on without end; an id is the rest by IDS. Before the tail nothing waits.
        self._head = 0
        self._tail = 0
        self._due = [0] * IDS
        self._waits = bytearray(IDS)  # 1 for an id that waits: bytes, because `find` is fast

    def next_id(self) -> int:
        """Return the id of the next query; those after it follow up to `room`."""
        return self._head % IDS

    def room(self) -> int:
        """Return how many queries may be added at once: up to a batch, and none that runs over."""
        head, tail = self._head, self._tail
        return min(BATCH, IDS - head % IDS, IDS - (head - tail))

    def add(self, dues: Sequence[int]) -> None:
        """Take over queries with ids from `next_id` on; their latency counts from `dues`."""
        first, count = self._head % IDS, len(dues)
        self._due[first : first + count] = dues
        self._waits[first : first + count] = _WAITING[:count]
        self._head += count
        self.open += count

    def settle(self, ids: Sequence[int], now: int, strays: list[int]) -> list[int]:
        """Note that answers with these ids came at `now`; return the latencies they tell of.

        Ids that nobody waits for tell none and are appended to `strays`.
        """
        waits, due = self._waits, self._due
        found = []
        for i in ids:
            if waits[i]:
                waits[i] = 0
                found.append(now - due[i])
            else:
                strays.append(i)
        self.open -= len(found)
        return found

    def expire(self, before: int) -> list[int]:
        """Stop waiting for the queries that were due earlier than `before`; return their dues."""
        lost: list[int] = []
        waits, due = self._waits, self._due
        while self._tail < self._head:
            first = self._tail % IDS
            end = min(first + self._head - self._tail, IDS)
            found = waits.find(1, first, end)
            if found < 0:
                self._tail += end - first
                continue
            self._tail += found - first
            if due[found] >= before:
                break
            waits[found] = 0
            lost.append(due[found])
            self._tail += 1
        self.open -= len(lost)
        return lost

    def give_up(self) -> list[int]:
        """Stop waiting for any; return the dues of those that were waited for."""
        last = self._due[(self._head - 1) % IDS]
        return self.expire(last + 1) if self.open else []
