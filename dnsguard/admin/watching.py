"""What is kept for whoever looks at a running instance: samples, coverage, events of late.

One timer, a few seconds apart and off the way of queries, takes a sample and walks on through the
cache. All of it is bounded. The words and numbers that people see are put together in `status`,
from here and from the engine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from dnsguard import clock
from dnsguard.core.actions import Notice
from dnsguard.core.census import Census
from dnsguard.core.engine import Engine
from dnsguard.core.history import SAMPLE_SECONDS, History

EVENTS_MAX = 50
WALK_PAUSE = 0.02  # seconds between the parts of one walk: queries go first


class Happened(NamedTuple):
    """A notice and its instant."""

    at: float
    notice: Notice


class Watch:
    """The memory of one instance about itself."""

    def __init__(self, engine: Engine) -> None:
        now = clock.now()
        self.engine = engine
        self.began = now
        self.history = History(now)
        self.census = Census(engine, now)
        self.events: deque[Happened] = deque(maxlen=EVENTS_MAX)
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    def note(self, notice: Notice) -> None:
        """Remember that something happened."""
        self.events.append(Happened(clock.now(), notice))

    def start(self) -> None:
        """Take samples from now on, on the running event loop."""
        self._later(self._sample, SAMPLE_SECONDS)

    def stop(self) -> None:
        """Take no more."""
        for timer in self._timers.values():
            timer.cancel()

    def _later(self, what: Callable[[], None], seconds: float) -> None:
        if earlier := self._timers.get(what):
            earlier.cancel()  # a walk through very many entries outlasts the time between samples
        self._timers[what] = asyncio.get_running_loop().call_later(seconds, what)

    def _sample(self) -> None:
        self.history.sample(self.engine, clock.now())
        self._walk()
        self._later(self._sample, SAMPLE_SECONDS)

    def _walk(self) -> None:
        if not self.census.step(clock.now()):
            self._later(self._walk, WALK_PAUSE)
