"""A plain caching forwarder to compare with: a TTL cache and nothing for bad days.

It does what most small caches do: it answers from memory until the TTL has run out, joins equal
questions on their way upstream, tries twice and then says SERVFAIL. It passes a SERVFAIL on as it
came. UDP only; built on dnslib, which is quick enough for a demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from dnsguard.demo.child import obey, say

HOST = "127.0.0.1"
TRY_SECONDS = 2.0
TRIES = 2
ENTRIES_MAX = 10_000  # then it starts anew; the demo asks some sixty questions

Key = tuple[str, int, int, bool]
Client = tuple[str | int, ...]


@dataclass(slots=True)
class Entry:
    """One answer, when it came and when it stops being one."""

    record: DNSRecord
    stored: float
    expires: float


class PlainCache(asyncio.DatagramProtocol):
    """The clients' side: answers, or asks `Upstream` and answers then."""

    def __init__(self, upstream: Upstream, clock: Callable[[], float] = time.monotonic) -> None:
        self._upstream = upstream
        self._clock = clock
        self._entries: dict[Key, Entry] = {}
        self._flights: dict[Key, list[tuple[DNSRecord, Client]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: Client) -> None:
        try:
            query = DNSRecord.parse(data)
            key = key_of(query)
        except (DNSError, ValueError, RecursionError, IndexError):
            return
        now = self._clock()
        entry = self._entries.get(key)
        if entry is not None and now < entry.expires:
            self._send(query, entry.record, address, int(now - entry.stored))
        elif key in self._flights:
            self._flights[key].append((query, address))
        else:
            self._flights[key] = [(query, address)]
            task = asyncio.create_task(self._fetch(key, data))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fetch(self, key: Key, wire: bytes) -> None:
        record = await self._upstream.ask(wire)
        now = self._clock()
        if record is not None and (ttl := lifetime(record)) > 0:
            if len(self._entries) >= ENTRIES_MAX:
                self._entries.clear()
            self._entries[key] = Entry(record, now, now + ttl)
        for query, address in self._flights.pop(key):
            self._send(query, record, address, 0)

    def _send(self, query: DNSRecord, record: DNSRecord | None, address: Client, age: int) -> None:
        reply = query.reply(ra=1, aa=0)
        if record is None:
            reply.header.rcode = RCODE.SERVFAIL
        else:
            reply.header.rcode = record.header.rcode
            for kept, sent in (
                (record.rr, reply.rr),
                (record.auth, reply.auth),
                (record.ar, reply.ar),
            ):
                for rr in kept:
                    if rr.rtype == QTYPE.OPT:
                        sent.append(rr)
                        continue
                    aged = type(rr)(rr.rname, rr.rtype, rr.rclass, max(0, rr.ttl - age), rr.rdata)
                    sent.append(aged)
        if self._transport is not None:
            self._transport.sendto(reply.pack(), address)


class Upstream(asyncio.DatagramProtocol):
    """The upstream's side: one socket, random ids, replies matched by id and question."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Key, asyncio.Future[DNSRecord]]] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def error_received(self, exc: Exception) -> None:
        """A refused packet is one try lost; the next one may find the server back."""

    def datagram_received(self, data: bytes, address: Client) -> None:
        try:
            record = DNSRecord.parse(data)
            key, waiting = self._waiting[record.header.id]
            if record.header.qr and key_of(record)[:3] == key[:3] and not waiting.done():
                waiting.set_result(record)
        except (DNSError, ValueError, RecursionError, LookupError):
            return

    async def ask(self, wire: bytes) -> DNSRecord | None:
        """The reply to a client's query, or None after the last try."""
        key = key_of(DNSRecord.parse(wire))
        for _ in range(TRIES):
            message_id = secrets.randbelow(1 << 16)
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[message_id] = key, waiting
            try:
                if self._transport is not None:
                    self._transport.sendto(message_id.to_bytes(2, "big") + wire[2:])
                return await asyncio.wait_for(waiting, TRY_SECONDS)
            except TimeoutError:
                continue
            finally:
                self._waiting.pop(message_id, None)
        return None


def key_of(message: DNSRecord) -> Key:
    """What makes two questions equal. Raises IndexError for a message without one."""
    question = message.questions[0]
    do = any(rr.rtype == QTYPE.OPT and rr.edns_do for rr in message.ar)
    return str(question.qname).lower(), question.qtype, question.qclass, do


def lifetime(record: DNSRecord) -> float:
    """Seconds that a reply may be kept: its lowest TTL, the SOA's for a denial, else nothing."""
    rcode = record.header.rcode
    if rcode not in (RCODE.NOERROR, RCODE.NXDOMAIN) or record.header.tc:
        return 0
    if record.rr and rcode == RCODE.NOERROR:
        return float(min(rr.ttl for rr in record.rr))
    soa = [rr for rr in record.auth if rr.rtype == QTYPE.SOA]
    return float(min(soa[0].ttl, soa[0].rdata.times[4])) if soa else 0


@contextlib.asynccontextmanager
async def forwarding(
    upstream_port: int, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[int]:
    """Run the forwarder in this loop; yields its port."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as undo:
        outer, upstream = await loop.create_datagram_endpoint(
            Upstream, remote_addr=(HOST, upstream_port)
        )
        undo.callback(outer.close)
        inner, _ = await loop.create_datagram_endpoint(
            lambda: PlainCache(upstream, clock), local_addr=(HOST, 0)
        )
        undo.callback(inner.close)
        yield inner.get_extra_info("sockname")[1]


async def serve(upstream_port: int) -> None:
    """The process: say the port, then forward until the demo ends."""
    async with forwarding(upstream_port) as port:
        say({"port": port})
        await obey(lambda _: None)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(serve(**json.loads(sys.argv[1])))
