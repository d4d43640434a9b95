"""Nodes of a fleet that share what they know: how they are started, taught and examined."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from tests.net.asking import datagrams
from tests.net.running import Serve, serve
from tests.net.upstream import Upstream, address_of
from tests.store.redis_server import Server
from tests.store.test_serve import numbers

NAMES = [f"n{number}.test" for number in range(30)]
QUICK = ("--set", "store.flush_interval=100ms")
DAY = 86400.0


def arguments(upstream: Upstream, url: str, *more: str) -> tuple[str, ...]:
    return ("--upstream", upstream.url, *QUICK, "--set", f"store.shared={url}", *more)


async def metric(running: Serve, name: str, least: float) -> None:
    """Wait until a number of the shared store has come so far."""
    while (await numbers(running)).get(f"shared_{name}", 0.0) < least:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def teach(upstream: Upstream, server: Server, url: str) -> None:
    """Have one node of the fleet learn all names, which nobody knew, and be gone."""
    before = server.client.dbsize()
    async with serve(*arguments(upstream, url)) as node, datagrams(node.port) as client:
        await metric(node, "up", 1)
        for name in NAMES:
            await client.resolve(name)
        await server.holds(before + len(NAMES))
        node.signal(signal.SIGKILL)
        await node.ended()


async def know(running: Serve, names: Sequence[str]) -> None:
    """See that all these names are answered, stale, and rightly."""
    async with datagrams(running.port) as client:
        for name in names:
            reply = await client.resolve(name)
            told = reply.rcode, reply.addresses, reply.ede
            assert told == ("NOERROR", [address_of(name)], [3]), f"{name}: {told}"
