"""What comes of an ask: which messages count as its answer, what silence means, when to give up.

A flight ends with an answer, with the failure of its last ask, or at its deadline. On the way every
outcome is evidence for the health of the server that was asked. What goes out is `sending`'s
business; what the answer is good for, and what waiting clients get, is the engine's: it is told
through `landed` and `crashed`. What matches follows RFC 5452.
"""

from __future__ import annotations

from collections.abc import Callable

from dnsguard.core.actions import Actions
from dnsguard.core.answer import Answer, Kind, read_answer
from dnsguard.core.counters import Counters
from dnsguard.core.edns import extended_rcode
from dnsguard.core.evidence import Evidence
from dnsguard.core.flights import FOREVER, PROBING, Ask, Flight
from dnsguard.core.health import Event, State
from dnsguard.core.policy import Policy
from dnsguard.core.reply import EDE_NETWORK
from dnsguard.core.sending import Chance, Sending
from dnsguard.core.wire import (
    BADCOOKIE,
    FORMERR,
    HEADER_OCTETS,
    NXDOMAIN,
    OPCODE,
    QR,
    RCODE,
    RCODE_NAMES,
    REFUSED,
    SERVFAIL,
    T_SOA,
    TC,
    U16,
)
from dnsguard.core.zones import KNOWN_PAUSE, REPEATS_EARNED, RETRY_MIN, Server, ZoneState
from dnsguard.errors import WireError

EDNS_PAUSE = 300.0  # seconds; who choked on EDNS is asked without (RFC 6891 section 6.2.2)
PROBES_MAX = 8  # on one flight, which each of them prolongs; an outage may last for days
SAMPLE_PAUSE = 0.001  # one round trip a millisecond is measured; more would only cost

_UP = State.UP  # an enum's members are slow to look up where every miss passes
REASONS = {SERVFAIL: "servfail", REFUSED: "refused"}  # any other rcode: invalid


