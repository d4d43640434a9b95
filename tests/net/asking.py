"""Clients for tests: raw octets over UDP and TCP, from loopback addresses of one's choice.

They check nothing by themselves; `Heard` reads a reply by an independent codec (dnspython) and is
what tests assert on. Silence is proved without a clock: see `Datagrams.is_silent_to`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import dns.edns
import dns.flags
import dns.message
import dns.rcode

from dnsguard.core.framing import FrameReader, frame
from tests.core.build import query

HOST = "127.0.0.1"
_ids = itertools.count(1)


def ask(name: str, rtype: str = "A", **more: Any) -> bytes:
    """A query with EDNS and an id that no other has."""
    return query(name, rtype, id=next(_ids) % 65536, **{"edns": 1232, **more})


class Heard:
    """One reply, read."""

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.id = int.from_bytes(wire[:2], "big")
        self.message = dns.message.from_wire(wire)
        self.rcode = dns.rcode.to_text(self.message.rcode())
        self.truncated = bool(self.message.flags & dns.flags.TC)
        self.addresses = [rdata.to_text() for rrset in self.message.answer for rdata in rrset]
        self.question = self.message.question[0].name.to_text() if self.message.question else ""

    @property
    def ede(self) -> list[int]:
        """The codes of its extended errors (RFC 8914)."""
        options = [o for o in self.message.options if isinstance(o, dns.edns.EDEOption)]
        return [int(option.code) for option in options]

    def __repr__(self) -> str:
        return f"{self.question} {self.rcode} {self.addresses} EDE {self.ede}"


class Datagrams(asyncio.DatagramProtocol):
    """A UDP client with a socket of its own."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.errors: list[Exception] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.heard.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def send(self, *wires: bytes) -> None:
        for wire in wires:
            self.transport.sendto(wire)

    async def hear(self, count: int) -> list[Heard]:
        """The next `count` replies, in the order in which they came."""
        return [Heard(await self.heard.get()) for _ in range(count)]

    async def ask(self, wire: bytes) -> Heard:
        """Send one query, wait for one reply."""
        self.send(wire)
        return (await self.hear(1))[0]

    async def resolve(self, name: str, rtype: str = "A", **more: Any) -> Heard:
        return await self.ask(ask(name, rtype, **more))

    async def resolve_fresh(self, name: str) -> Heard:
        """Ask until the answer is good and not stale, as after an upstream's recovery."""
        while True:
            reply = await self.resolve(name)
            if reply.rcode == "NOERROR" and not reply.ede:
                return reply
            await asyncio.sleep(0.01)

    async def is_silent_to(self, wire: bytes) -> bool:
        """Send `wire` and see that nothing comes back.

        A server reads one socket in order and is done with a batch before it reads the next: when
        the second of two later queries is answered, an answer to `wire` would long be here.
        """
        self.send(wire)
        answers = [await self.resolve("ping.test") for _ in range(2)]
        return all(a.question == "ping.test." for a in answers) and self.heard.empty()


@contextlib.asynccontextmanager
async def datagrams(port: int, source: str = HOST, host: str = HOST) -> AsyncIterator[Datagrams]:
    """A UDP client of the server at `port`; `source` is any address of 127.0.0.0/8."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host if ":" in host else source, 0))
    sock.connect((host, port))
    transport, client = await loop.create_datagram_endpoint(Datagrams, sock=sock)
    try:
        yield client
    finally:
        transport.close()
        await asyncio.sleep(0)


class Stream:
    """A TCP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._waiting: list[bytes] = []

    def send(self, *wires: bytes) -> None:
        self.writer.write(b"".join(map(frame, wires)))

    async def hear(self, count: int) -> list[Heard]:
        while len(self._waiting) < count:
            data = await self.reader.read(65536)
            assert data, f"closed after {len(self._waiting)} of {count} replies"
            self._waiting += self._frames.feed(data)
        found, self._waiting = self._waiting[:count], self._waiting[count:]
        return [Heard(wire) for wire in found]

    async def ask(self, wire: bytes) -> Heard:
        self.send(wire)
        return (await self.hear(1))[0]

    async def resolve(self, name: str, rtype: str = "A", **more: Any) -> Heard:
        return await self.ask(ask(name, rtype, **more))

    async def is_silent_to(self, wire: bytes) -> bool:
        self.send(wire)
        answers = [await self.resolve("ping.test") for _ in range(2)]
        return all(a.question == "ping.test." for a in answers) and not self._waiting

    async def closed(self) -> bool:
        """Wait for the other side to close, whether politely or not."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def stream(port: int, source: str = HOST, host: str = HOST) -> AsyncIterator[Stream]:
    """A TCP client of the server at `port`."""
    local = None if ":" in host else (source, 0)
    reader, writer = await asyncio.open_connection(host, port, local_addr=local)
    try:
        yield Stream(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def by_id(replies: Sequence[Heard]) -> dict[int, Heard]:
    """Replies by id; two with the same one are an error."""
    found = {reply.id: reply for reply in replies}
    assert len(found) == len(replies), "two replies with one id"
    return found
