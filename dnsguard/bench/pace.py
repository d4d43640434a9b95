"""When queries are due: at a steady rate, or as soon as there is room.

At a steady rate the schedule does not wait for the server: a query that could not leave in time is
still due when it was due, and its latency counts from then. (Measuring from the moment of sending
hides every stall of the server but its first query: "coordinated omission".) Instants and spans are
whole microseconds; nothing here reads a clock.
"""

from __future__ import annotations

import math
from collections import Counter


class FlatOut:
    """Every query is due at the moment when there is room for it."""

    def __init__(self, end: int) -> None:
        self.late: Counter[int] = Counter()  # by definition none is
        self._end = end

    def due(self, now: int, most: int) -> list[int]:
        """Return the instants of up to `most` queries that are due by `now`."""
        return [now] * most if now < self._end else []

    def sent(self, dues: list[int], now: int) -> None:
        """Note that the queries of these instants left at `now`."""

    def rest(self, _now: int) -> int | None:
        """Return how long until the next query is due; None if that depends on answers alone."""
        return None

    def unsent(self, _now: int) -> int:
        """Return how many queries that were due before `now` did not leave."""
        return 0


class Steady:
    """Queries at even distances from `start` on until `end`, `qps` a second."""

    def __init__(self, qps: float, start: int, end: int) -> None:
        self.late: Counter[int] = Counter()  # by how much queries left after they were due
        self._step = 1e6 / qps
        self._start = start
        self._total = math.ceil((end - start) / self._step)
        self._count = 0
        self._next = start  # when the next one is due

    def due(self, now: int, most: int) -> list[int]:
        """Return the instants of up to `most` queries that are due by `now`."""
        if now < self._next:
            return []
        first, start, step = self._count, self._start, self._step
        # By the same rounding as below: the instants are whole, the steps are not.
        by_now = max(int((now - start) / step), first) + 1
        last = min(by_now, first + most, self._total)
        return [start + int(number * step) for number in range(first, last)]

    def sent(self, dues: list[int], now: int) -> None:
        """Note that the queries of these instants left at `now`."""
        self._count += len(dues)
        self._next = self._start + int(self._count * self._step)
        self.late.update([now - due for due in dues])

    def rest(self, now: int) -> int | None:
        """Return how long until the next query is due; None if that depends on answers alone."""
        return max(0, self._next - now)

    def unsent(self, now: int) -> int:
        """Return how many queries that were due before `now` did not leave."""
        return max(0, min(math.ceil((now - self._start) / self._step), self._total) - self._count)


Pace = FlatOut | Steady
