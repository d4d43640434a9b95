"""A DNS server that is there and of no use: it answers every query with SERVFAIL, over UDP and TCP.

`python benchmarks/servfail.py PORT` waits until the port is free and takes it at once, so that it
can stand in for a server that is killed that instant. It reads no further than the header (RFC 1035
section 4.1.1) and sends everything else back as it came, the OPT record too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

HOST = "127.0.0.1"
BATCH = 64  # datagrams per wake-up
RETRY_SECONDS = 0.0005


def servfail(query: bytes) -> bytes:
    """The query as its own reply: QR set, RA set, rcode 2."""
    return query[:2] + bytes([query[2] | 0x80, 0x82]) + query[4:]


def drain(sock: socket.socket) -> None:
    for _ in range(BATCH):
        try:
            query, client = sock.recvfrom(4096)
        except BlockingIOError:
            return
        if len(query) >= 12:
            with contextlib.suppress(OSError):
                sock.sendto(servfail(query), client)


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            size = await reader.readexactly(2)
            query = await reader.readexactly(int.from_bytes(size, "big"))
            if len(query) < 12:
                break
            writer.write(size + servfail(query))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    while True:
        try:
            udp.bind((HOST, port))
            break
        except OSError:
            await asyncio.sleep(RETRY_SECONDS)
    async with await asyncio.start_server(converse, HOST, port) as server:
        # UDP last: whoever has an answer over UDP may count on TCP.
        asyncio.get_running_loop().add_reader(udp, drain, udp)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
