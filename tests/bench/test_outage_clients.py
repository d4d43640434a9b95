"""What the programs make of replies, and how a look-up is held against the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from dnslib import AAAA, CNAME, QTYPE, RR, A, DNSRecord

from dnsguard.bench.outage_clients import GRACE_SECONDS, Judge, question, read_reply
from dnsguard.bench.outage_plan import plan
from dnsguard.errors import WireError
from dnsguard.sim.cluster import Addresses, Cluster, Name
from dnsguard.sim.lookup import Result, Send, Status
from dnsguard.sim.result import Outcome
from tests.bench.outage_scenarios import SHORT, scenario

OLD, NEW = (b"\n\0\0\1",), (b"\n\0\0\2",)
TTL = 5


def test_a_question_is_one() -> None:
    for edns in (False, True):
        found = DNSRecord.parse(b"\0\7" + question(Send(0, "a.example", 28, 1, edns)))
        assert (str(found.q.qname), found.q.qtype, found.header.rd) == ("a.example.", QTYPE.AAAA, 1)
        assert [record.rtype for record in found.ar] == ([QTYPE.OPT] if edns else [])


def test_addresses_of_the_type_asked_behind_a_chain() -> None:
    reply = DNSRecord.question("a.example", "A").reply()
    reply.add_answer(RR("a.example", QTYPE.CNAME, rdata=CNAME("b.example"), ttl=5))
    reply.add_answer(RR("b.example", QTYPE.A, rdata=A("10.0.0.1"), ttl=5))
    reply.add_answer(RR("b.example", QTYPE.AAAA, rdata=AAAA("fd00::1"), ttl=5))
    assert read_reply(bytes(reply.pack()), QTYPE.A) == (0, OLD)


def test_every_beginning_of_a_reply_is_no_reply_or_a_shorter_one() -> None:
    reply = DNSRecord.question("a.example", "A").reply()
    reply.add_answer(RR("a.example", QTYPE.A, rdata=A("10.0.0.1"), ttl=5))
    whole = bytes(reply.pack())
    for end in range(len(whole) - 4):
        with pytest.raises(WireError):
            read_reply(whole[:end], QTYPE.A)
    with pytest.raises(WireError):
        read_reply(bytes(DNSRecord.question("a.example").pack()), QTYPE.A)


def judge(folder: Path) -> Judge:
    one = plan(scenario(folder, SHORT), 1.0, 1, 40.0, ["it"])
    return Judge(one, Cluster(one.scenario, 1))


def name(*history: tuple[float, Addresses]) -> Name:
    found = Name("svc.ns.svc.cluster.local", "services", 0, TTL, 0.5)
    for at, addresses in history:
        found.become(at, addresses)
    return found


MOVED = name((0.0, OLD), (100.0, NEW))
DELETED = name((0.0, OLD), (100.0, ()))
LATER = name((0.0, ()), (100.0, NEW))
SOON, LONG_AFTER = 100.0 + TTL + GRACE_SECONDS / 2, 100.0 + TTL + 2 * GRACE_SECONDS
FOUND_OLD, FOUND_NEW = Result(Status.FOUND, OLD, ""), Result(Status.FOUND, NEW, "")
NONE, FAILED = Result(Status.NOT_FOUND, (), ""), Result(Status.FAILED, (), "")


@pytest.mark.parametrize(
    ("it", "result", "at", "java", "outcome"),
    [
        (MOVED, FOUND_OLD, 99.0, False, Outcome.RIGHT),
        (MOVED, FOUND_OLD, SOON, False, Outcome.RIGHT),  # within its TTL
        (MOVED, FOUND_OLD, LONG_AFTER, False, Outcome.DEAD_ADDRESS),
        (MOVED, FOUND_OLD, LONG_AFTER, True, Outcome.RIGHT),  # a JVM keeps it 30 s
        (MOVED, FOUND_NEW, SOON, False, Outcome.RIGHT),
        (MOVED, FOUND_NEW, 99.0, False, Outcome.DEAD_ADDRESS),  # nobody can know that yet
        (MOVED, NONE, SOON, False, Outcome.WRONG_NEGATIVE),
        (MOVED, FAILED, SOON, False, Outcome.FAILED),
        (DELETED, FOUND_OLD, SOON, False, Outcome.RIGHT),
        (DELETED, FOUND_OLD, LONG_AFTER, False, Outcome.DELETED),
        (DELETED, NONE, 99.0, False, Outcome.WRONG_NEGATIVE),
        (DELETED, NONE, SOON, False, Outcome.RIGHT),
        (LATER, NONE, 99.0, False, Outcome.RIGHT),
        (LATER, NONE, 100.5, False, Outcome.RIGHT),  # a denial's TTL
        (LATER, NONE, LONG_AFTER, False, Outcome.WRONG_NEGATIVE),
    ],
)
def test_an_answer_is_held_against_what_was_true(
    tmp_path: Path, it: Name, result: Result, at: float, java: bool, outcome: Outcome
) -> None:
    assert judge(tmp_path).outcome(it, result, at, at + 0.01, java) is outcome


def test_what_came_true_while_it_was_asked_is_right(tmp_path: Path) -> None:
    assert judge(tmp_path).outcome(MOVED, FOUND_NEW, 99.0, 101.0, False) is Outcome.RIGHT
