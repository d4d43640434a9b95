"""What the guard does about a good name that is denied: look again, ask others, hold, restore.

A denial of what was good is not stored at once. The same question goes to another upstream, or to
the same one over the other transport, and a few names like it are asked for as well, now and for a
while (see `watching`). If they stand, the name is believed to be gone: six round trips after it was
asked for, or, if it was good until a moment ago, once its TTL has been over for `PATIENCE` seconds.
If they are denied too, the zone goes into *doubt* (see `doubting`). To hold a name costs nothing
new: it is a refresh that has failed, tried again after `stale.recheck`, and it dies when it would
have died (RFC 8767).
"""

from __future__ import annotations

from collections.abc import Callable

from dnsguard.core.actions import Actions, Notice
from dnsguard.core.answer import Answer, Kind
from dnsguard.core.cache import Cache
from dnsguard.core.counters import Counters
from dnsguard.core.doubting import Doubt, Doubting
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.flights import Flight
from dnsguard.core.guard import AAAA, A, pool_of
from dnsguard.core.refreshing import Refreshing
from dnsguard.core.reply import span
from dnsguard.core.sending import Chance, Sending
from dnsguard.core.staleness import held
from dnsguard.core.watching import Watch, Watching
from dnsguard.core.wire import name_text
from dnsguard.core.zones import ZoneState

INQUIRY_SECONDS = 2.0  # for the samples' answers; with a client's TTL well below TTL + 5 s
# A name that was affirmed within its TTL is held for so long past it, as an event may be about to
# show, or the name only be restarted. It is masked for no longer than TTL + 5 s, whenever it was
# deleted; whoever asks for it later than that is told at once.
PATIENCE = 4.0
# So long after an outage, and after a refresh of the same name that failed: an upstream that has
# just come back may not know everything again.
SETTLING = 10.0


def _question(key: bytes) -> str:
    return f"{name_text(key)} {'A' if key[-5:-3] == A else 'AAAA'}"


class Inquiry:
    """One denial that is not believed yet, and the samples that are still under way."""

    __slots__ = ("at", "denial", "key", "over", "waits")

    def __init__(self, key: bytes, waits: set[bytes], now: float) -> None:
        self.key = key
        self.waits = waits
        self.denial: tuple[Answer, float] | None = None  # once there were enough looks
        self.at = now + INQUIRY_SECONDS
        self.over = False


Pending = Inquiry | Watch | Doubt  # what has its time in the wheel


