"""Several processes of one address, as runs on one loop: what one has learned all know.

The sockets, the thread and the disk are real. What another process says that is not to be believed
comes from a plain socket of the test's own.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dnsguard import clock
from dnsguard.clock import Clocks
from dnsguard.core.elsewhere import Elsewhere
from dnsguard.core.entry import NEVER
from dnsguard.core.staleness import Verdict, judge
from dnsguard.store import keeper, peers, scout, writer
from dnsguard.store.peers import ALL, HELLO, NONE, PROTOCOL, ROW, WANT
from dnsguard.store.rows import encode, row_of
from dnsguard.store.scout import TAIL
from tests.core import build
from tests.store.running import Run, key_of, running, until

WEB = "web.cluster.local"
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(writer, "RETRY_MAX", 0.02)
    monkeypatch.setattr(scout, "SCAN_SECONDS", 0.01)
    monkeypatch.setattr(keeper, "READY_SECONDS", 20.0)


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def meeting(root: Path) -> tuple[str, ...]:
    return (str(root / "meeting"),)


class Crowd(AsyncExitStack):
    """Runs that know of each other; without a disk unless they are given one."""

    def __init__(self, root: Path, state: bool = False) -> None:
        super().__init__()
        self._root, self._state = root, state

    async def add(self, interval: float = 0.01) -> Run:
        place = meeting(self._root)
        return await self.enter_async_context(
            running(self._root, interval, meeting=place, state=self._state)
        )


async def apart(*runs: Run) -> None:
    """Wait until all are connected with all."""
    await until(lambda: all(run.counts.peers == len(runs) - 1 for run in runs))


def test_what_one_learns_the_other_knows_and_just_as_fresh(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            one, two = await crowd.add(), await crowd.add()
            await apart(one, two)
            entry = one.knows(WEB)
            await until(lambda: two.entry(WEB) is not None)
            there = two.entry(WEB)
            assert there is not None
            assert judge(there, clock.now())[0] is Verdict.FRESH
            assert (there.stored, there.dies()) == (entry.stored, entry.dies())
            assert (one.counts.received, two.counts.received) == (0, 1)

    play(story)


def test_a_newcomer_is_told_everything_before_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "STEP_ROWS", 16)

    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            one = await crowd.add()
            for number in range(100):
                one.knows(f"n{number}.cluster.local")
            two = await crowd.add()
            assert two.counts.received == 100
            assert two.keeper.ready

    play(story)


def test_a_change_is_told_and_a_denial_is_not_believed_over_a_good_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            one, two = await crowd.add(), await crowd.add()
            await apart(one, two)
            two.knows(WEB, "10.0.0.1")
            one.knows(WEB, "10.0.0.2")
            await until(lambda: (found := two.entry(WEB)) is not None and found.wire[-1] == 2)

    play(story)


def test_of_three_one_has_the_disk_and_the_next_takes_it_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path, state=True) as crowd:
            async with Crowd(tmp_path, state=True) as first:
                holder = await first.add()
                await until(lambda: holder.counts.up)
                others = [await crowd.add(), await crowd.add()]
                await apart(holder, *others)
                others[0].knows("a.cluster.local")
                await holder.on_disk(1)
                assert not any(run.counts.up or run.notices for run in others)
            await until(lambda: any(run.counts.up for run in others))
            heir = next(run for run in others if run.counts.up)
            heir.knows("b.cluster.local")
            other = next(run for run in others if run is not heir)
            other.knows("c.cluster.local")
            await heir.on_disk(3)
        async with running(tmp_path) as run:
            assert run.counts.loaded == 3

    play(story)


def test_an_heir_writes_only_what_the_disk_does_not_have(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path, state=True) as crowd:
            async with Crowd(tmp_path, state=True) as first:
                holder = await first.add()
                holder.knows("a.cluster.local")
                await holder.on_disk(1)
                heir = await crowd.add()
                await apart(holder, heir)
                heir.knows("b.cluster.local")
                await holder.on_disk(2)
            await heir.on_disk(2)
            assert heir.counts.writes == 0

    play(story)


def test_a_question_that_would_fail_is_put_to_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            one, two = await crowd.add(HOUR), await crowd.add(HOUR)
            await apart(one, two)
            one.knows(WEB)
            for run in (one, two):
                run.engine.zones.root.outage = True
            two.engine.client(build.query(WEB), None, clock.now())
            two.engine.client(build.query("nobody.cluster.local"), None, clock.now())
            for key in two.engine.out.searches:
                two.keeper.search(key)
            await until(lambda: len(two.engine.out.replies) == 2)
            rcodes = sorted(wire[3] & 15 for _, wire in two.engine.out.replies)
            assert rcodes == [0, 2]
            assert two.engine.counters.found == 1

    play(story)


def test_who_is_alone_knows_at_once_that_nobody_knows(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            run = await crowd.add()
            run.engine.zones.root.outage = True
            run.engine.client(build.query(WEB), None, clock.now())
            run.keeper.search(key_of(WEB))
            assert len(run.engine.out.replies) == 1
            elsewhere = run.engine.elsewhere
            assert isinstance(elsewhere, Elsewhere)
            run.engine.shutdown(clock.now())
            run.keeper.search(key_of(WEB))  # what comes after the end is nobody's

    play(story)


# -- who is no peer -----------------------------------------------------------------------------


async def intruder(run: Run, root: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the only run in the meeting place, made by a stranger."""
    (name,) = [n for n in os.listdir(root / "meeting") if n.endswith(TAIL)]
    return await asyncio.open_unix_connection(str(root / "meeting" / name))


