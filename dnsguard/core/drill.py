"""A rehearsal on a running instance: for some questions it is as if their upstreams had failed.

The questions go to an engine beside the real one (`shadow`), which knows what that one knows. What
it asks is never sent: nobody answers (silent), SERVFAIL comes back (failing), or a denial of every
name (wrong). So a client gets what it would get, and when the drill is over the real health, cache
and guard are what they were. The real upstream is asked now and then, as a trouble that is real
ends a drill; so does a share of failed look-ups above what was allowed. Questions that wait at the
end are asked for real. While no drill runs, nothing here is on the way of a query.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from heapq import heappop, heappush
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from dnsguard.core.actions import Notice
from dnsguard.core.intake import route
from dnsguard.core.reply import span
from dnsguard.core.shadow import Lending, shadow_of
from dnsguard.core.unanswered import NEVER_ANSWERED, TOO_OLD
from dnsguard.core.wire import (
    HEADER_OCTETS,
    NOERROR,
    NXDOMAIN,
    QR,
    RA,
    RCODE,
    RD,
    RECORD,
    SERVFAIL,
    T_SOA,
    U16,
    Malformed,
    name_octets,
    read_query,
)

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine
    from dnsguard.core.flights import Ask
    from dnsguard.core.sending import Chance
    from dnsguard.core.zones import ZoneState

KINDS = ("silent", "failing", "wrong")
SECONDS_MAX = 4 * 3600.0  # as long as the outage of OpenAI on 2024-12-11
LOOKUPS_MIN = 20  # before a share of them says anything
NAMES_MAX = 100  # told by name; the rest are counted
NAMES_COUNTED_MAX = 100_000
EVENTS_MAX = 20
LOOK_SECONDS = 1.0  # between looks at the real upstreams, and at the end of the time
TRIP_SECONDS = 0.001  # what an upstream takes whose round trip nobody knows
DENIED = "denied"  # beside the reasons of `unanswered`: why a name has no answer

# A made-up denial lives as short as CoreDNS's own do: clients may believe it for so long after.
DENIAL_TTL = 5
_NAMES = name_octets("drill.dnsguard.invalid") + name_octets("nobody.invalid")
_SOA = _NAMES + Struct("!5I").pack(1, 7200, 1800, 86400, DENIAL_TTL)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rehearsed: for which names, how, for how many seconds, and when that is too much.

    `zone` is a name: it and all below it take part. `fraction` of the names do, each with all of
    its questions. The drill is ended when more than the share `abort_above` of look-ups fails.
    Drills of several processes that have one `salt` are for the same names; without one, it is
    drawn.
    """

    zone: str
    kind: str
    lasts: float
    fraction: float = 1.0
    abort_above: float = 0.05
    salt: int | None = None

    @property
    def words(self) -> str:
        """Return what is rehearsed, as a part of a sentence."""
        share = "" if self.fraction >= 1 else f"{self.fraction * 100:.3g}% of "
        below = "" if self.zone == "." else f" in {self.zone.rstrip('.')}"
        return f"{share}all names{below} as if every upstream were {self.kind}"


class Event(NamedTuple):
    """Something that would have been said, and how many seconds after the beginning."""

    at: float
    text: str


@dataclass(slots=True)
class Tally:
    """What became of the look-ups. `broken` are of names that failed before the drill as well."""

    lookups: int = 0
    failed: int = 0
    broken: int = 0
    longest: float = 0.0  # wait for an answer, in seconds


class _Taken:
    """A client's question that the drill has taken and not answered yet."""

    __slots__ = ("at", "client", "data", "key", "stream")

    def __init__(self, data: bytes, client: object, key: bytes, now: float, stream: bool) -> None:
        self.data = data
        self.client = client
        self.key = key
        self.at = now
        self.stream = stream


