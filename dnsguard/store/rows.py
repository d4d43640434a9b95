"""One answer as it lies outside of the process, and how old it is when it comes back. No I/O.

A record is a fixed head, the zone's name, the answer in wire form and a checksum over all of that
and the key, so that no damaged octet goes unseen. Two clocks stand in it. The boot-time clock is
exact, but only within one boot; across boots there is the wall clock, which anyone may set. `Mark`
says what the wall clock showed at an instant of a boot, so that of an answer's age only the time
between two boots rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from struct import Struct, error as StructError
from typing import NamedTuple
from zlib import crc32

from dnsguard.clock import Clocks
from dnsguard.core.entry import Entry
from dnsguard.errors import StoreError

VERSION = 1
KEY_MAX = 255 + 5  # a name, type, class and tail
KINDS = 3  # positive, no data, no such name
BOOT_OCTETS = 16

_HEAD = Struct("!BBBB16sddd")  # version, kind, AD, octets of zone, boot, its instant, stored, dies
_MARK = Struct("!16sdd")
_SUM = Struct("!I")
_KEY = Struct("!H")
RECORD_MAX = _HEAD.size + 255 + 65535 + _SUM.size


class Row(NamedTuple):
    """One answer. `instant` is on the clock of `boot`; `stored` and `dies` are on the wall."""

    key: bytes
    wire: bytes
    ad: bool
    zone: bytes
    kind: int
    boot: bytes
    instant: float
    stored: float
    dies: float


class Mark(NamedTuple):
    """At `instant` on the clock of `boot` the wall clock showed `wall`."""

    boot: bytes
    instant: float
    wall: float


def row_of(entry: Entry, clocks: Clocks) -> Row:
    """Return what to write down of `entry`."""
    stored = clocks.wall - (clocks.now - entry.stored)
    return Row(
        entry.key, b"\0\0" + entry.wire[2:], entry.ad, entry.zone.suffix, int(entry.kind),
        clocks.boot, entry.stored, stored, stored + entry.dies() - entry.stored,
    )  # fmt: skip


def encode(row: Row) -> bytes:
    """Return the record of `row`; its key stands beside it."""
    head = _HEAD.pack(
        VERSION, row.kind, row.ad, len(row.zone), row.boot, row.instant, row.stored, row.dies
    )
    body = head + row.zone + row.wire
    return body + _SUM.pack(_checksum(row.key, body))


def decode(key: bytes, record: bytes) -> Row:
    """Return the row that `record` holds; raises `StoreError` if an octet of it is not right."""
    if not _HEAD.size + _SUM.size <= len(record) <= RECORD_MAX or len(key) > KEY_MAX:
        raise StoreError("a record of a size that no record has", "row")
    body = record[: -_SUM.size]
    if _SUM.unpack_from(record, len(body))[0] != _checksum(key, body):
        raise StoreError("a record whose checksum does not fit", "row")
    version, kind, ad, octets, boot, instant, stored, dies = _HEAD.unpack_from(body)
    start = _HEAD.size + octets
    sound = isfinite(instant) and isfinite(stored) and isfinite(dies)
    if version != VERSION or kind >= KINDS or ad > 1 or start > len(body) or not sound:
        raise StoreError("a record that this version does not write", "row")
    return Row(
        key, body[start:], bool(ad), body[_HEAD.size : start], kind, boot, instant, stored, dies
    )


def encode_mark(mark: Mark) -> bytes:
    """Return the record of `mark`."""
    body = _MARK.pack(*mark)
    return body + _SUM.pack(crc32(body))


def decode_mark(record: bytes) -> Mark:
    """Return the mark that `record` holds; raises `StoreError` if an octet of it is not right."""
    try:
        boot, instant, wall = _MARK.unpack_from(record)
        (checksum,) = _SUM.unpack(record[_MARK.size :])
    except StructError:
        raise StoreError("a clock record of the wrong size", "row") from None
    if checksum != crc32(record[: _MARK.size]) or not (isfinite(instant) and isfinite(wall)):
        raise StoreError("a clock record whose checksum does not fit", "row")
    return Mark(boot, instant, wall)


def _checksum(key: bytes, body: bytes) -> int:
    return crc32(body, crc32(key, crc32(_KEY.pack(len(key)))))


def stored_at(row: Row, marks: Mapping[bytes, Mark], clocks: Clocks) -> float | None:
    """Return when `row` was stored, on the clock of this boot, or None if nobody can know.

    It never returns an instant that is later than the true one, as long as the wall clock did not
    lose time between two boots, where nobody sees it:

    - Stored in this boot: exact, whatever the wall clock did since.
    - Stored in another: within that boot, up to its mark, exact. Since then as much as the wall
      clock says, and at least as long as this boot has lasted.
    - A wall clock that shows less than the mark does has been set back, and the age is unknown.
    - Stored in another and written again in this one, hence at an instant before zero: as then;
      older by what the wall clock has gained since, because then it was late.
    """
    mark = marks.get(row.boot)
    # A clock that shows less than its own mark began anew, whatever the boot's name says.
    same = row.boot == clocks.boot and (mark is None or mark.instant <= clocks.now)
    if same and row.instant <= clocks.now:
        if row.instant > 0:
            return row.instant
        gained = (clocks.wall - clocks.now) - (row.stored - row.instant)
        return row.instant - max(gained, 0.0)
    if mark is not None and mark.instant >= row.instant:
        before, wall = mark.instant - row.instant, mark.wall
    else:
        before, wall = 0.0, row.stored
    since = clocks.wall - wall
    if since < 0:
        return None
    return clocks.now - before - max(since, clocks.now)
