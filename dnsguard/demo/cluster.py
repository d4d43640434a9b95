"""The embedded cluster DNS: one process that answers over UDP and TCP, until it is told not to.

It has a door (a port) for each of its askers, so that what dnsguard and the plain cache send can be
counted apart, and it goes on counting while it plays dead. Told `dead` it takes queries and says
nothing, told `servfail` it answers that, told `healthy` it is well again. It can also be frozen
for real with SIGSTOP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import cast

from dnslib import EDNS0, QTYPE, RCODE, DNSError, DNSRecord

from dnsguard.core.framing import FrameReader, frame
from dnsguard.demo.child import obey, say
from dnsguard.demo.timeline import Mode
from dnsguard.demo.zone import Zone

HOST = "127.0.0.1"
REPORT_SECONDS = 0.1
UDP_SIZE = 1232
BIND_TRIES_MAX = 20  # a free UDP port whose TCP twin is taken is rare


class ClusterDns:
    """Answers from the zone, or fails in the way of its mode, and counts who asked."""

    def __init__(self, ttl: int, epoch: float, doors: Sequence[str]) -> None:
        self.zone = Zone(ttl)
        self.mode = Mode.HEALTHY
        self.asked = dict.fromkeys(doors, 0)
        self._epoch = epoch

    def reply(self, wire: bytes, door: str) -> bytes | None:
        """The reply to one message, or None for silence."""
        self.asked[door] += 1
        if self.mode is Mode.DEAD:
            return None
        try:
            query = DNSRecord.parse(wire)
            if query.header.qr or len(query.questions) != 1:
                return None
            if self.mode is Mode.SERVFAIL:
                reply = query.reply(ra=0, aa=0)
                reply.header.rcode = RCODE.SERVFAIL
            else:
                reply = self.zone.answer(query, time.monotonic() - self._epoch)
            if any(record.rtype == QTYPE.OPT for record in query.ar):
                reply.add_ar(EDNS0(udp_len=UDP_SIZE))
            return bytes(reply.pack())
        except (DNSError, ValueError, RecursionError):
            return None  # no message; whoever sent it did not mean a DNS server


class Door(asyncio.DatagramProtocol):
    """The UDP side of one port."""

    def __init__(self, dns: ClusterDns, name: str) -> None:
        self._dns, self._name = dns, name
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str | int, ...]) -> None:
        reply = self._dns.reply(data, self._name)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, address)


class StreamDoor(asyncio.Protocol):
    """The TCP side of one port: messages in, replies out, silence while dead."""

    def __init__(self, dns: ClusterDns, name: str) -> None:
        self._dns, self._name = dns, name
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            reply = self._dns.reply(message, self._name)
            if reply is not None and self._transport is not None:
                self._transport.write(frame(reply))


def bind_pair(host: str, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port; raises OSError if there is none."""
    for tries_left in reversed(range(BIND_TRIES_MAX)):
        with contextlib.ExitStack() as undo:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            udp = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            udp.bind((host, port))
            tcp = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((host, udp.getsockname()[1]))
            except OSError:
                if port or not tries_left:
                    raise
                continue
            undo.pop_all()
            return udp, tcp
    raise AssertionError("the loop above returns or raises")


@contextlib.asynccontextmanager
async def listening(dns: ClusterDns) -> AsyncIterator[dict[str, int]]:
    """Open every door of `dns`; yields the port of each."""
    loop = asyncio.get_running_loop()
    ports: dict[str, int] = {}
    async with contextlib.AsyncExitStack() as undo:
        for door in dns.asked:
            udp, tcp = bind_pair(HOST)
            ports[door] = udp.getsockname()[1]
            transport, _ = await loop.create_datagram_endpoint(partial(Door, dns, door), sock=udp)
            undo.callback(transport.close)
            server = await loop.create_server(partial(StreamDoor, dns, door), sock=tcp)
            undo.callback(server.close)
        yield ports


async def serve(ttl: int, epoch: float, doors: Sequence[str]) -> None:
    """The process: say the ports, then the counts, ten times a second, and obey."""
    dns = ClusterDns(ttl, epoch, doors)

    def order(word: str) -> None:
        dns.mode = Mode(word)
        say({"mode": dns.mode, "at": time.monotonic() - epoch})

    async def report() -> None:
        while True:
            say({"asked": dns.asked, "at": time.monotonic() - epoch})
            await asyncio.sleep(REPORT_SECONDS)

    async with listening(dns) as ports:
        say({"ports": ports})
        reporting = asyncio.create_task(report())
        try:
            await obey(order)
        finally:
            reporting.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(serve(**json.loads(sys.argv[1])))
