"""The queries that left by one socket and have no answer yet.

Ids are given out in turn and then again from 0, so that the id of a lost query comes again as late
as can be and a late answer does not pass for another's. For each id this keeps the instant from
which its latency counts. Knows no socket and no clock; instants are whole microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnsguard.net.mmsg import BATCH

IDS = 65536
IDS_ALL = 8 * IDS  # of all sockets together: each has room for a window, and memory is bounded
IDS_MIN = 1024
_WAITING = b"\1" * BATCH


def ids_of_each(sockets: int) -> int:
    """Return how many ids each of so many sockets uses: a power of two."""
    size = IDS
    while size > IDS_MIN and size * sockets > IDS_ALL:
        size //= 2
    return size


class Window:
    """Who waits on one socket. Queries must be added in the order of their instants."""

    __slots__ = ("_due", "_head", "_size", "_tail", "_waits", "open")

    def __init__(self, size: int = IDS) -> None:
        self.open = 0
        self._size = size
        # Counted on without end; an id is the rest by size. Before the tail nothing waits.
        self._head = 0
        self._tail = 0
        self._due = [0] * size
        self._waits = bytearray(size)  # 1 for an id that waits: bytes, because `find` is fast

    def next_id(self) -> int:
        """Return the id of the next query; those after it follow up to `room`."""
        return self._head % self._size

    def room(self) -> int:
        """Return how many queries may be added at once: up to a batch, and none that runs over."""
        size, head = self._size, self._head
        return min(BATCH, size - head % size, size - (head - self._tail))

    def add(self, dues: Sequence[int]) -> None:
        """Take over queries with ids from `next_id` on; their latency counts from `dues`."""
        first, count = self._head % self._size, len(dues)
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
        return self._sweep(self._head, before)

    def make_room(self) -> list[int]:
        """Stop waiting for those whose ids a next batch needs again; return their dues.

        Ids run out before time-outs do when one socket sends more than some 30,000 queries a
        second and loses one.
        """
        return self._sweep(self._head + BATCH - self._size, None)

    def give_up(self) -> list[int]:
        """Stop waiting for any; return the dues of those that were waited for."""
        return self._sweep(self._head, None)

    def _sweep(self, until: int, before: int | None) -> list[int]:
        """Move the tail up to `until`, or to the first that is due no earlier than `before`."""
        lost: list[int] = []
        waits, due, size = self._waits, self._due, self._size
        while self._tail < until:
            first = self._tail % size
            end = min(first + until - self._tail, size)
            found = waits.find(1, first, end)
            if found < 0:
                self._tail += end - first
                continue
            self._tail += found - first
            if before is not None and due[found] >= before:
                break
            waits[found] = 0
            lost.append(due[found])
            self._tail += 1
        self.open -= len(lost)
        return lost
