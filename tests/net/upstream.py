"""A DNS server on loopback that answers as a test tells it to, well or badly.

UDP and TCP on one port, on the running event loop; with a TLS context the TCP side speaks TLS.
Whatever is asked has an address that follows from its name, so a reply that went astray shows.
Right answers and wrong ones are built by an independent codec (dnslib), what that cannot read is
refused; what came, from which port and in which words, is in `seen`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dns.name
import dnslib

from dnsguard.core.framing import FrameReader, frame
from dnsguard.demo.cluster import bind_pair

HOST = "127.0.0.1"
POISON = "192.0.2.66"  # an address that no client may ever be given
SIX = "six"  # a name that begins so has an IPv6 address and no other
TEXTS = 200  # character strings in a TXT record: some 50 KB
Send = Callable[[bytes], None]


def address_of(name: str) -> str:
    """The address that a name has, whatever its case."""
    raw = zlib.crc32(name.lower().rstrip(".").encode())
    return f"10.{raw >> 16 & 255}.{raw >> 8 & 255}.{raw & 255}"


@dataclass(frozen=True)
class Seen:
    """One query as it came."""

    wire: bytes
    transport: str
    source: tuple[str, int]

    @property
    def id(self) -> int:
        return int.from_bytes(self.wire[:2], "big")

    @property
    def name(self) -> str:
        name, _ = dns.name.from_wire(self.wire, 12)
        return name.to_text(omit_final_dot=True)


def answer(query: bytes, ttl: int = 60, address: str = "", records: int = 1) -> bytes:
    """The right answer: an address, much text, or no such record.

    Another `address` makes it a wrong one, many `records` a long one.
    """
    request: Any = dnslib.DNSRecord.parse(query)
    reply = request.reply(aa=0)
    name = request.q.qname
    if request.q.qtype == dnslib.QTYPE.A and not str(name).startswith(SIX):
        for number in range(records):
            address = address if address and not number else address_of(f"{name}{number or ''}")
            reply.add_answer(dnslib.RR(name, ttl=ttl, rdata=dnslib.A(address)))
    elif request.q.qtype == dnslib.QTYPE.AAAA and str(name).startswith(SIX):
        reply.add_answer(dnslib.RR(name, dnslib.QTYPE.AAAA, ttl=ttl, rdata=dnslib.AAAA("fd00::6")))
    elif request.q.qtype == dnslib.QTYPE.TXT:
        text = dnslib.RD((b"\xff" + b"x" * 255) * TEXTS)
        reply.add_answer(dnslib.RR(name, dnslib.QTYPE.TXT, ttl=ttl, rdata=text))
    else:
        soa = dnslib.SOA("dns.test", "admin.dns.test", (1, 7200, 1800, 86400, ttl))
        reply.add_auth(dnslib.RR("test", dnslib.QTYPE.SOA, ttl=ttl, rdata=soa))
    return bytes(reply.pack())


def failure(query: bytes, rcode: str) -> bytes:
    """An answer without data."""
    reply: Any = dnslib.DNSRecord.parse(query).reply()
    reply.header.rcode = getattr(dnslib.RCODE, rcode)
    return bytes(reply.pack())


def _denied(query: bytes) -> bytes:
    """No such name, with the SOA that says how long (RFC 2308)."""
    reply: Any = dnslib.DNSRecord.parse(query).reply()
    reply.header.rcode = dnslib.RCODE.NXDOMAIN
    soa = dnslib.SOA("dns.test", "admin.dns.test", (1, 7200, 1800, 86400, 5))
    reply.add_auth(dnslib.RR("test", dnslib.QTYPE.SOA, ttl=5, rdata=soa))
    return bytes(reply.pack())


def _poison(query: bytes) -> bytes:
    return answer(query, address=POISON)


def _with_id(query: bytes) -> bytes:
    return (int.from_bytes(query[:2], "big") ^ 0x5A5A).to_bytes(2, "big") + _poison(query)[2:]


def _with_question(query: bytes) -> bytes:
    other: Any = dnslib.DNSRecord.parse(query)
    other.q.qname = dnslib.DNSLabel("evil.test")
    return _poison(bytes(other.pack()))


def _as_query(query: bytes) -> bytes:
    poison = _poison(query)
    return poison[:2] + bytes([poison[2] & 0x7F]) + poison[3:]


def _cut_short(query: bytes) -> bytes:
    return _poison(query)[:-3]


def _pointing_at_itself(query: bytes) -> bytes:
    """The answer's owner name is a pointer to itself."""
    end = query.index(b"\0", 12) + 5
    owner = (0xC000 | end).to_bytes(2, "big")
    return _poison(query)[:end] + owner + b"\0\1\0\1\0\0\0\x3c\0\4" + b"\6\6\6\6"


def _truncated(query: bytes) -> bytes:
    reply: Any = dnslib.DNSRecord.parse(query).reply()
    reply.header.tc = 1
    return bytes(reply.pack())


def _keeping_alive(query: bytes, seconds: float) -> bytes:
    """The right answer, and how long a quiet connection lives (RFC 7828)."""
    reply: Any = dnslib.DNSRecord.parse(answer(query))
    tenths = round(seconds * 10).to_bytes(2, "big")
    reply.add_ar(dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(11, tenths)]))
    return bytes(reply.pack())


