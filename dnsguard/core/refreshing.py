"""Refreshes that no client waits for: behind a stale answer, ahead of an expiry, for kept names.

None of them may cost what a client is waiting for: they begin only while there is room, where the
upstream is well, and not within the pause after a failure.
"""

from __future__ import annotations

from dnsguard.core.cache import Cache
from dnsguard.core.counters import Counters
from dnsguard.core.entry import Entry
from dnsguard.core.failures import Failures
from dnsguard.core.flights import PROBING
from dnsguard.core.keeping import KEEP_RETRY, Keep, Keeping
from dnsguard.core.policy import Policy
from dnsguard.core.sending import Sending
from dnsguard.core.staleness import held
from dnsguard.core.zones import ZoneState


class Refreshing:
    """Begins refreshes of what is remembered."""

    def __init__(
        self, policy: Policy, sending: Sending, cache: Cache, failures: Failures, counters: Counters
    ) -> None:
        self._policy = policy
        self._sending = sending
        self._cache = cache
        self._failures = failures
        self._counters = counters
        self._keeping = Keeping(sending.wheel)

    def obey(self, policy: Policy, now: float) -> None:
        """Follow this policy from now on, and keep its names fresh."""
        self._policy = policy
        self._keeping.begin(policy.keep_fresh, now)

    def behind(self, entry: Entry, now: float) -> None:
        """Refresh an entry that nobody waits for."""
        sending = self._sending
        flight = sending.flights.get(entry.key)
        if flight is not None:
            if flight.attempts == PROBING:
                sending.join(flight, now)
        elif len(sending.flights) < self._policy.limits.inflight:
            sending.start(entry.key, entry.zone, now)

    def ahead(self, entry: Entry, now: float) -> None:
        """Refresh an entry in the last part of its TTL, if enough clients have asked for it."""
        zone = entry.zone
        if entry.hits < self._policy.prefetch.min_hits or held(entry, zone, now):
            return
        if zone.waits and zone.leisure(now) and entry.key not in self._sending.flights:
            self._counters.prefetches += 1
            self.behind(entry, now)

    def kept(self, keep: Keep, zone: ZoneState, now: float) -> None:
        """Refresh a name of `keep_fresh.names` in the last tenth of its TTL, and for ever."""
        entry = self._cache.get(keep.key)
        early = 0.0
        if entry is not None:
            early = entry.expires - entry.ttl * self._policy.prefetch.fraction
        if now < early:
            keep.at = early
        else:
            failure = self._failures.get(keep.key)
            pausing = failure is not None and failure.at >= zone.recovered and now < failure.until
            pausing = pausing or (entry is not None and held(entry, zone, now))
            if not (pausing or zone.outage or keep.key in self._sending.flights):
                self._sending.start(keep.key, zone, now)
            keep.at = now + min(KEEP_RETRY, zone.stale.recheck)
        self._sending.wheel.set(keep)
