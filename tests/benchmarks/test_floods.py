"""The floods' own parts: their upstream's answers as dnspython reads them, and their verdicts."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from benchmarks.floods import FLOODS, HOT, Verdicts, bombs, query
from benchmarks.floods_upstream import answer_for


@pytest.mark.parametrize(
    ("name", "rcode", "ttl"),
    [
        (HOT[7], "NOERROR", 3600),
        ("c1.over.example", "NOERROR", 5),
        ("x.flood.example", "NXDOMAIN", 60),
    ],
)
def test_the_upstream_answers(name: str, rcode: str, ttl: int) -> None:
    wire = answer_for(query(name, 0x1234))
    assert wire is not None
    message = dns.message.from_wire(wire)
    assert (message.id, dns.rcode.to_text(message.rcode())) == (0x1234, rcode)
    assert message.question[0].name.to_text() == f"{name}."
    assert [rrset.ttl for rrset in (*message.answer, *message.authority)] == [ttl]


def test_what_is_no_query_has_no_answer() -> None:
    assert answer_for(query(HOT[0], 1)[:-2]) is None


def test_a_promise_that_is_broken_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Verdicts()
    tell.say(True, "this")
    tell.say(False, "that")
    assert tell.broken == 1
    assert capsys.readouterr().out == "  held    this\n  BROKEN  that\n"


def test_every_bomb_is_read_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """How long that takes is for `make floods` to judge."""
    bombs(Verdicts(), True)
    assert capsys.readouterr().out.count("octets)") == 8
    assert list(FLOODS)[-1] == "random-names"
