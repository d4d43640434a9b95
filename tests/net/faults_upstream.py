"""The upstream of `faults.py`, in its namespace: port 53 of every address, UDP and TCP.

Orders come on stdin, a line each; the answer to each is how many queries have come until then.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

from dnsguard.core.framing import FrameReader, frame

RCODES = {"servfail": 2, "refused": 5}


class Upstream:
    """What is asked, and how it is answered at the moment."""

    def __init__(self) -> None:
        self.manner = "ok"
        self.count = 0
        self.streams: set[asyncio.Transport] = set()
        self.held: list[tuple[bytes, tuple[str, int]]] = []

    def answer(self, asked: bytes) -> bytes:
        """An address for a second."""
        end = asked.index(b"\0", 12) + 5
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x0a\1\0\1"
        return asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12:end] + record

    def reply(self, asked: bytes) -> list[bytes]:
        """What comes back at once."""
        self.count += 1
        if self.manner in ("silent", "late", "port", "closed", "astray"):
            return []
        if self.manner in RCODES:
            head = asked[:2] + bytes((0x81, 0x80 | RCODES[self.manner])) + b"\0\1\0\0\0\0\0\0"
            return [head + asked[12 : asked.index(b"\0", 12) + 5]]
        if self.manner == "garbage":
            return [asked[:2] + b"\xff" * 40]
        return [self.answer(asked)] * (2 if self.manner == "twice" else 1)


class Datagrams(asyncio.DatagramProtocol):
    """Its UDP side."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        upstream = self._upstream
        for wire in upstream.reply(data):
            if upstream.manner == "shuffled":
                upstream.held.append((wire, addr))
                asyncio.get_running_loop().call_later(0.01, self._shuffled)
            else:
                self._transport.sendto(wire, addr)
        if upstream.manner == "late":
            wire = upstream.answer(data)
            asyncio.get_running_loop().call_later(5.0, self._transport.sendto, wire, addr)
        elif upstream.manner == "astray":
            self._transport.sendto(upstream.answer(data), (addr[0], addr[1] ^ 1))
        elif upstream.manner == "port":
            self._stranger.sendto(upstream.answer(data), addr)

    def _shuffled(self) -> None:
        while self._upstream.held:
            self._transport.sendto(*self._upstream.held.pop())


class Stream(asyncio.Protocol):
    """Its TCP side."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.streams.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.streams.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        for asked in self._frames.feed(data):
            for wire in self._upstream.reply(asked):
                self._transport.write(frame(wire))


async def main() -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    upstream = Upstream()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    endpoints: list[asyncio.DatagramTransport] = []

    async def listen() -> None:
        for address in ("10.9.0.1", "10.9.0.3"):  # one socket each: replies come from there
            transport, _ = await loop.create_datagram_endpoint(
                lambda: Datagrams(upstream), (address, 53)
            )
            endpoints.append(transport)

    await listen()
    server = await loop.create_server(lambda: Stream(upstream), "0.0.0.0", 53)
    print("ready", flush=True)
    while line := (await reader.readline()).decode().strip():
        if line == "drop":
            for stream in upstream.streams:
                stream.abort()
        elif line != "?":
            upstream.manner = line
            if line == "closed":
                for transport in endpoints:
                    transport.close()
                endpoints.clear()
            elif not endpoints:
                await asyncio.sleep(0)
                await listen()
        print(upstream.count, flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
