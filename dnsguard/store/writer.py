"""The thread that does everything slow: opens the file, reads it, writes changes, tries again.

The event loop gives it work through a bounded queue and hears of it through `tell`; neither ever
waits for the other, except that the reader of the file waits until the loop has taken what was
read. Whatever goes wrong ends in a word to the `Desk` and another try after a pause. Knows neither
the loop nor the engine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dnsguard import clock
from dnsguard.clock import Clocks
from dnsguard.core.learned import Change
from dnsguard.errors import StoreError
from dnsguard.store.place import Place
from dnsguard.store.rows import Mark, decode, decode_mark, encode, encode_mark, row_of, stored_at

if TYPE_CHECKING:
    from dnsguard.store.sqlite import Database

RETRY_FIRST, RETRY_MAX = 1.0, 10.0  # seconds between tries; one costs next to nothing
WORK_MAX = 4  # things in the queue: the desk gives out one batch at a time
LOAD_ROWS = 256  # answers handed to the loop at a time: some two milliseconds of its time
YIELD_ROWS = 64  # rows prepared before other threads get their turn
PURGE_SECONDS = 3600.0  # also how long a wall clock has to become right before it may delete


class Order(Enum):
    """What a writer can be told to do, other than to write."""

    LOAD = "load"  # read the file once more: the wall clock has changed
    STOP = "stop"


Work = list[Change] | Order


class Kept(NamedTuple):
    """An answer that was found; `stored` is on the clock of this boot."""

    key: bytes
    wire: bytes
    stored: float


class Desk(Protocol):
    """Who is told. Every call comes through `tell`, so on the desk's own thread."""

    def loading(self, clocks: Clocks) -> None: ...
    def restore(self, found: Sequence[Kept], taken: Callable[[], None]) -> None: ...
    def loaded_all(self, damaged: int, undated: int) -> None: ...
    def fresh(self) -> None: ...
    def opened(self, rows: int, octets: int) -> None: ...
    def written(self, changes: int, rows: int, octets: int) -> None: ...
    def purged(self, gone: int, rows: int, octets: int) -> None: ...
    def failed(self, changes: list[Change]) -> None: ...
    def set_aside(self, error: StoreError) -> None: ...
    def down(self, error: StoreError) -> None: ...
    def ended(self) -> None: ...


class Stopped(Exception):
    """The work is at its end, or there is nobody left to work for."""


