"""One record, octet by octet; and how old an answer is, whatever the clocks did.

`Machine` knows the true time and has a wall clock that can be set, a boot-time clock that cannot,
and a power switch: the judge of `stored_at`.
"""

from __future__ import annotations

import math
import struct
import zlib

import pytest
from hypothesis import given, strategies as st

from dnsguard.clock import Clocks
from dnsguard.core.policy import StalePolicy
from dnsguard.errors import StoreError
from dnsguard.store.rows import (
    KEY_MAX,
    RECORD_MAX,
    Mark,
    Row,
    decode,
    decode_mark,
    encode,
    encode_mark,
    row_of,
    stored_at,
)
from tests.core import build

BOOT, OTHER = b"b" * 16, b"o" * 16
ROW = Row(b"\3web\0\0\1\0\1\0", b"wire", True, b"\4zone\0", 2, BOOT, 100.5, 1.7e9, 1.7e9 + 300)
MARK = Mark(BOOT, 200.25, 1.7e9)
times = st.floats(-1e12, 1e12)
rows = st.builds(
    Row, st.binary(max_size=KEY_MAX), st.binary(max_size=2000), st.booleans(),
    st.binary(max_size=255), st.integers(0, 2), st.binary(min_size=16, max_size=16),
    times, times, times,
)  # fmt: skip


# -- records ------------------------------------------------------------------------------------


@given(rows)
def test_what_was_written_is_read(row: Row) -> None:
    assert decode(row.key, encode(row)) == row


@given(st.builds(Mark, st.binary(min_size=16, max_size=16), times, times))
def test_a_mark_that_was_written_is_read(mark: Mark) -> None:
    assert decode_mark(encode_mark(mark)) == mark


@pytest.mark.parametrize("bit", range(8))
def test_every_damaged_octet_is_noticed(bit: int) -> None:
    record, mark = encode(ROW), encode_mark(MARK)
    for octets, read in ((record, lambda r: decode(ROW.key, r)), (mark, decode_mark)):
        for at in range(len(octets)):
            damaged = bytearray(octets)
            damaged[at] ^= 1 << bit
            with pytest.raises(StoreError) as caught:
                read(bytes(damaged))
            assert caught.value.kind == "row"


def test_every_missing_octet_is_noticed() -> None:
    record, mark = encode(ROW), encode_mark(MARK)
    for end in range(len(record)):
        with pytest.raises(StoreError):
            decode(ROW.key, record[:end])
    for end in range(len(mark)):
        with pytest.raises(StoreError):
            decode_mark(mark[:end])
    with pytest.raises(StoreError):
        decode_mark(mark + b"\0")


@pytest.mark.parametrize("key", [b"", ROW.key[:-1], ROW.key + b"\0", b"\3wex\0\0\1\0\1\0"])
def test_a_record_belongs_to_its_key(key: bytes) -> None:
    with pytest.raises(StoreError):
        decode(key, encode(ROW))


def summed(key: bytes, body: bytes) -> bytes:
    """A record that someone forged, with the right checksum."""
    return body + struct.pack("!I", zlib.crc32(body, zlib.crc32(struct.pack("!H", len(key)) + key)))


@pytest.mark.parametrize(
    ("offset", "octets"),
    [
        (0, b"\2"),  # a version that is not ours
        (1, b"\3"),  # a kind that there is not
        (2, b"\2"),
        (3, b"\xff"),  # a zone beyond the end
        (20, struct.pack("!d", math.nan)),
        (28, struct.pack("!d", math.inf)),
        (36, struct.pack("!d", -math.inf)),
    ],
)
def test_a_forged_record_is_refused(offset: int, octets: bytes) -> None:
    body = encode(ROW)[:-4]
    assert decode(ROW.key, summed(ROW.key, body)) == ROW
    with pytest.raises(StoreError):
        decode(ROW.key, summed(ROW.key, body[:offset] + octets + body[offset + len(octets) :]))


def test_a_forged_record_is_bounded() -> None:
    body = encode(ROW)[:-4]
    for key, octets in ((ROW.key, body + bytes(RECORD_MAX)), (b"k" * (KEY_MAX + 1), body)):
        with pytest.raises(StoreError):
            decode(key, summed(key, octets))


def test_a_forged_mark_is_refused() -> None:
    for mark in (Mark(BOOT, math.nan, 0.0), Mark(BOOT, 0.0, math.inf)):
        with pytest.raises(StoreError):
            decode_mark(encode_mark(mark))


def test_an_entry_is_written_with_what_it_needs() -> None:
    query = build.query("web.example")
    zone = build.zone_state(StalePolicy(max_age=600.0), "example")
    wire = build.answer_wire(query, "web.example 30 IN A 10.0.0.1", ad=True, edns=None)
    entry = build.entry(query, wire, now=40.0, zone=zone)
    row = row_of(entry, Clocks(BOOT, 50.0, 1000.0))
    assert row == Row(
        entry.key, b"\0\0" + wire[2:], True, b"\7example\0", 0, BOOT, 40.0, 990.0, 990.0 + 630.0
    )


# -- age ----------------------------------------------------------------------------------------


def row(boot: bytes, instant: float, stored: float) -> Row:
    return ROW._replace(boot=boot, instant=instant, stored=stored)


