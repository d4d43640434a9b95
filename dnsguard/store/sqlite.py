"""The file: answers by key in SQLite, in WAL mode, bounded in rows and octets.

It takes and gives records without looking into them. Everything that SQLite may report comes out as
`StoreError` with the kind of trouble. The schema is compared word by word and the pages are checked
before use, because a file may be damaged or made by someone else; what can still be read of a
damaged one is given all the same. One connection, one thread, no other process: the lock is
exclusive, so that no memory is shared with others that a failing disk could take away (SIGBUS).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from dnsguard.errors import StoreError
from dnsguard.store.rows import RECORD_MAX

APPLICATION = 0x646E7367  # "dnsg" in the file's header, so that file(1) and we can tell
SCHEMA_VERSION = 1
SCHEMA = {
    "answers": "CREATE TABLE answers (key BLOB PRIMARY KEY, dies REAL, record BLOB) WITHOUT ROWID",
    "marks": "CREATE TABLE marks (boot BLOB PRIMARY KEY, wall REAL, record BLOB) WITHOUT ROWID",
}

ROWS_MAX = 250_000  # twice what 64 MiB of memory hold; reading more would take many seconds
MARKS_MAX = 64  # boots; of older ones nothing is alive
DROP_SHARE = 1 / 20  # of all rows, dropped at once when there are too many
TRANSACTION_ROWS = 512  # bounds the log: each row may touch a page of its own
STATEMENT_ROWS = 64
LOG_PAGES = 1000  # in the log before they move into the database, which needs a sync or two
LOG_OCTETS_MAX = LOG_PAGES * 4096  # what is left of it after a burst
STRANGE_TIMES = 8  # a file so many times over its bound is none of ours
STRANGE_MIN = 256 << 20

_PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",  # a disk that fails must be an error and not a signal
    "temp_store = MEMORY",
    # No sync with each batch: a kill loses nothing by it, a loss of power the last seconds.
    "synchronous = NORMAL",
    f"journal_size_limit = {LOG_OCTETS_MAX}",
    f"wal_autocheckpoint = {LOG_PAGES}",
)
_KINDS = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_ERROR: "corrupt",  # our statements are right, so the tables are not
    sqlite3.SQLITE_TOOBIG: "corrupt",
    sqlite3.SQLITE_CONSTRAINT: "corrupt",  # what was deleted a moment ago is still there
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_CANTOPEN: "io",
    sqlite3.SQLITE_PERM: "permission",
}
UNUSABLE = frozenset({"corrupt", "foreign", "newer"})  # of no use now or later: set it aside


def _text(octets: bytes) -> str:
    """Read text that may be damaged: it is compared with what is right, and shown."""
    return octets.decode("utf-8", "replace")


def trouble(error: sqlite3.Error, path: str) -> StoreError:
    """Return what an error of SQLite means for the store."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return StoreError(f"{path}: {error}", _KINDS.get(code & 0xFF, "io"))