class Writer(threading.Thread):
    """Does what is put into `work`, in order, once it has read what is there."""

    def __init__(
        self, place: Place, max_octets: int, desk: Desk, tell: Callable[..., object]
    ) -> None:
        super().__init__(name="dnsguard-store", daemon=True)  # a disk that hangs must not keep us
        self.work: queue.Queue[Work] = queue.Queue(WORK_MAX)
        self._place = place
        self._max_octets = max_octets
        self._desk = desk
        self._call = tell
        self._pause = RETRY_FIRST
        self._loaded = self._replaced = False
        self._purge_at = clock.now() + PURGE_SECONDS

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        try:
            self._call(what, *arguments)
        except RuntimeError:
            raise Stopped from None  # the loop is closed

    def run(self) -> None:
        """Work until told to stop; whatever goes wrong, say so and try again."""
        with suppress(Stopped):
            self._work()
        with suppress(Stopped):
            self._tell(self._desk.ended)

    def _work(self) -> None:
        while True:
            try:
                self._session()
                return
            except StoreError as error:
                self._tell(self._desk.down, error)
                if error.kind == "locked":
                    self._pause = RETRY_FIRST  # its holder may end at any time
            except Stopped:
                raise
            except Exception as error:  # a defect in here is no reason to answer no queries
                text = f"{type(error).__name__}: {error}"
                self._tell(self._desk.down, StoreError(text, "defect"))
            self._rest()

    def _rest(self) -> None:
        """Wait before the next try. What should have been written meanwhile goes back."""
        until = clock.now() + self._pause
        self._pause = min(self._pause * 2, RETRY_MAX)
        while (left := until - clock.now()) > 0:
            try:
                work = self.work.get(timeout=left)
            except queue.Empty:
                return
            if work is Order.STOP:
                raise Stopped
            if isinstance(work, list):
                self._tell(self._desk.failed, work)

    # -- one go at the file -----------------------------------------------------------------

    def _session(self) -> None:
        """Use the file until told to stop; one that is of no use is set aside, once.

        If the new one cannot be used either, it is the disk that fails, and not the file: that is
        put back, so that the next try, or the next start, finds what it holds.
        """
        from dnsguard.store.sqlite import UNUSABLE  # SQLite is loaded here, behind the loop's back

        writable = self._place.enter()
        try:
            try:
                self._use(writable)
                return
            except StoreError as error:
                if error.kind not in UNUSABLE:
                    raise
                useless = error
            self._replaced = False
            self._place.set_aside()
            try:
                self._use(self._place.make(), useless)
            except StoreError:
                if not self._replaced:
                    self._place.put_back()
                    self._loaded = False
                raise
        finally:
            self._place.leave()

    def _use(self, writable: bool, instead_of: StoreError | None = None) -> None:
        from dnsguard.store.sqlite import Database

        database = Database(self._place.path, self._max_octets, writable)
        try:
            if instead_of is not None:
                database.write((), (), mark_now(clock.read()))  # shows that it is of more use
                self._replaced = True
                self._tell(self._desk.set_aside, instead_of)
            damaged = 0 if self._loaded else self._load(database)
            self._loaded = True
            if damaged and not database.damaged:
                database.damaged = f"{damaged} of its answers are damaged"
            if database.damaged:
                raise StoreError(f"{database.path}: {database.damaged}", "corrupt")
            if not writable:
                raise StoreError(f"{database.path} can be read but not written", "readonly")
            database.write((), (), mark_now(clock.read()))  # shows whether it can be done at all
            self._pause = RETRY_FIRST
            if database.fresh:
                self._tell(self._desk.fresh)
            self._tell(self._desk.opened, database.rows, database.octets)
            self._serve(database)
        finally:
            database.close()

    def _serve(self, database: Database) -> None:
        while True:
            if clock.now() >= self._purge_at:
                self._purge(database)
            try:
                work = self.work.get(timeout=max(self._purge_at - clock.now(), 0.0))
            except queue.Empty:
                continue
            if work is Order.STOP:
                return
            if work is Order.LOAD:
                self._load(database)
            else:
                self._write(database, work)

    # -- reading ----------------------------------------------------------------------------

    def _load(self, database: Database) -> int:
        """Hand every answer in the file to the desk; return how many of them are damaged."""
        clocks = clock.read()
        self._tell(self._desk.loading, clocks)
        marks = marks_of(database)
        damaged = undated = 0
        for records in database.records(LOAD_ROWS):
            found = []
            for key, record in records:
                try:
                    row = decode(key, record)
                except StoreError:
                    damaged += 1
                    continue
                stored = stored_at(row, marks, clocks)
                if stored is None:
                    undated += 1
                else:
                    found.append(Kept(key, row.wire, stored))
            self._give(found)
        self._tell(self._desk.loaded_all, damaged, undated)
        return damaged

    def _give(self, found: list[Kept]) -> None:
        """Hand answers over, and wait until they are taken: the loop has queries to answer too."""
        taken = threading.Event()
        self._tell(self._desk.restore, found, taken.set)
        while not taken.wait(RETRY_FIRST):
            self._tell(_nothing)  # notices when the loop is gone

    # -- writing ----------------------------------------------------------------------------

    def _write(self, database: Database, changes: list[Change]) -> None:
        clocks = clock.read()
        puts, drops = [], []
        for count, (key, entry) in enumerate(changes, 1):
            if count % YIELD_ROWS == 0:
                time.sleep(0)  # the loop may be waiting for the lock that all threads share
            if entry is None:
                drops.append(key)
            else:
                row = row_of(entry, clocks)
                puts.append((key, row.dies, encode(row)))
        try:
            database.write(puts, drops, mark_now(clocks))
        except StoreError:
            self._tell(self._desk.failed, changes)
            raise
        self._tell(self._desk.written, len(changes), database.rows, database.octets)

    def _purge(self, database: Database) -> None:
        self._purge_at = clock.now() + PURGE_SECONDS
        clocks = clock.read()
        gone = database.purge(clocks.wall, mark_now(clocks))
        self._tell(self._desk.purged, gone, database.rows, database.octets)


def marks_of(database: Database) -> Mapping[bytes, Mark]:
    """Return the marks in a file by their boots; damaged ones are left out."""
    marks = {}
    for record in database.marks():
        with suppress(StoreError):  # without its mark a boot's answers have the wall clock only
            mark = decode_mark(record)
            marks[mark.boot] = mark
    return marks


def mark_now(clocks: Clocks) -> tuple[bytes, float, bytes]:
    """Return the mark of this boot as `Database.write` takes it."""
    return clocks.boot, clocks.wall, encode_mark(Mark(*clocks))


def _nothing() -> None:
    """What to call to see whether there is someone to call."""
