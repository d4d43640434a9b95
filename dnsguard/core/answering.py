"""The client side of a question: replies that are not fresh data, and replies kept finished.

Here a stale answer, a denial or a failure is said to a client and counted, and a reply that may be
repeated without a thought is put where the loop that reads queries finds it. What to say is not
decided here. A fresh answer is sent where it is found, in `engine`: most queries pass there.
"""

from __future__ import annotations

from dnsguard.core import reply
from dnsguard.core.actions import Actions
from dnsguard.core.counters import Counters
from dnsguard.core.entry import Entry
from dnsguard.core.packets import Packet, Packets
from dnsguard.core.pins import Pin
from dnsguard.core.schema import Denial
from dnsguard.core.wire import NOERROR, Query

PACKETS_SHARE = 1 / 8  # of cache.max_bytes, for finished replies


class Answering:
    """What goes to clients, and what is kept to go to them again."""

    def __init__(self, max_bytes: int, out: Actions, counters: Counters, now: float) -> None:
        self._out = out
        self._counters = counters
        self.now = now  # when finished replies that give way to others are counted
        room = int(max_bytes * PACKETS_SHARE / 2)
        self.datagrams = Packets(room, self._fold)
        self.streams = Packets(room, self._fold)

    def stale(
        self, entry: Entry, query: Query, reason: str, now: float,
        data: bytes = b"", repeat_until: float = 0.0,
    ) -> None:  # fmt: skip
        """Answer from an entry that has expired, and say so."""
        entry.hits += 1
        entry.recent = 2
        entry.asked = now
        wire = reply.stale(entry, query, reason, now)
        self._out.replies.append((query.client, wire))
        self._counters.answers["stale", entry.rcode] += 1
        self._counters.served_stale(reason, now - entry.expires, now)
        if repeat_until > now and not query.options:
            packets = self.streams if query.stream else self.datagrams
            if query.edns:
                repeat_until = min(repeat_until, now + 1)  # the explanation tells the age
            packets.add(data[2:], wire, repeat_until, entry, reason)

    def refuse(self, query: Query, rcode: int, code: int | None = None, text: str = "") -> None:
        """Answer without data, and say why to a client that understands it."""
        self._counters.answers["failure", rcode] += 1
        self._out.replies.append((query.client, reply.failure(query, rcode, code, text)))

    def deny(self, query: Query, denial: Denial) -> None:
        """Answer that there is no such name or record, although nobody has said so."""
        self._counters.answers["synthesized", denial.rcode] += 1
        wire = reply.synthesized(query, denial.rcode, denial.apex, denial.why)
        self._out.replies.append((query.client, wire))

    def pin(self, query: Query, pin: Pin) -> None:
        """Answer what an operator wants answered."""
        self._counters.answers["pin", NOERROR] += 1
        wire = reply.pinned(query, pin.data(query.qtype), pin.ttl)
        self._out.replies.append((query.client, wire))

    # -- finished replies -------------------------------------------------------------------

    def _fold(self, packet: Packet) -> None:
        """Count what a finished reply was used for since it was last counted."""
        hits, packet.hits = packet.hits, 0
        entry = packet.entry
        entry.hits += hits
        entry.recent = 2
        entry.asked = self.now
        if packet.reason:
            self._counters.answers["stale", entry.rcode] += hits
            age = self.now - entry.expires
            self._counters.served_stale(packet.reason, age, self.now, hits)
        else:
            self._counters.answers["hit", entry.rcode] += hits

    def fold(self, now: float) -> None:
        """Bring the counters up to date, as before a scrape."""
        self.now = now
        self.datagrams.fold()
        self.streams.fold()

    def forget(self) -> None:
        """Let no finished reply be repeated, as when a zone changes its state."""
        self.datagrams.clear()
        self.streams.clear()