def frame(what: int, octets: bytes) -> bytes:
    return len(octets).to_bytes(4, "big") + bytes((what,)) + octets


def row(run: Run, name: str = WEB, clocks: Clocks | None = None) -> bytes:
    """A row as a peer would send it, of an answer that `run` has."""
    entry = run.entry(name)
    assert entry is not None
    record = encode(row_of(entry, clocks or clock.read()))
    return len(entry.key).to_bytes(2, "big") + entry.key + record


def test_what_no_peer_would_say_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, state=False) as source, Crowd(tmp_path) as crowd:
            source.knows(WEB)
            good = row(source)
            now = clock.read()
            run = await crowd.add()
            _, writer = await intruder(run, tmp_path)
            writer.write(frame(HELLO, PROTOCOL + b"stranger"))
            bad = [
                good[:-1] + bytes((good[-1] ^ 1,)),  # a damaged octet
                good[:40],
                b"",
                row(source, clocks=now._replace(boot=b"x" * 16)),  # another machine
            ]
            for octets in bad:
                writer.write(frame(ROW, octets))
            writer.write(frame(NONE, b"never asked") + frame(77, b"from a later version"))
            await until(lambda: run.counts.errors["peer"] == 3)
            assert run.counts.received == 0
            writer.write(frame(ROW, good) + frame(ALL, b""))
            await until(lambda: run.counts.received == 1)
            writer.close()
            await until(lambda: run.counts.peers == 0)

    play(story)


@pytest.mark.parametrize(
    "octets",
    [frame(HELLO, b"dnsguard peer 9 stranger"), b"\xff\xff\xff\xff\1", b"GET / HTTP/1.1\r\n\r\n"],
)
def test_who_speaks_another_language_is_parted_from(tmp_path: Path, octets: bytes) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            run = await crowd.add()
            reader, writer = await intruder(run, tmp_path)
            writer.write(octets)
            await reader.read()  # ours came first; then the end
            writer.close()

    play(story)


def test_bytes_that_come_in_pieces_are_one_word(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, state=False) as source, Crowd(tmp_path) as crowd:
            source.knows(WEB)
            run = await crowd.add()
            reader, writer = await intruder(run, tmp_path)
            whole = frame(HELLO, PROTOCOL + b"slow") + frame(ROW, row(source))
            whole += frame(WANT, key_of(WEB)) + frame(WANT, key_of("no.cluster.local"))
            for octet in whole:
                writer.write(bytes((octet,)))
                await asyncio.sleep(0)
            await until(lambda: run.counts.received == 1)
            heard = b""
            while frame(NONE, key_of("no.cluster.local")) not in heard:
                heard += await reader.read(65536)
            assert row(source)[:20] in heard
            writer.close()

    play(story)


def test_random_octets_end_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        chance = random.Random(5)
        async with Crowd(tmp_path) as crowd:
            run = await crowd.add()
            for _ in range(100):
                reader, writer = await intruder(run, tmp_path)
                for _ in range(chance.randrange(1, 5)):
                    octets = chance.randbytes(chance.randrange(60))
                    writer.write(frame(chance.randrange(5), octets))
                writer.write_eof()
                await reader.read()
                writer.close()
            await until(lambda: run.counts.peers == 0)
            other = await crowd.add()
            await apart(run, other)

    play(story)


# -- the place ----------------------------------------------------------------------------------


def test_a_socket_of_a_process_that_was_killed_is_taken_away(tmp_path: Path) -> None:
    async def story() -> None:
        place = tmp_path / "meeting"
        place.mkdir(0o700)
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(place / f"0123456789abcdef{TAIL}"))
        dead.close()
        (place / f"plain{TAIL}").touch()
        async with Crowd(tmp_path) as crowd:
            await crowd.add()
            assert not (place / f"0123456789abcdef{TAIL}").exists()
        await until(lambda: not list(place.glob(f"*{TAIL}")))

    play(story)


def test_a_place_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "meeting").mkdir(0o755)
        async with Crowd(tmp_path) as crowd:
            run = await crowd.add()
            await until(lambda: run.events() == ["peers_apart"])
            assert "not ours alone" in run.notices[0].text
            os.chmod(tmp_path / "meeting", 0o700)
            other = await crowd.add()
            await apart(run, other)

    play(story)


def test_a_place_that_is_made_anew_is_entered_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            one = await crowd.add()
            (tmp_path / "meeting").rename(tmp_path / "elsewhere")
            two = await crowd.add()
            await apart(one, two)
            one.knows(WEB)
            await until(lambda: two.entry(WEB) is not None)

    play(story)


def test_two_processes_need_one_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with Crowd(tmp_path) as crowd:
            runs = [crowd.add() for _ in range(4)]
            await apart(*(made := await asyncio.gather(*runs)))
            made[0].knows(WEB)
            await until(lambda: all(run.entry(WEB) is not None for run in made))
            for run in made:
                entry = run.entry(WEB)
                assert entry is not None
                assert (entry.written == NEVER) is False

    play(story)
