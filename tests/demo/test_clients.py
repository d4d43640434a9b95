"""The steady clients: what they make of an answer, and what they tell."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from itertools import islice

import pytest
from dnslib import EDNS0, RR, A, DNSRecord, EDNSOption

from dnsguard.demo import clients
from dnsguard.demo.clients import Asked, Load, Verdict, judge, order_of_names
from dnsguard.demo.cluster import ClusterDns, listening
from dnsguard.demo.tally import GUARD, PLAIN, Outcome
from dnsguard.demo.zone import Question, pod_address
from tests.demo.asking import HOST

PODS = Question("postgres.data.svc.cluster.local.", "A")
NOBODY = Question("nobody.data.svc.cluster.local.", "A", 3, False)


def reply(question: Question, *addresses: str, rcode: int = 0, ede: int | None = None) -> bytes:
    message = DNSRecord.parse(b"\0\1" + Asked.of(question).wire).reply()
    message.header.rcode = rcode
    for address in addresses:
        message.add_answer(RR(question.name, 1, 1, 5, A(address)))
    options = [] if ede is None else [EDNSOption(15, ede.to_bytes(2, "big") + b"outage")]
    message.add_ar(EDNS0(udp_len=1232, opts=options))
    return bytes(message.pack())


@pytest.mark.parametrize(
    ("wire", "question", "verdict"),
    [
        (reply(PODS, "10.96.0.1"), PODS, Verdict(Outcome.FRESH)),
        (reply(PODS, pod_address(0, 40), pod_address(1, 38)), PODS, Verdict(Outcome.FRESH, 4.5)),
        (reply(PODS, pod_address(0, 40), ede=3), PODS, Verdict(Outcome.STALE, 2.5)),
        (reply(NOBODY, rcode=3), NOBODY, Verdict(Outcome.FRESH)),
        (reply(NOBODY, rcode=3, ede=19), NOBODY, Verdict(Outcome.STALE)),
        (reply(PODS, rcode=2, ede=22), PODS, Verdict(Outcome.FAILED)),
        (reply(PODS), PODS, Verdict(Outcome.FAILED)),
        (reply(PODS, rcode=3), PODS, Verdict(Outcome.FAILED)),
        (reply(NOBODY, "10.96.0.1"), NOBODY, Verdict(Outcome.FAILED)),
        (b"\0\1\x80", PODS, Verdict(Outcome.FAILED)),
        (reply(PODS, "10.96.0.1"), NOBODY, None),
    ],
)
def test_answers_are_judged(wire: bytes, question: Question, verdict: Verdict | None) -> None:
    assert judge(wire, question, 42.5) == verdict


def test_every_name_is_asked_once_and_then_the_popular_ones_more() -> None:
    names = order_of_names(20, random.Random(1))
    assert list(islice(names, 20)) == list(range(20))
    counts = Counter(islice(names, 5000))
    assert counts[0] > 2 * counts[3] > counts[19] > 0


def test_both_targets_are_asked_the_same_and_losses_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "GIVE_UP_SECONDS", 0.5)

    async def main() -> None:
        epoch = time.monotonic()
        dns = ClusterDns(5, epoch, [GUARD])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind((HOST, 0))
            async with listening(dns) as ports:
                load = Load(400.0, epoch)
                await load.open({GUARD: (HOST, ports[GUARD]), PLAIN: silent.getsockname()})
                running = asyncio.create_task(load.run())
                async with asyncio.timeout(30):
                    while sum(s.target == PLAIN for s in load.samples) < 60:
                        await asyncio.sleep(0.02)
                        load.give_up()
                running.cancel()
                load.close()
        mine = [s for s in load.samples if s.target == GUARD]
        theirs = [s for s in load.samples if s.target == PLAIN]
        assert {s.outcome for s in mine} == {Outcome.FRESH}
        assert {s.outcome for s in theirs} == {Outcome.LOST}
        assert all(s.seconds == 0.5 for s in theirs)
        assert any(s.age is not None and 0 <= s.age <= s.at + 2 for s in mine)
        news = load.news()
        assert sum(count for _, count in news["sent"]) >= len(mine) > len(theirs)
        assert load.news()["samples"] == []

    asyncio.run(main())


def test_a_closed_port_is_a_loss_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "GIVE_UP_SECONDS", 0.2)

    async def main() -> set[Outcome]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind((HOST, 0))
            port = closed.getsockname()[1]
        load = Load(200.0, time.monotonic())
        await load.open({GUARD: (HOST, port), PLAIN: (HOST, port)})
        running = asyncio.create_task(load.run())
        async with asyncio.timeout(30):
            while len(load.samples) < 20:
                await asyncio.sleep(0.02)
                load.give_up()
        running.cancel()
        load.close()
        return {s.outcome for s in load.samples}

    assert asyncio.run(main()) == {Outcome.LOST}
