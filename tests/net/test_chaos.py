"""Faults of networks and processes on a real `serve`, each in namespaces of its own: `make chaos`.

What each fault is and what must hold stands in `faults.py`. The tests outside of `make chaos` see
that the judge there judges.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.net import faults_calls
from tests.net.faults import FAULTS, NAMES, PATIENCE, Heard, Row, judge, play, table
from tests.net.faults_calls import ASKED, CALLS, Call, Seen

ROOT = Path(__file__).resolve().parents[2]
TOOLS = {"ip": "iproute2", "nft": "nftables", "strace": "strace", "prlimit": "util-linux"}


def ready() -> None:
    """Fail with what is missing, before the first fault does in words of its own."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    assert not missing, f"apt-get install {' '.join(missing)}"
    assert os.geteuid() == 0, "namespaces need root"


@pytest.mark.chaos
@pytest.mark.parametrize("name", FAULTS)
def test_every_promise_holds_under(name: str) -> None:
    ready()
    row = play(name)
    print(row)
    assert row.broken == []


@pytest.mark.chaos
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.title)
def test_names_are_answered_although_calls_fail(call: Call) -> None:
    ready()
    for seen in faults_calls.play(call):
        print(seen)
        assert seen.broken == []


def heard(count: int = 2 * len(NAMES), ede: int = 3) -> list[Heard]:
    return [Heard(0, ["10.1.0.1"], [ede], 0.001)] * count


def judged(replies: list[Heard], **numbers: float) -> list[str]:
    row = Row("a fault", answered=sum(bool(one.data) for one in replies))
    row.loud = sum(3 in one.ede for one in replies)
    for name, value in numbers.items():
        setattr(row, name, value)
    judge(row, FAULTS["upstream silent"], replies)
    return row.broken


def test_what_is_right_is_held() -> None:
    assert judged(heard(), first=0.1, fresh=1.0) == []


@pytest.mark.parametrize(
    ("replies", "numbers", "broken"),
    [
        ([*heard(79), Heard(2, [], [22], 0.1)], {}, "P1: 1 without data"),
        (heard(), {"first": PATIENCE + 0.1}, "P1: the first took 2.0 s"),
        (heard(78) + heard(2, ede=22), {}, "P9: 2 stale ones do not say so"),
        (heard(), {"packets": 100.0}, "P5: 100 packets a second"),
        (heard(), {"fresh": 9.0}, "P3: fresh after 9.0 s"),
    ],
)
def test_what_is_wrong_is_not(replies: list[Heard], numbers: dict[str, float], broken: str) -> None:
    assert broken in judged(replies, **numbers)


def test_what_outlives_its_end_is_seen() -> None:
    fault = FAULTS["the machine slept for four days"]
    row = Row("a fault")
    judge(row, fault, heard())
    assert row.broken == []
    row = Row("a fault", answered=1, fresh=9.0)
    judge(row, fault, heard())
    assert row.broken == ["P2: 1 served past their end", "P3: fresh after 9.0 s"]


@pytest.mark.parametrize(
    ("numbers", "ended", "broken"),
    [
        ({}, None, []),
        ({"answered": 7}, None, ["P1: 1 without data"]),
        ({"injected": 0}, None, ["nothing was injected: the call is not made"]),
        ({"fresh": 4.0}, None, ["P3: fresh after 4.0 s"]),
        ({}, -6, ["P7: it ended (-6)"]),
    ],
)
def test_a_call_that_does_harm_is_seen(
    numbers: dict[str, float], ended: int | None, broken: list[str]
) -> None:
    seen = Seen(CALLS[0], "EINTR", answered=len(ASKED), injected=3)
    for name, value in numbers.items():
        setattr(seen, name, value)
    faults_calls.judge(seen, ended)
    assert seen.broken == broken


def test_the_table_in_the_docs_is_that_of_the_faults() -> None:
    page = (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8")
    assert table() in page, "python -m tests.net.faults --table prints what belongs there"
    for call in CALLS:
        for what in call.what:
            assert f"| {call.title} | {what} |" in page, "make chaos prints what belongs there"
