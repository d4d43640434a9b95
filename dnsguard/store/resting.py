"""The answers of an instance that is not running, to be looked at and changed where they lie.

The directory is locked as an instance locks it, so that none can begin while this goes on, and a
file that is damaged or someone else's is refused as an instance refuses it. The answers are read
into an engine that asks nobody, so that whoever looks at a running one looks at this one in the
same way. What is changed is written at the end, in one go.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dnsguard import clock
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.kept import restore
from dnsguard.core.learned import Learned
from dnsguard.core.policy import CachePolicy, Policy, StalePolicy, StorePolicy, Upstream, Zone
from dnsguard.errors import StoreError, WireError
from dnsguard.store.place import FILE, Place
from dnsguard.store.rows import Row, decode, encode, row_of, stored_at
from dnsguard.store.sqlite import Database
from dnsguard.store.writer import LOAD_ROWS, mark_now, marks_of

MEMORY_MAX = 1 << 30  # for what a file may hold, which is bounded in octets by `store.max_bytes`
LONG = 365 * 86400.0  # longer than any answer may be served


def places(root: str) -> list[str]:
    """Return the directories below a state directory, or itself, that hold an instance's answers.

    Raises `StoreError` if it cannot be read.
    """
    try:
        inside = [root, *sorted(entry.path for entry in os.scandir(root) if entry.is_dir())]
    except OSError as error:
        raise StoreError(f"{root}: {error.strerror}") from None
    return [path for path in inside if os.path.lexists(os.path.join(path, FILE))]


class Resting:
    """One instance's answers. `damaged` is how many there were that could not be read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.damaged = 0
        self.engine = Engine(_policy(LONG), random.SystemRandom(), clock.now())
        self._lives: Counter[int] = Counter()
        marks, clocks = marks_of(database), clock.read()
        for records in database.records(LOAD_ROWS):
            for key, record in records:
                try:
                    row = decode(key, record)
                    stored = stored_at(row, marks, clocks)
                    if stored is not None:
                        self._take(row, stored)
                except (StoreError, WireError):
                    self.damaged += 1
        # How long answers live is what the instance's settings said; the rows know it.
        if self._lives:
            ((life, _),) = self._lives.most_common(1)
            self.engine.reload(_policy(float(life)), clock.now())
        self.engine.learned = Learned(self.engine.cache)

    def _take(self, row: Row, stored: float) -> None:
        if restore(self.engine, row.key, row.wire, stored, clock.now()):
            entry = self.engine.cache.get(row.key)
            assert entry is not None
            entry.written = entry.stored
            entry.hits = 0
            if not entry.of_pods():
                life = row.dies - row.stored - entry.ttl  # infinite if a damaged row has it so
                self._lives[round(min(max(life, 0.0), LONG))] += 1

    def write(self) -> None:
        """Write what was changed. Raises `StoreError` if that cannot be done."""
        learned = self.engine.learned
        assert learned is not None
        changes: dict[bytes, Entry | None] = {}
        while found := learned.take(clock.now(), everything=True):
            changes |= dict(found)
        if not changes:
            return
        clocks = clock.read()
        rows = [row_of(entry, clocks) for entry in changes.values() if entry is not None]
        puts = [(row.key, row.dies, encode(row)) for row in rows]
        drops = [key for key, entry in changes.items() if entry is None]
        self._database.write(puts, drops, mark_now(clocks))


@contextmanager
def at_rest(directory: str) -> Iterator[Resting]:
    """Give the answers in one instance's directory, and write what was changed at the end.

    Raises `StoreError` if an instance holds them, or if the file is none that can be used.
    """
    place = Place(*os.path.split(os.path.abspath(directory)))
    writable = place.enter()
    try:
        # What it holds may be more than the defaults allow: nothing is dropped here for its size.
        most = 2 * os.path.getsize(place.path) + StorePolicy().max_bytes
        database = Database(place.path, most, writable)
        try:
            if database.damaged:
                raise StoreError(f"{place.path}: {database.damaged}", "corrupt")
            resting = Resting(database)
            yield resting
            resting.write()
        finally:
            with suppress(StoreError):
                database.close()
    finally:
        place.leave()


def _policy(max_age: float) -> Policy:
    ordinary = StalePolicy()
    headless = min(max_age, ordinary.headless_max_age)
    stale = StalePolicy(max_age=max_age, headless_max_age=headless)
    nobody = Upstream("192.0.2.1")  # it is never asked (RFC 5737)
    cache = CachePolicy(max_bytes=MEMORY_MAX)
    return Policy(zones=(Zone(".", (nobody,), stale),), cache=cache)