# What comes back for one query. Those of one call of `behave` come one after the other.
MANNERS: dict[str, Callable[[bytes], Sequence[bytes]]] = {
    "denied": lambda query: [_denied(query)],
    "ok": lambda query: [answer(query)],
    "twice": lambda query: [answer(query)] * 2,
    "long": lambda query: [answer(query, records=100)],
    "three seconds": lambda query: [_keeping_alive(query, 3.0)],
    "short-lived": lambda query: [answer(query, ttl=1)],
    "servfail": lambda query: [failure(query, "SERVFAIL")],
    "refused": lambda query: [failure(query, "REFUSED")],
    "silent": lambda query: [],
    "truncated": lambda query: [_truncated(query)],
    "wrong id": lambda query: [_with_id(query)],
    "wrong question": lambda query: [_with_question(query)],
    "not a reply": lambda query: [_as_query(query)],
    "garbage": lambda query: [query[:2] + b"\xff" * 60],
    "header only": lambda query: [query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"],
    "empty header": lambda query: [query[:2] + b"\x81\x80\0\0\0\0\0\0\0\0"],
    "three octets": lambda query: [query[:2] + b"\x81"],
    "nothing at all": lambda query: [b""],
    "cut short": lambda query: [_cut_short(query)],
    "pointer loop": lambda query: [_pointing_at_itself(query)],
}
# And these do something else than send what a function of the query makes.
WRONG_PORT, HELD, HANG_UP = "wrong port", "held", "hang up"


class Upstream:
    """Use as an asynchronous context manager. Until told otherwise it answers right."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.streams: list[asyncio.Transport] = []  # every connection that was ever made
        self.tls: list[ssl.SSLObject] = []  # of each of them that speaks TLS
        self._manners: dict[tuple[str, str], tuple[str, ...]] = {}
        self._held: list[tuple[bytes, Send]] = []
        self._context = tls
        self._arrival = asyncio.Event()
        # Its replies come from an address that nobody asked.
        self._stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def __aenter__(self) -> Upstream:
        loop = asyncio.get_running_loop()
        self._udp, tcp = bind_pair(HOST)
        self._udp.setblocking(False)
        self.port: int = self._udp.getsockname()[1]
        loop.add_reader(self._udp, self._readable)
        self._server = await loop.create_server(lambda: _Stream(self), sock=tcp, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        self._stranger.close()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # transports close at the loop's next turn

    @property
    def url(self) -> str:
        return f"{HOST}:{self.port}"

    def behave(self, *manners: str, name: str = "", transport: str = "") -> None:
        """From now on answer so, for all names and transports or for one."""
        self._manners[name, transport] = manners

    def stop(self) -> None:
        """Close every socket: whoever asks is refused by the system from now on."""
        self.stop_listening()
        self.close_streams()
        if self._udp.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._udp)
            self._udp.close()

    def close_streams(self) -> None:
        """Close every connection, as a server does that has waited long enough."""
        for stream in self.streams:
            stream.close()

    def stop_listening(self) -> None:
        """Accept no more connections."""
        self._server.close()

    def release(self, newest_first: bool = False) -> None:
        """Send the right answers to all queries that are held."""
        held, self._held = self._held, []
        for query, send in reversed(held) if newest_first else held:
            send(answer(query))

    def asked(self, name: str) -> list[Seen]:
        """The queries for one name."""
        return [seen for seen in self.seen if seen.name.lower() == name.lower()]

    async def until(self, count: int) -> None:
        """Wait for query number `count`."""
        while len(self.seen) < count:
            self._arrival.clear()
            await self._arrival.wait()

    # -- the two sockets ---------------------------------------------------------------------

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                query, source = self._udp.recvfrom(65535)
                self.take(query, "udp", source, functools.partial(self._send_to, source))

    def _send_to(self, source: tuple[str, int], wire: bytes) -> None:
        if self._udp.fileno() >= 0:
            self._udp.sendto(wire, source)

    def take(self, query: bytes, transport: str, source: tuple[str, int], send: Send) -> bool:
        """Answer one query; False if the connection is to be closed instead."""
        seen = Seen(query, transport, source)
        self.seen.append(seen)
        self._arrival.set()
        try:
            dnslib.DNSRecord.parse(query)
        except dnslib.DNSError:  # it knows neither octets above 127 nor some other legal oddities
            send(query[:2] + b"\x81\x85" + query[4:])
            return True
        for manner in self._manner(seen.name.lower(), transport):
            if manner == WRONG_PORT:
                self._stranger.sendto(_poison(query), source)
            elif manner == HELD:
                self._held.append((query, send))
            elif manner == HANG_UP:
                return False
            else:
                for wire in MANNERS[manner](query):
                    send(wire)
        return True

    def _manner(self, name: str, transport: str) -> tuple[str, ...]:
        places = ((name, transport), (name, ""), ("", transport), ("", ""))
        found = next((self._manners[at] for at in places if at in self._manners), ("ok",))
        return ("ok",) if found == ("truncated",) and transport == "tcp" else found


class _Stream(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer: tuple[str, int] = transport.get_extra_info("peername")[:2]
        self._upstream.streams.append(self._transport)
        if tls := transport.get_extra_info("ssl_object"):
            self._upstream.tls.append(tls)

    def data_received(self, data: bytes) -> None:
        for query in self._frames.feed(data):
            if not self._upstream.take(query, "tcp", self._peer, self._send):
                self._transport.close()
                return

    def _send(self, wire: bytes) -> None:
        self._transport.write(frame(wire))
