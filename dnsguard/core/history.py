"""The last half hour in samples: answers by source, and each upstream's round trip.

Someone takes a sample every few seconds, off the way of queries, from numbers that are counted
anyway. Rings are short and hold plain numbers: they are for a person's eye, and Prometheus keeps
the rest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from dnsguard.core.counters import SOURCES

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine

SAMPLE_SECONDS = 5.0
SAMPLES_MAX = 360  # half an hour
TRIPS_MAX = 120  # ten minutes


class History:
    """Rings of samples, oldest first."""

    __slots__ = ("_before", "answers", "at", "trips")

    def __init__(self, now: float) -> None:
        self.at = now  # the last sample's instant
        self._before = [0] * len(SOURCES)
        self.answers: deque[tuple[int, ...]] = deque(maxlen=SAMPLES_MAX)  # in SOURCES' order
        self.trips: dict[str, deque[float]] = {}  # by upstream; -1.0 while it is down

    def sample(self, engine: Engine, now: float) -> None:
        """Take one sample."""
        engine.fold(now)
        counts = dict.fromkeys(SOURCES, 0)
        for (source, _), count in engine.counters.answers.items():
            counts[source] += count
        present = list(counts.values())
        self.answers.append(tuple(n - m for n, m in zip(present, self._before, strict=True)))
        self._before, self.at = present, now
        servers = {server.label: server for zone in engine.zones.all for server in zone.servers}
        self.trips = {label: self.trips.get(label, deque(maxlen=TRIPS_MAX)) for label in servers}
        for label, server in servers.items():
            health = server.health
            self.trips[label].append(-1.0 if health.dead else health.trip.present)
