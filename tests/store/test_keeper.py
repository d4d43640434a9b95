"""Runs and restarts in one process: what comes back, what is said, and what trouble comes to.

Whatever happens to the file, the engine goes on, and one line says so. A kill is not played here
but in `test_serve`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from dnsguard import clock
from dnsguard.core.entry import NEVER
from dnsguard.core.staleness import Verdict, judge
from dnsguard.errors import StoreError
from dnsguard.store import keeper, sqlite, writer
from dnsguard.store.rows import RECORD_MAX, Row, encode
from dnsguard.store.sqlite import Database
from tests.store.running import NAME, Run, key_of, running, until
from tests.store.test_sqlite import alter

WEB = "web.cluster.local"
DAY = 86400.0
BOOTS = (b"1" * 16, b"2" * 16)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(writer, "RETRY_MAX", 0.02)
    monkeypatch.setattr(keeper, "READY_SECONDS", 10.0)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def prepare(root: Path, count: int = 1) -> None:
    """A run that learns `count` names and ends."""
    async with running(root) as run:
        for number in range(count):
            run.knows(f"n{number}.cluster.local", f"10.0.{number >> 8}.{number & 255}")
        if count == 1:
            run.knows(WEB)


def is_stale(run: Run, name: str = WEB) -> bool:
    entry = run.entry(name)
    return entry is not None and judge(entry, clock.now())[0] is Verdict.VERIFY


# -- restarts -----------------------------------------------------------------------------------


def test_what_was_learned_comes_back_stale(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as run:
            entry = run.knows(WEB)
            await run.on_disk(1)
        async with running(tmp_path) as run:
            assert run.counts.loaded == 1
            assert is_stale(run)
            back = run.entry(WEB)
            assert back is not None
            assert back.wire[2:] == entry.wire[2:]
            assert back.stored == entry.stored
            assert back.dies() <= entry.dies()
            await until(lambda: run.quiet)
            assert run.counts.writes == 0
            assert run.notices == []

    play(story())


def test_the_last_batch_is_written_at_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, interval=60.0) as run:
            await until(lambda: run.counts.up)
            run.knows(WEB, "10.0.0.1")
            run.knows("other.cluster.local")
        async with running(tmp_path) as run:
            assert run.counts.loaded == 2

    play(story())


def test_what_was_forgotten_does_not_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as run:
            run.knows(WEB)
            run.knows("other.cluster.local")
            await run.on_disk(2)
            run.engine.forget(key_of(WEB))
            await run.on_disk(1)
        async with running(tmp_path) as run:
            assert run.entry(WEB) is None
            assert run.counts.loaded == 1

    play(story())


def test_many_names_come_back_while_the_loop_runs(tmp_path: Path) -> None:
    async def story() -> None:
        await prepare(tmp_path, 3000)
        turns = 0
        async with running(tmp_path, wait=False) as run:
            while run.counts.loaded < 3000:
                await asyncio.sleep(0)
                turns += 1
        assert turns > 3000 / writer.LOAD_ROWS

    play(story())


def test_it_can_end_while_it_reads(tmp_path: Path) -> None:
    async def story() -> None:
        await prepare(tmp_path, 3000)
        async with running(tmp_path, wait=False) as run:
            await until(lambda: run.counts.loaded > 0)
        async with running(tmp_path) as run:
            assert run.counts.loaded == 3000

    play(story())


def test_a_loop_that_is_gone_ends_the_thread(tmp_path: Path) -> None:
    async def story() -> list[threading.Thread]:
        run = Run(tmp_path, 0.01, DAY)
        run.keeper.start()
        assert run.keeper._writer is not None
        return [run.keeper._writer]

    (thread,) = asyncio.run(story())
    thread.join(20)
    assert not thread.is_alive()


def test_a_run_of_which_nothing_is_dead_yet_deletes_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await prepare(tmp_path)
        monkeypatch.setattr(writer, "PURGE_SECONDS", 0.01)
        monkeypatch.setattr(clock, "wall", lambda: 4e9)
        async with running(tmp_path) as run:
            await until(lambda: run.counts.rows == 0 and run.counts.writes == 2)

    play(story())


# -- clocks -------------------------------------------------------------------------------------


def reboot(monkeypatch: pytest.MonkeyPatch, wall: float, now: float = 20.0) -> None:
    """From here on it is another boot, `now` seconds old."""
    began = now - clock.now()
    real = clock.now
    monkeypatch.setattr(clock, "boot", lambda: BOOTS[1])
    monkeypatch.setattr(clock, "now", lambda: real() + began)
    monkeypatch.setattr(clock, "wall", lambda: wall)


def test_after_a_reboot_the_wall_clock_tells_the_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await prepare(tmp_path)
        wall = clock.wall() + DAY
        reboot(monkeypatch, wall)
        async with running(tmp_path) as run:
            entry = run.entry(WEB)
            assert entry is not None
            assert DAY <= clock.now() - entry.stored < DAY + 60
            await until(lambda: entry.written != NEVER and run.quiet)  # dated by this boot
        monkeypatch.setattr(clock, "wall", lambda: 0.0)
        async with running(tmp_path) as run:
            again = run.entry(WEB)
            assert again is not None
            assert again.stored == entry.stored
        monkeypatch.setattr(clock, "wall", lambda: wall + 3 * DAY)
        async with running(tmp_path) as run:
            assert run.entry(WEB) is None  # the clock was late, and now it is dead

    play(story())


def test_a_wall_clock_that_was_set_back_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await prepare(tmp_path)
        wall = clock.wall()
        reboot(monkeypatch, wall - 3600)
        async with running(tmp_path) as run:
            assert run.events() == ["store_undated"]
            assert run.counts.loaded == 0
            assert run.entry(WEB) is None
            await asyncio.sleep(0.03)
            monkeypatch.setattr(clock, "wall", lambda: wall + 3600)
            await until(lambda: run.counts.loaded == 2)
            entry = run.entry(WEB)
            assert entry is not None
            assert clock.now() - entry.stored >= 3600

    play(story())


def test_a_wall_clock_that_was_late_at_the_start_makes_everything_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await prepare(tmp_path)
        wall = clock.wall()
        reboot(monkeypatch, wall + 100)
        async with running(tmp_path) as run:
            entry = run.entry(WEB)
            assert entry is not None
            new = run.knows("new.cluster.local")
            before, dies = entry.stored, new.dies()
            monkeypatch.setattr(clock, "wall", lambda: wall + 100 + 7200)
            await until(lambda: entry.stored < before)
            assert before - 7201 <= entry.stored <= before - 7199
            assert new.dies() == dies

    play(story())


# -- another instance ---------------------------------------------------------------------------


def test_a_second_instance_runs_from_memory_until_the_first_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as first:
            first.knows(WEB, "10.0.0.1")
            await first.on_disk(1)
            async with running(tmp_path) as second:
                assert second.events() == ["store_down"]
                assert "another instance" in second.notices[0].text
                second.knows("mine.cluster.local")
                await until(lambda: second.counts.errors["locked"] > 3)
                assert second.events() == ["store_down"]
                assert not second.counts.up
                assert second.entry(WEB) is None
                await first.keeper.stop()
                await second.on_disk(2)
                assert is_stale(second)
                assert second.events() == ["store_down", "store_up"]
        async with running(tmp_path) as third:
            assert third.counts.loaded == 2

    play(story())


# -- a file of no use ---------------------------------------------------------------------------


def spoil_with(octets: bytes) -> Callable[[Path], None]:
    return lambda file: void(file.write_bytes(octets))


def void(_: object) -> None:
    """Make a statement of an expression."""


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (spoil_with(b"nothing of the kind"), "corrupt"),
        (spoil_with(bytes(100_000)), "corrupt"),
        (lambda file: alter(file, "PRAGMA user_version = 2"), "newer"),
        (lambda file: alter(file, "PRAGMA application_id = 2"), "foreign"),
        (lambda file: alter(file, "DROP TABLE marks"), "corrupt"),
        (lambda file: os.truncate(file, 1 << 40), "foreign"),
    ],
)
def test_a_file_of_no_use_is_set_aside(
    tmp_path: Path, spoil: Callable[[Path], None], kind: str
) -> None:
    async def story() -> None:
        await prepare(tmp_path)
        file = tmp_path / NAME / "answers.sqlite"
        spoil(file)
        size = file.stat().st_size
        async with running(tmp_path) as run:
            assert run.events() == ["store_set_aside"]
            assert run.counts.errors == {kind: 1}
            assert run.counts.loaded == 0
            run.knows(WEB)
            await run.on_disk(1)
            assert file.with_name("aside.sqlite").stat().st_size == size
        async with running(tmp_path) as run:
            assert (run.counts.loaded, run.notices) == (1, [])

    play(story())


def test_what_is_left_of_a_damaged_file_is_kept(tmp_path: Path) -> None:
    async def story() -> None:
        await prepare(tmp_path, 2000)
        file = tmp_path / NAME / "answers.sqlite"
        whole = file.read_bytes()
        middle = len(whole) // 8192 * 4096
        file.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
        async with running(tmp_path) as run:
            assert 1900 < run.counts.loaded < 2000
            await run.on_disk(run.counts.loaded)
            assert run.events() == ["store_set_aside"]
            loaded = run.counts.loaded
        async with running(tmp_path) as run:
            assert (run.counts.loaded, run.notices) == (loaded, [])

    play(story())


def test_damaged_answers_are_left_out_and_the_others_written_anew(tmp_path: Path) -> None:
    async def story() -> None:
        await prepare(tmp_path, 20)
        alter(
            tmp_path / NAME / "answers.sqlite",
            "UPDATE answers SET record = zeroblob(length(record)) WHERE key IN "
            "(SELECT key FROM answers LIMIT 3)",
        )
        async with running(tmp_path) as run:
            assert run.counts.loaded == 17
            await run.on_disk(17)
            assert run.counts.errors == {"row": 3, "corrupt": 1}
            assert run.events() == ["store_set_aside"]
            assert "3 of its answers" in run.notices[0].text

    play(story())


def test_forged_answers_are_left_out_and_deleted(tmp_path: Path) -> None:
    async def story() -> None:
        await prepare(tmp_path, 3)
        key = key_of(WEB)
        row = Row(key, b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + key[:-1], False, b"\0", 0,
                  clock.boot(), clock.now(), clock.wall(), clock.wall() + DAY)  # fmt: skip
        alter(
            tmp_path / NAME / "answers.sqlite",
            f"INSERT INTO answers VALUES (x'{key.hex()}', 9e9, x'{encode(row).hex()}')",
        )
        async with running(tmp_path) as run:
            assert run.counts.loaded == 3
            assert run.entry(WEB) is None
            assert run.counts.errors == {"row": 1}
            await run.on_disk(3)

    play(story())


def test_a_damaged_mark_leaves_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await prepare(tmp_path)
        alter(tmp_path / NAME / "answers.sqlite", "UPDATE marks SET record = x'00'")
        reboot(monkeypatch, clock.wall() + DAY)
        async with running(tmp_path) as run:
            assert run.counts.loaded == 2

    play(story())


def test_a_monster_of_a_row_costs_the_rest_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        await prepare(tmp_path, 20)
        alter(
            tmp_path / NAME / "answers.sqlite",
            f"INSERT INTO answers VALUES (x'ffff', 1, zeroblob({3 * RECORD_MAX}))",
        )
        async with running(tmp_path) as run:
            assert run.counts.loaded >= 18
            await run.on_disk(run.counts.loaded)
            assert run.events() == ["store_set_aside"]

    play(story())


def test_a_hostile_directory_is_left_alone(tmp_path: Path) -> None:
    async def story() -> None:
        target = tmp_path / "secret"
        target.write_text("mine")
        (tmp_path / NAME).mkdir()
        (tmp_path / NAME / "answers.sqlite").symlink_to(target)
        async with running(tmp_path) as run:
            assert run.events() == ["store_down"]
            run.knows(WEB)
            await until(lambda: run.counts.errors["unsafe"] > 3)
            assert run.events() == ["store_down"]
            (tmp_path / NAME / "answers.sqlite").unlink()
            await run.on_disk(1)
        assert target.read_text() == "mine"

    play(story())


# -- trouble on the way -------------------------------------------------------------------------


def test_a_file_that_was_deleted_is_written_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as run:
            for number in range(50):
                run.knows(f"n{number}.cluster.local")
            await run.on_disk(50)
            run.file.unlink()
            run.knows(WEB)
            await until(lambda: "store_up" in run.events())
            await run.on_disk(51)
        async with running(tmp_path) as run:
            assert run.counts.loaded == 51

    play(story())


@pytest.mark.parametrize("kind", ["full", "io", "readonly", "locked"])
def test_while_the_disk_takes_nothing_answers_are_kept_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    refusing = False
    write = Database.write

    def refuse(self: Database, *arguments: Any) -> None:
        if refusing:
            raise StoreError("no", kind)
        write(self, *arguments)

    async def story() -> None:
        nonlocal refusing
        monkeypatch.setattr(sqlite.Database, "write", refuse)
        async with running(tmp_path) as run:
            run.knows("n1.cluster.local")
            await run.on_disk(1)
            refusing = True
            run.knows("n2.cluster.local")
            await until(lambda: run.counts.errors[kind] > 5)
            run.knows("n3.cluster.local")
            assert run.events() == ["store_down"]
            assert not run.counts.up
            age = clock.now() - run.counts.flushed
            refusing = False
            await run.on_disk(3)
            await until(lambda: clock.now() - run.counts.flushed < age)
            assert run.events() == ["store_down", "store_up"]
        async with running(tmp_path) as run:
            assert run.counts.loaded == 3

    play(story())


def test_corruption_that_shows_late_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = False
    write = Database.write

    def breaks(self: Database, *arguments: Any) -> None:
        nonlocal broken
        if broken:
            broken = False
            raise StoreError("malformed", "corrupt")
        write(self, *arguments)

    async def story() -> None:
        nonlocal broken
        monkeypatch.setattr(sqlite.Database, "write", breaks)
        async with running(tmp_path) as run:
            for number in range(20):
                run.knows(f"n{number}.cluster.local")
            await run.on_disk(20)
            broken = True
            run.knows(WEB)
            await until(lambda: run.events() == ["store_set_aside"])
            await run.on_disk(21)

    play(story())


def test_a_fresh_file_that_is_of_no_use_either_is_not_tried_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def useless(self: Database) -> None:
        nonlocal tries
        tries += 1
        raise StoreError("no", "corrupt")

    async def story() -> None:
        monkeypatch.setattr(writer, "RETRY_FIRST", 60.0)
        monkeypatch.setattr(sqlite.Database, "_prepare", useless)
        (tmp_path / NAME).mkdir(mode=0o700)
        (tmp_path / NAME / "answers.sqlite").write_bytes(b"what was there")
        async with running(tmp_path) as run:
            await until(lambda: "store_down" in run.events())
            assert tries == 2
            assert run.events() == ["store_down"]
            run.knows(WEB)
        assert (tmp_path / NAME / "answers.sqlite").read_bytes() == b"what was there"
        assert not (tmp_path / NAME / "aside.sqlite").exists()

    play(story())


def test_a_defect_in_the_thread_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_file = Database._prepare
    defects = 3

    def defective(self: Database) -> None:
        nonlocal defects
        if defects:
            defects -= 1
            raise ZeroDivisionError("oops")
        prepare_file(self)

    async def story() -> None:
        monkeypatch.setattr(sqlite.Database, "_prepare", defective)
        async with running(tmp_path) as run:
            run.knows(WEB)
            await run.on_disk(1)
            assert run.counts.errors == {"defect": 3}
            assert "ZeroDivisionError: oops" in run.notices[0].text

    play(story())


def hang(release: threading.Event) -> Callable[..., Any]:
    def hanging(*_: object) -> Any:
        release.wait(20)
        return iter(())

    return hanging


def test_a_disk_that_hangs_while_it_is_read_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    async def story() -> None:
        monkeypatch.setattr(keeper, "READY_SECONDS", 0.02)
        monkeypatch.setattr(keeper, "STOP_SECONDS", 0.02)
        monkeypatch.setattr(sqlite.Database, "records", hang(release))
        async with running(tmp_path) as run:
            assert run.keeper.ready
            run.knows(WEB)
            assert not run.counts.up

    play(story())
    release.set()


def test_a_disk_that_hangs_while_it_is_written_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    write = Database.write

    def slow(self: Database, puts: Any, *rest: Any) -> None:
        if puts:
            release.wait(20)
        write(self, puts, *rest)

    async def story() -> None:
        monkeypatch.setattr(keeper, "STUCK_SECONDS", 0.02)
        monkeypatch.setattr(sqlite.Database, "write", slow)
        async with running(tmp_path) as run:
            run.knows("n1.cluster.local")
            await until(lambda: run.events() == ["store_down"])
            run.knows("n2.cluster.local")
            await asyncio.sleep(0.05)
            assert run.counts.errors == {"stuck": 1}
            assert not run.counts.up
            release.set()
            await run.on_disk(2)
            assert run.events() == ["store_down", "store_up"]

    play(story())
