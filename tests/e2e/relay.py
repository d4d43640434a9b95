"""A port of a network namespace that leads to the same port of this one, on loopback.

`python -m tests.e2e.relay NAMESPACE PORT` listens there until it is ended. A process may have
sockets of several namespaces: it enters one (setns(2)), opens its listener and comes back.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys

HOST = "127.0.0.1"
CLONE_NEWNET = 0x40000000
CHUNK = 1 << 16


def listener(namespace: str, port: int) -> socket.socket:
    """A listening socket in the namespace, for a process that is not in it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(place: int) -> None:
        if libc.setns(place, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")

    home, there = (os.open(path, os.O_RDONLY)
                   for path in ("/proc/thread-self/ns/net", f"/run/netns/{namespace}"))  # fmt: skip
    try:
        enter(there)
        try:
            return socket.create_server((HOST, port))
        finally:
            enter(home)
    finally:
        os.close(home)
        os.close(there)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # either end has gone, which the other one is told by closing
    finally:
        writer.close()


async def serve(accepting: socket.socket, port: int) -> None:
    """Pass every connection on to the port here."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection(HOST, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, onward[1]), _pump(onward[0], writer))

    server = await asyncio.start_server(one, sock=accepting)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(listener(sys.argv[1], int(sys.argv[2])), int(sys.argv[2])))
