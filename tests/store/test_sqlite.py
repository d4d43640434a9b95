"""The file itself: what goes in comes out, within bounds, and nothing that lies there is trusted.

Damage is done to real files: every page cut off, octets turned at random. What has to come of it is
always the same: an error of the store or a part of what was written, and never anything else.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsguard.errors import StoreError
from dnsguard.store import sqlite
from dnsguard.store.rows import RECORD_MAX
from dnsguard.store.sqlite import SCHEMA, TRANSACTION_ROWS, UNUSABLE, Database

MARK = (b"boot", 1.0, b"mark")
MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
Put = tuple[bytes, float, bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


@contextlib.contextmanager
def opened(path: Path, octets: int = 64 * MIB, writable: bool = True) -> Iterator[Database]:
    path.touch()
    database = Database(str(path), octets, writable)
    try:
        yield database
    finally:
        database.close()


def refused(path: Path) -> str:
    """Why the file cannot be used."""
    with pytest.raises(StoreError) as caught, opened(path):
        pass
    assert str(path) in str(caught.value)
    return caught.value.kind


def puts(count: int, first: int = 0, octets: int = 200) -> list[Put]:
    numbers = range(first, first + count)
    return [(b"key %d" % n, float(n), b"%d " % n * (octets // 4)) for n in numbers]


def found(database: Database) -> dict[bytes, bytes]:
    return {key: record for some in database.records(100) for key, record in some}


def as_found(rows: list[Put]) -> dict[bytes, bytes]:
    return {key: record for key, _, record in rows}


def made(path: Path, count: int = 500) -> dict[bytes, bytes]:
    """Make a file with rows, closed in order."""
    rows = puts(count)
    with opened(path) as database:
        database.write(rows, [], MARK)
    return as_found(rows)


def write_and_die(path: Path, count: int) -> None:
    """Have another process write rows, and end without closing anything."""
    code = (
        "import os, pathlib\n"
        "from tests.store.test_sqlite import MARK, MIB, Database, puts\n"
        f"path = pathlib.Path({str(path)!r})\n"
        "path.touch()\n"
        f"Database(str(path), MIB, True).write(puts({count}), [], MARK)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# -- reading and writing ------------------------------------------------------------------------


def test_what_was_written_is_there_next_time(path: Path) -> None:
    rows = made(path)
    with opened(path) as database:
        assert found(database) == rows
        assert database.marks() == [b"mark"]
        assert database.rows == len(rows)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_new_file_holds_nothing(path: Path) -> None:
    with opened(path) as database:
        assert (found(database), database.marks(), database.rows) == ({}, [], 0)
        assert database.damaged == ""


def test_a_row_replaces_the_one_with_its_key(path: Path) -> None:
    made(path, 3)
    with opened(path) as database:
        database.write([(b"key 1", 9.0, b"new")], [b"key 2", b"never there"], MARK)
        assert found(database) == {b"key 0": puts(1)[0][2], b"key 1": b"new"}
        assert database.rows == 2


@pytest.mark.parametrize("count", [0, 1, TRANSACTION_ROWS, TRANSACTION_ROWS + 1, 1300])
def test_batches_of_any_size_are_written_whole(path: Path, count: int) -> None:
    with opened(path) as database:
        database.write(puts(count), [], MARK)
        database.write(puts(count // 2), [key for key, _, _ in puts(count)][count // 2 :], MARK)
        assert found(database) == as_found(puts(count // 2))
        assert database.rows == count // 2
        assert database.marks() == [b"mark"]


def test_what_is_written_is_there_after_a_kill(path: Path) -> None:
    write_and_die(path, 700)
    assert path.with_name(path.name + "-wal").exists()
    with opened(path) as database:
        assert found(database) == as_found(puts(700))


def test_the_log_has_the_mode_of_the_file(path: Path) -> None:
    path.touch(0o600)
    with opened(path) as database:
        database.write(puts(10), [], MARK)
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {0o600}


def test_nobody_else_reads_while_it_is_open(path: Path) -> None:
    with opened(path), contextlib.closing(sqlite3.connect(path, timeout=0)) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT * FROM answers").fetchall()
        assert refused(path) == "locked"


# -- bounds -------------------------------------------------------------------------------------


def test_it_keeps_to_its_octets_and_drops_what_dies_first(path: Path) -> None:
    rows = puts(15_000, octets=100)
    with opened(path, MIB) as database:
        for start in range(0, len(rows), 5000):
            database.write(rows[start : start + 5000], [], MARK)
            assert database.octets <= MIB
        left = found(database)
        assert database.rows == len(left) > 2000
    assert left == as_found(rows[-len(left) :])
    assert path.stat().st_size <= 1.2 * MIB


def test_it_keeps_to_its_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "ROWS_MAX", 100)
    with opened(path) as database:
        database.write(puts(250), [], MARK)
        left = found(database)
        assert 90 <= len(left) == database.rows <= 100
    assert left == as_found(puts(250)[-len(left) :])


def test_the_log_stays_small(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    with opened(path) as database:
        for _ in range(5):
            database.write(puts(4000), [], MARK)
            assert log.stat().st_size <= 8 * MIB


def test_the_dead_are_purged_and_old_boots_with_them(path: Path) -> None:
    with opened(path) as database:
        for boot in range(100):
            database.write(puts(100), [], (b"boot %d" % boot, float(boot), b"%d" % boot))
        assert database.purge(60.0, (b"now", 1000.0, b"now")) == 60
        assert found(database) == as_found(puts(40, 60))
        assert database.rows == 40
        assert {*database.marks()} == {b"now", *(b"%d" % n for n in range(36, 100))}


# -- trouble while it is open -------------------------------------------------------------------


def test_without_room_on_the_disk_nothing_is_lost(path: Path) -> None:
    with opened(path) as database:
        database.write(puts(100), [], MARK)
        database._connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(StoreError) as caught:
            database.write(puts(2000, 100), [], MARK)
        assert caught.value.kind == "full"
        assert database.rows == len(found(database)) >= 100
        database._connection.execute("PRAGMA max_page_count = 10000")
        database.write(puts(2000, 100), [], MARK)
        assert found(database) == as_found(puts(2100))


@pytest.mark.parametrize("way", ["deleted", "replaced"])
def test_a_file_that_went_away_is_noticed(path: Path, way: str) -> None:
    with opened(path) as database:
        database.write(puts(1), [], MARK)
        path.unlink()
        if way == "replaced":
            path.touch()
        for act in (
            lambda: database.write(puts(1), [], MARK),
            lambda: database.purge(0.0, MARK),
        ):
            with pytest.raises(StoreError) as caught:
                act()
            assert caught.value.kind == "io"


# -- without the right to write -----------------------------------------------------------------


def test_what_cannot_be_written_is_read_log_and_all(path: Path) -> None:
    write_and_die(path, 300)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with opened(path, writable=False) as database:
        assert found(database) == as_found(puts(300))
        assert database.marks() == [b"mark"]
        with pytest.raises(StoreError) as caught:
            database.write(puts(1), [], MARK)
        assert caught.value.kind == "readonly"
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_an_empty_file_that_cannot_be_written_holds_nothing(path: Path) -> None:
    with opened(path, writable=False) as database:
        assert (found(database), database.marks()) == ({}, [])


# -- what is of no use --------------------------------------------------------------------------


def alter(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        (["PRAGMA user_version = 2"], "newer"),
        (["PRAGMA user_version = 0"], "corrupt"),
        (["PRAGMA application_id = 1"], "foreign"),
        (["CREATE TABLE more (x)"], "corrupt"),
        (["CREATE VIEW more AS SELECT * FROM answers"], "corrupt"),
        (["CREATE INDEX more ON answers (dies)"], "corrupt"),
        (
            [
                """CREATE TRIGGER loop AFTER INSERT ON answers BEGIN
                INSERT INTO marks SELECT randomblob(9), 0, 0 FROM (
                WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n); END"""
            ],
            "corrupt",
        ),
        (["DROP TABLE marks"], "corrupt"),
        (["DROP TABLE answers", SCHEMA["answers"].replace("REAL", "TEXT")], "corrupt"),
    ],
)
def test_another_schema_is_refused(path: Path, statements: list[str], kind: str) -> None:
    made(path, 3)
    alter(path, *statements)
    assert refused(path) == kind
    assert kind in UNUSABLE


def test_another_program_s_database_is_refused(path: Path) -> None:
    alter(path, "CREATE TABLE answers (key BLOB PRIMARY KEY)")
    assert refused(path) == "foreign"


@pytest.mark.parametrize("octets", [b"hello", b"SQLite format 3\0", bytes(5000), b"\xff" * 9000])
def test_what_is_no_database_is_refused(path: Path, octets: bytes) -> None:
    path.write_bytes(octets)
    assert refused(path) == "corrupt"


def test_a_file_of_monstrous_size_is_not_even_looked_into(path: Path) -> None:
    made(path, 3)
    os.truncate(path, 1 << 40)
    assert refused(path) == "foreign"


def test_a_missing_file_is_an_error(path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Database(str(path), MIB, True)
    assert caught.value.kind == "io"


def test_rows_of_strange_types_are_passed_over(path: Path) -> None:
    rows = made(path, 3)
    alter(
        path,
        "INSERT INTO answers VALUES ('text', 1, x'00'), (7, 1, x'00'), (x'07', 'x', NULL)",
        "INSERT INTO answers VALUES (CAST(x'ff' AS TEXT), 1, x'00')",
        "INSERT INTO marks VALUES (1, 1, 1)",
    )
    with opened(path) as database:
        assert found(database) == rows
        assert database.marks() == [b"mark"]


def test_a_row_that_is_too_long_is_damage(path: Path) -> None:
    rows = made(path, 30)
    alter(path, f"INSERT INTO answers VALUES (x'6b657920325f', 1, zeroblob({3 * RECORD_MAX}))")
    with opened(path) as database:
        left = found(database)  # from both ends, since it lies in the middle
        assert left.items() <= rows.items()
        assert len(left) >= len(rows) - 2
        assert "too big" in database.damaged


# -- damage -------------------------------------------------------------------------------------


def survivors(path: Path, rows: dict[bytes, bytes]) -> int:
    """How many rows can still be read; -1 if the file cannot be used at all.

    Octets within a record are for its checksum to judge, so only keys and sizes are compared.
    """
    kind, left = "", {}
    try:
        with opened(path) as database:
            left = found(database)
            if not database.damaged:
                with contextlib.suppress(StoreError):
                    database.write(puts(5, 10_000), [b"key 1"], MARK)
    except StoreError as error:
        kind = error.kind
    assert kind in UNUSABLE | {""}
    return -1 if kind else sum(key in rows for key in left)


@pytest.mark.parametrize("page", range(0, 60, 7))
def test_a_file_cut_at_any_page(path: Path, page: int) -> None:
    rows = made(path)
    assert path.stat().st_size > 60 * 4096 // 2
    os.truncate(path, page * 4096)
    left = survivors(path, rows)
    assert left < len(rows) or page * 4096 >= path.stat().st_size


def test_of_a_damaged_page_both_sides_can_be_read(path: Path) -> None:
    rows = made(path, 2000)
    whole = path.read_bytes()
    middle = len(whole) // 4096 // 2 * 4096
    path.write_bytes(whole[:middle] + b"\xff" * 4096 + whole[middle + 4096 :])
    with opened(path) as database:
        assert database.damaged
        left = found(database)
        assert database.rows == 0
    assert left.items() <= rows.items()
    assert len(left) > 0.95 * len(rows)


def test_keys_out_of_order_are_damage(path: Path) -> None:
    rows = made(path, 20)
    octets = path.read_bytes()
    assert octets.count(b"key 5") == 1
    path.write_bytes(octets.replace(b"key 5", b"kez 5"))
    with opened(path) as database:
        assert len(found(database)) == len(rows)
        assert "order" in database.damaged


def test_damage_that_shows_while_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made(path, 2000)
    with opened(path) as database:
        whole = path.read_bytes()
        sound = len(whole) // 4096 * 3 // 4 * 4096
        path.write_bytes(whole[:sound] + b"\xff" * (len(whole) - sound))
        database._connection.execute("PRAGMA cache_size = 1")
        left = found(database)
        assert database.damaged
    assert 0 < len(left) < len(rows)
    assert left.items() <= rows.items()


def test_two_rows_with_one_key_are_damage() -> None:
    """Keys out of order hide a row from the statement that should have deleted it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(SCHEMA["answers"])
        connection.execute("INSERT INTO answers VALUES (x'00', 1, x'00')")
        with pytest.raises(sqlite3.IntegrityError) as caught:
            connection.execute("INSERT INTO answers VALUES (x'00', 1, x'00')")
    assert sqlite.trouble(caught.value, "file").kind == "corrupt"


@pytest.mark.parametrize("seed", range(30))
def test_octets_turned_at_random(path: Path, seed: int) -> None:
    rows = made(path, 300)
    chance = random.Random(seed)
    octets = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 3, 30])):
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
    path.write_bytes(octets)
    assert survivors(path, rows) <= len(rows)
