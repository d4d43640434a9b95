"""What goes to upstreams: the flights, whom each of them asks next, and when one is over.

A flight starts with one ask; further ones follow at its instants or when one is lost (RFC 9520
section 3.1: three tries). While a zone recovers, only so many are under way at once and the others
wait in line. What comes back, and what it means, is `asking`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dnsguard.core.actions import Actions
from dnsguard.core.edns import CLIENT_OCTETS, HEADS, Dress
from dnsguard.core.flights import FOREVER, Ask, Flight
from dnsguard.core.policy import Policy
from dnsguard.core.wheel import Due, Wheel
from dnsguard.core.wire import spell
from dnsguard.core.zones import Server, ZoneState

HEDGE_MIN = 0.01  # seconds before a hedged question goes to the second upstream as well


class Chance(Protocol):
    """Randomness, handed in: `random()` in [0, 1), `getrandbits(n)`."""

    def random(self) -> float: ...
    def getrandbits(self, k: int, /) -> int: ...


class Sending:
    """All flights, and the asks that they send."""

    def __init__(self, policy: Policy, chance: Chance, out: Actions) -> None:
        self.flights: dict[bytes, Flight] = {}
        self.wheel: Wheel[Due] = Wheel()
        self.obey(policy)
        self._chance = chance
        self._out = out

    # -- starting ---------------------------------------------------------------------------

    def start(self, key: bytes, zone: ZoneState, now: float) -> Flight:
        """Put a question under way; the caller has checked that none is for this key."""
        flight = Flight(key, key[:-1], zone, now)
        self.flights[key] = flight
        flight.ends = now + self.policy.ask.deadline
        if zone.ramp and not zone.room(now):
            flight.queued = True
            zone.queue.append(flight)
            flight.at = flight.ends
        else:
            zone.inflight += 1
            self.next(flight, now)
        self.wheel.set(flight)
        return flight

    def join(self, flight: Flight, now: float) -> None:
        """Make a question of a probe, because a client has the same question."""
        flight.attempts = 0
        if flight.late:
            flight.late = False
            flight.zone.inflight += 1
        flight.ends = now + self.policy.ask.deadline
        self.next(flight, now)
        self.wheel.set(flight)

    def next(self, flight: Flight, now: float) -> None:
        """Send the flight's next ask and plan the one after it."""
        zone = flight.zone
        server = self.choose(flight)
        flight.attempts = attempts = flight.attempts + 1
        if attempts == 1 and self._plain:
            flight.silent_at = at = now + zone.patience
            flight.at = at if at < flight.ends else flight.ends
            flight.retry_at = now + zone.retry
        else:
            if attempts == 1:
                flight.silent_at = now + zone.patience
            flight.retry_at = now + self._pause(zone, server, attempts)
            flight.plan()
        self.send(flight, server, server.streams, now)

    def _pause(self, zone: ZoneState, server: Server, attempts: int) -> float:
        """Return how long try number `attempts` of a question has before the next, in seconds."""
        ask = self.policy.ask
        if attempts >= ask.attempts:
            return FOREVER
        if ask.policy == "hedged" and attempts < len(zone.servers):
            return max(2 * server.health.trip.usual, HEDGE_MIN)
        return min(zone.retry * (1 << attempts - 1), ask.deadline / ask.attempts)

    def obey(self, policy: Policy) -> None:
        """Follow another policy from now on."""
        self.policy = policy
        # The usual first try needs no arithmetic: `zone.retry` is at least twice its patience.
        self._plain = policy.ask.attempts > 1 and policy.ask.policy != "hedged"

    def choose(self, flight: Flight) -> Server:
        """Return the server to ask next: least tried by this flight, up before down, in order."""
        servers = flight.zone.servers
        if len(servers) == 1:
            return servers[0]
        tried = [ask.server for ask in flight.asks]
        fastest = self.policy.ask.policy == "fastest"
        return min(
            servers,
            key=lambda s: (
                not s.health.up,
                tried.count(s),
                s.health.trip.present if fastest else 0,
            ),
        )

    def send(
        self, flight: Flight, server: Server, stream: bool, now: float, probe: bool = False
    ) -> None:
        tail = flight.key[-1]
        question = flight.question
        if self.policy.ask.case_randomization:
            question = spell(question, self._chance.getrandbits(8 * len(question)))
        dress = server.dress
        if now >= dress.until:
            dress = server.dress = self._dress(now)
        if server.edns_again_at > now:
            wire = HEADS[tail >> 1] + b"\0\0" + question
        elif stream:
            wire = dress.stream(question, tail, server.private)
        else:
            before, after = dress.datagram[tail]
            wire = before + question + after
        ask = Ask(flight, server, wire, now, stream, probe)
        flight.asks.append(ask)
        flight.pending += 1
        self._out.asks.append(ask)

    def _dress(self, now: float) -> Dress:
        cookies = self.policy.ask.cookies
        drawn = self._chance.getrandbits(8 * CLIENT_OCTETS) if cookies else 0
        return Dress(drawn.to_bytes(CLIENT_OCTETS, "big") if cookies else b"", now)

    def end(self, flight: Flight, now: float) -> None:
        """Take a flight out of the table; start what waited for its place."""
        flight.over = True
        flight.asks = []
        del self.flights[flight.key]
        zone = flight.zone
        if flight.queued:
            return
        if not flight.late:
            zone.inflight -= 1
        if zone.ramp:
            zone.ramp += 1
        self.admit(zone, now)

    def miss(self, flight: Flight, now: float) -> None:
        """Take note that the answer is late: it may be lost, so another may have its place."""
        if not flight.late:
            flight.late = True
            flight.zone.miss(flight.asks[-1].sent, now)

    def admit(self, zone: ZoneState, now: float) -> None:
        """Start what waits in line, as far as there is room."""
        while zone.queue and not zone.outage and zone.room(now):
            waiting = zone.queue.popleft()
            if waiting.queued and not waiting.over and now < waiting.ends:
                self.unqueue(waiting, now)

    def move(self, find: Callable[[bytes], ZoneState], now: float) -> None:
        """Put every flight into the zone that a new policy has for it."""
        for flight in list(self.flights.values()):
            flight.zone = find(flight.key)
            if flight.queued:
                self.unqueue(flight, now)
            elif not flight.late:
                flight.zone.inflight += 1

    def unqueue(self, flight: Flight, now: float) -> None:
        flight.queued = False
        flight.zone.inflight += 1
        self.next(flight, now)
        self.wheel.set(flight)
