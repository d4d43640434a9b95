"""When queries are due: at a steady rate, or as soon as there is room.

At a steady rate the schedule does not wait for the server: a query that could not leave in time is
still due when it was due, and its latency counts from then. (Measuring from the moment of sending
hides every stall of the server but its first query: "coordinated omission".) Instants and spans are
whole microseconds; nothing here reads a clock.
"""

from __future__ import annotations

from collections import Counter


class FlatOut:
    """Every query is due at the moment when there is room for it."""

    late: Counter[int] = Counter()  # by definition none is

    def due(self, now: int, most: int) -> list[int]:
        """Return the instants of up to `most` queries that are due by `now`."""
        return [now] * most

    def sent(self, dues: list[int], now: int) -> None:
        """Note that the queries of these instants left at `now`."""

    def rest(self, _now: int) -> int | None:
        """Return how long until the next query is due; None if that depends on answers alone."""
        return None

    def unsent(self, _now: int) -> int:
        """Return how many queries that were due before `now` did not leave."""
        return 0


class Steady:
    """Queries at even distances from `start` on, `qps` a second."""

    def __init__(self, qps: float, start: int) -> None:
        self.late: Counter[int] = Counter()  # by how much queries left after they were due
        self._step = 1e6 / qps
        self._start = start
        self._count = 0

    def due(self, now: int, most: int) -> list[int]:
        """Return the instants of up to `most` queries that are due by `now`."""
        first, start, step = self._count, self._start, self._step
        last = min(int((now - start) / step) + 1, first + most)
        return [start + int(number * step) for number in range(first, last)]

    def sent(self, dues: list[int], now: int) -> None:
        """Note that the queries of these instants left at `now`."""
        self._count += len(dues)
        self.late.update([now - due for due in dues])

    def rest(self, now: int) -> int | None:
        """Return how long until the next query is due; None if that depends on answers alone."""
        return max(0, self._start + int(self._count * self._step) - now)

    def unsent(self, now: int) -> int:
        """Return how many queries that were due before `now` did not leave."""
        return max(0, int((now - 1 - self._start) / self._step) + 1 - self._count)


Pace = FlatOut | Steady