class Drill:
    """One drill, from `begin` on; `ended` says why it is over, and `aborted` that it was early."""

    def __init__(self, engine: Engine, plan: Plan, chance: Chance, now: float) -> None:
        self.plan = plan
        self.began = self.at = now
        self.ends = now + plan.lasts
        self.lasted = 0.0
        self.ended = ""
        self.aborted = self.over = False
        self.tally = Tally()
        self.sources: defaultdict[str, int] = defaultdict(int)
        self.names: set[int] = set()  # a checksum each, under the salt
        self.events: list[Event] = []
        self.to_fix: dict[bytes, tuple[int, str]] = {}  # name and type: how often, and why
        self.unnamed = 0  # failed look-ups of names beyond NAMES_MAX
        self.shadow = shadow_of(engine, chance, now)
        self._engine = engine
        self._suffix = name_octets(plan.zone)
        self._salt = chance.getrandbits(32) if plan.salt is None else plan.salt
        self._most = int(plan.fraction * (1 << 32))
        self.zones = _concerned(engine, self._suffix)
        self._open: set[_Taken] = set()
        self._coming: list[tuple[float, int, Ask]] = []  # answers under way, to whom
        self._sent = 0
        self._armed = float("inf")  # the instant at which the wheel looks at us next
        self._pulse_at = now + self._pause()

    # -- questions --------------------------------------------------------------------------

    def covers(self, name: bytes) -> bool:
        """True if the questions for a lowered name in wire form take part."""
        return name.endswith(self._suffix) and crc32(name, self._salt) < self._most

    def client(self, data: bytes, client: object, now: float, stream: bool = False) -> None:
        """Take a client's message in the engine's place."""
        engine = self._engine
        try:
            query = read_query(data, client, now, stream)
        except Malformed:
            engine.take(data, client, now, stream)
            return
        key = query.key
        if self.over or not self.covers(key[:-5]) or self._leads_away(key[:-5]):
            engine.take(data, client, now, stream)
            return
        if engine.is_loop(query, data, now):
            return
        entry = engine.cache.get(key)
        if entry is not None:  # it is asked for, and must not make room for what is not
            entry.hits += 1
            entry.recent = 2
            entry.asked = now
        if len(self.names) < NAMES_COUNTED_MAX:
            self.names.add(crc32(key[:-5], self._salt))
        taken = _Taken(data, client, key, now, stream)
        self._open.add(taken)
        self._cache.now = now
        self.shadow.client(data, taken, now, stream)
        self._settle(now)

    def _leads_away(self, name: bytes) -> bool:
        """True for a search that is walked for its client and may end outside of what is drilled.

        Whose upstreams are not to look dead.
        """
        autopath = self._engine.autopath
        return autopath.on and len(self._suffix) > 1 and bool(autopath.steps(name))

    @property
    def _cache(self) -> Lending:
        cache = self.shadow.cache
        assert isinstance(cache, Lending)
        return cache

    # -- what the shadow wants done ---------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Carry out what the shadow wants done; end the drill if too much has failed."""
        out = self.shadow.out
        while out.asks or out.replies:
            self.shadow.autopath.settle(now)
            asks, out.asks = out.asks, []
            for ask in asks:
                self._sent += 1
                if self.plan.kind != "silent":
                    trip = ask.server.health.trip.usual or TRIP_SECONDS
                    heappush(self._coming, (now + trip, self._sent, ask))
            replies = out.replies[:]
            out.replies.clear()
            for taken, wire in replies:
                assert isinstance(taken, _Taken)
                self._said(taken, wire, now)
        for notice in out.notices[: EVENTS_MAX - len(self.events)]:
            self.events.append(Event(now - self.began, notice.text))
        out.notices = []
        self._count(now)
        tally = self.tally
        if tally.lookups >= LOOKUPS_MIN and tally.failed > self.plan.abort_above * tally.lookups:
            share = f"{tally.failed} of {tally.lookups} look-ups failed"
            self.end(f"{share}, more than {self.plan.abort_above * 100:.3g}%", now)
        elif not self.over:
            self._arm(now)

    def _said(self, taken: _Taken, wire: bytes, now: float) -> None:
        """Hand a reply to its client, and see what it is worth."""
        self._open.discard(taken)
        self._engine.out.replies.append((taken.client, wire))
        tally = self.tally
        tally.lookups += 1
        tally.longest = max(tally.longest, now - taken.at)
        why = self._trouble(taken.key, wire, now)
        if why is None:
            self._engine.counters.drill["answered"] += 1
            return
        failure = self._engine.failures.get(taken.key)
        if failure is not None and failure.at <= self.began:
            tally.broken += 1
            self._engine.counters.drill["broken"] += 1
            return
        tally.failed += 1
        self._engine.counters.drill["failed"] += 1
        question = taken.key[:-3]
        if question in self.to_fix or len(self.to_fix) < NAMES_MAX:
            self.to_fix[question] = self.to_fix.get(question, (0, ""))[0] + 1, why
        else:
            self.unnamed += 1

    def _trouble(self, key: bytes, wire: bytes, now: float) -> str | None:
        """Return why a reply is of no use to its client; None if it is."""
        rcode = wire[3] & RCODE
        if rcode == SERVFAIL:
            if key in self.shadow.cache.index:
                return TOO_OLD
            return self._engine.unanswered.why(key) or NEVER_ANSWERED
        if rcode in (NOERROR, NXDOMAIN) and _NAMES in wire:
            # The made-up denial itself: true only of what is known not to exist.
            real = self._engine.cache.get(key)
            return None if real is not None and real.kind and now < real.dies() else DENIED
        return None

    def _count(self, now: float) -> None:
        """Count what the shadow has answered as what it is: answers to clients."""
        mine, real = self.shadow.counters, self._engine.counters
        for (source, rcode), count in mine.answers.items():
            real.answers[source, rcode] += count
            self.sources[source] += count
        mine.answers.clear()
        for reason, count in mine.stale.items():
            real.served_stale(reason, mine.stale_age(now), now, count)
        mine.stale.clear()

    # -- time -------------------------------------------------------------------------------

    def _arm(self, now: float) -> None:
        """Stand in the real engine's wheel at the instant at which something is to be done."""
        due = self.shadow.deadline()
        self.at = min(now + LOOK_SECONDS, self.ends, float("inf") if due is None else due)
        if self._coming:
            self.at = min(self.at, self._coming[0][0])
        if self.at < self._armed:
            self._armed = self.at
            self._engine.asking.wheel.set(self)

    def due(self, now: float) -> None:
        """Do everything that is due."""
        self._armed = float("inf")
        self._cache.now = now
        while self._coming and self._coming[0][0] <= now:
            ask = heappop(self._coming)[2]
            self.shadow.answer(ask, _answer(ask, self.plan.kind), now)
        self.shadow.tick(now)
        sick = next((zone for zone in self.zones if zone.state != "normal"), None)
        if sick is not None:
            self.end(f"zone {sick.name} is in {sick.state} for real", now)
        elif now >= self.ends:
            self.end("", now)
        else:
            self._pulse(now)
            self._settle(now)

    def _pause(self) -> float:
        return min(zone.stale.recheck for zone in self.zones)

    def _pulse(self, now: float) -> None:
        """Ask the real upstreams for a known name, which nobody else may do for a while."""
        if now < self._pulse_at:
            return
        engine = self._engine
        self._pulse_at = now + self._pause()
        for zone in self.zones:
            if not zone.known or len(engine.asking.flights) >= engine.policy.limits.inflight:
                continue
            zone.known.rotate(1)
            if zone.known[0] not in engine.asking.flights and zone.leisure(now):
                engine.sending.start(zone.known[0], zone, now)

    def end(self, why: str, now: float) -> None:
        """End it; `why` is empty when its time is over. Whoever waits is answered for real."""
        if self.over:
            return
        self.over = True
        engine = self._engine
        engine.drill = None
        route(engine)
        self._settle(now)
        self.ended, self.aborted = why or "its time is over", bool(why)
        self.lasted = now - self.began
        engine.counters.drills["aborted" if why else "finished"] += 1
        tally = self.tally
        text = (
            f"drill: over after {span(self.lasted)}: {self.ended}; of {tally.lookups} look-ups "
            f"{tally.failed} failed"
        )
        engine.out.notices.append(Notice("warning", "drill_over", text))
        for taken in sorted(self._open, key=lambda taken: taken.at):
            engine.take(taken.data, taken.client, now, taken.stream)
        self._open.clear()


