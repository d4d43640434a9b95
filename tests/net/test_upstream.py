"""The UDP side towards upstreams, over real sockets: what it believes, and what it lets be seen.

A forged or broken datagram must neither be believed nor end the wait (RFC 5452 section 9.1), and
whoever wants to forge one must find fresh ports and ids with every question (sections 9.2, 10).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsguard.core.policy import Upstream as Address
from dnsguard.net import upstream as module
from dnsguard.server import bind_all
from tests.net.asking import ask, by_id, datagrams
from tests.net.running import ONCE, later, on_a_loop, on_both_loops, proxy_on, scene, settings_for
from tests.net.upstream import HELD, WRONG_PORT, address_of

BAD = [
    "wrong id", "wrong question", "not a reply", "garbage", "header only", "empty header",
    "three octets", "nothing at all", "cut short", "pointer loop", WRONG_PORT,
]  # fmt: skip
SHORT = "upstream.deadline=300ms"


@pytest.mark.parametrize("bad", BAD)
@on_a_loop
async def test_the_wait_goes_on_after_a_bad_datagram(bad: str) -> None:
    async with scene() as stage:
        stage.upstream.behave(bad, "ok")
        for _ in range(2):
            assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        assert len(stage.upstream.seen) == 1


@on_both_loops
async def test_the_wait_goes_on_after_all_bad_datagrams_together() -> None:
    async with scene() as stage:
        stage.upstream.behave(*BAD, "twice", *BAD)
        for _ in range(2):
            assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        assert len(stage.upstream.seen) == 1
        ignored = stage.proxy.driver.engine.counters.ignored
        assert {"id", "question", "not_a_reply", "garbage", "short"} <= set(ignored)


@pytest.mark.parametrize("bad", BAD)
@on_a_loop
async def test_bad_datagrams_alone_are_silence(bad: str) -> None:
    async with scene(SHORT) as stage:
        stage.upstream.behave(bad)
        cold = await stage.udp.resolve("cold.test")
        assert (cold.rcode, cold.addresses, cold.ede) == ("SERVFAIL", [], [22])
        assert len(stage.upstream.seen) <= 3


@pytest.mark.parametrize("bad", [*BAD, "silent", "servfail", "refused"])
@on_a_loop
async def test_nothing_bad_replaces_a_good_answer(bad: str) -> None:
    async with scene(SHORT, "stale.client_timeout=50ms") as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.behave(bad)
        later(2.0)
        for _ in range(2):
            stale = await stage.udp.resolve("www.test")
            assert (stale.addresses, stale.ede) == ([address_of("www.test")], [3])
        stage.upstream.behave("ok")
        later(10.0)
        fresh = await stage.udp.resolve_fresh("www.test")
        assert fresh.addresses == [address_of("www.test")]


@on_both_loops
async def test_a_truncated_answer_is_fetched_over_tcp() -> None:
    async with scene() as stage:
        stage.upstream.behave("truncated", transport="udp")
        stage.upstream.behave("long", transport="tcp")
        over_udp = await stage.udp.resolve("big.test")
        assert (over_udp.truncated, over_udp.addresses) == (True, [])
        over_tcp = await stage.tcp.resolve("big.test")
        assert len(over_tcp.addresses) == 100
        assert [seen.transport for seen in stage.upstream.seen] == ["udp", "tcp"]
        stage.upstream.behave("ok", transport="tcp")
        assert (await stage.udp.resolve("small.test")).addresses == [address_of("small.test")]


@on_both_loops
async def test_a_truncated_answer_without_tcp_fails_soon() -> None:
    async with scene("upstream.deadline=20s") as stage:
        stage.upstream.stop_listening()
        stage.upstream.behave("truncated", transport="udp")
        assert (await stage.udp.resolve("big.test")).rcode == "SERVFAIL"


@on_both_loops
async def test_a_refused_packet_is_known_at_once(calls: None) -> None:
    """By ICMP, that is: the timers of this test are far longer than it may take."""
    async with scene("stale.client_timeout=10s", "upstream.deadline=20s") as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.stop()
        later(2.0)
        stale = await stage.udp.resolve("www.test")
        assert (stale.addresses, stale.ede) == ([address_of("www.test")], [3])
        cold = await stage.udp.resolve("cold.test")
        assert (cold.rcode, cold.ede) == ("SERVFAIL", [22])
        assert [n.event for n in stage.proxy.notices] == ["upstream_down", "outage"]
        assert stage.proxy.driver.engine.counters.stale["unreachable"] == 1


@on_both_loops
async def test_a_packet_that_the_network_will_not_carry_is_known_at_once() -> None:
    """Nothing leaves here: the kernel connects no socket to the broadcast address by itself."""
    settings = settings_for(["192.0.2.53"], ["upstream.deadline=20s"])
    root = dataclasses.replace(settings.policy.zones[0], upstreams=(Address("255.255.255.255"),))
    settings = dataclasses.replace(
        settings, policy=dataclasses.replace(settings.policy, zones=(root,))
    )
    async with (
        proxy_on(bind_all(settings), settings) as running,
        datagrams(running.port) as client,
    ):
        cold = await client.resolve("cold.test")
        assert (cold.rcode, cold.ede) == ("SERVFAIL", [23])


@on_both_loops
async def test_an_answer_that_comes_late_is_kept_for_the_next_client() -> None:
    async with scene(ONCE, "stale.client_timeout=20ms") as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        later(2.0)
        stage.upstream.behave(HELD)
        assert (await stage.udp.resolve("www.test")).ede == [3]
        stage.upstream.release()
        fresh = await stage.udp.resolve_fresh("www.test")
        assert fresh.addresses == [address_of("www.test")]


@on_both_loops
async def test_a_port_is_closed_when_it_has_nothing_to_wait_for() -> None:
    async with scene(ONCE) as stage:
        ports = stage.proxy.driver.ports
        stage.upstream.behave(HELD, name="slow.test")
        stage.udp.send(ask("slow.test"))
        await stage.upstream.until(1)
        await stage.udp.resolve("www.test")
        assert len(ports) == 1
        stage.upstream.release()
        await stage.udp.hear(1)
        assert len(ports) == 0


@on_a_loop
async def test_ports_that_were_given_up_are_swept() -> None:
    async with scene(ONCE, SHORT) as stage:
        ports = stage.proxy.driver.ports
        stage.upstream.behave("silent")
        assert (await stage.udp.resolve("www.test")).rcode == "SERVFAIL"
        assert len(ports) > 0
        ports.sweep(0.0, 0.0)  # theirs is over, however young they are
        assert len(ports) == 0
        stage.upstream.behave(HELD)
        stage.udp.send(ask("two.test"))
        await stage.upstream.until(len(stage.upstream.seen) + 1)
        ports.sweep(0.0, 0.0)
        assert len(ports) == 1
        ports.sweep(0.0, float("inf"))
        assert len(ports) == 0


# -- ports and ids ---------------------------------------------------------------------------


def ephemeral_ports() -> int:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return high - low + 1


@on_a_loop
async def test_each_question_has_a_port_and_an_id_that_nobody_can_guess() -> None:
    count = 2000
    async with scene() as stage:
        for number in range(count):
            await stage.udp.resolve(f"n{number}.test")
        seen = stage.upstream.seen
        assert len(seen) == count
    # So many different ports come of so many fair draws; each port twice as rare would show.
    ports = ephemeral_ports()
    expected = ports * (1 - (1 - 1 / ports) ** count)
    assert len({s.source[1] for s in seen}) > expected - 6 * (count - expected) ** 0.5
    # Each half of the id, against even odds: beyond this lies one run in a million.
    for shift in (0, 4, 8, 12):
        bins = Counter(s.id >> shift & 15 for s in seen)
        assert sum((bins[n] - count / 16) ** 2 / (count / 16) for n in range(16)) < 56.5
    # And no id follows from the one before, by counting or otherwise.
    steps = Counter((b.id - a.id) % 65536 for a, b in itertools.pairwise(seen))
    assert steps.most_common(1)[0][1] < 8


@on_both_loops
async def test_questions_of_one_moment_share_few_ports_and_no_id(calls: None) -> None:
    async with scene(ONCE) as stage:
        stage.upstream.behave(HELD)
        stage.udp.send(*(ask(f"n{number}.test") for number in range(150)))
        await stage.upstream.until(150)
        stage.upstream.release(newest_first=True)
        replies = by_id(await stage.udp.hear(150))
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies.values())
        seen = stage.upstream.seen
    asks_a_port = Counter(s.source for s in seen)
    assert max(asks_a_port.values()) <= module.ASKS_A_PORT
    assert len({(s.source, s.id) for s in seen}) == 150


@on_a_loop
async def test_an_id_that_is_drawn_twice_is_given_once() -> None:
    drawn = itertools.chain(b"\0\7\0\7\0\7\0\1\0\7\0\2", itertools.cycle(b"\0\3"))
    async with scene() as stage:
        stage.proxy.driver.ports._entropy = lambda count: bytes(itertools.islice(drawn, 12))
        stage.udp.send(*(ask(f"n{number}.test") for number in range(3)))
        for reply in await stage.udp.hear(3):
            assert reply.addresses == [address_of(reply.question)]
        assert sorted(seen.id for seen in stage.upstream.seen) == [1, 2, 7]


@on_both_loops
async def test_beyond_the_most_ports_questions_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTS_MAX", 2)
    async with scene(ONCE) as stage:
        stage.upstream.behave(HELD)
        for number in range(6):
            stage.udp.send(ask(f"n{number}.test"))
            await stage.upstream.until(number + 1)
        stage.upstream.release()
        replies = await stage.udp.hear(6)
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies)
        assert len({seen.source for seen in stage.upstream.seen}) == 2
        assert len(stage.proxy.driver.ports) == 0


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Whoever opens anything in here is told that too many files are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free.fileno(), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@on_both_loops
async def test_out_of_descriptors_questions_ride_on_open_ports_or_fail_at_once() -> None:
    async with scene(ONCE, "upstream.deadline=20s") as stage:
        with no_more_descriptors():
            assert (await stage.udp.resolve("one.test")).rcode == "SERVFAIL"
        later(100.0)
        await stage.udp.resolve_fresh("one.test")
        stage.upstream.seen.clear()
        stage.upstream.behave(HELD)
        stage.udp.send(ask("two.test"))
        await stage.upstream.until(1)
        with no_more_descriptors():
            stage.udp.send(ask("three.test"))
            await stage.upstream.until(2)
            stage.upstream.release()
            replies = await stage.udp.hear(2)
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies)
        assert len({seen.source for seen in stage.upstream.seen}) == 1
