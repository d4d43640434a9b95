"""A world in virtual time around one engine: scripted upstreams, clients, a network between them.

`advance` lets time pass: messages arrive and the engine's timer fires in order of their instants,
ties drawn from the seed. Nothing sleeps; an hour takes as long as what happens in it. Whatever the
engine does is shown to a `Watch`, which holds it to its promises at every step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from heapq import heappop, heappush

import dns.edns

from dnsguard.core.actions import Notice
from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.health import Event
from dnsguard.core.policy import Policy, Upstream as Address, Zone
from tests.core import build
from tests.core.upstreams import Manner, Sign, Upstream
from tests.core.watch import Asked, Watch

START = 1000.0  # the boot-time clock when a world begins: not zero, which would hide mistakes
LATE = 0.001  # a loop's timer fires a little late, and so does this one
STUCK = 1000  # timers at one instant before we say that time stands still


def one_zone(*hosts: str) -> Policy:
    """The policy of defaults, with these upstreams for everything."""
    return Policy(zones=(Zone(".", tuple(Address(host) for host in hosts or ("10.0.0.53",))),))


@lru_cache(maxsize=8192)
def _query(name: str, rtype: str, edns: int | None, flags: tuple[bool, ...]) -> bytes:
    """A client's question after its id."""
    do, cd, ad, cookie = flags
    options = (dns.edns.GenericOption(dns.edns.COOKIE, b"12345678"),) if cookie else ()
    return build.query(name, rtype, edns=edns, do=do, cd=cd, ad=ad, options=options)[2:]


