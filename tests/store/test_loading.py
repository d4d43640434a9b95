"""Clients that ask while the file of an earlier run is still being read.

The thread that reads is real, and is held up at the file until the clients have asked. What they
ask has failed upstream already: without the file they would get SERVFAIL.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsguard import clock
from dnsguard.core.elsewhere import WAIT_SECONDS
from dnsguard.core.staleness import Verdict, judge
from dnsguard.core.wire import NOERROR, SERVFAIL
from dnsguard.errors import StoreError
from dnsguard.store import keeper, scout
from dnsguard.store.sqlite import Database
from tests.core import build
from tests.store.running import PATIENCE, Run, running, until

WEB, NOBODY = "web.cluster.local", "nobody.cluster.local"


class Gate(threading.Event):
    """Where the thread that reads is held up; `reached` once it is there."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()


def ask(run: Run, *names: str) -> None:
    """Ask for names of which no upstream knows anything at present."""
    engine = run.engine
    engine.zones.root.outage = True
    for name in names:
        engine.client(build.query(name), None, clock.now())
    for key in engine.out.searches:
        run.keeper.search(key)
    engine.out.searches.clear()


def rcodes(run: Run) -> list[int]:
    return [wire[3] & 15 for _, wire in run.engine.out.replies]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds up the reading of rows until it is set."""
    monkeypatch.setattr(keeper, "READY_SECONDS", 10.0)
    gate, records = Gate(), Database.records

    def held_up(self: Database, most: int) -> Iterator[list[tuple[bytes, bytes]]]:
        gate.reached.set()
        gate.wait(PATIENCE)
        yield from records(self, most)

    monkeypatch.setattr(Database, "records", held_up)
    return gate


def test_who_asks_early_is_answered_from_the_file(tmp_path: Path, gate: Gate) -> None:
    async def story() -> None:
        gate.set()
        async with running(tmp_path) as run:
            run.knows(WEB)
        gate.clear()
        async with running(tmp_path, wait=False) as run:
            ask(run, WEB, NOBODY)
            run.engine.tick(clock.now() + 2 * WAIT_SECONDS)
            assert rcodes(run) == []  # they wait for the file, and not for SERVFAIL
            gate.set()
            await until(lambda: len(rcodes(run)) == 2)
            assert rcodes(run) == [NOERROR, SERVFAIL]
            ask(run, "late.cluster.local")
            assert rcodes(run)[2:] == [SERVFAIL]  # there is nothing more to wait for

    asyncio.run(story())


def test_a_file_that_cannot_be_read_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        begin = threading.Event()

        def broken(self: Database, most: int) -> Iterator[list[tuple[bytes, bytes]]]:
            begin.wait(PATIENCE)
            raise StoreError("the disk reads nothing", "io")

        async with running(tmp_path) as run:
            run.knows(WEB)
        monkeypatch.setattr(Database, "records", broken)
        async with running(tmp_path, wait=False) as run:
            ask(run, WEB)
            assert rcodes(run) == []
            begin.set()
            await until(lambda: rcodes(run) == [SERVFAIL])

    asyncio.run(story())


def test_who_asks_another_process_early_is_answered_from_the_file(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several that start together one reads the file: the others' clients wait for it too."""
    monkeypatch.setattr(scout, "SCAN_SECONDS", 0.01)
    meeting = (str(tmp_path / "meeting"),)

    async def story() -> None:
        gate.set()
        async with running(tmp_path) as run:
            run.knows(WEB)
            run.knows("api.cluster.local")
        gate.clear()
        gate.reached.clear()
        async with running(tmp_path, wait=False, meeting=meeting) as reader:
            await until(gate.reached.is_set)  # it has the file, so no other gets it
            async with running(tmp_path, wait=False, meeting=meeting) as other:
                await until(lambda: (reader.counts.peers, other.counts.peers) == (1, 1))
                ask(other, WEB, NOBODY)
                await asyncio.sleep(0.05)  # the question has come to the reader, if it is to come
                assert rcodes(other) == []
                gate.set()
                await until(lambda: len(rcodes(other)) == 2)
                assert sorted(rcodes(other)) == [NOERROR, SERVFAIL]
                # And without being asked for: it is told all that was read.
                await until(lambda: other.entry("api.cluster.local") is not None)
                told = other.entry("api.cluster.local")
                assert told is not None
                assert judge(told, clock.now())[0] is not Verdict.FRESH  # nobody has confirmed it
                await other.keeper.loaded()

    asyncio.run(story())
