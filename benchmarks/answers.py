"""A DNS server that knows one answer to everything: an A record, over UDP and TCP.

`python benchmarks/answers.py PORT` stands in for NSD where the harness itself is tested. Names
under `brief.` get a short TTL. It reads no further than the question (RFC 1035 section 4.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from typing import Any, cast

HOST = "127.0.0.1"
ADDRESS = bytes((192, 0, 2, 1))
LONG_TTL, BRIEF_TTL = 3600, 1
HEADER = struct.Struct("!6H")
REPLY_FLAGS = 0x8580  # QR, AA, RD, RA


def answer(query: bytes) -> bytes:
    """The reply: the question as it came, and one record that points back at its name."""
    ident = HEADER.unpack_from(query)[0]
    end = HEADER.size
    while query[end]:
        end += 1 + query[end]
    end += 5  # the root label, type and class
    ttl = BRIEF_TTL if b"\5brief" in query[HEADER.size : end] else LONG_TTL
    record = struct.pack("!HHHIH", 0xC000 | HEADER.size, 1, 1, ttl, len(ADDRESS)) + ADDRESS
    return HEADER.pack(ident, REPLY_FLAGS, 1, 1, 0, 0) + query[HEADER.size : end] + record


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: Any) -> None:
        with contextlib.suppress(IndexError, struct.error):
            self.transport.sendto(answer(data), client)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = answer(await reader.readexactly(size))
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, IndexError, struct.error):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Datagrams, local_addr=(HOST, port))
    async with await asyncio.start_server(converse, HOST, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
