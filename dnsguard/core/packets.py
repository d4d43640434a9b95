"""Finished replies, found by the octets of the query after its id: the first look-up of all.

A hit here costs a slice, a dictionary look-up and a comparison, so the loop that reads datagrams
does it itself, with no call. What a packet holds stays true until `until`: the next whole second
of its TTL, the moment to prefetch, expiry, or a change of the zone's state, whichever is first.
Queries with EDNS options do not come here: cookies and padding differ from query to query.
"""

from __future__ import annotations

from collections.abc import Callable

from dnsguard.core.entry import Entry

PACKET_AT_ONE_ENTRY_MAX = 16  # spellings of one name (0x20 makes them cheap) kept as packets
DROPPED_AT_ONCE = 64
OCTETS_A_PACKET = 420  # the object, its key, its reply and its place in the dictionary


class Packet:
    """One finished reply. The reader counts `hits`; `fold` turns them into statistics."""

    __slots__ = ("entry", "hits", "reason", "rest", "size", "until")

    def __init__(self, wire: bytes, until: float, entry: Entry, reason: str) -> None:
        self.rest = wire[2:]  # without the id, which is each client's own
        self.size = len(wire)
        self.until = until
        self.entry = entry
        self.reason = reason
        self.hits = 0


class Packets:
    """The finished replies of one transport; the loop that reads queries reads `table` itself."""

    __slots__ = ("_most", "_on_fold", "table")

    def __init__(self, max_octets: int, on_fold: Callable[[Packet], None]) -> None:
        self._most = max(max_octets // OCTETS_A_PACKET, DROPPED_AT_ONCE)
        self.table: dict[bytes, Packet] = {}
        self._on_fold = on_fold

    def add(self, tail: bytes, wire: bytes, until: float, entry: Entry, reason: str) -> None:
        """Remember `wire` as the reply to every query whose octets after the id are `tail`."""
        old = self.table[tail] if tail in self.table else None  # noqa: SIM401 - see net.sampling
        if old is not None:
            self._retire(old)
        elif len(self.table) >= self._most:
            self._drop_oldest()
        if entry.packets is None:
            entry.packets = []
        elif len(entry.packets) >= PACKET_AT_ONE_ENTRY_MAX:
            # Most of what ends before this one has ended; the rest ends now, so that none is left
            # that the entry cannot call back.
            for packet in entry.packets:
                if packet.until < until:
                    packet.until = 0.0
            entry.packets = [packet for packet in entry.packets if packet.until]
            if len(entry.packets) >= PACKET_AT_ONE_ENTRY_MAX:
                return
        packet = Packet(wire, until, entry, reason)
        entry.packets.append(packet)
        self.table[tail] = packet

    def drop(self, tail: bytes) -> None:
        """Forget the reply to queries whose octets after the id are `tail`, if there is one."""
        packet = self.table.pop(tail, None)
        if packet is not None:
            self._retire(packet)

    def _drop_oldest(self) -> None:
        """Make room, oldest first, for several packets at once."""
        for tail in list(self.table)[:DROPPED_AT_ONCE]:
            self._retire(self.table.pop(tail))

    def _retire(self, packet: Packet) -> None:
        if packet.hits:
            self._on_fold(packet)
        siblings = packet.entry.packets
        if siblings is not None and packet in siblings:
            siblings.remove(packet)

    def fold(self) -> None:
        """Hand every packet with uncounted hits to the statistics."""
        for packet in self.table.values():
            if packet.hits:
                self._on_fold(packet)

    def clear(self) -> None:
        """Forget every finished reply, as when a zone changes its state."""
        self.fold()
        for packet in self.table.values():
            packet.entry.packets = None
        self.table.clear()

    @property
    def octets(self) -> int:
        """Memory charged for the table."""
        return len(self.table) * OCTETS_A_PACKET
