"""The scripted upstream as a process: a UDP and a TCP port for each cache, and a log of queries.

What it says is `outage_script`'s business; here are the sockets. An unreachable upstream answers
with an ICMP port unreachable, as the host of a pod that is gone does; that needs a raw socket. A
process without the right to one is silent instead, and says so. Messages follow RFC 1035.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import msgspec

from dnsguard.bench.outage_child import orders, say
from dnsguard.bench.outage_plan import Plan
from dnsguard.bench.outage_script import Script
from dnsguard.core import wire
from dnsguard.core.framing import FrameReader, frame
from dnsguard.errors import WireError
from dnsguard.sim.cluster import Cluster
from dnsguard.sim.lookup import NOERROR, NXDOMAIN
from dnsguard.sim.told import CLOSED, Said
from dnsguard.sim.upstreams import Came

HOST = "127.0.0.1"
BIND_TRIES_MAX = 50  # a free UDP port whose TCP twin is taken is rare
RECEIVE_BYTES = 1 << 22  # a herd must be lost by the script, not by a socket
TELL_SECONDS = 0.25
FLAGS = 0x8580  # QR, AA, RD, RA, as CoreDNS's kubernetes plugin answers
OPT = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
HERE = b"\xc0\x0c"  # the name asked, compressed
SOA = b"\0\6\0\1"  # type and class; then TTL and data (RFC 2308)
DROPPED = -2  # in the log: nothing was said


class Upstream:
    """The doors of all caches, the log of what they asked, and the clock."""

    def __init__(self, plan: Plan) -> None:
        cluster = Cluster(plan.scenario, plan.seed)
        self.epoch = float("inf")  # all is well until the scenario begins
        self.scripts = [
            Script(plan, cluster, random.Random(f"upstream {plan.seed} {system}"))
            for system in plan.systems
        ]
        self.log: list[tuple[int, float, str, int, int]] = []
        self.icmp = _raw()
        self.loop = asyncio.get_running_loop()

    def take(self, door: int, query: wire.Query, port: int) -> Came | None:
        """Ask the door's script and note down what it said."""
        now = time.monotonic() - self.epoch
        text = wire.name_text(query.key[:-5]).lower().removesuffix(".")
        came = self.scripts[door].take(text, query.qtype, now, port)
        rcode = DROPPED if came is None else came[1].rcode
        if self.epoch < float("inf"):
            self.log.append((door, round(now, 4), text, query.qtype, rcode))
        return came

    def tell(self) -> None:
        """Hand over the log."""
        if self.log:
            say({"log": self.log})
            self.log = []


class Door(asyncio.DatagramProtocol):
    """The UDP port of one cache."""

    def __init__(self, upstream: Upstream, number: int, port: int) -> None:
        self._upstream, self._number, self._port = upstream, number, port
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = read(data)
        if query is None:
            return
        came = self._upstream.take(self._number, query, address[1])
        if came is None:
            return
        delay, said = came
        if said.rcode == CLOSED:
            _unreachable(self._upstream.icmp, self._port, address, data)
        elif self._transport is not None:
            send = partial(self._transport.sendto, reply(query, said), address)
            self._upstream.loop.call_later(delay, send)


class StreamDoor(asyncio.Protocol):
    """The TCP port of one cache."""

    def __init__(self, upstream: Upstream, number: int) -> None:
        self._upstream, self._number = upstream, number
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port = transport.get_extra_info("peername")[1]

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        for message in self._frames.feed(data):
            query = read(message)
            came = None if query is None else self._upstream.take(self._number, query, self._port)
            if query is None or came is None:
                continue
            delay, said = came
            if said.rcode == CLOSED:
                self._transport.abort()
                return
            write = partial(self._transport.write, frame(reply(query, said)))
            self._upstream.loop.call_later(delay, write)


# --- messages ------------------------------------------------------------------------------------


