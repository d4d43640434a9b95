"""What must hold at every step of a world, whatever happens in it.

Exactly one reply for each query, to the question that was asked; no answer past its expiry plus
`stale.max_age`; no TTL above the original's or of 0; one flight for a question and few packets for
a flight; no packet inside the pause after a failure; memory under its cap. A breach raises at the
step that committed it. Replies are read with dnspython, so that our own codec is not its own judge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode

from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.failures import FAILURE_FIRST
from dnsguard.core.flights import PROBING, Ask, Flight
from dnsguard.core.wire import KEY_TAILS, read_query

MADE_UP = "synthesized.dnsguard.invalid."
REHEARSED = "drill.dnsguard.invalid."
SLACK = 0.02  # seconds: a slot of the timer wheel, a late wake-up, and rounding
EDNS_AGAIN = 3  # a question may be sent once more without EDNS, with a cookie, and over TCP


@dataclass(eq=False)
class Asked:
    """One client's question, and in the end its reply."""

    data: bytes
    at: float
    stream: bool
    reply: bytes | None = None
    answered: float = 0.0

    @property
    def wait(self) -> float:
        """Seconds until the reply was there."""
        assert self.reply is not None
        return self.answered - self.at

    def read(self) -> Read:
        assert self.reply is not None
        return read(self.reply)


@dataclass(frozen=True)
class Read:
    """What stands in a reply."""

    rcode: str
    data: tuple[str, ...]  # of the answer section
    ttls: tuple[int, ...]  # of answer and authority
    sign: tuple[str, ...]  # the whole content but for its TTLs
    ede: tuple[tuple[int, str], ...]
    flags: int
    edns: bool
    negative_life: int | None  # of an SOA in the authority section


def read(octets: bytes) -> Read:
    return _read(octets[2:])


@lru_cache(maxsize=4096)
def _read(tail: bytes) -> Read:
    message = dns.message.from_wire(b"\0\0" + tail, raise_on_truncation=False)
    sections = (*message.answer, *message.authority)
    lives = [min(r.ttl, r[0].minimum) for r in message.authority if r.rdtype == 6]
    return Read(
        rcode=dns.rcode.to_text(message.rcode()),
        data=tuple(sorted(item.to_text() for rrset in message.answer for item in rrset)),
        ttls=tuple(rrset.ttl for rrset in sections),
        sign=(
            dns.rcode.to_text(message.rcode()),
            *sorted(
                f"{rrset.name} {rrset.rdtype} {item.to_text().rpartition(' ')[0]}"
                if rrset.rdtype == 6
                else f"{rrset.name} {rrset.rdtype} {item.to_text()}".lower()
                for rrset in sections
                for item in rrset
            ),
        ),
        ede=tuple((int(o.code), o.text or "") for o in message.extended_errors()),
        flags=message.flags,
        edns=message.edns >= 0,
        negative_life=lives[0] if lives else None,
    )


@dataclass
class Version:
    """What an upstream said of a question, and when."""

    at: float
    life: float
    most: int  # the highest TTL in it


