"""One question over a real socket, for the tests of the demo's servers."""

from __future__ import annotations

import asyncio
import socket

from dnslib import EDNS0, DNSRecord

from dnsguard.core.framing import FrameReader, frame

HOST = "127.0.0.1"


def query(name: str, qtype: str = "A") -> DNSRecord:
    record = DNSRecord.question(name, qtype)
    record.add_ar(EDNS0(udp_len=1232))
    return record


async def ask(
    port: int, name: str, qtype: str = "A", *, tcp: bool = False, patience: float = 5.0
) -> DNSRecord | None:
    """The reply, or None if none came in time."""
    wire = bytes(query(name, qtype).pack())
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (HOST, port))
        await loop.sock_sendall(connection, frame(wire) if tcp else wire)
        try:
            async with asyncio.timeout(patience):
                data = await loop.sock_recv(connection, 65535)
        except TimeoutError:
            return None
    if tcp:
        (data,) = FrameReader().feed(data)
    return DNSRecord.parse(data)


def addresses(reply: DNSRecord | None) -> list[str]:
    assert reply is not None
    return [str(record.rdata) for record in reply.rr]
