"""What the processes of one address tell each other, so that what one has learned all know.

Workers of one server, and an old and a new server while one takes over from the other, each keep
their answers in memory. Every process is connected with every other by a Unix socket. It gives a
newcomer all that it knows, and from then on what it learns, as it is written to disk: what
`learned` found worth keeping. A question that would fail is also put to them. Records are those of
the disk (see `rows`) and are judged by the same rules; within one boot they tell ages exactly.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, cast

from dnsguard import clock
from dnsguard.core.counters import StoreCounts
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.kept import restore
from dnsguard.core.learned import Change
from dnsguard.errors import StoreError, WireError
from dnsguard.store.rows import KEY_MAX, RECORD_MAX, decode, encode, row_of
from dnsguard.store.scout import Scout, is_ours

_HEAD = Struct("!IB")  # octets that follow, and what they are
HELLO, ROW, ALL, WANT, NONE, OLD = range(6)  # OLD is a row that no upstream confirms now
_KEY = Struct("!H")
FRAME_MAX = _KEY.size + KEY_MAX + RECORD_MAX
PROTOCOL = b"dnsguard peer 1 "
STEP_ROWS = 256  # given or taken at a time: some two milliseconds of a loop that has queries too
STEP_PAUSE = 0.004
UNREAD_MAX = 16 << 20  # octets: a process that does not read any more is not waited for
LINKS_MAX = 64
OWED_MAX = 2048  # questions of others that wait for what is still to be read
PART_SECONDS, PART_STEP = 0.5, 0.002  # for the others to read the last, and for a disk that hangs


class Link(asyncio.Protocol):
    """One connection with another process."""

    def __init__(self, peers: Peers, who: str) -> None:
        self._peers = peers
        self.who = who  # empty until it has said so, where it was the other that called
        self._buffer = bytearray()
        self._at = 0
        self._full = False
        self._early = False  # it was given everything before everything was there
        self._rest: list[Entry] = []
        self.caught_up = False
        self.wanted: set[bytes] = set()  # what it was asked for and has not answered
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = self.transport.get_extra_info("socket")
        if not is_ours(sock) or not self._peers.admit(self):
            self.transport.abort()
            return
        self._send(HELLO, PROTOCOL + self._peers.name.encode())
        self._rest = self._peers.everything()
        self._give()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._peers.lost(self)

    # -- giving -----------------------------------------------------------------------------

    def _send(self, what: int, octets: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(_HEAD.pack(len(octets), what) + octets)
        if self.transport.get_write_buffer_size() > UNREAD_MAX:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def _give(self) -> None:
        """Give the next part of everything, while the other reads."""
        if self.transport is None:
            return
        if not self._full:
            some, self._rest = self._rest[-STEP_ROWS:], self._rest[:-STEP_ROWS]
            self.tell(some)
            if not self._rest:
                self._early = self._peers.reading
                if not self._early:
                    self._send(ALL, b"")
                return
        asyncio.get_running_loop().call_later(STEP_PAUSE, self._give)

    def has_read(self) -> None:
        """What was read meanwhile is to be given as well."""
        if self._early:
            self._early = False
            self._rest = self._peers.everything()
            self._give()

    def answer(self, key: bytes) -> None:
        """Give the answer under `key`, or the word that there is none."""
        entry = self._peers.usable(key)
        if entry is None:
            self._send(NONE, key)
        else:
            self.tell([entry])

    def tell(self, entries: Iterable[Entry]) -> None:
        """Give some answers."""
        clocks = clock.read()
        parts = []
        for entry in entries:
            record = encode(row_of(entry, clocks))
            what = ROW if clocks.now < entry.expires else OLD
            parts.append(_HEAD.pack(_KEY.size + len(entry.key) + len(record), what))
            parts += (_KEY.pack(len(entry.key)), entry.key, record)
        if parts and self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(parts))
            if self.transport.get_write_buffer_size() > UNREAD_MAX:
                self.transport.abort()

    def ask(self, key: bytes) -> None:
        """Ask for one answer; it comes as a row, or the word that there is none."""
        self.wanted.add(key)
        self._send(WANT, key)

    # -- taking -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._take()

    def _take(self) -> None:
        """Take what is there, some at a time; the rest waits until the loop has turned."""
        buffer, transport = self._buffer, self.transport
        rows: list[tuple[bytes, bytes, bool]] = []
        at = 0
        while transport is not None and len(buffer) - at >= _HEAD.size:
            size, what = _HEAD.unpack_from(buffer, at)
            if size > FRAME_MAX:
                transport.abort()
                return
            start = at + _HEAD.size
            if len(buffer) - start < size or len(rows) >= STEP_ROWS:
                break
            octets = bytes(buffer[start : start + size])
            at = start + size
            if what in (ROW, OLD):
                rows.append((*_row(octets), what == ROW))
                continue
            self._peers.rows(rows)
            rows = []
            self._word(what, octets)
        self._peers.rows(rows)
        del buffer[:at]
        if transport is not None and len(rows) >= STEP_ROWS:
            transport.pause_reading()
            asyncio.get_running_loop().call_later(STEP_PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            self._take()

    def _word(self, what: int, octets: bytes) -> None:
        if what == HELLO:
            who = octets.removeprefix(PROTOCOL)
            if who == octets:
                self._close()  # another version, with which nothing is shared
            elif not self.who:
                self.who = who.decode("latin-1")
                if not self._peers.named(self):
                    self._close()
        elif what == ALL:
            self.caught_up = True
            self._peers.caught_up(self)
        elif what == WANT:
            if not self._peers.owes(self, octets):
                self.answer(octets)
        elif what == NONE:
            self._peers.without(self, octets)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Peers:
    """All other processes of our address. `answered` and `nowhere` end a search for a key."""

    def __init__(
        self,
        directories: Sequence[str],
        engine: Engine,
        counts: StoreCounts,
        failed: Callable[[StoreError], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._counts = counts
        self._links: set[Link] = set()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._searches: set[bytes] = set()
        self._heard: dict[bytes, Entry] = {}  # what came from them, and need not be told to them
        self._owed: dict[bytes, set[Link]] = {}
        self.reading = False  # the file of an earlier run: more is known soon
        self._looked = self._stopped = False
        self.adopt = False  # have what they tell us written: the disk is ours
        self.settled: Callable[[bytes], None] = _nothing
        self.nowhere: Callable[[bytes], None] = _nothing
        self.complete = asyncio.Event()  # all that was there at the start has told us everything
        self._scout = Scout(
            directories, self._loop.call_soon_threadsafe, self._listen, self._met,
            self._has_looked, failed,
        )  # fmt: skip
        self.name = self._scout.ours

    def start(self) -> None:
        """Begin to look for the others."""
        self._scout.start()

    async def stop(self) -> None:
        """Part from the others, once they have what was told to them last."""
        self._stopped = True
        self._scout.stop()
        for server in self._servers:
            server.close()
        for link in list(self._links):
            if link.transport is not None:
                link.transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(PART_SECONDS):
                # A thread, and connections that end by themselves: there is no one event for both.
                while self._scout.is_alive() or self._tasks or self._links:  # noqa: ASYNC110
                    await asyncio.sleep(PART_STEP)

    def __len__(self) -> int:
        return len(self._links)

    # -- what the scout says ----------------------------------------------------------------

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen(self, sock: socket.socket) -> None:
        if self._stopped:
            sock.close()
        else:
            self._do(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        server = await self._loop.create_unix_server(lambda: Link(self, ""), sock=sock)
        self._servers.append(server)
        if self._stopped:
            server.close()

    def _met(self, sock: socket.socket, who: str) -> None:
        if self._stopped or any(link.who == who for link in self._links):
            sock.close()
        else:
            link = Link(self, who)
            self._links.add(link)
            self._do(self._connect(link, sock))

    async def _connect(self, link: Link, sock: socket.socket) -> None:
        await self._loop.create_unix_connection(lambda: link, sock=sock)

    def _has_looked(self) -> None:
        self._looked = True
        self._check_complete()

    # -- what the links say -----------------------------------------------------------------

    def admit(self, link: Link) -> bool:
        """Take a connection; False if there are too many."""
        self._links.add(link)
        self._note()
        return len(self._links) <= LINKS_MAX

    def named(self, link: Link) -> bool:
        """A process that called us has said who it is; False if one connection is enough.

        Where both called at the same time, the call of the smaller name is the one that stays.
        """
        for other in self._links:
            if other is not link and other.who == link.who:
                if self.name < link.who:
                    return False
                if other.transport is not None:
                    other.transport.abort()
        self._note()
        return True

    def lost(self, link: Link) -> None:
        """A connection is gone, and with it what it was asked for."""
        self._links.discard(link)
        self._note()
        for waiting in self._owed.values():
            waiting.discard(link)
        for key in list(link.wanted):
            self.without(link, key)
        self._check_complete()

    def _note(self) -> None:
        self._counts.peers = len({link.who for link in self._links if link.who})
        self._scout.known = frozenset(link.who for link in self._links)

    def caught_up(self, link: Link) -> None:
        """It has told us everything."""
        self._check_complete()

    def _check_complete(self) -> None:
        if self._looked and all(link.caught_up for link in self._links):
            self.complete.set()

    def everything(self) -> list[Entry]:
        """Return what a newcomer is given, the least useful first."""
        now = clock.now()
        entries = [e for e in self._engine.cache.index.values() if now < e.dies()]
        entries.sort(key=lambda entry: entry.recent)
        return entries

    def usable(self, key: bytes) -> Entry | None:
        """Return what is known of `key`, if it may still be served."""
        entry = self._engine.cache.get(key)
        return entry if entry is not None and clock.now() < entry.dies() else None

    def owes(self, link: Link, key: bytes) -> bool:
        """Have a question wait, if what it asks for may stand in what is still to be read."""
        if not self.reading or self.usable(key) is not None or len(self._owed) >= OWED_MAX:
            return False
        self._owed.setdefault(key, set()).add(link)
        return True

    def pay(self) -> None:
        """Answer those that wait for what has been read now."""
        for key in [key for key in self._owed if self.usable(key) is not None]:
            for link in self._owed.pop(key):
                link.answer(key)

    def has_read(self) -> None:
        """Nothing more comes from the file."""
        self.reading = False
        owed, self._owed = self._owed, {}
        for key, links in owed.items():
            for link in links:
                link.answer(key)
        for link in list(self._links):
            link.has_read()

    def rows(self, rows: Sequence[tuple[bytes, bytes, bool]]) -> None:
        """Take keys and records that another has, and whether they are fresh there."""
        if not rows:
            return
        engine, now, boot = self._engine, clock.now(), clock.boot()
        for key, record, fresh in rows:
            try:
                row = decode(key, record)
                if row.boot != boot or row.instant > now:
                    continue  # another machine's clock: its ages are unknown here
                new = restore(engine, key, row.wire, row.instant, now, beside=True, verified=fresh)
            except (StoreError, WireError):
                self._counts.errors["peer"] += 1
                continue
            if new:
                self._counts.received += 1
                entry = engine.cache.index[key]
                if self.adopt and engine.learned is not None:
                    self._heard[key] = entry
                    engine.learned.adopt(entry)
            if key in self._searches and self.usable(key) is not None:
                self._end(key)
                self.settled(key)

    # -- what the keeper wants --------------------------------------------------------------

    def tell(self, changes: Sequence[Change]) -> None:
        """Have the others know what we have learned; deletions are everyone's own business."""
        heard, self._heard = self._heard, {}
        news = [entry for key, entry in changes if entry and heard.get(key) is not entry]
        for link in list(self._links):
            link.tell(news)

    def search(self, key: bytes) -> None:
        """Ask the others for one answer; ends in `settled` or `nowhere`."""
        links = [link for link in self._links if link.transport is not None]
        if not links:
            self.nowhere(key)
            return
        self._searches.add(key)
        for link in links:
            link.ask(key)

    def without(self, link: Link, key: bytes) -> None:
        """One of them does not know it."""
        link.wanted.discard(key)
        if key in self._searches and not any(key in other.wanted for other in self._links):
            self._end(key)
            self.nowhere(key)

    def _end(self, key: bytes) -> None:
        self._searches.discard(key)
        for link in self._links:
            link.wanted.discard(key)


def _row(octets: bytes) -> tuple[bytes, bytes]:
    size = _KEY.unpack_from(octets)[0] if len(octets) >= _KEY.size else 0
    return octets[_KEY.size : _KEY.size + size], octets[_KEY.size + size :]


def _nothing(key: bytes) -> None:
    """What is called while nobody wants to know."""