@pytest.mark.parametrize("wall", [0.0, 1e9, 2e9])
def test_within_a_boot_the_wall_clock_has_no_say(wall: float) -> None:
    clocks = Clocks(BOOT, 500.0, wall)
    assert stored_at(row(BOOT, 100.0, 1e9), {}, clocks) == 100.0
    assert stored_at(row(BOOT, 100.0, 1e9), {BOOT: MARK}, clocks) == 100.0


@pytest.mark.parametrize(
    ("now", "wall", "stored"),
    [
        (10.0, 2000.0, 10.0 - 100.0 - 1000.0),  # 100 s in its boot, 1000 s by the wall clock
        (10.0, 1010.0, 10.0 - 100.0 - 10.0),
        (10.0, 1005.0, 10.0 - 100.0 - 10.0),  # not less than the boot has lasted
        (10.0, 1000.0, 10.0 - 100.0 - 10.0),
        (10.0, 999.9, None),  # set back: nobody knows
        (10.0, 0.0, None),
    ],
)
def test_across_boots(now: float, wall: float, stored: float | None) -> None:
    marks = {OTHER: Mark(OTHER, 600.0, 1000.0)}
    assert stored_at(row(OTHER, 500.0, 1.0), marks, Clocks(BOOT, now, wall)) == stored


def test_without_its_mark_a_boot_has_the_wall_clock_only() -> None:
    clocks = Clocks(BOOT, 10.0, 1000.0)
    for marks in ({}, {OTHER: Mark(OTHER, 400.0, 1.0)}):
        assert stored_at(row(OTHER, 500.0, 900.0), marks, clocks) == 10.0 - 100.0
        assert stored_at(row(OTHER, 500.0, 1001.0), marks, clocks) is None


def test_a_boot_clock_that_began_anew_is_another_boot() -> None:
    mark = Mark(BOOT, 500.0, 1000.0)
    clocks = Clocks(BOOT, 10.0, 1100.0)
    assert stored_at(row(BOOT, 5.0, 0.0), {BOOT: mark}, clocks) == 10.0 - 495.0 - 100.0
    assert stored_at(row(BOOT, 50.0, 900.0), {}, clocks) == 10.0 - 200.0


def test_what_was_dated_in_this_boot_keeps_its_date_unless_the_clock_was_late_then() -> None:
    dated = row(BOOT, -500.0, 1000.0)  # at -500 on this boot's clock the wall clock showed 1000
    for wall, stored in ((1600.0, -500.0), (1000.0, -500.0), (0.0, -500.0), (1700.0, -600.0)):
        assert stored_at(dated, {}, Clocks(BOOT, 100.0, wall)) == stored


class Machine:
    """One machine, and on it rows that are taken back and dated anew at every start."""

    def __init__(self) -> None:
        self.true = 1e6
        self.ahead = 0.0  # of the wall clock
        self.boots = 0
        self.booted = self.true - 50.0
        self.marks: dict[bytes, Mark] = {}
        self.rows: list[tuple[float, float, Row]] = []  # true instant, what a clock lost, row

    @property
    def clocks(self) -> Clocks:
        boot = self.boots.to_bytes(16, "big")
        return Clocks(boot, self.true - self.booted, self.true + self.ahead)

    def write(self) -> None:
        boot, now, wall = clocks = self.clocks
        self.rows.append((self.true, 0.0, row(boot, now, wall)))
        self.marks[boot] = Mark(*clocks)

    def boot(self, down: float) -> None:
        self.true += down
        self.boots += 1
        self.booted = self.true - 5.0

    def start(self) -> None:
        boot, now, wall = clocks = self.clocks
        rows, self.rows = self.rows, []
        for true, lost, each in rows:
            stored = stored_at(each, self.marks, clocks)
            if stored is None:
                self.rows.append((true, lost, each))
                continue
            if each.boot == boot:
                assert stored <= each.instant
            else:
                # By how much the wall clock is further behind than when it was last looked at.
                mark = self.marks[each.boot]
                elapsed = self.true - (true + mark.instant - each.instant)
                lost += max(0.0, elapsed - (wall - mark.wall))
            assert now - stored >= self.true - true - lost - 1e-3
            if each.boot == boot and each.instant > 0:
                assert now - stored == pytest.approx(self.true - true, abs=1e-3)
            self.rows.append((true, lost, row(boot, stored, wall - (now - stored))))
        self.marks[boot] = Mark(*clocks)


steps = st.one_of(
    st.tuples(st.just("run"), st.floats(0.01, 1e5)),
    st.tuples(st.just("set"), st.floats(-1e5, 1e5)),
    st.tuples(st.just("boot"), st.floats(0.01, 1e5)),
    st.tuples(st.sampled_from(["write", "start"]), st.just(0.0)),
)


@given(st.lists(steps, max_size=30))
def test_no_life_is_lengthened_unless_the_clock_loses_time_unseen(
    story: list[tuple[str, float]],
) -> None:
    machine = Machine()
    machine.write()
    for what, amount in story:
        if what == "run":
            machine.true += amount
        elif what == "set":
            machine.ahead += amount
        elif what == "boot":
            machine.boot(amount)
        elif what == "write":
            machine.write()
        else:
            machine.start()
    machine.start()
