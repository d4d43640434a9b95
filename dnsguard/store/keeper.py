"""What the event loop sees of the store: it gives the engine back what an earlier run knew, and
gives the writer what the engine has learned.

Every `flush_interval` the changes so far go to the writer's thread in one batch; while one is under
way, the next gathers. Nothing here waits for a disk, and nothing that goes wrong there gets any
further than a counter and one line in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Full

from dnsguard import clock
from dnsguard.clock import Clocks
from dnsguard.core.actions import Notice
from dnsguard.core.counters import StoreCounts
from dnsguard.core.engine import Engine
from dnsguard.core.kept import older, restore
from dnsguard.core.learned import Change, Learned
from dnsguard.core.policy import StorePolicy
from dnsguard.errors import StoreError, WireError
from dnsguard.store.place import Place
from dnsguard.store.writer import Kept, Order, Writer

# How long readiness waits for the answers of an earlier run: 10,000 of them take a third of it, and
# a disk that hangs must not keep a pod out of service.
READY_SECONDS = 0.5
STOP_SECONDS = 2.0  # for the last batch; the grace period of a pod is 30 s, a disk that hangs worse
STUCK_SECONDS = 30.0  # after which a batch that is under way is a disk that hangs
STEP_SECONDS = 1.0  # a wall clock that gains so much at once was set; less is drift


class Keeper:
    """The store of one engine. `notice` is called with what an operator should know."""

    def __init__(
        self, place: Place, policy: StorePolicy, engine: Engine, notice: Callable[[Notice], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._learned = engine.learned = Learned(engine.cache)
        self._interval = policy.flush_interval
        self._notice = notice
        self._began = clock.now()
        self.counts = StoreCounts(self._began)
        self._path = place.path
        self._writer = Writer(place, policy.max_bytes, self, self._loop.call_soon_threadsafe)
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: float | None = None  # since when a batch is
        self._open = False
        self._trouble = ""  # the kind that was warned of last
        self._undated = False
        self._ahead = float("inf")  # by how much the wall clock is ahead of the boot-time clock
        self._loaded = asyncio.Event()
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Begin to read what is there, and then to write."""
        self._writer.start()
        self._tick()

    @property
    def ready(self) -> bool:
        """True once everything is read, or has taken too long to be waited for."""
        return self._loaded.is_set() or clock.now() >= self._began + READY_SECONDS

    async def loaded(self) -> None:
        """Wait until `ready`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._began + READY_SECONDS - clock.now()):
                await self._loaded.wait()

    async def stop(self) -> None:
        """Write what is left, if the disk takes it in time."""
        if self._timer is not None:
            self._timer.cancel()
        changes: list[Change] = []
        while found := self._learned.take(clock.now(), everything=True):
            changes += found
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
        elif self._open:
            changes = self._learned.take(clocks.now)
            if changes:
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
        if self._undated:
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

    # -- what the writer says (see writer.Desk) ----------------------------------------------

    def loading(self, clocks: Clocks) -> None:
        """Remember by which clocks the ages of what follows are told."""
        self._ahead = min(self._ahead, clocks.wall - clocks.now)

    def restore(self, found: Sequence[Kept], taken: Callable[[], None]) -> None:
        """Give the engine some answers of an earlier run."""
        now = clock.now()
        for kept in found:
            try:
                self.counts.loaded += restore(self._engine, *kept, now)
            except WireError:
                self.counts.errors["row"] += 1
                self._learned.forget(kept.key)
        taken()

    def loaded_all(self, damaged: int, undated: int) -> None:
        """Everything that could be read has been."""
        self._loaded.set()
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
        self._open = self.counts.up = True
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
        self._loaded.set()
        self.counts.errors[error.kind] += 1
        text = f"last-known-good store: {error}; it is set aside as aside.sqlite, a new one begins"
        self._notice(Notice("warning", "store_set_aside", text, (("kind", error.kind),)))

    def down(self, error: StoreError) -> None:
        """It cannot be used for now; the writer tries again by itself."""
        self._open = False
        self._loaded.set()
        self._complain(error)

    def ended(self) -> None:
        """The writer has come to its end."""
        self._ended.set()