class Guarding:
    """The guard of all zones. `store` keeps an answer that is believed."""

    def __init__(
        self,
        cache: Cache,
        sending: Sending,
        refreshing: Refreshing,
        chance: Chance,
        out: Actions,
        counters: Counters,
        store: Callable[[Entry, Entry | None, float], None],
        forget: Callable[[bytes], None],
    ) -> None:
        self._cache = cache
        self._sending = sending
        self._refreshing = refreshing
        self.watching = Watching(cache, sending, refreshing, chance)
        self._out = out
        self._counters = counters
        self.doubting = Doubting(cache, sending.wheel, refreshing, out, counters, store, forget)
        self._store = store
        self.inquiries: dict[bytes, Inquiry] = {}

    # -- answers ----------------------------------------------------------------------------

    def affirmed(self, flight: Flight, old: Entry, now: float) -> None:
        """A name that was remembered has an answer with data, which replaces `old`."""
        key, guard = flight.key, flight.zone.guard
        if old.kind is Kind.POSITIVE:
            guard.affirmed(key, pool_of(old), now)
            if key in guard.emptied:
                self._filled(flight.zone, key, now)
            if flight.denial is not None:
                guard.dispute(key, now)
                self._count("disputed")
        elif self.doubting.came_back(guard, key, now):
            guard.dispute(key, now)
        if self.inquiries:
            self._end(key)
            self.told(key, now)
        if guard.doubt:
            guard.returned(key, now)
            # Anything more is for a round to find out, and not for every answer.
            if guard.back(now):
                self.doubting.leave_healed(flight.zone, now)

    def believes(self, flight: Flight, answer: Answer, old: Entry, now: float) -> bool | None:
        """Whether a denial takes the place of `old`; None if the flight goes on to find out."""
        mode = flight.zone.guard.policy.mode
        if old.kind is Kind.POSITIVE:
            return mode == "off" or self.denied(flight, answer, old, now)
        if mode != "enforce" or old.kind is not Kind.NODATA or answer.kind is not Kind.NXDOMAIN:
            return True
        if self._stands(flight, now):
            return False
        # It comes back with the addresses, if those do.
        self.doubting.put_aside(flight.key, old, now)
        return True

    def denied(self, flight: Flight, answer: Answer, old: Entry, now: float) -> bool | None:
        """A good name is denied. True: believe it. False: hold it. None: the flight goes on."""
        key, zone = flight.key, flight.zone
        guard = zone.guard
        pool = pool_of(old)
        guard.denied(key, pool, now)
        if self.inquiries:
            self.told(key, now)
        if guard.policy.mode == "observe":
            self._observe(zone, guard.suspicion(key, pool, now), now)
            return True
        if guard.doubts(key, pool, now):
            self._hold(zone, key)
            return False
        if key in guard.emptied and answer.kind is Kind.NODATA and guard.empty(key, now):
            self._count("held")
            return False
        flight.denial = answer, now
        flight.looks += 1
        inquiry = self.inquiries.get(key)
        if guard.policy.second_look and inquiry is None:
            asked = self.watching.sample(zone, key, pool, now, at_once=True)
            inquiry = self._inquire(key, asked, now)
        # Whoever waits for its patience to end has been looked at often enough.
        seen = inquiry is not None and inquiry.denial is not None
        if not seen and flight.looks < guard.looks(key, now):
            self._look_again(flight, now)
            return None
        return self._confirmed(zone, key, flight.denial, old, now)

    def unanswered(self, flight: Flight, old: Entry, now: float) -> None:
        """Nobody answered the second look; the first one stands for itself."""
        denial, zone = flight.denial, flight.zone
        if denial is None or zone.outage or zone.guard.doubt:
            return
        if self._confirmed(zone, flight.key, denial, old, now):
            self._replace(old, denial, now)

    def _stands(self, flight: Flight, now: float) -> bool:
        """True if the name that is denied is known to have addresses, which are not given up.

        Of such a name there is no NXDOMAIN for any type (RFC 8020): a libc that asks for both
        families would believe it and drop the addresses. Those are looked at, and judged, anew.
        """
        key, zone = flight.key, flight.zone
        for qtype in (A, AAAA):
            entry = self._cache.get(key[:-5] + qtype + key[-3:])
            if entry is None or entry.kind or entry.zone is not zone or now >= entry.dies():
                continue
            if now >= entry.expires and zone.leisure(now) and not held(entry, zone, now):
                self._refreshing.behind(entry, now)
            return True
        return False

    def told(self, key: bytes, now: float) -> None:
        """A question that may have been a sample has come to its end."""
        for inquiry in [i for i in self.inquiries.values() if key in i.waits]:
            inquiry.waits.discard(key)
            if not inquiry.waits and not inquiry.over:  # the one before may have led to doubt
                self._conclude(inquiry, now)

    # -- looking closer ---------------------------------------------------------------------

    def _look_again(self, flight: Flight, now: float) -> None:
        """Ask elsewhere: another upstream, or the same over TCP; else again, from another port."""
        asked = [ask.server for ask in flight.asks]
        others = [s for s in flight.zone.servers if s.health.up and s not in asked]
        last = flight.asks[-1]
        if others:
            server, stream = others[0], others[0].streams
        else:
            server = last.server
            # Once over TCP; then from other ports again. A connection is kept, and leads to one of
            # several replicas for as long as it lasts.
            stream = server.streams or (flight.looks == 1 and not server.stream_health.dead)
        self._sending.send(flight, server, stream, now)

    def _inquire(self, key: bytes, waits: set[bytes], now: float) -> Inquiry:
        inquiry = self.inquiries[key] = Inquiry(key, waits, now)
        self._sending.wheel.set(inquiry)
        return inquiry

    def _confirmed(
        self, zone: ZoneState, key: bytes, denial: tuple[Answer, float], old: Entry, now: float
    ) -> bool:
        """There were looks enough: True if the name is believed to be gone."""
        reason = zone.guard.suspicion(key, pool_of(old), now)
        if reason:
            self._doubt(zone, reason, now)
            self._hold(zone, key)
            return False
        inquiry = self.inquiries.get(key)
        if inquiry is not None and inquiry.waits:
            inquiry.denial = denial
            return False
        if denial[0].kind is Kind.NODATA and self._emptied(zone, key, now):
            return False
        if zone.guard.policy.second_look:
            self.watching.begin(zone, key, pool_of(old), now)
            failed = old.failed if old.reason != "guard" and old.failed < denial[1] else NEVER
            patient = max(old.expires + PATIENCE, max(zone.recovered, failed) + SETTLING)
            if now < patient:
                inquiry = inquiry or self._inquire(key, set(), now)
                inquiry.denial, inquiry.at = denial, patient
                self._sending.wheel.set(inquiry)
                return False
        self._believe(zone, key, old, now)
        return True

    def _emptied(self, zone: ZoneState, key: bytes, now: float) -> bool:
        """True if a name that has no addresses any more keeps those that it had."""
        guard = zone.guard
        if key[-5:-3] == AAAA:
            other = key[:-5] + A + key[-3:]
            entry = self._cache.get(other)
            if other not in guard.emptied and entry is not None and not entry.kind:
                return False
        if not guard.empty(key, now):
            return False  # it has had its time
        self._end(key)
        self._count("held")
        text = (
            f"zone {zone.name}: {_question(key)} has lost all its addresses, though the name "
            f"exists; serving the last good ones for {span(guard.policy.hold_empty)} at most"
        )
        self._out.notices.append(Notice("warning", "emptied", text))
        return True

    def _filled(self, zone: ZoneState, key: bytes, now: float) -> None:
        lasted = span(now - zone.guard.emptied.pop(key))
        text = f"zone {zone.name}: {_question(key)} has addresses again, after {lasted}"
        self._out.notices.append(Notice("warning", "filled", text))

    def _conclude(self, inquiry: Inquiry, now: float) -> None:
        """All samples are in, or have had their time."""
        key, denial = inquiry.key, inquiry.denial
        if denial is None and now < inquiry.at:
            return  # the looks are not done: they will see that no sample is missing
        entry = self._cache.get(key)
        if denial is None or entry is None or entry.kind:
            self._end(key)
            return
        self._end(key)
        zone = entry.zone
        if zone.guard.doubts(key, pool_of(entry), now):
            self._hold(zone, key)
        elif not zone.outage and self._confirmed(zone, key, denial, entry, now):
            self._replace(entry, denial, now)

    def _end(self, key: bytes) -> None:
        inquiry = self.inquiries.pop(key, None)
        if inquiry is not None:
            inquiry.over = True

    def due(self, thing: Pending, now: float) -> None:
        """Do what is due for an inquiry, a watched name or a zone in doubt."""
        if isinstance(thing, Inquiry):
            self._conclude(thing, now)
        elif isinstance(thing, Watch):
            self.watching.due(thing, now)
        else:
            self.doubting.due(thing, now)

    # -- believing and holding --------------------------------------------------------------

    def _replace(self, old: Entry, denial: tuple[Answer, float], now: float) -> None:
        """Store a denial as it was said, not when it came to be believed."""
        answer, said = denial
        self._store(Entry(old.key, answer, old.zone, said), old, now)

    def _believe(self, zone: ZoneState, key: bytes, old: Entry, now: float) -> None:
        self._end(key)
        self._count("believed")
        zone.guard.forget(key, pool_of(old))
        zone.guard.emptied.pop(key, None)
        self.doubting.put_aside(key, old, now)

    def _hold(self, zone: ZoneState, key: bytes) -> None:
        self._end(key)
        self._count("held")
        zone.guard.hold(key)

    def _count(self, verdict: str) -> None:
        self._counters.guard[verdict] += 1

    def _observe(self, zone: ZoneState, reason: str, now: float) -> None:
        self._count("observed")
        guard = zone.guard
        if reason and now - guard.suspected_at >= guard.policy.window:
            guard.suspected_at = now
            text = f"zone {zone.name}: guard.mode enforce would doubt it now: {reason}"
            self._out.notices.append(Notice("warning", "observed", text))

    def _doubt(self, zone: ZoneState, reason: str, now: float) -> None:
        self.doubting.begin(zone, reason, now)
        for inquiry in [i for i in self.inquiries.values() if i.denial is not None]:
            entry = self._cache.get(inquiry.key)
            if entry is not None and entry.zone is zone:
                self._hold(zone, inquiry.key)