class Database:
    """One open file. `damaged` says why only `records` is of use; `fresh` that it was empty.

    Raises `StoreError` if the file cannot be opened; with a kind in `UNUSABLE` it never will be.
    """

    def __init__(self, path: str, max_octets: int, writable: bool) -> None:
        self.path = path
        self.damaged = ""
        self.fresh = False
        self.rows = 0
        self.octets = 0
        self._max_octets = max_octets
        self._writable = writable
        try:
            found = os.stat(path)
            self._inode = found.st_dev, found.st_ino
            if found.st_size > max(max_octets * STRANGE_TIMES, STRANGE_MIN):
                raise StoreError(f"{path}: far larger than it could ever have become", "foreign")
            # Where nothing can be written SQLite cannot take its lock either; ours is the place's.
            uri = Path(path).as_uri() + ("" if writable else "?mode=ro&vfs=unix-none")
            self._connection = sqlite3.connect(uri, timeout=0, isolation_level=None, uri=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}", "io") from None
        except sqlite3.Error as error:
            raise trouble(error, path) from None
        try:
            with self._translated():
                self._prepare()
        except StoreError:
            self.close()
            raise

    # -- opening ----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._connection.text_factory = _text
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * RECORD_MAX)
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        application, version = self._pragma("application_id"), self._pragma("user_version")
        schema = dict(self._connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
        if not schema and application == version == 0:
            if not self._writable:
                return
            self._create()
            self.fresh = True
        elif application != APPLICATION:
            raise StoreError(f"{self.path}: a database of something else", "foreign")
        elif version > SCHEMA_VERSION:
            raise StoreError(f"{self.path}: written by a newer version of dnsguard", "newer")
        elif schema != SCHEMA or version != SCHEMA_VERSION:
            raise StoreError(f"{self.path}: tables that no version of dnsguard makes", "corrupt")
        else:
            if self._writable:
                self._begin_log()
            try:
                found = self._connection.execute("PRAGMA quick_check(1)").fetchone()
                self.damaged = "" if found == ("ok",) else " ".join(str(found[0]).split())
            except sqlite3.DatabaseError as error:
                if trouble(error, "").kind not in ("corrupt", "io"):
                    raise
                self.damaged = str(error)
        if not self.damaged:
            self._measure(count=True)

    def _create(self) -> None:
        """Turn an empty file into ours, in one step: a kill leaves an empty one or a whole one."""
        self._begin_log()
        with self._transaction() as execute:
            for statement in SCHEMA.values():
                execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION}")
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _begin_log(self) -> None:
        if self._connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise StoreError(f"{self.path}: SQLite cannot keep a write-ahead log here", "io")

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def _measure(self, count: bool = False) -> None:
        if count and self._pragma("user_version"):
            (self.rows,) = self._connection.execute("SELECT count(*) FROM answers").fetchone()
        pages = self._pragma("page_count") - self._pragma("freelist_count")
        self.octets = pages * self._pragma("page_size")

    # -- reading ----------------------------------------------------------------------------

    def marks(self) -> list[bytes]:
        """Return the records of all marks."""
        with self._translated():
            if not self._pragma("user_version"):
                return []
            found = self._connection.execute("SELECT record FROM marks").fetchall()
        return [record for (record,) in found if isinstance(record, bytes)]

    def records(self, most: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield (key, record) pairs, up to `most` at a time.

        Of a damaged file: what can be read from either end up to the damage, less the row next to
        it. Should it show only now, `damaged` says so afterwards.
        """
        if not self._pragma("user_version"):
            return
        for order in ("ASC", "DESC"):
            found: list[tuple[bytes, bytes]] = []
            last = b""
            try:
                rows = self._connection.execute(
                    f"SELECT key, record FROM answers ORDER BY key {order}"
                )
                for key, record in islice(rows, ROWS_MAX):  # pages may be tied into a ring
                    if isinstance(key, bytes) and isinstance(record, bytes):
                        found.append((key, record))
                        if key < last and order == "ASC":
                            # Statements that look for one key would not find it.
                            self.damaged = self.damaged or "keys are out of order"
                        last = key
                    if len(found) >= most:
                        yield found
                        found = []
            except sqlite3.Error as error:
                self.damaged = self.damaged or str(error)
            yield found
            if not self.damaged:
                return

    # -- writing ----------------------------------------------------------------------------

    def write(
        self,
        puts: Iterable[tuple[bytes, float, bytes]],
        drops: Iterable[bytes],
        mark: tuple[bytes, float, bytes],
    ) -> None:
        """Store (key, dies, record) triples and delete keys; raises `StoreError`.

        `mark` is (boot, wall, record). What is written is there after a kill at any instant, in
        steps of `TRANSACTION_ROWS`.
        """
        left = list(puts)
        keys = [key for key, _, _ in left] + list(drops)
        with self._translated():
            self._check_still_there()
            while True:
                with self._transaction() as execute:
                    self._write_some(left[:TRANSACTION_ROWS], keys[:TRANSACTION_ROWS])
                    execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", mark)
                    self._fit()
                left, keys = left[TRANSACTION_ROWS:], keys[TRANSACTION_ROWS:]
                if not keys:
                    return

    def _write_some(self, puts: list[tuple[bytes, float, bytes]], keys: list[bytes]) -> None:
        # Deleted and inserted instead of replaced, because only so SQLite says how many there were.
        # Many rows a statement: around each one the lock that all threads share changes hands.
        for start in range(0, len(keys), STATEMENT_ROWS):
            some = keys[start : start + STATEMENT_ROWS]
            marks = ", ".join("?" * len(some))
            statement = f"DELETE FROM answers WHERE key IN ({marks})"
            self.rows -= self._connection.execute(statement, some).rowcount
        for start in range(0, len(puts), STATEMENT_ROWS):
            group = puts[start : start + STATEMENT_ROWS]
            marks = ", ".join(["(?, ?, ?)"] * len(group))
            statement = f"INSERT INTO answers VALUES {marks}"
            self._connection.execute(statement, [*chain.from_iterable(group)])
        self.rows += len(puts)

    def _fit(self) -> None:
        """Drop what dies first while there is too much."""
        self._measure()
        while self.rows and (self.rows > ROWS_MAX or self.octets > self._max_octets):
            some = int(self.rows * DROP_SHARE) + 1
            self.rows -= self._connection.execute(
                "DELETE FROM answers WHERE key IN "
                "(SELECT key FROM answers ORDER BY dies LIMIT ?)", (some,),
            ).rowcount  # fmt: skip
            self._measure()

    def purge(self, wall: float, mark: tuple[bytes, float, bytes]) -> int:
        """Delete what the wall clock says is dead, and the marks of boots long past."""
        with self._translated():
            self._check_still_there()
            with self._transaction() as execute:
                gone: int = execute("DELETE FROM answers WHERE dies < ?", (wall,)).rowcount
                execute(
                    "DELETE FROM marks WHERE boot NOT IN "
                    "(SELECT boot FROM marks ORDER BY wall DESC LIMIT ?)", (MARKS_MAX,),
                )  # fmt: skip
                execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", mark)
            self.rows -= gone
            self._measure()
        return gone

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        rows = self.rows
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection.execute
            self._connection.execute("COMMIT")
        except BaseException:
            self.rows = rows
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _check_still_there(self) -> None:
        """A file that was deleted takes writes for ever, and gives them to nobody."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise StoreError(f"{self.path} is gone: {error.strerror}", "io") from None
        if (found.st_dev, found.st_ino) != self._inode:
            raise StoreError(f"{self.path} is another file now", "io")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise trouble(error, self.path) from None
        except UnicodeDecodeError:  # SQLite quotes the file in what it says of it
            raise StoreError(f"{self.path}: a schema that is no text", "corrupt") from None

    def close(self) -> None:
        """Move the log into the database if that can be done, and let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
