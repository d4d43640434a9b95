"""Last-known-good that a whole fleet shares: a Redis or Valkey server, Sentinel or Cluster.

It is read when a client would get SERVFAIL, and once by a process that starts with nothing; it is
written in batches, each answer with its death as its expiry. A hit or a healthy miss never comes
near it. What lies there may be anyone's, so it is judged like a stranger's file (see `rows` and
`core.kept`). A server that is slow or gone costs a metric and one line in the log: from then on
nobody waits for it until it answers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from dnsguard import clock
from dnsguard.core.actions import Notice
from dnsguard.core.counters import SharedCounts
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.kept import restore
from dnsguard.core.learned import Change
from dnsguard.core.policy import SharedServer
from dnsguard.errors import StoreError, WireError
from dnsguard.store.rows import RECORD_MAX, Row, decode, encode, row_of
from dnsguard.store.shared_client import Client, connect, is_gone

READ_SECONDS = 0.3  # a client waits for it, and for no more than `elsewhere.WAIT_SECONDS`
WRITE_SECONDS = 2.0
PAUSE_FIRST, PAUSE_MAX = 1.0, 30.0  # between looks at a server that does not answer
WAITING_MAX = 8192  # answers to be written; of more, the oldest are left out
BATCH = 256  # answers read or written at a time: some two milliseconds of the loop's time
READS_MAX = 1024  # names looked for at once
ALL_MAX = 250_000  # answers taken at a start
OF_PIPELINE = " of pipeline caused error: "  # behind the command, with which the library begins
SAID_MAX = 200


class Shared:
    """One process's way to the shared store. `settled` and `nowhere` end a search for a key."""

    def __init__(
        self,
        servers: Sequence[SharedServer],
        prefix: str,
        engine: Engine,
        notice: Callable[[Notice], None],
        settled: Callable[[bytes], None],
        nowhere: Callable[[bytes], None],
    ) -> None:
        self._servers = tuple(servers)
        self._prefix = prefix.encode() + b":"
        self._engine = engine
        self._notice = notice
        self._settled, self._nowhere = settled, nowhere
        self.counts = SharedCounts()
        self._client: Client | None = None
        self._server = self._servers[0]
        self._turn = 0
        self._waiting: dict[bytes, Entry] = {}
        self._heard: dict[bytes, Entry] = {}
        self._reads: set[bytes] = set()
        self._news = asyncio.Event()
        self._asked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._trouble = ""  # why nobody is there
        self._refusal = ""  # why it takes nothing

    def start(self, empty: Callable[[], Awaitable[bool]]) -> None:
        """Begin; `empty` tells, once that is known, whether there is nothing to start with."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(empty))]

    async def stop(self) -> None:
        """Write what waits, if that can be done in time, and end."""
        if self.counts.up and self._waiting:
            with suppress(Exception):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._write_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._part()

    # -- what the keeper wants --------------------------------------------------------------

    def tell(self, changes: Sequence[Change]) -> None:
        """Have these answers written; what is forgotten here may be of use to others."""
        heard, self._heard = self._heard, {}
        for key, entry in changes:
            if entry is not None and heard.get(key) is not entry:
                self._waiting.pop(key, None)
                self._waiting[key] = entry
        while len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
            self.counts.errors["left_out"] += 1
        if self._waiting:
            self._news.set()

    def search(self, key: bytes) -> None:
        """Look for one answer; ends in `settled` or `nowhere`, at once if nobody is there."""
        if not self.counts.up or len(self._reads) >= READS_MAX:
            self._nowhere(key)
            return
        self._reads.add(key)
        self._asked.set()

    # -- being connected --------------------------------------------------------------------

    async def _run(self, empty: Callable[[], Awaitable[bool]]) -> None:
        """Be connected, as long as that can be had, and again after a pause."""
        pause = PAUSE_FIRST
        first = await empty()
        while True:
            try:
                await self._meet()
                pause = PAUSE_FIRST
                if first:
                    await self._take_all()
                    first = False
                await self._serve()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # the library has many; each means the same here
                self._down(error)
            await self._part()
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MAX)

    async def _meet(self) -> None:
        self._server = self._servers[self._turn % len(self._servers)]
        self._turn += 1
        self._client = await asyncio.to_thread(connect, self._server)
        await self._client.meet()
        self.counts.up = True
        if self._trouble:
            self._trouble = ""
            text = f"shared store: {self._server.shown} answers again"
            self._notice(Notice("info", "shared_up", text))

    def _down(self, error: Exception) -> None:
        self.counts.up = False
        kind = kind_of(error)
        self.counts.errors[kind] += 1
        reads, self._reads = self._reads, set()
        for key in reads:
            self._nowhere(key)
        if kind != self._trouble:
            self._trouble = kind
            text = f"{said(error)}; answers are not shared until it works"
            self._warn("shared_down", text, kind)

    def _warn(self, event: str, text: str, kind: str) -> None:
        text = f"shared store: {self._server.shown}: {text}"
        self._notice(Notice("warning", event, text, (("kind", kind),)))

    async def _part(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                async with asyncio.timeout(READ_SECONDS):
                    await client.close()

    async def _serve(self) -> None:
        """Write and read until one of them fails.

        A TaskGroup would leave a mark of its cancelling on this task (Python 3.11 and 3.12), and
        with it the next timeout that runs out would end the task instead of the wait.
        """
        parts = [asyncio.ensure_future(part) for part in (self._write(), self._read())]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            ended = await asyncio.gather(*parts, return_exceptions=True)
        raise next(end for end in ended if isinstance(end, Exception))

    # -- writing ----------------------------------------------------------------------------

    async def _write(self) -> None:
        pause = PAUSE_FIRST
        while True:
            await self._news.wait()
            self._news.clear()
            if await self._write_all():
                pause = PAUSE_FIRST
                continue
            self._news.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MAX)

    async def _write_all(self) -> bool:
        """Write what waits, once each; True if nothing is left of it."""
        waiting = list(self._waiting.items())
        refused: Exception | None = None
        for start in range(0, len(waiting), BATCH):
            refused = await self._write_some(waiting[start : start + BATCH]) or refused
        kind = "" if refused is None else kind_of(refused)
        if kind != self._refusal:
            self._refusal = kind
            if refused is not None:
                text = f"{said(refused)}; it is read, but answers are not written until it works"
                self._warn("shared_refuses", text, kind)
            else:
                text = f"shared store: {self._server.shown}: it takes answers again"
                self._notice(Notice("info", "shared_takes", text))
        return refused is None

    async def _write_some(self, some: Sequence[tuple[bytes, Entry]]) -> Exception | None:
        """Write these; return what was said of one that was not taken, which waits further on."""
        assert self._client is not None
        clocks = clock.read()
        lives = [(key, entry, int((entry.dies() - clocks.now) * 1000)) for key, entry in some]
        replies = iter(await self._client.ask(
            [("SET", self._prefix + key, encode(row_of(entry, clocks)), "PX", left)
             for key, entry, left in lives if left > 0],
            WRITE_SECONDS,
        ))  # fmt: skip
        refused: Exception | None = None
        for key, entry, left in lives:
            reply = next(replies) if left > 0 else None
            if isinstance(reply, Exception):
                refused = reply
                self.counts.errors[kind_of(reply)] += 1
                continue
            if self._waiting.get(key) is entry:
                del self._waiting[key]
            self.counts.writes += 1
        return refused

    # -- reading ----------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._reads:
                keys = list(self._reads)[:BATCH]
                for key, value, left in await self._fetch(keys, READ_SECONDS):
                    if key in self._reads:
                        self._reads.discard(key)
                        self._finish(key, self._accept(key, value, left))

    def _finish(self, key: bytes, known: bool) -> None:
        if known:
            self.counts.found += 1
            self._settled(key)
        else:
            self.counts.missed += 1
            self._nowhere(key)

    async def _fetch(
        self, keys: Sequence[bytes], seconds: float
    ) -> list[tuple[bytes, object, object]]:
        assert self._client is not None
        replies = await self._client.ask(
            [(word, self._prefix + key) for key in keys for word in ("GET", "PTTL")], seconds
        )
        return list(zip(keys, replies[::2], replies[1::2], strict=True))

    def _accept(self, key: bytes, value: object, left: object) -> bool:
        """Take a value as an answer; False if it is none, or of no use."""
        if value is None:
            return False
        if isinstance(value, Exception) and (is_gone(value) or kind_of(value) == "refused"):
            self.counts.errors[kind_of(value)] += 1
            return False
        clocks = clock.read()
        try:
            if not isinstance(value, bytes) or len(value) > RECORD_MAX:
                raise StoreError("no record", "row")
            row = decode(key, value)
            seconds = left / 1000 if isinstance(left, int) and left > 0 else 0.0
            stored = stored_at(row, seconds, clocks.wall, clocks.now)
            if restore(self._engine, key, row.wire, stored, clocks.now):
                entry = self._engine.cache.index[key]
                self._heard[key] = entry
                if self._engine.learned is not None:
                    self._engine.learned.adopt(entry)
        except (StoreError, WireError):
            self.counts.errors["row"] += 1
            return False
        known = self._engine.cache.get(key)
        return known is not None and clocks.now < known.dies()

    async def _take_all(self) -> None:
        """Take all that is there, as one who has nothing."""
        assert self._client is not None
        keys: list[bytes] = []
        taken = 0
        start = len(self._prefix)
        async for name in self._client.names(self._prefix):
            keys.append(name[start:])
            if len(keys) >= BATCH:
                taken += await self._take_some(keys)
                keys = []
            if taken >= ALL_MAX:
                break
        taken += await self._take_some(keys)
        if taken:
            text = f"shared store: started with {taken} answers of others"
            self._notice(Notice("info", "shared_taken", text, (("answers", taken),)))

    async def _take_some(self, keys: Sequence[bytes]) -> int:
        if not keys:
            return 0
        found = await self._fetch(keys, WRITE_SECONDS)
        taken = sum(self._accept(key, value, left) for key, value, left in found)
        self.counts.taken += taken
        await asyncio.sleep(0)
        return taken


def stored_at(row: Row, left: float, wall: float, now: float) -> float:
    """Return when `row` was stored, on our clock, so that it dies no later than it should.

    Two say when that is: the wall clocks of who wrote it and of this machine, and the server, which
    counts down `left` seconds; the earlier one holds.
    """
    life = row.dies - row.stored
    dies = min(row.dies - wall, left)
    return now - max(wall - row.stored, 0.0, life - dies)


def said(error: Exception) -> str:
    """Return what an error says, in one line; never empty, and without what was written or read."""
    text = " ".join(str(error).split()).rpartition(OF_PIPELINE)[2].partition(" : <")[0]
    return text[:SAID_MAX] or type(error).__name__


def kind_of(error: BaseException) -> str:
    """Return the word that metrics use for what went wrong."""
    if isinstance(error, StoreError):
        return error.kind
    name, text = type(error).__name__, str(error)
    if name == "RedisClusterException" and error.__cause__ is not None:
        return kind_of(error.__cause__)
    if "Timeout" in name:
        return "timeout"
    if "Auth" in name or "Permission" in name or "NOAUTH" in text or "WRONGPASS" in text:
        return "refused"
    if "certificate" in text.lower():
        return "tls"
    if name == "OutOfMemoryError":
        return "full"
    return "unreachable" if is_gone(error) else "error"
