"""The timers of what an instance notes about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dnsguard.admin.watching import Watch
from dnsguard.core import census
from tests.core.world import World


class Timers:
    """An event loop whose clock stands still; `pending` is what it would call."""

    def __init__(self) -> None:
        self.pending: list[Timer] = []

    def call_later(self, seconds: float, what: Callable[[], None]) -> Timer:
        self.pending.append(Timer(self, what))
        return self.pending[-1]


class Timer:
    def __init__(self, timers: Timers, what: Callable[[], None]) -> None:
        self._timers, self.what = timers, what

    def cancel(self) -> None:
        if self in self._timers.pending:
            self._timers.pending.remove(self)

    def fire(self) -> None:
        self.cancel()
        self.what()


def test_a_walk_that_outlasts_the_samples_goes_on_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample once began a walk beside the one under way: at a million names, without end."""
    monkeypatch.setattr(census, "ENTRIES_AT_ONCE", 1)
    timers = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: timers)
    world = World()
    # The machine may have run for longer than an hour of the world's, and so nothing be recent.
    monkeypatch.setattr("dnsguard.clock.now", lambda: world.now)
    names = [f"n{n}.test" for n in range(5)]
    for name in names:
        world.put(name, "A", 60, "192.0.2.1")
        world.resolve(name)
    watch = Watch(world.engine)
    watch.start()
    for _ in range(3):  # the time of a sample has come again, each time before the walk's next part
        sample = next(t for t in timers.pending if t.what == watch._sample)
        sample.fire()
        assert len(timers.pending) == 2
    while walk := next((t for t in timers.pending if t.what == watch._walk), None):
        walk.fire()
    assert watch.census.coverage.whole.asked == 5
    watch.stop()
    assert timers.pending == []
