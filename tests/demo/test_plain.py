"""The plain cache: a fair opponent. It caches, joins and retries, and has nothing for bad days."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from dnslib import RCODE, RR, SOA, A, DNSRecord

from dnsguard.demo import plain
from dnsguard.demo.cluster import ClusterDns, listening
from dnsguard.demo.timeline import Mode
from tests.demo.asking import addresses, ask

PODS = "postgres.data.svc.cluster.local"
NOBODY = "nobody.data.svc.cluster.local"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def with_plain(
    test: Callable[[int, ClusterDns, Clock], Awaitable[None]], epoch: float | None = None
) -> None:
    async def main() -> None:
        dns, clock = ClusterDns(5, epoch or time.monotonic(), ["plain"]), Clock()
        async with listening(dns) as ports, plain.forwarding(ports["plain"], clock) as port:
            await test(port, dns, clock)

    asyncio.run(main())


def test_it_answers_from_memory_until_the_ttl_has_run_out() -> None:
    async def test(port: int, dns: ClusterDns, clock: Clock) -> None:
        first = await ask(port, PODS)
        clock.now += 3.5
        second = await ask(port, PODS)
        assert first is not None
        assert second is not None
        assert addresses(first) == addresses(second)
        assert [rr.ttl for rr in first.rr] == [5, 5, 5]
        assert [rr.ttl for rr in second.rr] == [2, 2, 2]
        assert dns.asked["plain"] == 1
        clock.now += 1.5
        assert len(addresses(await ask(port, PODS))) == 3
        assert dns.asked["plain"] == 2

    with_plain(test)


def test_it_caches_denials() -> None:
    async def test(port: int, dns: ClusterDns, clock: Clock) -> None:
        for _ in range(2):
            reply = await ask(port, NOBODY)
            assert reply is not None
            assert reply.header.rcode == RCODE.NXDOMAIN
            assert len(reply.auth) == 1
        assert dns.asked["plain"] == 1

    with_plain(test)


def test_it_has_nothing_for_bad_days() -> None:
    async def test(port: int, dns: ClusterDns, clock: Clock) -> None:
        await ask(port, PODS)
        clock.now += 6
        dns.mode = Mode.DEAD
        assert await ask(port, PODS, patience=0.1) is None
        dns.mode = Mode.SERVFAIL
        failed = await ask(port, NOBODY)
        assert failed is not None
        assert (failed.header.rcode, failed.rr) == (RCODE.SERVFAIL, [])
        dns.mode = Mode.HEALTHY
        again = await ask(port, NOBODY)
        assert again is not None
        assert again.header.rcode == RCODE.NXDOMAIN

    with_plain(test)


def test_equal_questions_travel_together_and_end_in_servfail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain, "TRY_SECONDS", 0.1)

    async def test(port: int, dns: ClusterDns, clock: Clock) -> None:
        dns.mode = Mode.DEAD
        replies = await asyncio.gather(*(ask(port, PODS) for _ in range(5)))
        assert [reply and reply.header.rcode for reply in replies] == [RCODE.SERVFAIL] * 5
        assert dns.asked["plain"] == plain.TRIES

    with_plain(test)


def reply(*records: RR, rcode: int = 0, auth: RR | None = None, tc: int = 0) -> DNSRecord:
    message = DNSRecord.question("a.example").reply()
    message.header.rcode, message.header.tc = rcode, tc
    message.add_answer(*records)
    if auth is not None:
        message.add_auth(auth)
    return message


SOA_RECORD = RR("example", 6, 1, 30, SOA("ns.", "host.", (1, 2, 3, 4, 20)))


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        (
            reply(RR("a.example", 1, 1, 9, A("10.0.0.1")), RR("a.example", 1, 1, 4, A("10.0.0.2"))),
            4,
        ),
        (reply(rcode=3, auth=SOA_RECORD), 20),
        (reply(auth=SOA_RECORD), 20),
        (reply(rcode=3), 0),
        (reply(rcode=2, auth=SOA_RECORD), 0),
        (reply(RR("a.example", 1, 1, 9, A("10.0.0.1")), tc=1), 0),
    ],
)
def test_how_long_a_reply_lives(message: DNSRecord, seconds: float) -> None:
    assert plain.lifetime(message) == seconds
