"""What is asked for because a good name was denied: names like it, at once and for a while after.

An event seldom strikes all names in the same instant: endpoints are taken out one Service after
another, nodes are missed one by one. Whoever looks once sees the first name fall among others that
stand. So a denied name and a few others are asked for again and again for as long as
`guard.window` is by default. That shows the others fall, and it shows a name that was away for
a moment, as in a restart, without a client who asks for it.
"""

from __future__ import annotations

from dnsguard.core.cache import Cache
from dnsguard.core.guard import Pool
from dnsguard.core.refreshing import Refreshing
from dnsguard.core.sending import Chance, Sending
from dnsguard.core.staleness import held
from dnsguard.core.zones import ZoneState

# Seconds after a denial, closer together where it is not believed yet. More than `SAMPLE_SECONDS`
# apart, so that whoever was affirmed in one round is asked in the next.
ROUNDS = (1.2, 2.5, 4.5, 8.0, 13.0)
WATCH_SECONDS = 15.0  # until a name may be watched anew
WATCHES_MAX = 256


class Watch:
    """A name that was denied, and when it is asked for again."""

    __slots__ = ("at", "began", "key", "over", "pool", "turn", "zone")

    def __init__(self, zone: ZoneState, key: bytes, pool: Pool, now: float) -> None:
        self.zone = zone
        self.key = key
        self.pool = pool
        self.began = now
        self.turn = 0
        self.at = now + ROUNDS[0]
        self.over = False


class Watching:
    """Asks for names that a guard wants to hear of. It judges nothing."""

    def __init__(
        self, cache: Cache, sending: Sending, refreshing: Refreshing, chance: Chance
    ) -> None:
        self._cache = cache
        self._sending = sending
        self._refreshing = refreshing
        self._chance = chance
        self.watches: dict[bytes, Watch] = {}

    def sample(
        self, zone: ZoneState, key: bytes, pool: Pool, now: float, at_once: bool = False
    ) -> set[bytes]:
        """Ask for names like the denied one; return the keys that are under way.

        `at_once`: also for names in the pause after a failure, as the source answers again.
        """
        asked = set()
        guard = zone.guard
        samples = [(other, pool) for other in guard.samples(key, pool, self._chance, now)]
        for other, kind in samples + guard.companions(key, now):
            entry = self._cache.get(other)
            if entry is None or entry.kind or entry.zone is not zone or now >= entry.dies():
                guard.forget(other, kind)
                continue
            pauses = held(entry, zone, now) and not (at_once and entry.reason != "guard")
            if zone.leisure(now) and not pauses:
                self._refreshing.behind(entry, now)
                if other in self._sending.flights:
                    asked.add(other)
        return asked

    def begin(self, zone: ZoneState, key: bytes, pool: Pool, now: float) -> None:
        """Watch a name that was denied, unless it is watched already, or too many are."""
        if key not in self.watches and len(self.watches) < WATCHES_MAX:
            watch = self.watches[key] = Watch(zone, key, pool, now)
            self._sending.wheel.set(watch)

    def due(self, watch: Watch, now: float) -> None:
        """Ask again, unless the name is back, or its zone asks for it as it is in doubt."""
        zone, key = watch.zone, watch.key
        entry = self._cache.get(key)
        back = entry is not None and not entry.kind and entry.stored > watch.began
        over = back or key in zone.guard.held or watch.turn == len(ROUNDS)
        if entry is None or entry.zone is not zone or over:
            watch.over = True
            del self.watches[key]
            return
        if zone.waits and zone.leisure(now):
            self._refreshing.behind(entry, now)
            self.sample(zone, key, watch.pool, now)
        watch.turn += 1
        watch.at = watch.began + (*ROUNDS, WATCH_SECONDS)[watch.turn]
        self._sending.wheel.set(watch)
