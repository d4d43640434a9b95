"""What is due when: slots of a few milliseconds instead of one heap entry for every deadline.

Most deadlines never come true, because the answer arrives first; setting one costs a dictionary
look-up and an append, and forgetting one costs nothing: a thing that is over, or that has moved
its `at`, is passed by when its slot comes.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar

SLOTS_A_SECOND = 200  # 5 ms: finer than any timer here needs, coarse enough to share a wake-up


class Due(Protocol):
    """Something with a next instant; a thing that is `over` is forgotten."""

    at: float
    over: bool


Thing = TypeVar("Thing", bound=Due)


class Wheel(Generic[Thing]):
    """Things by the slot in which they fall due."""

    __slots__ = ("_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, list[Thing]] = {}
        self._order: list[int] = []

    def set(self, thing: Thing) -> None:
        """Remember `thing` until its `at`; call again whenever `at` moves to an earlier instant."""
        slot = int(thing.at * SLOTS_A_SECOND) + 1
        things = self._slots.get(slot)
        if things is None:
            self._slots[slot] = [thing]
            heappush(self._order, slot)
        else:
            things.append(thing)

    def next(self) -> float | None:
        """Return the instant at which `due` has something to look at, or None."""
        return self._order[0] / SLOTS_A_SECOND if self._order else None

    def due(self, now: float) -> list[Thing]:
        """Take out and return everything that is due at `now` and not over, each once.

        What was set early and has moved to a later instant is set again, not returned.
        """
        found: dict[int, Thing] = {}
        # The division is the one of `next`, lest rounding make its instant a little too early here.
        while self._order and self._order[0] / SLOTS_A_SECOND <= now:
            for thing in self._slots.pop(heappop(self._order)):
                if thing.over:
                    continue
                if thing.at > now:
                    self.set(thing)
                else:
                    found[id(thing)] = thing
        return list(found.values())
