"""The sampled query log: what a share of the clients asked, and what they were told.

While it is on, each look-up among the finished replies counts down to the next query that is
picked. That one finds none, so that it goes the long way through the engine, and its reply comes
by here. While it is off, nothing of this is on the way of any query. However much is asked, only so
many lines are written: an outage must not fill a disk. What a line looks like is not known here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, cast

from dnsguard.core.engine import Engine
from dnsguard.core.intake import Client, route
from dnsguard.core.packets import Packet, Packets
from dnsguard.core.wire import (
    NOERROR,
    NXDOMAIN,
    RCODE,
    RCODE_NAMES,
    Malformed,
    name_text,
    read_query,
)
from dnsguard.net.addresses import read_name

if TYPE_CHECKING:
    from dnsguard.net.listen import Sink

# Lines a second on average, and how many at once: some 100 MB a day at the very most, of which a
# container's log keeps the latest ten.
LINES_A_SECOND, LINES_AT_ONCE = 10.0, 100.0
PICKED_MAX = 256  # queries on their way from a look-up to the engine: one batch at the most
MADE_UP = b"\x0bsynthesized\x08dnsguard\x07invalid\x00"


@dataclass(frozen=True, slots=True)
class Sample:
    """One query and its answer; `took` is in seconds, `lost` counts those that went unsaid."""

    client: str
    transport: str
    name: str
    qtype: int
    zone: str
    rcode: str
    source: str
    took: float
    lost: int


class Tap:
    """Stands between the engine and the socket that a picked query came from."""

    __slots__ = ("_sampler", "at", "data", "sink", "stream", "waiting")

    def __init__(self, sampler: Sampler, sink: Sink, data: bytes, at: float, stream: bool) -> None:
        self._sampler = sampler
        self.sink = sink
        self.data = data
        self.at = at
        self.stream = stream
        self.waiting: list[tuple[bytes, bytes]] = []

    def flush(self) -> None:
        """Tell of the reply, and let it go on."""
        waiting, self.waiting = self.waiting, []
        for name, wire in waiting:
            self._sampler.told(self, name, wire)
        self.sink.waiting += waiting
        self.sink.flush()


class _Counting(dict[bytes, Packet]):
    """Finished replies that hide one from every so many look-ups."""

    def __init__(self, packets: Packets, sampler: Sampler) -> None:
        super().__init__(packets.table)
        self._sampler = sampler

    def get(self, tail: bytes, default: object = None) -> Packet | None:  # type: ignore[override]
        sampler = self._sampler
        sampler.left -= 1
        if sampler.left > 0:
            return super().get(tail)
        sampler.pick(tail)
        return None


class Sampler:
    """Picks `share` of the queries that reach an engine and `say`s what became of them."""

    def __init__(
        self, engine: Engine, share: float, say: Callable[[Sample], None],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._share = share
        self._say = say
        self._clock = clock
        self._chance = random.Random()  # nothing depends on its being hard to guess
        self._picked: set[bytes] = set()
        self._room, self._at = LINES_AT_ONCE, clock()
        self._lost = 0
        self.left = self._next()
        for packets in (engine.datagrams, engine.streams):
            packets.table = _Counting(packets, self)
        engine.tap = self._tapped
        route(engine)

    def end(self) -> None:
        """Leave the way of the queries as it was found."""
        for packets in (self._engine.datagrams, self._engine.streams):
            packets.table = dict(packets.table)
        self._engine.tap = None
        route(self._engine)

    def _next(self) -> int:
        """Return how many look-ups it is to the next one that is picked, on average 1 / share."""
        if self._share >= 1:
            return 1
        return 1 + int(log(1 - self._chance.random()) / log(1 - self._share))

    def pick(self, tail: bytes) -> None:
        """Pick the query of these octets after its id, which is about to reach the engine."""
        self.left = self._next()
        if len(self._picked) >= PICKED_MAX:
            self._picked.clear()  # what never came is not waited for
        self._picked.add(tail)

    def _tapped(self, take: Client) -> Client:
        def client(data: bytes, client: object, now: float, stream: bool = False) -> None:
            tail = data[2:]
            if tail in self._picked:
                self._picked.discard(tail)
                sink, name = cast("tuple[Sink, bytes]", client)
                client = (Tap(self, sink, data, now, stream), name)
            take(data, client, now, stream)

        return client

    def told(self, tap: Tap, name: bytes, wire: bytes) -> None:
        """Take the reply to a picked query."""
        now = self._clock()
        self._room = min(self._room + (now - self._at) * LINES_A_SECOND, LINES_AT_ONCE)
        self._at = now
        if self._room < 1:
            self._lost += 1
            return
        try:
            query = read_query(tap.data, None, tap.at, tap.stream)
        except Malformed:
            return
        self._room -= 1
        lost, self._lost = self._lost, 0
        peer = tap.sink.peer if tap.stream else read_name(name)  # type: ignore[attr-defined]
        rcode = wire[3] & RCODE
        self._say(Sample(
            client=str(peer[0]), transport="tcp" if tap.stream else "udp",
            name=name_text(query.key), qtype=query.qtype,
            zone=self._engine.zones.find(query.key).name,
            rcode=RCODE_NAMES.get(rcode, str(rcode)),
            source=_source(self._engine, query.key, wire, tap.at, now),
            took=now - tap.at, lost=lost,
        ))  # fmt: skip


def _source(engine: Engine, key: bytes, wire: bytes, asked: float, now: float) -> str:
    """Return where an answer has come from, by what is remembered a moment later."""
    if engine.pins.find(key, now) is not None:
        return "pin"
    if wire[3] & RCODE not in (NOERROR, NXDOMAIN):
        return "failure"
    if MADE_UP in wire:
        return "synthesized"
    if engine.drill is not None and engine.drill.covers(key[:-5]):
        engine = engine.drill.shadow
    entry = engine.cache.get(key)
    if entry is None or entry.stored >= asked:
        return "upstream"
    return "hit" if now < entry.expires else "stale"
