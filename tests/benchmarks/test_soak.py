"""The soak, for some seconds: that it kills, ends, and sees a fault where there is one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak import Life, Soak, grown
from benchmarks.soak_upstream import TURN_SECONDS, address, name_of


def test_a_short_one_is_without_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(soak, "QPS", 200)
    monkeypatch.setattr(soak, "NAMES", 100)
    monkeypatch.setattr(soak, "KILL_SECONDS", 2.5)
    monkeypatch.setattr(soak, "OUTAGE_EVERY", 2.5)
    monkeypatch.setattr(soak, "OUTAGE_SECONDS", 2.0)
    monkeypatch.setattr(soak, "PATIENCE", 1.0)
    short = Soak(5.5, 1, tmp_path)
    asyncio.run(short.run())
    assert short.tally.wrong == []
    assert short.tally.forgotten == []
    assert len(short.lives) >= 2
    assert short.tally.right > 300
    assert short.outages >= 1


def reply(number: int, octets: bytes, rcode: int = 0) -> bytes:
    head = b"\0\1\x81" + bytes((0x80 | rcode,)) + b"\0\1\0\1\0\0\0\0"
    return head + name_of(number) + b"\0\1\0\1" + octets


def test_each_fault_is_seen(tmp_path: Path) -> None:
    run = Soak(1.0, 1, tmp_path)
    run._began = now = time.monotonic()
    run.lives.append(Life(now - 100, now - 99))
    run.answered(7, now, reply(7, address(7, time.time())))
    assert (run.tally.right, run.tally.wrong) == (1, [])
    run.answered(7, now, reply(7, address(8, time.time())))
    run.answered(10, now, reply(10, address(10, time.time() + 3 * TURN_SECONDS)))
    assert len(run.tally.wrong) == 2
    run.answered(10, now, reply(10, address(10, time.time() - 3 * TURN_SECONDS)))
    assert len(run.tally.wrong) == 2
    run.answered(9, now, reply(9, b"", 2))
    assert len(run.tally.failed) == 1
    run._known[9] = now - 90
    run.answered(9, now, reply(9, b"", 2))
    assert len(run.tally.forgotten) == 1
    assert not run.report()


def test_growth_is_seen() -> None:
    assert grown("x", [100, 101, 99, 100, 102, 101], 0)
    assert not grown("x", [100, 101, 99, 100, 120, 121], 0)
    assert grown("x", [100], 0)
