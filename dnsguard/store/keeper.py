"""What the event loop sees of the store: it gives the engine back what an earlier run knew, and
gives the writer, and the other processes of our address, what the engine has learned.

Every `flush_interval` the changes so far go to the writer's thread in one batch; while one is under
way, the next gathers. Of several processes one holds the disk: what the others learn, it hears from
them and writes; should it die, another takes its place. Nothing here waits for a disk, and nothing
that goes wrong there gets any further than a counter and one line in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Full
from typing import TYPE_CHECKING

from dnsguard import clock
from dnsguard.clock import Clocks
from dnsguard.core.actions import Notice
from dnsguard.core.counters import StoreCounts
from dnsguard.core.engine import Engine
from dnsguard.core.kept import older, restore
from dnsguard.core.learned import Change, Learned
from dnsguard.core.policy import StorePolicy
from dnsguard.errors import StoreError, WireError
from dnsguard.store.peers import Peers
from dnsguard.store.place import Place
from dnsguard.store.writer import Kept, Order, Writer

if TYPE_CHECKING:
    from dnsguard.store.shared import Shared

# How long readiness waits for the answers of an earlier run: 10,000 of them take a third of it, and
# a disk that hangs must not keep a pod out of service.
READY_SECONDS = 0.5
# What is in the file is better than a failure; a node that has just booted has other things to do,
# and a client that was refused by its upstream at once has patience left.
FILE_SECONDS = 2.0
STOP_SECONDS = 2.0  # for the last batch; the grace period of a pod is 30 s, a disk that hangs worse
STUCK_SECONDS = 30.0  # after which a batch that is under way is a disk that hangs
STEP_SECONDS = 1.0  # a wall clock that gains so much at once was set; less is drift


class Keeper:
    """The store of one engine. `notice` is called with what an operator should know."""

    def __init__(
        self,
        place: Place | None,
        policy: StorePolicy,
        engine: Engine,
        notice: Callable[[Notice], None],
        meeting: Sequence[str] = (),
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._learned = engine.learned = Learned(engine.cache)
        self._interval = policy.flush_interval
        self._notice = notice
        self._began = clock.now()
        self.counts = StoreCounts(self._began)
        self._path = "" if place is None else place.path
        self._writer: Writer | None = None
        if place is not None:
            self._writer = Writer(place, policy.max_bytes, self, self._loop.call_soon_threadsafe)
        self._done = done
        self._peers: Peers | None = None
        if meeting:
            self._peers = Peers(meeting, engine, self.counts, self._apart)
            self._peers.settled, self._peers.nowhere = self._settled, self._not_beside
            engine.look_elsewhere()
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: float | None = None  # since when a batch is
        self._open = False
        self._trouble = ""  # the kind that was warned of last
        self._undated = False
        self._ahead = float("inf")  # by how much the wall clock is ahead of the boot-time clock
        self._shared: Shared | None = None
        if policy.shared:
            from dnsguard.store.shared import Shared

            self._shared = Shared(
                policy.shared, policy.shared_prefix, engine, notice, self._settled, self._nowhere
            )
            self.counts.shared = self._shared.counts
            engine.look_elsewhere()
        self._owed = False  # others were told what the disk was not
        self._loaded = asyncio.Event()
        self._sought: set[bytes] = set()  # what clients have asked for since the reading began
        self._left: set[bytes] = set()  # and of that, what nobody else knows
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Begin to read what is there, and then to write."""
        if self._writer is not None:
            # Which the file is, until it is read, be it by us or by one beside us.
            self._engine.look_elsewhere().at_least = self._began + FILE_SECONDS
            if self._peers is not None:
                self._peers.reading = True
            self._writer.start()
        else:
            self._has_loaded()
        if self._peers is not None:
            self._peers.start()
        if self._shared is not None:
            self._shared.start(self._is_empty)
        self._tick()

    @property
    def ready(self) -> bool:
        """True once everything is read, or has taken too long to be waited for."""
        peers = self._peers
        told = peers is None or peers.complete.is_set()
        return (self._loaded.is_set() and told) or clock.now() >= self._began + READY_SECONDS

    async def loaded(self) -> None:
        """Wait until `ready`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._began + READY_SECONDS - clock.now()):
                await self._loaded.wait()
                if self._peers is not None:
                    await self._peers.complete.wait()

    async def stop(self) -> None:
        """Write what is left, if the disk takes it in time."""
        if self._timer is not None:
            self._timer.cancel()
        changes: list[Change] = []
        while found := self._learned.take(clock.now(), everything=True):
            changes += found
        if self._peers is not None:
            self._peers.tell(changes)
            await self._peers.stop()
        if self._shared is not None:
            self._shared.tell(changes)
            await self._shared.stop()
        if self._writer is None:
            return
        with suppress(Full):
            self._writer.work.put_nowait(changes)
            self._writer.work.put_nowait(Order.STOP)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._ended.wait()

    # -- every flush interval ---------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._tick)
        clocks = clock.read()
        self._watch_the_wall(clocks)
        if self._under_way is not None:
            if clocks.now - self._under_way >= STUCK_SECONDS and self._trouble != "stuck":
                self._complain(StoreError(f"{self._path}: the disk takes no write", "stuck"))
            return
        peers = self._peers
        if not self._open and peers is None and self._shared is None:
            return
        changes = self._learned.take(clocks.now)
        if peers is not None:
            peers.tell(changes)
        if self._shared is not None:
            self._shared.tell(changes)
        if self._writer is None or not self._open:
            self._owed = self._owed or bool(changes)
        elif changes:
            self._under_way = clocks.now
            self._writer.work.put_nowait(changes)
        else:
            self.counts.flushed = clocks.now

    def _watch_the_wall(self, clocks: Clocks) -> None:
        """Age the answers of earlier boots by as much as the wall clock turns out to be late.

        A machine may boot with a clock that is behind, and learn the time from the network later.
        """
        step = clocks.wall - clocks.now - self._ahead
        if step < STEP_SECONDS:
            return
        self._ahead += step
        older(self._engine.cache, step)
        self._learned.missed = True
        if self._undated and self._writer is not None:
            with suppress(Full):
                self._writer.work.put_nowait(Order.LOAD)
                self._undated = False

    def _complain(self, error: StoreError) -> None:
        """Count one failure, and warn of it if it is not the one warned of last."""
        self.counts.up = False
        self.counts.errors[error.kind] += 1
        if error.kind != self._trouble:
            self._trouble = error.kind
            text = f"last-known-good store: {error}; answers are kept in memory only until it works"
            self._notice(Notice("warning", "store_down", text, (("kind", error.kind),)))

    # -- others who may know ----------------------------------------------------------------

    def search(self, key: bytes) -> None:
        """Look for an answer that this process does not have, or not yet."""
        if not self._loaded.is_set():
            self._sought.add(key)
        if self._peers is not None:
            self._peers.search(key)
        else:
            self._not_beside(key)

    def _not_beside(self, key: bytes) -> None:
        """No process beside us knows it: ask the fleet."""
        if self._shared is not None:
            self._shared.search(key)
        else:
            self._nowhere(key)

    async def _is_empty(self) -> bool:
        """Tell whether nothing of an earlier run was there, and nobody beside us knew anything."""
        await self.loaded()
        return not self.counts.loaded and not self.counts.received

    def _settled(self, key: bytes) -> None:
        if self._engine.elsewhere is not None:
            self._engine.elsewhere.settle(key, clock.now())
            self._done()

    def _nowhere(self, key: bytes) -> None:
        if key in self._sought:
            self._left.add(key)  # it may stand in what is still to be read
            return
        if self._engine.elsewhere is not None:
            self._engine.elsewhere.nowhere(key, clock.now())
            self._done()

    def _apart(self, error: StoreError) -> None:
        text = f"cannot meet the other processes of this address: {error}"
        self._notice(Notice("warning", "peers_apart", text, (("kind", error.kind),)))

    # -- what the writer says (see writer.Desk) ----------------------------------------------

    def loading(self, clocks: Clocks) -> None:
        """Remember by which clocks the ages of what follows are told."""
        self._ahead = min(self._ahead, clocks.wall - clocks.now)
        if self._owed:
            self._pay()

    def _pay(self) -> None:
        """Have everything written, less what the disk turns out to hold."""
        self._owed = False
        self._learned.restart()

    def restore(self, found: Sequence[Kept], taken: Callable[[], None]) -> None:
        """Give the engine some answers of an earlier run."""
        now = clock.now()
        for kept in found:
            try:
                self.counts.loaded += restore(self._engine, *kept, now)
            except WireError:
                self.counts.errors["row"] += 1
                self._learned.forget(kept.key)
                continue
            if kept.key in self._sought:
                self._settled(kept.key)
        if self._peers is not None:
            self._peers.pay()
        taken()

    def _has_loaded(self) -> None:
        """Nothing more comes from the file: who waits for that waits no longer."""
        self._loaded.set()
        if self._peers is not None:
            self._peers.has_read()
        left, self._sought, self._left = self._left, set(), set()
        for key in left:
            self._nowhere(key)

    def loaded_all(self, damaged: int, undated: int) -> None:
        """Everything that could be read has been."""
        self._has_loaded()
        self._undated = undated > 0
        self._learned.missed = True  # what is of an earlier boot is to be written again
        if damaged:
            self.counts.errors["row"] += damaged
        if undated:
            text = (
                f"last-known-good store: {self._path}: the wall clock shows a time before the last "
                f"shutdown, so the age of {undated} answers is unknown; they wait for it to be set"
            )
            self._notice(Notice("warning", "store_undated", text))

    def fresh(self) -> None:
        """The file is a new one, and everything goes there."""
        self._learned.restart()

    def opened(self, rows: int, octets: int) -> None:
        """It can be written from now on."""
        if self._owed:
            self._pay()
        self._open = self.counts.up = True
        if self._peers is not None:
            self._peers.adopt = True
        self.counts.rows, self.counts.octets = rows, octets

    def written(self, changes: int, rows: int, octets: int) -> None:
        """A batch is on disk."""
        self.counts.writes += changes
        self.counts.flushed = clock.now()
        self._under_way = None
        self.opened(rows, octets)
        if self._trouble:
            self._trouble = ""
            text = f"last-known-good store: {self._path} works again"
            self._notice(Notice("info", "store_up", text))

    def purged(self, gone: int, rows: int, octets: int) -> None:
        """What was dead is gone."""
        self.counts.writes += gone
        self.opened(rows, octets)

    def failed(self, changes: list[Change]) -> None:
        """A batch could not be written."""
        self._under_way = None
        self._learned.again(changes)

    def set_aside(self, error: StoreError) -> None:
        """The file was of no use, and a new one takes its place."""
        self._has_loaded()
        self.counts.errors[error.kind] += 1
        text = f"last-known-good store: {error}; it is set aside as aside.sqlite, a new one begins"
        self._notice(Notice("warning", "store_set_aside", text, (("kind", error.kind),)))

    def down(self, error: StoreError) -> None:
        """It cannot be used for now; the writer tries again by itself."""
        self._open = False
        self._has_loaded()
        if self._peers is not None:
            self._peers.adopt = False
            if error.kind == "locked":
                return  # by one of them, who writes for us
        self._complain(error)

    def ended(self) -> None:
        """The writer has come to its end."""
        self._ended.set()
