"""Faults of networks and processes on a real `serve`, each in namespaces of its own: `make chaos`.

What each fault is and what must hold stands in `faults.py`. The tests outside of `make chaos` see
that the judge there judges.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.net.faults import FAULTS, NAMES, PATIENCE, Heard, Row, judge, play


@pytest.mark.chaos
@pytest.mark.parametrize("name", FAULTS)
def test_every_promise_holds_under(name: str) -> None:
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    assert not missing, f"install {missing} (Debian: apt-get install iproute2 nftables)"
    assert os.geteuid() == 0, "namespaces need root"
    row = play(name)
    print(row)
    assert row.broken == []


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