class World:
    """One engine and everything around it. `jitter` is the share by which latencies vary."""

    def __init__(self, policy: Policy | None = None, seed: int = 0, jitter: float = 0.0) -> None:
        self.chance = random.Random(seed)
        self.now = START
        self.jitter = jitter
        policy = policy or one_zone()
        self.engine = Engine(policy, self.chance, self.now, self._is_ours)
        self.watch = Watch(self.engine)
        self.upstreams = {
            str(upstream): Upstream(self.chance)
            for zone in policy.zones
            for upstream in zone.upstreams
        }
        self.sent: list[tuple[str, Ask]] = []  # every packet to an upstream, and to which
        self.notices: list[Notice] = []
        self._looping: set[str] = set()
        self._open: dict[tuple[str, bool, int], Ask] = {}
        self._events: list[tuple[float, float, Callable[[], None]]] = []
        self._collect()

    # -- the stage --------------------------------------------------------------------------

    def put(self, name: str, rtype: str, ttl: int, *values: str) -> None:
        """Have every upstream hold these records."""
        for upstream in self.upstreams.values():
            upstream.put(name, rtype, ttl, *values)

    def drop(self, name: str) -> None:
        """Have no upstream hold this name."""
        for upstream in self.upstreams.values():
            upstream.drop(name)

    def behave(
        self, kind: str, latency: float = 0.001, loss: float = 0.0, suffix: str = ".", at: str = ""
    ) -> None:
        """Let all upstreams, or the one at `at`, behave so from now on; `itself` is a loop."""
        for label in [at] if at else list(self.upstreams):
            self._looping.discard(label)
            if kind == "itself":
                self._looping.add(label)
            else:
                self.upstreams[label].behave(Manner(kind, latency, loss, suffix))

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Have something happen so many seconds from now."""
        at = self.now + seconds
        heappush(self._events, (at, self.chance.random(), lambda: (what(), None)[1]))

    # -- clients ----------------------------------------------------------------------------

    def ask(
        self, name: str, rtype: str = "A", edns: int | None = 1232, do: bool = False,
        cd: bool = False, ad: bool = False, stream: bool = False, cookie: bool = False,
    ) -> Asked:  # fmt: skip
        """A client asks now; what it is told comes to stand in what is returned."""
        number = self.chance.getrandbits(16).to_bytes(2, "big")
        data = number + _query(name, rtype, edns, (do, cd, ad, cookie))
        asked = Asked(data, self.now, stream)
        self.watch.asked(asked)
        self._arrive(data, asked, stream)
        return asked

    def _arrive(self, data: bytes, client: object, stream: bool = False) -> None:
        """Do what the loops that read from clients do: finished replies first, then the engine."""
        packets = self.engine.streams if stream else self.engine.datagrams
        packet = packets.table.get(data[2:])
        if packet is not None and self.now < packet.until:
            packet.hits += 1
            self.engine.out.replies.append((client, data[:2] + packet.rest))
        else:
            self.engine.client(data, client, self.now, stream)
        self._collect()

    def resolve(
        self, name: str, rtype: str = "A", edns: int | None = 1232, stream: bool = False,
        cookie: bool = False,
    ) -> Asked:  # fmt: skip
        """Ask, and let time pass until the reply is there."""
        asked = self.ask(name, rtype, edns, stream=stream, cookie=cookie)
        self.until_answered(asked)
        return asked

    def until_answered(self, asked: Asked) -> None:
        limit = self.now + 60.0
        while asked.reply is None and self._step(limit):
            pass
        assert asked.reply is not None, f"no reply within a minute: {asked}"

    # -- time -------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        self.advance_to(self.now + seconds)

    def advance_to(self, until: float) -> None:
        ticks, last = 0, 0.0
        while self._step(until):
            ticks, last = (ticks + 1 if self.now == last else 0), self.now
            assert ticks < STUCK or self._events, f"time stands still at {self.now}"
        self.now = max(self.now, until)
        self.watch.books()

    def _step(self, until: float) -> bool:
        """Let the next thing happen, if that is not after `until`."""
        due = self.engine.deadline()
        wake = float("inf") if due is None else max(due + LATE, self.now)
        event = self._events[0][0] if self._events else float("inf")
        if min(wake, event) > until:
            return False
        if event <= wake:
            self.now = max(self.now, event)
            heappop(self._events)[2]()
        else:
            self.now = wake
            self.engine.tick(self.now)
        self._collect()
        return True

    def reload(self, policy: Policy) -> None:
        """New settings, from now on; upstreams that are new behave well."""
        for zone in policy.zones:
            for upstream in zone.upstreams:
                self.upstreams.setdefault(str(upstream), Upstream(self.chance))
        self.engine.reload(policy, self.now)
        self.watch.reloaded()
        self._collect()

    def stop(self) -> None:
        """The server stops: whoever still waits is answered now."""
        self.engine.shutdown(self.now)
        self._collect()
        self.watch.all_answered()

    def finish(self) -> None:
        """Let everything that waits come to its end, and see that it did."""
        for upstream in self.upstreams.values():
            upstream.behave(Manner())
        self._looping.clear()
        self.advance(self.watch.patience() + 1.0)
        self.watch.all_answered()

    # -- the network ------------------------------------------------------------------------

    def _collect(self) -> None:
        """Carry out what the engine wants done, as the driver does."""
        out = self.engine.out
        while out.asks or out.replies:
            asks, out.asks = out.asks, []
            for ask in asks:
                self._send(ask)
            self.engine.autopath.settle(self.now)
            replies, out.replies = out.replies[:], out.replies
            out.replies.clear()
            for client, octets in replies:
                if isinstance(client, Asked):
                    self.watch.replied(client, octets, self.now)
                elif isinstance(client, Ask):
                    self.after(0.0, self._delivery(client, client.server.label, octets))
                else:
                    raise AssertionError(f"a reply to nobody: {client!r}")
        self.notices += out.notices
        out.notices = []
        self.watch.step(self.now)

    def _send(self, ask: Ask) -> None:
        label = ask.server.label
        number = self.chance.getrandbits(16)
        while (label, ask.stream, number) in self._open:
            number = self.chance.getrandbits(16)
        ask.id = number
        self.sent.append((label, ask))
        self.watch.sent(ask, self.now)
        data = number.to_bytes(2, "big") + ask.wire
        self._open[label, ask.stream, number] = ask
        if label in self._looping:
            self.after(0.0001, lambda: self._arrive(data, ask, ask.stream))
            return
        for latency, sign in self.upstreams[label].take(data, ask.stream):
            vary = 1 + self.jitter * (self.chance.random() - 0.5)
            self.after(latency * vary, self._delivery(ask, label, sign))

    def _delivery(self, ask: Ask, label: str, sign: Sign) -> Callable[[], None]:
        """What happens when `sign` arrives: it finds its ask by id, or nobody."""

        def arrive() -> None:
            if isinstance(sign, Event):
                if self._open.pop((label, ask.stream, ask.id), None) is ask:
                    self.engine.failed(ask, sign, self.now)
                return
            place = (label, ask.stream, int.from_bytes(sign[:2], "big"))
            found = self._open.get(place)
            if found is None:
                self.engine.counters.ignored["id"] += 1
                return
            over = found.flight.over
            if self.engine.answer(found, sign, self.now):
                self._open.pop(place, None)
                if not over:
                    self.watch.learned(found, sign, self.now)

        return arrive

    def _is_ours(self, client: object, ask: Ask) -> bool:
        return client is ask

    # -- looking back -----------------------------------------------------------------------

    def packets(self, at: str = "", probes: bool = True) -> int:
        """How many packets went to upstreams so far."""
        return sum(at in ("", label) and (probes or not ask.probe) for label, ask in self.sent)

    def said(self, text: str) -> Sequence[Notice]:
        """The notices that hold this text."""
        return [notice for notice in self.notices if text in notice.text]