class Watch:
    """Sees every query, reply, ask and answer of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shadow: Engine | None = None  # of a drill: its outages are as good as real ones
        self._waiting: dict[int, Asked] = {}
        self._versions: dict[tuple[bytes, tuple[str, ...]], Version] = {}
        self._flights: dict[int, Flight] = {}
        self._by_key: dict[bytes, Flight] = {}
        # Until when a question must not be asked again, and the entry that remembers it, if any.
        self._closed: dict[bytes, tuple[float, Entry | None]] = {}
        self._landed: set[int] = set()
        self._refreshing: set[int] = set()  # flights that began with an entry to be refreshed
        self._packets: dict[int, int] = {}
        self._latest: dict[bytes, tuple[str, ...]] = {}  # what was kept last of a question

        self._deadline = self._attempts = 0.0  # the highest of all policies so far
        self.reloaded()

    def reloaded(self) -> None:
        """New settings hold; what was begun under the old ones goes on as it was."""
        ask = self.engine.policy.ask
        self._deadline = max(self._deadline, ask.deadline)
        self._attempts = max(self._attempts, ask.attempts)
        self._closed.clear()

    def inherit(self, before: Watch) -> None:
        """Go on for an engine that begins anew: what upstreams said before it is still known."""
        self._versions = before._versions
        self._deadline, self._attempts = before._deadline, before._attempts

    def forget_waiting(self) -> None:
        """The process was killed: nobody who waits will be answered."""
        self._waiting.clear()

    def slept(self, seconds: float) -> None:
        """The machine slept, and who waited slept with it or waits no longer."""
        for asked in self._waiting.values():
            asked.at += seconds

    def restored(self, key: bytes, wire: bytes, stored: float, now: float) -> None:
        """An answer came back from a disk: it counts as stale, and dies when it would have."""
        found = read(wire)
        life, most = self._life(found)
        self._versions[key, found.sign] = Version(stored, min(life, now - stored), most)
        self._latest[key] = found.sign

    def patience(self) -> float:
        """The longest that anybody may have to wait, in seconds."""
        return self._deadline + SLACK

    # -- clients ----------------------------------------------------------------------------

    def asked(self, asked: Asked) -> None:
        self._waiting[id(asked)] = asked

    def replied(self, asked: Asked, octets: bytes, now: float) -> None:
        assert self._waiting.pop(id(asked), None) is asked, "a second reply to one query"
        asked.reply, asked.answered = octets, now
        query = read_query(asked.data, None, asked.at, asked.stream)
        steps = len(self.engine.autopath.steps(query.key[:-5])) if self.engine.autopath.on else 0
        # Each is a question of its own, and the first may be asked once more at the end.
        most = self.patience() * (steps + 1 if steps else 1)
        assert now - asked.at <= most, f"{now - asked.at:.3f} s are too long to wait"
        assert octets[:2] == query.id
        assert octets[12 : 12 + len(query.question)] == query.question
        assert len(octets) <= query.limit
        found = read(octets)
        assert found.flags & dns.flags.QR
        assert found.flags & dns.flags.RA
        assert not found.flags & dns.flags.AA
        assert found.edns == query.edns
        key, found = self._unaliased(query.key, found)
        pin = self.engine.pins.find(key, now)
        if pin is not None:
            assert set(found.data) <= set(pin.addresses)
            assert [code for code, _ in found.ede] == ([4] if found.edns else [])
        elif any(MADE_UP in record for record in found.sign):
            self._made_up(key, found, now)
        elif any(REHEARSED in record for record in found.sign):
            assert self.shadow is not None, "denied by a drill that there never was"
        elif self.engine.drill is not None and self.engine.drill.covers(query.key[:-5]):
            said = found.rcode not in ("NOERROR", "NXDOMAIN")
            assert said or (key, found.sign) in self._versions, "nobody ever said that"
        elif found.rcode in ("NOERROR", "NXDOMAIN") and not found.flags & dns.flags.TC:
            self._aged(key, found, now, bool(steps))

    def _unaliased(self, key: bytes, found: Read) -> tuple[bytes, Read]:
        """What the name that a search came to was answered with, if this is a search's reply."""
        for step in self.engine.autopath.steps(key[:-5])[1:]:
            alias = f"{dns.name.from_wire(key, 0)[0]} 5 {dns.name.from_wire(step, 0)[0]}".lower()
            if alias in found.sign:
                data = tuple(text for text in found.data if text.lower() != alias.split()[2])
                sign = tuple(text for text in found.sign if text != alias)
                return step + key[-5:], replace(found, data=data, sign=sign)
        return key, found

    def _made_up(self, key: bytes, found: Read, now: float) -> None:
        """An answer that nobody gave: in an outage only, and never over what is remembered."""
        engines = [self.engine, *([self.shadow] if self.shadow else [])]
        assert any(e.zones.find(key).outage for e in engines), "made up without need"
        entry = self.engine.cache.get(key)
        assert entry is None or now >= entry.dies(), "made up over what is remembered"
        assert found.rcode in ("NOERROR", "NXDOMAIN")
        assert found.data == ()
        assert found.negative_life == 5
        assert found.ede[:1] == ((29, found.ede[0][1]),) if found.edns else found.ede == ()

    def _aged(self, key: bytes, found: Read, now: float, search: bool) -> None:
        """Hold an answer's age and TTLs against what upstreams said."""
        version = self._versions.get((key, found.sign))
        assert version is not None, f"nobody ever said {found.sign}"
        if search and now - version.at < 1:
            now = version.at  # on its way a search is told what a TTL takes for the same instant
        kept = self.engine.cache.get(key)
        assert (
            version.at == now
            or found.sign == self._latest.get(key)
            or (kept is not None and kept.stored <= version.at)  # believed, or restored, later on
        ), "an answer that was replaced"
        stale = self.engine.zones.find(key).stale
        expires = version.at + version.life
        assert now < expires + stale.max_age or now == version.at, (
            f"served {now - expires:.3f} s after its expiry; {stale.max_age} s are allowed"
        )
        marked = any(code in (3, 19) for code, _ in found.ede)
        if now < expires or now == version.at:
            age = int(now - version.at)
            limit = version.most - age
            assert not marked or age == 0 or version.life == 0, "a fresh answer marked as stale"
        else:
            limit = min(version.most, stale.answer_ttl)
            assert marked or not found.edns, "a stale answer that does not say so"
        for ttl in found.ttls:
            assert 0 < ttl <= limit or (ttl == 0 and version.at == now), (
                f"TTL {ttl} where at most {limit} is left"
            )

    def all_answered(self) -> None:
        assert not self._waiting, f"without a reply: {list(self._waiting.values())[:3]}"

    # -- upstreams --------------------------------------------------------------------------

    def sent(self, ask: Ask, now: float) -> None:
        flight = ask.flight
        key = flight.key
        assert ask.probe or not flight.over, "asked for a flight that is over"
        if id(flight) not in self._flights:
            other = self._by_key.get(key)
            assert other is None or other.over, "two flights for one question"
            self._flights[id(flight)] = self._by_key[key] = flight
            if self.engine.cache.get(key) is not None:
                self._refreshing.add(id(flight))
            closed, kept = self._closed.get(key, (0.0, None))
            evicted = kept is not None and self.engine.cache.get(key) is not kept
            inquiries = self.engine.guarding.inquiries.values()
            sample = any(key in inquiry.waits for inquiry in inquiries)
            watched = key in self.engine.guarding.watching.watches
            assert ask.probe or sample or watched or evicted or now >= closed - 1e-6, (
                f"asked {closed - now:.3f} s before the pause after its failure ended"
            )
        if not ask.probe:
            count = self._packets[id(flight)] = self._packets.get(id(flight), 0) + 1
            most = self._attempts + EDNS_AGAIN * len(flight.zone.servers) + flight.looks
            assert count <= most, f"{count} packets for one question"

    def learned(self, ask: Ask, data: bytes, now: float) -> None:
        """An upstream's message ended the wait for `ask`, whose flight was not over before."""
        flight = ask.flight
        try:
            found = read(data)
        except dns.exception.FormError:  # without the cookie that was due: never looked into
            assert not flight.over, "garbage that was taken for an answer"
            return
        if found.rcode not in ("NOERROR", "NXDOMAIN") or found.flags & dns.flags.TC:
            return
        if not flight.over:
            self._denied(flight, found, now)
            return
        crashed = self.engine.cache.get(flight.key)
        if crashed is not None and crashed.failed == now:
            self._denied(flight, found, now)
            return
        self._landed.add(id(flight))
        self.said(flight.key, found, now)

    def _denied(self, flight: Flight, found: Read, now: float) -> None:
        """A denial that is not believed yet, and may be later, as old as it is then."""
        if flight.denial is not None or flight.zone.guard.doubt:
            life, most = self._life(found)
            self._versions[flight.key, found.sign] = Version(now, life, most)

    def said(self, key: bytes, found: Read, now: float) -> None:
        """An upstream said `found` of the question in `key`, now or before the last restart."""
        life, most = self._life(found)
        self._versions[key, found.sign] = Version(now, life, most)
        entry = self.engine.cache.get(key)
        if entry is not None and entry.stored == now:
            self._latest[key] = found.sign

    def _life(self, found: Read) -> tuple[float, int]:
        """How long an answer lives in seconds, and the highest TTL in it."""
        limits = self.engine.policy.cache
        if found.data or found.negative_life is None:
            life = float(min((*found.ttls, limits.max_ttl))) if found.ttls else 0.0
            most = min(max(found.ttls, default=0), limits.max_ttl)
        else:
            life = float(min(found.negative_life, limits.max_negative_ttl))
            most = int(life)
        return life, most

    # -- every step -------------------------------------------------------------------------

    def step(self, now: float) -> None:
        cache = self.engine.cache
        assert sum(cache.octets) <= cache.max_octets, "more memory than allowed"
        for number, flight in list(self._flights.items()):
            if not flight.over:
                continue
            del self._flights[number]
            refresh = number in self._refreshing
            self._refreshing.discard(number)
            self._packets.pop(number, None)
            if number in self._landed:
                self._landed.discard(number)
                self._closed.pop(flight.key, None)
                continue
            if flight.attempts == PROBING:
                continue  # no more than a probe, which says nothing of the name
            entry = cache.get(flight.key)
            if flight.denial and (
                entry.stored == flight.denial[1] if entry is not None
                else flight.key not in self.engine.failures
            ):  # fmt: skip
                # Nobody could be asked for a second look, and the first was believed: no failure.
                # (A small cache may have lost it since.)
                self._closed.pop(flight.key, None)
                continue
            if entry is not None and now < entry.dies():
                # When it dies in the meantime, its name is as cold as any.
                until = min(now + flight.zone.stale.recheck, entry.dies())
                self._closed[flight.key] = until, entry
            elif refresh and flight.key not in self.engine.failures:
                self._closed.pop(flight.key, None)  # remembered by an entry that was evicted since
            else:
                self._closed[flight.key] = now + FAILURE_FIRST, None
        for zone in self.engine.zones.all:
            if zone.recovered == now:  # a recovery forgets what failed before it
                find = self.engine.zones.find
                self._closed = {k: t for k, t in self._closed.items() if find(k) is not zone}

    def books(self) -> None:
        """What the engine writes down must agree with what there is."""
        asking = self.engine.asking
        for zone in self.engine.zones.all:
            flying = [
                f for f in asking.flights.values() if f.zone is zone and not f.queued and not f.late
            ]
            assert zone.inflight == len(flying), "the count of questions under way is off"
        for key, flight in asking.flights.items():
            assert flight.key == key
            assert not flight.over
            assert key[-1:] in KEY_TAILS