def begin(engine: Engine, plan: Plan, chance: Chance, now: float) -> Drill | str:
    """Begin a drill; return why not if this is no moment for one."""
    if engine.drill is not None:
        return f"a drill runs already: {engine.drill.plan.words}"
    for zone in _concerned(engine, name_octets(plan.zone)):
        if zone.state != "normal":
            return f"zone {zone.name} is in {zone.state}: this is no drill"
    drill = Drill(engine, plan, chance, now)
    engine.drill = drill
    route(engine)
    engine.answering.forget()  # finished replies would pass the drill by
    text = f"drill: {plan.words}, for {span(plan.lasts)} at most"
    engine.out.notices.append(Notice("warning", "drill", text))
    drill.due(now)
    return drill


def _concerned(engine: Engine, suffix: bytes) -> list[ZoneState]:
    """Return the zones that names at and below `suffix` belong to."""
    below = [zone for zone in engine.zones.all if zone.suffix.endswith(suffix)]
    return list(dict.fromkeys([engine.zones.find(suffix), *below]))


def _answer(ask: Ask, kind: str) -> bytes:
    """Return the message by which an upstream that is `failing` or `wrong` answers an ask."""
    flight = ask.flight
    question = ask.wire[10 : 10 + len(flight.question)]  # in the spelling that was sent
    flags = QR | RD | RA | (SERVFAIL if kind == "failing" else NXDOMAIN)
    head = b"\0\0" + U16.pack(flags) + b"\0\1\0\0"
    if kind == "failing":
        return head + b"\0\0\0\0" + question
    suffix = flight.zone.suffix
    apex = len(flight.question) - 4 - len(suffix)
    owner = U16.pack(0xC000 | HEADER_OCTETS + apex) if len(suffix) > 1 else b"\0"
    record = owner + RECORD.pack(T_SOA, 1, DENIAL_TTL, len(_SOA)) + _SOA
    return head + b"\0\1\0\0" + question + record
