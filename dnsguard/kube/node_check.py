"""Asks a node's resolver, through the address that pods ask, whether it answers.

The question is for a name that its settings pin (`PINNED`), so that the answer needs no upstream;
it is marked (`CHECK_DSCP`), so that the rules never send it elsewhere, and goes over UDP and over
TCP, since one may hang while the other answers (RFC 1035 section 4.2).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Coroutine, Sequence

from dnsguard.core import wire
from dnsguard.core.framing import frame
from dnsguard.kube.node_plan import CHECK_DSCP, PORT, family
from dnsguard.kube.node_watch import Finding

PINNED = "alive.dnsguard.invalid"  # RFC 6761 section 6.4: nobody else's
CHECK_SECONDS = 0.5
A, AAAA = 1, 28
ECN_BITS = 2  # of the same octet (RFC 3168)
MINE_ASKED = 4  # at a time, as two resolvers share an address during an update and either answers
_WORST = (Finding.WRONG, Finding.REFUSED, Finding.SILENT, Finding.ANSWERED)


def question(address: str, name: str = PINNED) -> bytes:
    """A query for a pinned name, of the type of this address, without EDNS."""
    kind = A if family(address) == 4 else AAAA
    header = secrets.token_bytes(2) + wire.U16.pack(wire.RD) + wire.COUNTS.pack(1, 0, 0, 0)
    return header + wire.name_octets(name) + wire.OPTION.pack(kind, 1)


def judge(query: bytes, reply: bytes, address: str) -> Finding:
    """Return what a reply to `query` means; one to another question is silence."""
    if len(reply) < wire.HEADER_OCTETS or reply[:2] != query[:2] or not reply[2] & 0x80:
        return Finding.SILENT
    kind = socket.AF_INET if family(address) == 4 else socket.AF_INET6
    octets = socket.inet_pton(kind, address)
    good = not reply[3] & wire.RCODE and wire.U16.pack(len(octets)) + octets in reply
    return Finding.ANSWERED if good else Finding.WRONG


async def check(addresses: Sequence[str], port: int = PORT) -> Finding:
    """Ask at every address, over both transports; return the worst that came of it."""
    asks = [ask(address, port) for address in addresses for ask in (_datagram, _stream)]
    found = await asyncio.gather(*(_timed(ask) for ask in asks))
    return next(finding for finding in _WORST if finding in found)


async def mine(address: str, name: str, port: int = PORT) -> bool:
    """Whether a resolver that has pinned `name`, which no other has, answers at an address.

    A newcomer's own, that is: who shares the address with an older one hears from either.
    """
    asks = [_timed(_datagram(address, port, name)) for _ in range(MINE_ASKED)]
    return Finding.ANSWERED in await asyncio.gather(*asks)


async def _timed(ask: Coroutine[None, None, Finding]) -> Finding:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await ask
    except TimeoutError:
        return Finding.SILENT
    except OSError:  # refused, or the address is not here any more
        return Finding.REFUSED


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    six = family(address) == 6
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    level, option = (
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six else (socket.IPPROTO_IP, socket.IP_TOS)
    )
    sock.setsockopt(level, option, CHECK_DSCP << ECN_BITS)
    return sock


async def _datagram(address: str, port: int, name: str = PINNED) -> Finding:
    loop, query = asyncio.get_running_loop(), question(address, name)
    with _socket(address, socket.SOCK_DGRAM) as sock:
        await loop.sock_connect(sock, (address, port))
        await loop.sock_sendall(sock, query)
        while True:
            finding = judge(query, await loop.sock_recv(sock, wire.UDP_MAX), address)
            if finding is not Finding.SILENT:
                return finding


async def _stream(address: str, port: int) -> Finding:
    loop, query = asyncio.get_running_loop(), question(address)
    with _socket(address, socket.SOCK_STREAM) as sock:
        await loop.sock_connect(sock, (address, port))
        await loop.sock_sendall(sock, frame(query))
        head = await _exactly(sock, 2)
        reply = await _exactly(sock, int.from_bytes(head, "big"))
    return judge(query, reply, address)


async def _exactly(sock: socket.socket, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        more = await asyncio.get_running_loop().sock_recv(sock, octets - len(found))
        if not more:
            raise ConnectionResetError
        found += more
    return found