def read(data: bytes) -> wire.Query | None:
    """A query with one question, or None: whoever sent it did not mean a DNS server."""
    try:
        return wire.read_query(data, None, 0.0, stream=True)
    except WireError:
        return None


def reply(query: wire.Query, said: Said) -> bytes:
    """The message that says so; a denial carries an SOA."""
    records = b"".join(
        HERE + struct.pack("!HHIH", query.qtype, 1, said.ttl, len(address)) + address
        for address in said.addresses
    )
    soas = 0
    if not said.addresses and said.ttl and said.rcode in (NOERROR, NXDOMAIN):
        soas = 1
        tail = b"\0\0" + struct.pack("!5I", 1, 7200, 1800, 86400, said.ttl)
        records = _apex(query.question) + SOA + struct.pack("!IH", said.ttl, len(tail)) + tail
    extra = OPT if query.edns else b""
    head = struct.pack("!5H", FLAGS | said.rcode, 1, len(said.addresses), soas, bool(extra))
    return query.id + head + query.question + records + extra


def _apex(question: bytes) -> bytes:
    """The zone of a name: its last two labels. The root's own word would deny the whole TLD."""
    labels, position = [], 0
    while question[position]:
        labels.append(question[position : position + 1 + question[position]])
        position += 1 + question[position]
    return b"".join(labels[-2:]) + b"\0"


def _raw() -> socket.socket | None:
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        return None


def _unreachable(
    icmp: socket.socket | None, port: int, address: tuple[str, int], data: bytes
) -> None:
    """An ICMP port unreachable about a datagram from `address` to our `port` (RFC 792)."""
    if icmp is None:
        return
    source, target = socket.inet_aton(address[0]), socket.inet_aton(HOST)
    udp = struct.pack("!4H", address[1], port, 8 + len(data), 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 0, 0, 64, socket.IPPROTO_UDP, 0)
    body = ip + source + target + udp
    head = struct.pack("!BBHI", 3, 3, 0, 0)
    total = sum(struct.unpack(f"!{(len(head) + len(body)) // 2}H", head + body))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    with contextlib.suppress(OSError):  # nobody is owed an ICMP message
        icmp.sendto(struct.pack("!BBHI", 3, 3, checksum, 0) + body, (address[0], 0))


# --- the process ---------------------------------------------------------------------------------


def bind_pair(ports: Sequence[int] = (0,) * BIND_TRIES_MAX) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the first of these ports that both can have; 0 is any.

    Raises OSError if there is none.
    """
    for number, port in enumerate(ports, 1):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            udp.bind((HOST, port))
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            if number == len(ports):
                raise
            continue
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        return udp, tcp
    raise AssertionError("the loop above returns or raises")


async def open_doors(upstream: Upstream, count: int, undo: contextlib.AsyncExitStack) -> list[int]:
    """Open a door for each cache; returns their ports."""
    loop = upstream.loop
    ports = []
    for number in range(count):
        udp, tcp = bind_pair()
        port = udp.getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            partial(Door, upstream, number, port), sock=udp
        )
        undo.callback(transport.close)
        server = await loop.create_server(partial(StreamDoor, upstream, number), sock=tcp)
        undo.callback(server.close)
        ports.append(port)
    return ports


async def serve() -> None:
    """Take the plan, say the ports, begin when told, and tell the log until nobody listens."""
    told = orders()
    plan = msgspec.convert((await anext(told))["plan"], Plan)
    upstream = Upstream(plan)

    async def report() -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            upstream.tell()

    async with contextlib.AsyncExitStack() as undo:
        ports = await open_doors(upstream, len(plan.systems), undo)
        say({"ports": ports, "icmp": upstream.icmp is not None})
        reporting = asyncio.create_task(report())
        async for order in told:
            upstream.epoch = order.get("epoch", upstream.epoch)
        reporting.cancel()
        upstream.tell()


def main(body: Any) -> int:
    """Run a child's coroutine; the end of who started it is an end like any other."""
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(body())
    return 0


if __name__ == "__main__":
    sys.exit(main(serve))
