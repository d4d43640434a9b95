"""`dnsguard serve --takeover`: a second server takes the place of a first, and no query is lost.

Queries go on all the time, over UDP and over TCP, at both loopback addresses. What happens at 5,000
of them a second is measured, not tested: see benchmarks/RESULTS.md.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dnsguard.config import Address
from dnsguard.workers.supervisor import claim
from tests.net.asking import datagrams, stream
from tests.net.running import HOST, LOOPBACKS, Serve, on_a_loop, serve, start
from tests.net.upstream import Upstream, address_of
from tests.settings_from import flag, loaded
from tests.store.test_serve import http, numbers

NAMES = [f"n{number}.test" for number in range(20)]


def at(host: str = HOST) -> Address:
    """A place with a port: the directory of a server's state is named after what it was told."""
    return claim(loaded(flag("listen", str(Address(host, 0))))).listen[0]


@asynccontextmanager
async def begun(place: Address, *arguments: str, admin: int = 0) -> AsyncIterator[Serve]:
    """A server at this place; it is gone at the end, one way or the other."""
    running = await start("--listen", str(place), "--admin", f"{HOST}:{admin}", *arguments)
    try:
        found = re.search(r"admin http://\S+:(\d+)", await running.said(" ready "))
        assert found is not None
        running.port, running.admin = place.port, int(found[1])
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
        await running.ended()


class Asking:
    """Clients that ask until told to stop; `wrong` is what was not answered, or not rightly."""

    def __init__(self, port: int, host: str) -> None:
        self._port, self._host = port, host
        self._stop = asyncio.Event()
        self.asked = 0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Asking:
        self._tasks = [asyncio.create_task(self._datagrams()) for _ in range(8)]
        self._tasks += [asyncio.create_task(self._streams()) for _ in range(4)]
        await self.more()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def end(self) -> None:
        """Ask nothing more; fails if a client did."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def more(self) -> None:
        """Wait until some hundred more have been answered."""
        until = self.asked + 300
        while self.asked < until:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    async def _one(self, client: object) -> None:
        name = NAMES[self.asked % len(NAMES)]
        self.asked += 1
        reply = await client.resolve(name)  # type: ignore[attr-defined]
        if (reply.rcode, reply.addresses) != ("NOERROR", [address_of(name)]):
            self.wrong.append(f"{name} {reply.rcode} {reply.addresses}")

    async def _datagrams(self) -> None:
        while not self._stop.is_set():
            async with datagrams(self._port, host=self._host) as client:
                for _ in range(10):
                    await self._one(client)

    async def _streams(self) -> None:
        while not self._stop.is_set():
            async with stream(self._port, host=self._host) as client:
                for _ in range(3):
                    await self._one(client)


@pytest.mark.parametrize("host", LOOPBACKS)
@on_a_loop
async def test_no_query_is_lost_and_what_the_old_one_knew_the_new_one_knows(
    tmp_path: Path, host: str
) -> None:
    where = ("--takeover", "--state-dir", str(tmp_path))
    async with Upstream() as upstream:
        arguments = ("--upstream", upstream.url, *where)
        place = at(host)
        async with (
            begun(place, *arguments) as old,
            Asking(old.port, host) as asking,
            begun(place, *arguments, admin=old.admin) as new,
        ):
            upstream.stop()  # from here on nobody can learn anything
            await asking.more()
            old.signal(signal.SIGTERM)
            assert await old.ended() == 0
            await asking.more()
            await asking.end()
            assert asking.wrong == []
            while not (await numbers(new))["up"]:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.01)
            assert (await http(new, "/readyz"))[0] == 200
            async with datagrams(new.port, host=host) as client:
                assert (await client.resolve("never.test")).rcode == "SERVFAIL"
        assert not [line for line in new.lines + old.lines if "in use by another" in line]


@on_a_loop
async def test_an_address_is_shared_with_nobody_who_did_not_say_so() -> None:
    async with Upstream() as upstream:
        for mine, theirs in (((), ("--takeover",)), (("--takeover",), ())):
            async with serve("--upstream", upstream.url, *mine) as first:
                other = await start(
                    "--listen", f"{HOST}:{first.port}", "--admin", "off",
                    "--upstream", upstream.url, *theirs,
                )  # fmt: skip
                assert await other.ended() == 1
                (line,) = other.lines
                assert "Address already in use" in line


@on_a_loop
async def test_workers_take_the_place_of_workers(tmp_path: Path) -> None:
    place = at()
    async with Upstream() as upstream:
        where = ("--takeover", "--state-dir", str(tmp_path), "--set", "workers=2")
        arguments = ("--upstream", upstream.url, *where)
        async with begun(place, *arguments) as old, datagrams(old.port) as client:
            for name in NAMES:
                await client.resolve(name)
            async with begun(place, *arguments, admin=old.admin) as new:
                upstream.stop()
                old.signal(signal.SIGTERM)
                assert await old.ended() == 0
                for name in NAMES:
                    async with datagrams(new.port) as other:
                        assert (await other.resolve(name)).addresses == [address_of(name)]
