"""A small forwarding cache as one would write it at first: uvloop, dnslib and a dict.

`python naive_proxy.py PORT UPSTREAM_PORT` answers over UDP and TCP on the loopback address. Every
query is parsed into objects and every reply built from them; answers are kept for their TTL. It
serves nothing stale and gives SERVFAIL when the upstream does not answer. A yardstick, not a
product: nothing of dnsguard is in it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, cast

import uvloop
from dnslib import RCODE, RR, DNSError, DNSRecord

HOST = "127.0.0.1"
PATIENCE = 2.0  # seconds for the upstream to answer
ENTRIES_MAX = 2_000_000

Key = tuple[str, int]
Reply = Any  # dnslib carries no types


class Upstream(asyncio.DatagramProtocol):
    """One socket to the upstream; who waits is found again by the message id."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[Reply]] = {}
        self.last_id = 0
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, _: object) -> None:
        try:
            reply = DNSRecord.parse(data)
        except DNSError:
            return
        future = self.waiting.get(reply.header.id)
        if future and not future.done():
            future.set_result(reply)

    async def ask(self, question: Any) -> Reply:
        assert self.transport is not None
        self.last_id = ident = (self.last_id + 1) & 0xFFFF
        query = DNSRecord(q=question)
        query.header.id = ident
        self.waiting[ident] = future = asyncio.get_running_loop().create_future()
        try:
            self.transport.sendto(query.pack())
            return await asyncio.wait_for(future, PATIENCE)
        finally:
            self.waiting.pop(ident, None)


class Proxy:
    """The cache, and what is done with each query."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.cache: dict[Key, tuple[float, Reply]] = {}

    async def answer(self, data: bytes) -> bytes | None:
        try:
            query = DNSRecord.parse(data)
        except DNSError:
            return None
        key = (str(query.q.qname).lower(), query.q.qtype)
        reply = query.reply(ra=1, aa=0)
        try:
            stored, answer = await self.look_up(key, query.q)
        except TimeoutError:
            reply.header.rcode = RCODE.SERVFAIL
            return bytes(reply.pack())
        age = int(time.monotonic() - stored)
        reply.header.rcode = answer.header.rcode
        for record in answer.rr:
            ttl = max(0, record.ttl - age)
            reply.add_answer(RR(record.rname, record.rtype, record.rclass, ttl, record.rdata))
        return bytes(reply.pack())

    async def look_up(self, key: Key, question: Any) -> tuple[float, Reply]:
        now = time.monotonic()
        if (found := self.cache.get(key)) and self.fresh(found, now):
            return found
        answer = await self.upstream.ask(question)
        found = (now, answer)
        if answer.rr:
            if len(self.cache) >= ENTRIES_MAX:
                del self.cache[next(iter(self.cache))]
            self.cache[key] = found
        return found

    @staticmethod
    def fresh(found: tuple[float, Reply], now: float) -> bool:
        stored, answer = found
        return bool(now - stored < min(record.ttl for record in answer.rr))


class Listener(asyncio.DatagramProtocol):
    """UDP clients: a task for each query."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.tasks: set[asyncio.Task[None]] = set()
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: Any) -> None:
        task = asyncio.create_task(self.reply(data, client))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def reply(self, data: bytes, client: Any) -> None:
        assert self.transport is not None
        if answer := await self.proxy.answer(data):
            self.transport.sendto(answer, client)


async def serve(port: int, upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    address = (HOST, upstream_port)
    _, upstream = await loop.create_datagram_endpoint(Upstream, remote_addr=address)
    proxy = Proxy(upstream)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answer = await proxy.answer(await reader.readexactly(size))
                if answer is None:
                    break
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    await loop.create_datagram_endpoint(lambda: Listener(proxy), local_addr=(HOST, port))
    async with await asyncio.start_server(converse, HOST, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
