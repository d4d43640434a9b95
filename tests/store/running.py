"""An engine and its keeper in one test, with real files and the real thread.

`knows` has an engine learn an answer as from an upstream; `running` is one run of a server, so two
of them on one directory are a restart. `until` waits for what the thread does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from dnsguard import clock
from dnsguard.core.actions import Notice
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.policy import StalePolicy, StorePolicy
from dnsguard.store.keeper import Keeper
from dnsguard.store.place import FILE, Place
from tests.core import build
from tests.core.world import one_zone

NAME = "127.0.0.1_0"
PATIENCE = 20.0  # a safety net: no test comes near it


def key_of(name: str) -> bytes:
    return build.read(build.query(name)).key


class Run:
    """One run: an engine, its keeper and what was said."""

    def __init__(
        self, root: Path, interval: float, max_age: float, meeting: Sequence[str] = (),
        state: bool = True,
    ) -> None:  # fmt: skip
        policy = one_zone()
        zone = replace(policy.zones[0], stale=StalePolicy(max_age=max_age))
        policy = replace(policy, zones=(zone,))
        self.engine = Engine(policy, random.Random(1), clock.now())
        self.notices: list[Notice] = []
        store = StorePolicy(str(root), interval)
        place = Place(str(root), NAME) if state else None
        self.keeper = Keeper(place, store, self.engine, self.notices.append, meeting)
        self.counts = self.keeper.counts
        self.file = root / NAME / FILE

    def knows(self, name: str, address: str = "10.0.0.1", ttl: int = 30) -> Entry:
        """Learn one address, as from an upstream."""
        engine, now = self.engine, clock.now()
        key = key_of(name)
        engine.sending.start(key, engine.zones.find(key), now)
        (ask,) = engine.out.asks
        engine.out.asks.clear()
        reply = build.answer_wire(b"\0\7" + ask.wire, f"{name} {ttl} IN A {address}")
        assert engine.answer(ask, reply, now)
        engine.out.replies.clear()
        entry = engine.cache.get(key_of(name))
        assert entry is not None
        return entry

    def entry(self, name: str) -> Entry | None:
        return self.engine.cache.get(key_of(name))

    def events(self) -> list[str]:
        return [notice.event for notice in self.notices]

    async def on_disk(self, rows: int) -> None:
        """Wait until so many rows are on disk and nothing is on its way there."""
        learned = self.engine.learned
        assert learned is not None
        await until(lambda: self.counts.rows == rows and not learned.waiting and self.quiet)

    @property
    def quiet(self) -> bool:
        return self.counts.up and self.keeper._under_way is None


@asynccontextmanager
async def running(
    root: Path, interval: float = 0.01, max_age: float = 3 * 86400.0, wait: bool = True,
    meeting: Sequence[str] = (), state: bool = True,
) -> AsyncIterator[Run]:  # fmt: skip
    """One run, from its start until its orderly end; those with a `meeting` place are peers."""
    run = Run(root, interval, max_age, meeting, state)
    run.keeper.start()
    try:
        if wait:
            await run.keeper.loaded()
        yield run
    finally:
        await run.keeper.stop()


async def until(true: Callable[[], bool]) -> None:
    """Wait until something has come true; fails if it does not."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - a thread makes it so, and tells nobody
            await asyncio.sleep(0.002)
