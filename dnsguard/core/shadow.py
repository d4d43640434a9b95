"""An engine beside the real one, to rehearse with: it knows what that knows, and spoils nothing.

It has health, flights, failures and a guard of its own, which begin as copies. Its cache lends what
the real one holds, copy by copy, when it is first looked for. Whatever it comes to believe ends
with it: nothing leads from here to the real cache, to a disk or to other processes. Pins are the
same for both, because an operator's word holds in an outage too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from dnsguard.core.cache import Cache
from dnsguard.core.engine import Engine
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.schema import schema_of

if TYPE_CHECKING:
    from dnsguard.core.sending import Chance
    from dnsguard.core.zones import Server, ZoneState

# Of cache.max_bytes, on top of it, for what is lent: what has to make room there is lent anew when
# it is asked for again.
MEMORY_SHARE = 1 / 8


class Lending(Cache):
    """A cache that finds what another one has, as copies of its own. `now` is the present."""

    __slots__ = ("_zone_of", "now", "real")

    def __init__(
        self, max_octets: int, real: Cache, zone_of: Callable[[bytes], ZoneState], now: float
    ) -> None:
        super().__init__(max_octets)
        self.real = real
        self.now = now
        self._zone_of = zone_of
        self.get = self.lend  # type: ignore[assignment]

    def lend(self, key: bytes) -> Entry | None:
        """Return the entry under `key`, which is a copy of the real one unless it has changed."""
        found = self.index.get(key)
        if found is None:
            real = self.real.get(key)
            if real is not None:
                found = copy(real)
                found.packets = None
                found.written = NEVER
                found.move(self._zone_of(key))
                self.put(found, self.now)
        return found


class _Lent(Mapping[bytes, Entry]):
    """The same as a mapping, for whoever looks names up without asking for them."""

    def __init__(self, cache: Lending) -> None:
        self._cache = cache

    def __getitem__(self, key: bytes) -> Entry:
        found = self._cache.lend(key)
        if found is None:
            raise KeyError(key)
        return found

    def __len__(self) -> int:
        return len(self._cache)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._cache.index)


def shadow_of(real: Engine, chance: Chance, now: float) -> Engine:
    """Return an engine that begins with what `real` knows at `now`; its asks are nobody's to send.

    What it answers is counted there, and how long it takes in the real one.
    """
    size = int(real.policy.cache.max_bytes * MEMORY_SHARE)
    cache_policy = replace(real.policy.cache, max_bytes=size)
    policy = replace(
        real.policy, keep_fresh=(), cache=cache_policy
    )  # the real one keeps names fresh

    def zone_of(key: bytes) -> ZoneState:
        return shadow.zones.find(key)

    cache = Lending(size, real.cache, zone_of, now)
    shadow = Engine(policy, chance, now, lambda client, ask: False, cache, real.pins)
    shadow.schema = schema_of(policy.kubernetes, _Lent(cache))
    shadow.failures.update(real.failures)
    shadow.counters.latency = real.counters.latency
    for zone, twin in zip(real.zones.all, shadow.zones.all, strict=True):
        for server, other in zip(zone.servers, twin.servers, strict=True):
            _resemble(other, server, shadow)
        twin.known.extend(zone.known)
        twin.known_at, twin.recovered = zone.known_at, zone.recovered
        twin.outage, twin.outage_since = zone.outage, zone.outage_since
        twin.guard = zone.guard.twin()
        twin.settle()
        for key in zone.known:
            cache.lend(key)  # a probe with a name counts only if it is known to be good
    return shadow


def _resemble(server: Server, real: Server, shadow: Engine) -> None:
    """Have a server of the shadow's be as well as the real one."""
    server.health = copy(real.health)
    server.health.trip = copy(real.health.trip)
    server.health.outcomes = defaultdict(int)
    if not server.health.up:
        server.at, server.over = server.health.probe_at, False
        shadow.asking.wheel.set(server)
