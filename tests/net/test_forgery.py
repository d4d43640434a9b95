"""What it would take to forge an answer: ports, ids, guesses, cookies, one question at a time.

RFC 5452 sections 5 and 9, RFC 7873. The statistics allow what chance does once in a billion runs.
"""

from __future__ import annotations

import math
import random
import socket
import statistics
from collections import Counter
from collections.abc import Sequence

import dns.edns
import dns.message

from dnsguard import clock
from dnsguard.core.engine import Engine
from dnsguard.core.policy import Policy, Upstream as Address, Zone
from dnsguard.net.listen import bind_udp
from dnsguard.net.upstream import STRAYS_MAX, Ports
from tests.core import build
from tests.net.asking import ask, by_id, datagrams
from tests.net.running import HOST, on_a_loop, on_both_loops, scene
from tests.net.upstream import HELD, POISON, address_of

QUERIES = 20_000
SIGMAS = 7.0  # how far from its mean a good source strays in one of 10^11 runs


def asked_one_by_one(count: int) -> list[tuple[int, int]]:
    """Ask so many questions, each once the one before has its answer; return (port, id) of each."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        upstream = Address(HOST, server.getsockname()[1])
        engine = Engine(Policy(zones=(Zone(".", (upstream,)),)), random.SystemRandom(), 0.0)
        ports = Ports(engine, clock.now, lambda: None)
        seen = []
        for number in range(count):
            engine.client(build.query(f"n{number}.test"), None, 0.0)
            asks, engine.out.asks = engine.out.asks, []
            ports.send(asks[0].server, asks, 0.0)
            wire, (_, port) = server.recvfrom(512)
            seen.append((port, int.from_bytes(wire[:2], "big")))
            server.sendto(wire[:2] + b"\x81\x82" + wire[4:], (HOST, port))
            ports.readable()
            engine.out.asks.clear()
            engine.failures.clear()
            for flight in list(engine.asking.flights.values()):
                engine.sending.end(flight, 0.0)
            assert len(ports) == 0, "a port outlived its question"
        ports.close()
    return seen


def even(values: Sequence[int], buckets: int) -> float:
    """How many standard deviations the spread over the buckets is from an even one."""
    counts = Counter(values)
    expected = len(values) / buckets
    square = sum((counts[n] - expected) ** 2 / expected for n in range(buckets))
    return abs(square - (buckets - 1)) / math.sqrt(2 * (buckets - 1))


def test_ports_and_ids_of_20000_questions_are_fresh_and_even_and_follow_from_nothing() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        low, high = map(int, file.read().split())
    seen = asked_one_by_one(QUERIES)
    ports, ids = [port for port, _ in seen], [number for _, number in seen]
    assert even([number >> 8 for number in ids], 256) < SIGMAS
    assert even([number & 0xFF for number in ids], 256) < SIGMAS
    room = high - low + 1
    assert even([(port - low) * 64 // room for port in ports], 64) < SIGMAS
    # Of so many draws out of that many, so many differ: neither a short cycle nor a fixed port.
    for values, size in ((ids, 1 << 16), (ports, room)):
        differ = size * (1 - (1 - 1 / size) ** QUERIES)
        assert abs(len(set(values)) - differ) < 0.05 * differ
    # Neither from the one before, nor from each other.
    limit = SIGMAS / QUERIES**0.5
    for some, others in ((ids, ids[1:]), (ports, ports[1:]), (ports, ids)):
        assert abs(statistics.correlation(some[: len(others)], others)) < limit


@on_a_loop
async def test_one_question_is_outstanding_however_200_clients_ask_it() -> None:
    """Case, cookie, client subnet and transport must not split it (RFC 5452 section 5)."""
    async with scene("stale.client_timeout=10s", "upstream.deadline=20s") as stage:
        stage.upstream.behave(HELD)
        sent = {}
        for number in range(200):
            name = "".join(random.choice((c, c.upper())) for c in "www.shop.test")
            options = (
                dns.edns.GenericOption(dns.edns.COOKIE, number.to_bytes(8, "big")),
                dns.edns.ECSOption(f"10.{number}.0.0", 16),
                dns.edns.GenericOption("65001", b"x" * number),
            )[: number % 4]
            wire = ask(name, options=options, edns=(512, 1232, 4096)[number % 3])
            sent[int.from_bytes(wire[:2], "big")] = name
            (stage.tcp if number % 5 == 0 else stage.udp).send(wire)
        await stage.upstream.until(1)
        while stage.proxy.driver.engine.counters.coalesced < 199:
            await stage.udp.resolve("ping.test", rtype="ANY")
        assert len(stage.upstream.asked("www.shop.test")) == 1
        stage.upstream.release()
        heard = [*await stage.udp.hear(160), *await stage.tcp.hear(40)]
        assert {number: reply.question[:-1] for number, reply in by_id(heard).items()} == sent
        assert {tuple(reply.addresses) for reply in heard} == {(address_of("www.shop.test"),)}
        assert len(stage.upstream.asked("www.shop.test")) == 1
        shown = dns.message.from_wire(stage.upstream.asked("www.shop.test")[0].wire).options
        assert [int(option.otype) for option in shown] == [dns.edns.COOKIE]


@on_both_loops
async def test_who_guesses_at_an_id_is_left_with_a_closed_port() -> None:
    async with scene() as stage:
        stage.upstream.behave(*["wrong id"] * (STRAYS_MAX + 1), HELD, transport="udp")
        reply = await stage.udp.resolve("www.test")
        assert reply.addresses == [address_of("www.test")]
        assert [seen.transport for seen in stage.upstream.seen] == ["udp", "tcp"]
        engine = stage.proxy.driver.engine
        assert engine.counters.ignored == {"id": STRAYS_MAX + 1, "forged": 1}
        assert engine.zones.root.servers[0].health.up
        stage.upstream.behave("ok")
        stage.upstream.release()  # to a port that is closed
        assert (await stage.udp.resolve("two.test")).addresses == [address_of("two.test")]


@on_both_loops
async def test_answers_that_come_twice_are_no_guesses() -> None:
    async with scene() as stage:
        stage.upstream.behave("twice")
        stage.udp.send(*(ask(f"n{number}.test") for number in range(30)))
        heard = by_id(await stage.udp.hear(30))
        assert all(reply.addresses == [address_of(reply.question)] for reply in heard.values())
        assert {seen.transport for seen in stage.upstream.seen} == {"udp"}


@on_both_loops
async def test_a_forged_answer_among_guesses_is_not_believed() -> None:
    async with scene() as stage:
        guesses = ["wrong id"] * (STRAYS_MAX + 4)
        stage.upstream.behave(*guesses, "wrong question", *guesses, transport="udp")
        for number in range(20):
            reply = await stage.udp.resolve(f"n{number}.test")
            assert reply.addresses == [address_of(f"n{number}.test")]
            assert POISON not in reply.addresses


@on_a_loop
async def test_a_listener_does_not_believe_what_others_say_of_the_path() -> None:
    """DF is set and the kernel's idea of the path ignored: a forged ICMP message fragments nothing.

    RFC 9715; Linux calls that IP_PMTUDISC_PROBE.
    """
    async with scene() as stage:
        (listener,) = stage.proxy.driver.listeners
        assert listener.sock.getsockopt(socket.IPPROTO_IP, 10) == 3
        async with datagrams(stage.proxy.port) as client:
            assert (await client.resolve("www.test")).addresses
    for host, level, option in (
        ("127.0.0.1", socket.IPPROTO_IP, 10), ("0.0.0.0", socket.IPPROTO_IP, 10),
        ("::1", socket.IPPROTO_IPV6, 23), ("::", socket.IPPROTO_IPV6, 23),
    ):  # fmt: skip
        with bind_udp(host, 0) as sock:
            assert sock.getsockopt(level, option) == 3, host
