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
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from dnsguard import clock
from dnsguard.core.actions import Notice
from dnsguard.core.counters import SharedCounts
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.kept import restore
from dnsguard.core.learned import Change
from dnsguard.errors import StoreError, WireError
from dnsguard.store.rows import RECORD_MAX, Row, decode, encode, row_of

T = TypeVar("T")

READ_SECONDS = 0.3  # a client waits for it, and for no more than `elsewhere.WAIT_SECONDS`
WRITE_SECONDS = 2.0
PAUSE_FIRST, PAUSE_MAX = 1.0, 30.0  # between looks at a server that does not answer
WAITING_MAX = 8192  # answers to be written; of more, the oldest are left out
BATCH = 256  # answers read or written at a time: some two milliseconds of the loop's time
READS_MAX = 1024  # names looked for at once
ALL_MAX = 250_000  # answers taken at a start
SENTINEL_PORT = 26379


class Shared:
    """One process's way to the shared store. `settled` and `nowhere` end a search for a key."""

    def __init__(
        self,
        urls: Sequence[str],
        prefix: str,
        engine: Engine,
        notice: Callable[[Notice], None],
        settled: Callable[[bytes], None],
        nowhere: Callable[[bytes], None],
    ) -> None:
        self._urls = tuple(urls)
        self._prefix = prefix.encode() + b":"
        self._engine = engine
        self._notice = notice
        self._settled, self._nowhere = settled, nowhere
        self.counts = SharedCounts()
        self._client: Any = None
        self._turn = 0
        self._waiting: dict[bytes, Entry] = {}
        self._heard: dict[bytes, Entry] = {}
        self._reads: set[bytes] = set()
        self._news = asyncio.Event()
        self._asked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._trouble = ""

    def start(self, empty: Callable[[], Awaitable[bool]]) -> None:
        """Begin; `empty` tells, once that is known, whether there is nothing to start with."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(empty))]

    async def stop(self) -> None:
        """Write what waits, if that can be done in time, and end."""
        if self.counts.up and self._waiting:
            with suppress(Exception):
                async with asyncio.timeout(WRITE_SECONDS):
                    while self._waiting:
                        await self._write_some()
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
        url = self._urls[self._turn % len(self._urls)]
        self._turn += 1
        self._client = await asyncio.to_thread(connect, url)
        async with asyncio.timeout(WRITE_SECONDS):
            await self._client.ping()
        self.counts.up = True
        if self._trouble:
            self._trouble = ""
            text = f"shared store: {plain(url)} answers again"
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
            url = self._urls[(self._turn - 1) % len(self._urls)]
            said = " ".join(str(error).split()) or type(error).__name__
            text = f"shared store: {plain(url)}: {said}; answers are not shared until it works"
            self._notice(Notice("warning", "shared_down", text, (("kind", kind),)))

    async def _part(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                async with asyncio.timeout(READ_SECONDS):
                    await client.aclose()

    async def _serve(self) -> None:
        """Write and read until one of them fails."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._read())

    # -- writing ----------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._write_some()

    async def _write_some(self) -> None:
        clocks = clock.read()
        some = dict(list(self._waiting.items())[:BATCH])
        pipe = self._client.pipeline(transaction=False)
        for key, entry in some.items():
            left = int((entry.dies() - clocks.now) * 1000)
            if left > 0:
                pipe.set(self._prefix + key, encode(row_of(entry, clocks)), px=left)
        await pipe.execute()
        for key, entry in some.items():
            if self._waiting.get(key) is entry:
                del self._waiting[key]
        self.counts.writes += len(some)

    # -- reading ----------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._reads:
                keys = list(self._reads)[:BATCH]
                async with asyncio.timeout(READ_SECONDS):
                    found = await self._fetch(keys)
                for key, value, left in found:
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

    async def _fetch(self, keys: Sequence[bytes]) -> list[tuple[bytes, object, object]]:
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(self._prefix + key)
            pipe.pttl(self._prefix + key)
        replies = await pipe.execute()
        return list(zip(keys, replies[::2], replies[1::2], strict=True))

    def _accept(self, key: bytes, value: object, left: object) -> bool:
        """Take a value as an answer; False if it is none, or of no use."""
        if value is None:
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
        keys: list[bytes] = []
        taken = 0
        start = len(self._prefix)
        async for name in self._client.scan_iter(match=self._prefix + b"*", count=BATCH):
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
        async with asyncio.timeout(WRITE_SECONDS):
            found = await self._fetch(keys)
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


def connect(url: str) -> Any:
    """Return a client for `url`, not connected yet; the library is loaded here, on a thread."""
    try:
        from redis.asyncio import Redis, RedisCluster
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        text = "the package redis is missing: pip install 'dnsguard[shared]'"
        raise StoreError(text, "missing") from None
    options: dict[str, Any] = {
        "socket_timeout": WRITE_SECONDS,
        "socket_connect_timeout": WRITE_SECONDS,
        "decode_responses": False,
    }
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    rest = url.partition("://")[2]
    if kind == "cluster":
        return RedisCluster.from_url(f"{scheme}://{rest}", **options)
    options["retry"] = Retry(NoBackoff(), 0)
    if kind == "sentinel":
        return _by_sentinel(url, scheme == "rediss", options)
    return Redis.from_url(url, **options)


def _by_sentinel(url: str, tls: bool, options: dict[str, Any]) -> Any:
    """redis+sentinel://[user:password@]host:port,host:port/service[/db]."""
    from redis.asyncio.sentinel import Sentinel

    parts = urlsplit(url)
    credentials, _, places = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    hosts = []
    for place in places.split(","):
        host, _, port = place.rpartition(":")
        hosts.append((host.strip("[]"), int(port)) if host else (port, SENTINEL_PORT))
    service, _, number = parts.path.strip("/").partition("/")
    if tls:
        options["ssl"] = True
    by_name: Any = Sentinel  # carries no types
    sentinel = by_name(hosts, sentinel_kwargs=dict(options), **options)
    return sentinel.master_for(
        service or "mymaster", db=int(number or 0),
        username=unquote(user) or None, password=unquote(password) or None,
    )  # fmt: skip


def plain(url: str) -> str:
    """Return a URL without the secrets in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def kind_of(error: BaseException) -> str:
    """Return the word that metrics use for what went wrong."""
    if isinstance(error, BaseExceptionGroup):
        return kind_of(error.exceptions[0])
    if isinstance(error, StoreError):
        return error.kind
    name = type(error).__name__
    if "Timeout" in name:
        return "timeout"
    if "Auth" in name or "NOAUTH" in str(error) or "WRONGPASS" in str(error):
        return "refused"
    return "unreachable" if isinstance(error, OSError) or "Connection" in name else "error"
