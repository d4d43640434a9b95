"""The upstream of `soak.py`, in a process of its own: it answers on a port, or fails as it is told.

An address tells the name and the moment that it is of, so that a wrong one shows.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from typing import cast

HOST = "127.0.0.1"
TTLS = (5, 10, 30)  # seconds: most of what is asked for has to be asked for again
TURN_SECONDS = 20  # between two addresses of a name that changes
LATE_SECONDS = 2.5  # longer than any client timer
FAILURES = ("silent", "gone", "servfail", "refused", "garbage", "late")


def name_of(number: int) -> bytes:
    """The name with this number, in wire form."""
    label = b"n%d" % number
    return bytes((len(label),)) + label + b"\4soak\4test\0"


def changes(number: int) -> bool:
    """True for the names whose address changes with time."""
    return number % 10 == 0


def turn_at(moment: float) -> int:
    return int(moment / TURN_SECONDS) % 256


def address(number: int, moment: float) -> bytes:
    """10, the name's number in two octets, and which turn it is."""
    return bytes((10, number >> 8, number & 255, turn_at(moment) if changes(number) else 0))


class Upstream(asyncio.DatagramProtocol):
    """Answers for every name, as it is told to."""

    def __init__(self) -> None:
        self.manner = "well"
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if self.manner == "silent" or len(data) < 12:
            return
        end = data.index(b"\0", 12) + 5
        question = data[12:end]
        if self.manner in ("servfail", "refused"):
            flags = b"\x81\x82" if self.manner == "servfail" else b"\x81\x85"
            self.transport.sendto(data[:2] + flags + b"\0\1\0\0\0\0\0\0" + question, addr)
            return
        if self.manner == "garbage":
            self.transport.sendto(data[:2] + b"\x81\x80" + bytes(range(60)), addr)
            return
        label = question[1 : 1 + question[0]]
        if not label.startswith(b"n") or not label[1:].isdigit() or question[-4:-2] != b"\0\1":
            self.transport.sendto(data[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question, addr)
            return
        number = int(label[1:])
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, TTLS[number % len(TTLS)], 4)
        answer = record + address(number, time.time())
        reply = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + answer
        if self.manner == "late":
            asyncio.get_running_loop().call_later(LATE_SECONDS, self.transport.sendto, reply, addr)
        else:
            self.transport.sendto(reply, addr)


async def be_upstream(port: int) -> None:
    """Answer on a port, and say so on stdout.

    How to comes on stdin, a line each: one of `FAILURES`, or `well`.
    """
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    transport, upstream = await loop.create_datagram_endpoint(Upstream, local_addr=(HOST, port))
    print("ready", flush=True)
    while word := (await lines.readline()).decode().strip():
        if word == "gone":
            transport.close()
        elif transport.is_closing():
            transport, upstream = await loop.create_datagram_endpoint(
                Upstream, local_addr=(HOST, port)
            )
        upstream.manner = word


if __name__ == "__main__":
    asyncio.run(be_upstream(int(sys.argv[1])))