class Asking:
    """All flights, and the servers they go to."""

    def __init__(
        self,
        policy: Policy,
        chance: Chance,
        out: Actions,
        counters: Counters,
        landed: Callable[[Flight, Answer, float], bool | None],
        crashed: Callable[[Flight, int, str, float], None],
        changed: Callable[[ZoneState, float], None],
        holds: Callable[[bytes], bool],
    ) -> None:
        self.sending = sending = Sending(policy, chance, out)
        self.policy = policy
        self.flights = sending.flights
        self.wheel = sending.wheel
        self._next = sending.next
        self._send = sending.send
        self._chance = chance
        self._counters = counters
        self._landed = landed
        self._crashed = crashed
        self._evidence = Evidence(out, sending.wheel, changed)
        self._holds = holds

    def obey(self, policy: Policy) -> None:
        """Follow another policy from now on."""
        self.policy = policy
        self.sending.obey(policy)

    @property
    def waited_for(self) -> bool:
        """True while a client waits for an upstream that may still answer."""
        return any(f.waiters and f.zone.waits for f in self.flights.values())

    # -- replies ----------------------------------------------------------------------------

    def answer(self, ask: Ask, data: bytes, now: float) -> bool:
        """Take a message whose source and id match `ask`; return False if it is not its answer.

        False means that the wait goes on (RFC 5452 section 9.1): one forged or broken datagram
        must not end it, nor count against the server.
        """
        flight = ask.flight
        if flight.over:
            return True
        question = flight.question
        end = HEADER_OCTETS + len(question)
        if len(data) < end:
            self._counters.ignored["short"] += 1
            return False
        flags = data[2] << 8 | data[3]
        if flags & (QR | OPCODE) != QR or data[4:6] != b"\0\1":
            self._counters.ignored["not_a_reply"] += 1
            return False
        if data[HEADER_OCTETS:end] != question or self.policy.ask.case_randomization:
            asked = data[HEADER_OCTETS:end]
            if not self._matches(ask, asked, question):
                self._counters.ignored["question"] += 1
                return False
        if (borne := ask.server.dress.accepts(data, end)) is not True and ask.wire[8:10] != b"\0\0":
            if borne is False:
                self._counters.ignored["cookie"] += 1
                return False
            if self._unproven(ask, now):
                return True
        rcode = flags & RCODE
        if rcode != 0 and rcode != NXDOMAIN:
            if rcode == BADCOOKIE & RCODE and extended_rcode(data, end) == BADCOOKIE:
                self._bad_cookie(ask, now)
            else:
                self._bad(ask, rcode, data, now)
            return True
        if flags & TC:
            self._truncated(ask, now)
            return True
        limits = self.policy.cache
        qtype = question[-4] << 8 | question[-3]
        try:
            answer = read_answer(data, question, qtype, limits.max_ttl, limits.max_negative_ttl)
        except WireError:
            self._counters.ignored["garbage"] += 1
            return False
        if answer.rcode > RCODE:
            self._bad(ask, answer.rcode, data, now)
            return True
        self._good(ask, now)
        landed = self._landed(flight, answer, now)
        if landed is None:  # the same question is under way to another place
            flight.pending -= 1
            return True
        if not landed:
            self._fail(ask, "invalid", "an answer that does not answer", now)
            return True
        zone = flight.zone
        if now - zone.known_at >= KNOWN_PAUSE and answer.kind is Kind.POSITIVE:
            zone.remember(flight.key, now)
        self.sending.end(flight, now)
        return True

    def _matches(self, ask: Ask, asked: bytes, question: bytes) -> bool:
        if self.policy.ask.case_randomization:
            return asked == ask.wire[10 : 10 + len(question)]
        return asked[:-4].lower() == question[:-4] and asked[-4:] == question[-4:]

    def _count(self, ask: Ask, outcome: str) -> None:
        ask.server.health_over(ask.stream).outcomes[outcome] += 1

    def _good(self, ask: Ask, now: float) -> None:
        """The server answered: the hot end of a miss, so the usual case is spelled out here."""
        server = ask.server
        health = server.health if not ask.stream else server.health_over(True)
        health.outcomes["ok"] += 1
        server.repeats += REPEATS_EARNED
        trip, took = health.trip, now - ask.sent
        if now - trip.at >= SAMPLE_PAUSE and took <= self.policy.ask.deadline:  # later: we slept
            trip.add(took, now)
            for zone in server.zones:
                zone.settle()
        if health.state is _UP:
            health.heard = now
            health.strikes = 0
        else:
            self._evidence.note(server, health, Event.GOOD, now)

    def _truncated(self, ask: Ask, now: float) -> None:
        """Ask the same server again over TCP (RFC 7766 section 5)."""
        if ask.stream:
            self._count(ask, "invalid")
            self._fail(ask, "invalid", "a truncated answer over TCP", now)
            return
        self._good(ask, now)
        self._over_tcp(ask, now)

    def forged(self, ask: Ask, now: float) -> None:
        """Someone guesses at the id of `ask`: its answer is taken over TCP, and so cannot be one.

        The guesses say nothing of the server, and no answer over UDP is believed any more.
        """
        if not ask.flight.over:
            self._counters.ignored["forged"] += 1
            self._over_tcp(ask, now)

    def _unproven(self, ask: Ask, now: float) -> bool:
        """Take a reply without a cookie from a server that gives them; True if it is not believed.

        RFC 7873 section 5.3 has it thrown away. Over TCP it will be told whether the server has
        stopped giving cookies; where TCP fails, that is what is taken for granted.
        """
        server = ask.server
        if ask.stream or not server.stream_health.up:
            server.dress.learn(b"")
            return False
        self._counters.ignored["cookie"] += 1
        self._over_tcp(ask, now)
        return True

    def _bad_cookie(self, ask: Ask, now: float) -> None:
        """The server wants its own cookie back: once more with that, then over TCP (RFC 7873 5.3).

        Behind one address there may be several servers, each with a secret of its own.
        """
        flight, server = ask.flight, ask.server
        self._count(ask, "badcookie")
        server.health_over(ask.stream).heard = now
        first = next(a for a in flight.asks if a.server is server)
        if ask.stream:
            self._fail(ask, "invalid", f"{server.label} answered BADCOOKIE over TCP", now)
        elif ask is first and server.dress.server not in ask.wire:
            flight.pending -= 1
            self._send(flight, server, False, now, ask.probe)
        else:
            self._over_tcp(ask, now)

    def _over_tcp(self, ask: Ask, now: float) -> None:
        """Ask the same server again over TCP, once for a flight; this ask counts no more."""
        flight = ask.flight
        flight.pending -= 1
        health = ask.server.stream_health
        if health.dead and now < health.probe_at:
            self._lost(flight, "unreachable", f"{ask.server.label} fails over TCP", now)
            return
        if any(a.stream and a.server is ask.server for a in flight.asks):
            if flight.pending <= 0:  # it was asked over TCP already, to no avail
                self._lost(flight, flight.reason, flight.text, now)
            return
        if not health.up:
            health.probed(now, flight.zone.stale.recheck, self._chance.random())
        flight.silent_at = max(flight.silent_at, now + flight.zone.patience)
        flight.plan()
        self._send(flight, ask.server, True, now, probe=not health.up)

    def _bad(self, ask: Ask, rcode: int, data: bytes, now: float) -> None:
        """The server answered with an rcode that answers nothing (RFC 8767: a failure)."""
        flight, server = ask.flight, ask.server
        health = server.health_over(ask.stream)
        name = RCODE_NAMES.get(rcode, f"rcode {rcode}")
        self._count(ask, name.lower().replace(" ", "_"))
        if rcode == FORMERR and data[10:12] == b"\0\0" and ask.wire[8:10] != b"\0\0":
            server.edns_again_at = now + EDNS_PAUSE
            flight.pending -= 1
            if not any(a.server is server and a.wire[8:10] == b"\0\0" for a in flight.asks):
                self._send(flight, server, ask.stream, now, ask.probe)
            elif flight.pending <= 0:  # it was asked without EDNS already, to no avail
                self._lost(flight, "invalid", f"{server.label} answered {name}", now)
            return
        # Once a flight: three tries for one name are one piece of evidence. While it is suspect,
        # only the probes' results count, lest one broken name keep the others' server down.
        health.heard = now
        if (ask.probe or (not flight.failures and health.up)) and self._holds(flight.key):
            if health.another(sum(len(zone.known) for zone in server.zones)):
                health.strikes += 1
                health.probe_at = now
                self._evidence.watch(server)
            else:
                self._evidence.note(server, health, Event.BAD, now)
        self._fail(ask, REASONS.get(rcode, "invalid"), f"{server.label} answered {name}", now)

    # -- failures ---------------------------------------------------------------------------

    def failed(self, ask: Ask, event: Event, now: float) -> None:
        """Take a network's refusal of `ask`: Event.REFUSED or Event.UNREACHABLE."""
        flight = ask.flight
        if flight.over:
            return
        self._count(ask, event.value)
        self._evidence.note(ask.server, ask.server.health_over(ask.stream), event, now)
        what = "refused the packet" if event is Event.REFUSED else "cannot be reached"
        flight.code = EDE_NETWORK
        self._fail(ask, "unreachable", f"{ask.server.label} {what}", now)

    def _fail(self, ask: Ask, reason: str, text: str, now: float) -> None:
        flight = ask.flight
        flight.pending -= 1
        flight.failures += 1
        self._lost(flight, reason, text, now)

    def _lost(self, flight: Flight, reason: str, text: str, now: float) -> None:
        """One ask of the flight is lost: try again at once, or give up when none is left."""
        flight.reason, flight.text = reason, text
        if flight.attempts < self.policy.ask.attempts and self._may_repeat(flight, now):
            self._next(flight, now)
        elif flight.pending <= 0:
            self._crash(flight, now)

    def _may_repeat(self, flight: Flight, now: float) -> bool:
        """True if the flight's next ask may go out, to whom it would go."""
        if flight.zone.outage:
            return False
        return self.sending.choose(flight).repeat(self._holds(flight.key), now)

    def _crash(self, flight: Flight, now: float) -> None:
        if flight.attempts != PROBING:  # a dead server's probe says nothing of what others know
            self._crashed(flight, flight.code, flight.text, now)
        self.sending.end(flight, now)

    # -- time -------------------------------------------------------------------------------

    def flight_due(self, flight: Flight, now: float) -> bool:
        """Do what a flight's timers ask for; return True if its clients should stop waiting."""
        late = now >= flight.silent_at
        if late:
            self.sending.miss(flight, now)
            flight.silent_at = self._silence(flight, now)
        if now >= flight.ends:
            if not flight.text:
                flight.text = f"no answer from {', '.join(s.label for s in flight.zone.servers)}"
            self._crash(flight, now)
            return False
        if now >= flight.retry_at:
            if self._may_repeat(flight, now):
                self._next(flight, now)
            else:
                flight.retry_at = FOREVER
        self.sending.admit(flight.zone, now)
        flight.plan()
        self.wheel.set(flight)
        return late

    def _silence(self, flight: Flight, now: float) -> float:
        """Note which servers are silent; return when to look again where it is too early to tell.

        While a server is suspect only the silence of its probe counts: the A and the AAAA question
        of one client that got lost together are one piece of evidence, not two.
        """
        again, found = FOREVER, False
        for ask in flight.asks:
            health = ask.server.health_over(ask.stream)
            if health.heard > ask.sent:
                continue
            sure = ask.sent + health.trip.silence()
            if now < sure:
                again = min(again, sure)
                continue
            found = True
            self._count(ask, "silent")
            if ask.probe or health.up:
                self._evidence.note(ask.server, health, Event.SILENT, now)
        return FOREVER if found else again

    def probe(self, server: Server, now: float) -> None:
        """Send one probe to a server that is due for it: a question that it has answered before."""
        health = server.health
        if health.up or now < health.probe_at or not server.zones:
            return  # no zones: it went with the last change of settings
        server.zones.append(server.zones.pop(0))  # each zone in turn: one may fail as a whole
        zone = next((z for z in server.zones if z.known), server.zones[0])
        if zone.known:
            zone.known.rotate(1)
            key = next((k for k in zone.known if k not in self.flights), zone.known[0])
        else:
            key = zone.suffix + U16.pack(T_SOA) + b"\0\1\0"
        if health.probed_at > health.heard:  # the probe before came to nothing
            self._evidence.note(server, health, Event.SILENT, now)
        health.probed(now, zone.stale.recheck, self._chance.random())
        self._evidence.watch(server)
        flight = self.flights.get(key)
        if flight is not None and not flight.waiters and len(flight.asks) >= PROBES_MAX:
            self._crash(flight, now)
            flight = None
        if flight is None:
            flight = Flight(key, key[:-1], zone, now)
            flight.attempts = PROBING
            flight.ends = now + self.policy.ask.deadline
            flight.silent_at = now + max(zone.patience, RETRY_MIN)
            flight.plan()
            zone.inflight += 1
            self.flights[key] = flight
            self.wheel.set(flight)
        elif flight.queued:
            self.sending.unqueue(flight, now)
        elif not flight.waiters:
            flight.ends = now + self.policy.ask.deadline  # its answer must not come too late
            flight.plan()
        self._send(flight, server, server.streams, now, probe=True)
