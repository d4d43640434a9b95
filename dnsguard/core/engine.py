"""The life of one query, from its octets to its reply.

A query is read, its answer looked up; a fresh one is sent at once. An expired one is judged: asked
again while its client waits a moment, or served stale. A missing one is asked for. Whatever comes
of the asking, every query that was taken gets exactly one reply: from `_hit`, `_stale`, `_refuse`,
`_landed` or `_crashed`. The engine is fed octets and instants by `client`, `answer`, `failed` and
`tick`; what it wants done lies in `out`. It follows RFC 8767 for what is stale and RFC 9520 for
what failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dnsguard.core import reply
from dnsguard.core.actions import Actions, Notice
from dnsguard.core.answer import Answer, Kind
from dnsguard.core.answering import PACKETS_SHARE, Answering
from dnsguard.core.asking import Asking
from dnsguard.core.autopath import STEPS_MAX, Autopath
from dnsguard.core.cache import Cache
from dnsguard.core.counters import Counters
from dnsguard.core.elsewhere import Elsewhere, Search
from dnsguard.core.entry import Entry
from dnsguard.core.failures import Failures
from dnsguard.core.flights import PROBING, Ask, Flight
from dnsguard.core.guarding import Guarding, Pending
from dnsguard.core.keeping import Keep
from dnsguard.core.learned import Learned
from dnsguard.core.loops import Loops
from dnsguard.core.pins import Pin, Pins, pins_of
from dnsguard.core.policy import Policy
from dnsguard.core.refreshing import Refreshing
from dnsguard.core.reload import obey
from dnsguard.core.reply import EDE_UNREACHABLE
from dnsguard.core.schema import schema_of
from dnsguard.core.sending import Chance
from dnsguard.core.staleness import Verdict, judge, until
from dnsguard.core.unanswered import NEVER_ANSWERED, TTL_ZERO, Unanswered
from dnsguard.core.wire import (
    NOTIMP,
    REFUSED,
    SERVFAIL,
    T_ANY,
    T_AXFR,
    T_IXFR,
    T_OPT,
    Malformed,
    Query,
    read_query,
)
from dnsguard.core.zones import Server, ZoneState, build_zones

if TYPE_CHECKING:
    from dnsguard.core.drill import Drill
    from dnsguard.core.intake import Client, Tapped

META_FIRST, META_LAST = 249, 254  # TKEY to MAILA: never data, see RFC 6895 section 3.1
_POSITIVE = Kind.POSITIVE  # an enum's members are slow to look up where every miss passes
_FETCHED = ("upstream", 0)
_ANY = T_ANY.to_bytes(2, "big")


class Engine:
    """Everything that decides, for one process.

    `policy` is the operator's will, `chance` the source of randomness, `now` the present instant
    in seconds of a clock that never steps. `is_ours` tells whether a query that looks exactly like
    one of our own came from one of our own sockets; `cache` and `pins` are another's.
    """

    def __init__(
        self,
        policy: Policy,
        chance: Chance,
        now: float,
        is_ours: Callable[[object, Ask], bool] = lambda client, ask: True,
        cache: Cache | None = None,
        pins: Pins | None = None,
    ) -> None:
        self.policy = policy
        self.out = Actions()
        self.counters = Counters()
        octets = policy.cache.max_bytes
        self.cache = Cache(int(octets * (1 - PACKETS_SHARE))) if cache is None else cache
        self.failures = Failures()
        self.unanswered = Unanswered()
        self.cache.on_loss = self.unanswered.evicted
        self.answering = Answering(octets, self.out, self.counters, now)
        self.datagrams, self.streams = self.answering.datagrams, self.answering.streams
        self._stale, self._refuse = self.answering.stale, self.answering.refuse
        self.zones = build_zones(policy, now, {})
        self.schema = schema_of(policy.kubernetes, self.cache.index)
        self.pins = Pins(pins_of(policy)) if pins is None else pins
        self._pinned = self.pins.table  # nearly always empty, which costs a query nothing
        self.autopath = Autopath(policy.kubernetes, self.take, self.cache, self.out, self.answering)
        self.asking = Asking(
            policy, chance, self.out, self.counters,
            self._landed, self._crashed, self._zone_changed, self.cache.index.__contains__,
        )  # fmt: skip
        self.sending = self.asking.sending
        self.client: Client = self.take  # unless others take it first: see `intake`
        self.tap: Tapped | None = None
        self.drill: Drill | None = None
        self.answer = self.asking.answer  # an upstream's message
        self.failed = self.asking.failed  # the network's word that there will be none
        self.learned: Learned | None = None  # set by who keeps answers through a restart
        self.elsewhere: Elsewhere | None = None  # set by `look_elsewhere`
        self.prefetches = policy.prefetch.fraction > 0
        self.refreshing = Refreshing(policy, self.sending, self.cache, self.failures, self.counters)
        self.refreshing.obey(policy, now)
        self.guarding = Guarding(
            self.cache, self.sending, self.refreshing, chance, self.out, self.counters,
            self._store, self.forget,
        )  # fmt: skip
        self._loop = Loops(is_ours, self._abort, self.answering, self.out, self.counters)

    # -- a client's message -----------------------------------------------------------------

    def take(self, data: bytes, client: object, now: float, stream: bool = False) -> None:
        """Take a message from `client`, which is handed back with the reply."""
        try:
            query = read_query(data, client, now, stream)
        except Malformed as why:
            self.counters.malformed += 1
            if why.rcode is not None:
                self.counters.answers["failure", why.rcode] += 1
                self.out.replies.append((client, reply.malformed(data, why)))
            return
        if query.extra:
            query.extra = reply.keepalive(self.policy.limits.tcp_idle)
        key = query.key
        if self._pinned:
            pin = self.pins.find(key, now)
            if pin is not None:
                self.answering.pin(query, pin)
                return
        if self.autopath.on and self.autopath.take(query, data, now):
            return
        entry = self.cache.get(key)
        if entry is not None and now < entry.expires:
            self._hit(entry, query, data, now)
            return
        qtype = query.qtype
        if qtype >= META_FIRST or qtype == T_OPT:
            if META_FIRST <= qtype <= META_LAST or qtype == T_OPT:
                self._refuse(query, REFUSED if qtype in (T_AXFR, T_IXFR) else NOTIMP)
                return
            if qtype == T_ANY and not stream:
                # RFC 8482: never a big answer to a small datagram.
                self.counters.answers["failure", 0] += 1
                self.out.replies.append((client, reply.truncated(query)))
                return
        if entry is not None:
            verdict, reason = judge(entry, now)
            if verdict is Verdict.VERIFY:
                entry.hits += 1
                entry.recent = 2
                entry.asked = now
                self._wait(query, data, entry.zone, entry, now)
                return
            if verdict is not Verdict.DEAD:
                if self.is_loop(query, data, now):
                    return
                if verdict is Verdict.STALE:
                    self._stale(entry, query, reason, now, data, until(entry, now))
                else:
                    self._stale(entry, query, reason, now)
                    self.refreshing.behind(entry, now)
                return
        self._cold(query, data, now)

    def _hit(self, entry: Entry, query: Query, data: bytes, now: float) -> None:
        """Answer from an entry that has not expired."""
        entry.hits += 1
        entry.recent = 2
        entry.asked = now
        tick = entry.stored + int(now - entry.stored) + 1
        if self.prefetches and entry.ttl > 1:
            early = entry.expires - entry.ttl * self.policy.prefetch.fraction
            if now < early:
                tick = min(tick, early)
            elif self.is_loop(query, data, now):
                return
            else:
                self.refreshing.ahead(entry, now)
        wire = reply.fresh(entry, query, now)
        self.out.replies.append((query.client, wire))
        self.counters.answers["hit", entry.rcode] += 1
        if not query.options:
            packets = self.streams if query.stream else self.datagrams
            packets.add(data[2:], wire, min(tick, entry.expires), entry, "")

    # -- waiting ----------------------------------------------------------------------------

    def _cold(self, query: Query, data: bytes, now: float) -> None:
        """Answer a question for which nothing usable is remembered."""
        zone = self.zones.find(query.key)
        failure = self.failures.get(query.key)
        if failure is not None and now < failure.until and failure.at >= zone.recovered:
            self._fail(query, zone, failure.code, failure.text, now)
        elif zone.outage:
            text = f"no upstream of zone {zone.name} answers, and nothing is remembered"
            self._fail(query, zone, EDE_UNREACHABLE, text, now)
        else:
            self._wait(query, data, zone, None, now)

    def _fail(self, query: Query, zone: ZoneState, code: int, text: str, now: float) -> None:
        """Answer that it cannot be known; or, in an outage, that there is no such name."""
        if zone.outage and self.schema is not None:
            denial = self.schema.denial(query.key, zone, now)
            if denial is not None:
                self.answering.deny(query, denial)
                return
        if self.elsewhere is None or not self.elsewhere.look(query, code, text, now):
            self.unanswered.note(query.key, NEVER_ANSWERED, now)
            self._refuse(query, SERVFAIL, code, text)

    def _wait(
        self, query: Query, data: bytes, zone: ZoneState, entry: Entry | None, now: float
    ) -> None:
        """Let a query wait for its flight, starting one if there is none."""
        limits = self.policy.limits
        flight = self.asking.flights.get(query.key)
        if flight is None:
            if len(self.asking.flights) >= limits.inflight:
                self._shed(query, entry, now)
                return
            flight = self.sending.start(query.key, zone, now)
        else:
            self.counters.coalesced += 1
            if self._loop.broken(flight, query, data, now):
                return
            if flight.attempts == PROBING:
                self.sending.join(flight, now)
            if entry is not None and flight.late:
                self._stale(entry, query, "timeout", now)
                return
            if len(flight.waiters) >= limits.waiters_per_question:
                self._shed(query, entry, now)
                return
        flight.waiters.append(query)

    def _shed(self, query: Query, entry: Entry | None, now: float) -> None:
        """Answer at once what there is no room to wait for."""
        self.counters.shed += 1
        if entry is not None:
            self._stale(entry, query, "timeout", now)
        else:
            self._refuse(query, SERVFAIL, 0, "too many questions under way")

    def is_loop(self, query: Query, data: bytes, now: float) -> bool:
        """True if this query is one of our own asks, come back to us."""
        flight = self.asking.flights.get(query.key)
        return flight is not None and self._loop.broken(flight, query, data, now)

    # -- an upstream's message --------------------------------------------------------------

    def _landed(self, flight: Flight, answer: Answer, now: float) -> bool | None:
        """Take a flight's answer; False if a usable older one must not give way to it.

        None if the older one may have to, but the flight goes on until that is known.
        """
        key = flight.key
        old = self.cache.get(key)
        kind = answer.kind
        keep = kind is _POSITIVE
        if keep:
            if old is not None and flight.zone.guard.policy.mode != "off":
                self.guarding.affirmed(flight, old, now)
        else:
            keep = kind is Kind.NODATA or kind is Kind.NXDOMAIN
            if keep:
                if old is not None and now < old.dies():
                    believed = self.guarding.believes(flight, answer, old, now)
                    if not believed:
                        return None if believed is None else self._hold(flight, old, now)
            else:
                if kind is Kind.LAME and not answer.offsets:
                    return False  # it contradicts itself
                if old is not None and now < old.dies():
                    return False
        entry = Entry(key, answer, flight.zone, now)
        if keep and key[-5:-3] != _ANY:
            if answer.ttl > 0:
                self._store(entry, old, now)
            else:
                self.unanswered.note(key, TTL_ZERO, now)
                self.forget(key)  # RFC 8767 section 4: TTL 0 is never kept, nor what it ends
        if self.failures:
            self.failures.pop(key, None)
        waiters = flight.waiters
        if waiters:
            replies, observe = self.out.replies, self.counters.latency.observe
            for query in waiters:
                replies.append((query.client, reply.fresh(entry, query, now)))
                observe(now - query.at)
            if old is None:
                entry.hits = len(waiters)
                entry.asked = now
            counted = _FETCHED if entry.rcode == 0 else ("upstream", entry.rcode)
            self.counters.answers[counted] += len(waiters)
            flight.waiters = []
        return True

    def pin(self, pin: Pin) -> bool:
        """Answer a name from a pin from now on; False if there are too many."""
        self.answering.forget()
        return self.pins.put(pin)

    def _store(self, entry: Entry, old: Entry | None, now: float) -> None:
        """Remember an answer, in place of `old`, here and through a restart."""
        if self.learned is not None:
            self.learned.note(entry, old)
        self.cache.put(entry, now)

    def _hold(self, flight: Flight, entry: Entry, now: float) -> bool:
        """Go on with what is remembered although the upstream denies it."""
        flight.reason = "guard"
        self._not_refreshed(flight, entry, now)
        return True

    def _not_refreshed(self, flight: Flight, entry: Entry, now: float) -> None:
        """A refresh came to nothing: what is remembered, for those that wait and for a while."""
        entry.failed = now
        entry.reason = flight.reason
        if now >= entry.expires:
            entry.spoil()
        waiters, flight.waiters = flight.waiters, []
        for query in waiters:
            self.counters.latency.observe(now - query.at)
            self._stale(entry, query, flight.reason, now)

    def forget(self, key: bytes) -> None:
        """Remember no answer under `key` any more, here or through a restart."""
        self.cache.remove(key)
        if self.learned is not None:
            self.learned.forget(key)

    def _crashed(self, flight: Flight, code: int, text: str, now: float) -> None:
        """A flight ended without an answer: stale for its clients, or SERVFAIL."""
        key = flight.key
        if self.guarding.inquiries:
            self.guarding.told(key, now)
        entry = self.cache.get(key)
        if entry is not None and now < entry.dies():
            self._not_refreshed(flight, entry, now)
            if flight.denial is not None:
                self.guarding.unanswered(flight, entry, now)
            return
        waiters, flight.waiters = flight.waiters, []
        self.failures.note(key, code, text, flight.zone.recovered, now)
        for query in waiters:
            self.counters.latency.observe(now - query.at)
            self._fail(query, flight.zone, code, text, now)

    def look_elsewhere(self) -> Elsewhere:
        """Ask others before a client gets SERVFAIL, from now on; whoever can do so calls this."""
        self.elsewhere = self.elsewhere or Elsewhere(self)
        return self.elsewhere

    def _zone_changed(self, zone: ZoneState, now: float) -> None:
        """A zone went into outage or came out of it: no finished reply may outlive that."""
        self.answering.forget()
        if zone.outage:
            text = f"zone {zone.name}: outage; serving last-known-good answers"
            self.out.notices.append(Notice("warning", "outage", text))
            self._deny_waiting(zone, now)
        else:
            lasted = now - zone.outage_since
            text = f"zone {zone.name}: back to normal after {lasted:.1f} s of outage"
            self.out.notices.append(Notice("warning", "recovered", text))

    def _deny_waiting(self, zone: ZoneState, now: float) -> None:
        """Let nobody wait any longer for what can be denied, now that it is an outage."""
        if self.schema is None:
            return
        for flight in self.asking.flights.values():
            if flight.zone is not zone or not flight.waiters or flight.key in self.cache.index:
                continue
            denial = self.schema.denial(flight.key, zone, now)
            if denial is not None:
                waiters, flight.waiters = flight.waiters, []
                for query in waiters:
                    self.counters.latency.observe(now - query.at)
                    self.answering.deny(query, denial)

    # -- time -------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do everything that is due at `now`."""
        self.answering.now = now
        for thing in self.asking.wheel.due(now):
            if isinstance(thing, Flight):
                if not thing.over and self.asking.flight_due(thing, now):
                    self._give_up_waiting(thing, now)
            elif isinstance(thing, Server):
                self.asking.probe(thing, now)
            elif isinstance(thing, Pending):
                self.guarding.due(thing, now)
            elif isinstance(thing, Search):
                assert self.elsewhere is not None
                self.elsewhere.nowhere(thing.key, now)
            elif thing is self.drill:
                self.drill.due(now)
            else:
                assert isinstance(thing, Keep)
                self.refreshing.kept(thing, self.zones.find(thing.key), now)

    def _give_up_waiting(self, flight: Flight, now: float) -> None:
        """The clients' timer fired: who can have a stale answer gets it (RFC 8767 section 5)."""
        entry = self.cache.get(flight.key)
        if entry is None or now >= entry.dies():
            return
        waiters, flight.waiters = flight.waiters, []
        for query in waiters:
            self.counters.latency.observe(now - query.at)
            self._stale(entry, query, "timeout", now)

    def deadline(self) -> float | None:
        """Return the instant at which `tick` has something to do next, or None."""
        return self.asking.wheel.next()

    # -- settings, counting, the end --------------------------------------------------------

    def reload(self, policy: Policy, now: float) -> None:
        """Obey a new policy; answers stay, and upstreams that stay keep their health."""
        obey(self, policy, now)

    def fold(self, now: float) -> None:
        """Bring the counters up to date, as before a scrape."""
        self.answering.fold(now)

    def shutdown(self, now: float) -> None:
        """Answer everything that still waits; what is asked after this is not answered."""
        if self.drill is not None:
            self.drill.end("dnsguard is stopping", now)
        if self.elsewhere is not None:
            self.elsewhere.end(now)
            self.elsewhere = None
        for _ in range(STEPS_MAX):
            for flight in list(self.asking.flights.values()):
                self._abort(flight, EDE_UNREACHABLE, "dnsguard is stopping", now)
            self.autopath.settle(now)  # a search that is under way may ask for its next step
        self.out.asks.clear()

    def _abort(self, flight: Flight, code: int, text: str, now: float) -> None:
        self._crashed(flight, code, text, now)
        self.sending.end(flight, now)
