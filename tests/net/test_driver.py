"""The driver with everything around it: many clients, loops, timers, new settings, the end.

What the engine decides is tested in `core`; here it is whether bytes, instants and actions reach
where they should, on both event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
from collections.abc import AsyncIterator

import aiodns
import pytest

from dnsguard import clock
from dnsguard.demo.cluster import bind_pair
from tests.core.build import query
from tests.net.asking import HOST, Heard, ask, by_id, datagrams
from tests.net.running import (
    ONCE,
    Proxy,
    access,
    later,
    on_both_loops,
    proxy_on,
    scene,
    settings_for,
    until,
)
from tests.net.upstream import HELD, Upstream, address_of

CLIENTS = 200
PATIENT = ("stale.client_timeout=10s", "upstream.deadline=20s")


@on_both_loops
async def test_a_crowd_with_one_question_is_one_question_upstream() -> None:
    chance = random.Random(7)
    spellings = ["".join(chance.choice((c, c.upper())) for c in "www.test") for _ in range(CLIENTS)]
    async with scene(ONCE, *PATIENT) as stage, contextlib.AsyncExitStack() as stack:
        stage.upstream.behave(HELD)
        crowd = [
            await stack.enter_async_context(datagrams(stage.proxy.port)) for _ in range(CLIENTS)
        ]
        for number, (client, name) in enumerate(zip(crowd, spellings, strict=True)):
            client.send(query(name, id=number))
        await stage.upstream.until(1)
        waiting = stage.proxy.driver.engine.counters
        await until(lambda: waiting.coalesced == CLIENTS - 1)
        stage.upstream.release()
        for number, (client, name) in enumerate(zip(crowd, spellings, strict=True)):
            (reply,) = await client.hear(1)
            assert (reply.id, reply.question) == (number, f"{name}.")
            assert reply.addresses == [address_of("www.test")]
        assert len(stage.upstream.seen) == 1


@on_both_loops
async def test_clients_of_both_transports_share_a_question() -> None:
    async with scene(ONCE, *PATIENT) as stage:
        stage.upstream.behave(HELD)
        for client in stage.clients:
            client.send(ask("www.test"))
        await stage.upstream.until(1)
        await until(lambda: stage.proxy.driver.engine.counters.coalesced == 1)
        stage.upstream.release()
        for client in stage.clients:
            assert (await client.hear(1))[0].addresses == [address_of("www.test")]
        assert len(stage.upstream.seen) == 1


@on_both_loops
async def test_who_asks_for_what_is_silent_gets_stale_when_the_timer_fires() -> None:
    async with scene("stale.client_timeout=50ms", "upstream.deadline=20s") as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.behave("silent")
        later(2.0)
        for client in stage.clients:
            stale = await client.resolve("www.test")
            assert (stale.addresses, stale.ede) == ([address_of("www.test")], [3])
        assert stage.proxy.driver.engine.counters.stale["timeout"] >= 1


@on_both_loops
async def test_a_later_deadline_does_not_delay_an_earlier_one() -> None:
    """The loop has one timer; a question with more patience must not take it from the others."""
    fast, slow = "fast.test", "slow.test"
    settings = (
        "zones.fast.test.stale.client_timeout=30ms",
        "stale.client_timeout=10s",
        "upstream.deadline=20s",
    )
    async with scene(*settings) as stage:
        stage.upstream.behave("short-lived")
        for name in (fast, slow):
            await stage.udp.resolve(name)
        stage.upstream.behave("silent")
        later(2.0)
        for name in (slow, fast, slow):
            stage.udp.send(ask(name))
        (stale,) = await stage.udp.hear(1)
        assert (stale.question, stale.ede) == (f"{fast}.", [3])


# -- forwarding loops --------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_front_of_itself(scheme: str, *assignments: str) -> AsyncIterator[Proxy]:
    """A driver whose upstream is its own address, as a resolv.conf in a pod may have it."""
    pair = bind_pair(HOST)
    for sock in pair:
        sock.setblocking(False)
    settings = settings_for([f"{scheme}{HOST}:{pair[0].getsockname()[1]}"], assignments)
    pair[1].listen()
    async with proxy_on([pair], settings) as running:
        yield running


@pytest.mark.parametrize("scheme", ["", "tcp://"])
@on_both_loops
async def test_a_loop_to_ourselves_is_found_at_once(scheme: str) -> None:
    async with (
        in_front_of_itself(scheme, *PATIENT) as running,
        datagrams(running.port) as client,
    ):
        for number in range(3):
            reply = await client.resolve(f"n{number}.test")
            assert (reply.rcode, reply.ede) == ("SERVFAIL", [23])
        counters = running.driver.engine.counters
        assert counters.loops == 3
        assert sum(counters.queries.values()) == 6  # each asked once by the client, once by us
        assert [notice.event for notice in running.notices] == ["loop"]


@pytest.mark.parametrize("scheme", ["", "tcp://"])
@on_both_loops
async def test_a_loop_of_two_is_bounded(scheme: str) -> None:
    settings = ("upstream.deadline=300ms",)
    with contextlib.ExitStack() as stack:
        pairs = [bind_pair(HOST) for _ in range(2)]
        for udp, tcp in pairs:
            stack.callback(udp.close)
            stack.callback(tcp.close)
            udp.setblocking(False)
            tcp.setblocking(False)
            tcp.listen()
        stack.pop_all()
    ports = [udp.getsockname()[1] for udp, _ in pairs]
    async with (
        proxy_on(pairs[:1], settings_for([f"{scheme}{HOST}:{ports[1]}"], settings)) as one,
        proxy_on(pairs[1:], settings_for([f"{scheme}{HOST}:{ports[0]}"], settings)) as two,
        datagrams(one.port) as client,
    ):
        reply = await client.resolve("www.test")
        assert (reply.rcode, reply.addresses) == ("SERVFAIL", [])
        await until(lambda: not one.driver.engine.asking.flights)
        await until(lambda: not two.driver.engine.asking.flights)
        for running in (one, two):
            # The client's one, and from the other side no more than it tries, probes included.
            assert sum(running.driver.engine.counters.queries.values()) <= 8


# -- who judges from outside -------------------------------------------------------------------


@on_both_loops
async def test_an_independent_stub_resolves_through_it() -> None:
    """aiodns is c-ares, which has its own opinion of what a reply must look like."""
    async with scene() as stage:
        stage.upstream.behave("long", name="big.test")
        stage.upstream.behave("truncated", name="big.test", transport="udp")
        stage.upstream.behave("long", name="big.test", transport="tcp")
        stub = aiodns.DNSResolver(nameservers=[f"{HOST}:{stage.proxy.port}"], timeout=10, tries=1)
        try:
            for _ in range(2):
                found = await stub.query_dns("www.test", "A")
                (record,) = found.answer
                assert getattr(record.data, "addr", None) == address_of("www.test")
            big = await stub.query_dns("big.test", "A")
            assert len(big.answer) == 100  # by TCP, both of us
            with pytest.raises(aiodns.error.DNSError):
                await stub.query_dns("www.test", "AAAA")
        finally:
            await stub.close()
        queries = stage.proxy.driver.engine.counters.queries
        assert queries["udp"] >= 3
        assert queries["tcp"] >= 1


# -- settings and the end --------------------------------------------------------------------------


@on_both_loops
async def test_new_settings_take_another_upstream_and_keep_what_is_known() -> None:
    async with scene() as stage, Upstream() as other:
        await stage.udp.resolve("www.test")
        driver = stage.proxy.driver
        driver.reload(settings_for([other.url]).policy, access("loopback"))
        assert (await stage.udp.resolve("www.test")).rcode == "NOERROR"
        assert (await stage.udp.resolve("two.test")).rcode == "NOERROR"
        assert [seen.name for seen in stage.upstream.seen] == ["www.test"]
        assert [seen.name for seen in other.seen] == ["two.test"]


@on_both_loops
async def test_the_end_waits_for_what_is_under_way() -> None:
    async with scene(ONCE) as stage:
        stage.upstream.behave(HELD)
        stage.udp.send(ask("one.test"), ask("two.test"))
        await stage.upstream.until(2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            # Its query has arrived when the end begins, but nobody has read it yet.
            late.connect((HOST, stage.proxy.port))
            late.send(ask("three.test"))
            task = asyncio.create_task(stage.proxy.stop(20.0))
            await stage.upstream.until(3)
            assert not task.done()
            stage.upstream.release()
            replies = [*await stage.udp.hear(2), Heard(late.recv(4096))]
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies)
        await task


@on_both_loops
async def test_the_end_waits_so_long_and_then_answers_what_it_can() -> None:
    async with scene(*PATIENT) as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("known.test")
        later(2.0)
        stage.upstream.behave("silent")
        stage.udp.send(ask("known.test"), ask("cold.test"))
        await stage.upstream.until(3)
        await stage.proxy.stop(0.05)
        found = {r.question: (r.rcode, r.ede) for r in await stage.udp.hear(2)}
        assert found == {"cold.test.": ("SERVFAIL", [22]), "known.test.": ("NOERROR", [3])}


@on_both_loops
async def test_the_end_does_not_wait_for_an_upstream_that_is_down_or_for_a_refresh() -> None:
    """In an outage there is always a question under way, and nobody else listens meanwhile."""
    async with scene(*PATIENT) as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("known.test")
        later(2.0)
        stage.upstream.behave("silent")
        entry = next(iter(stage.proxy.driver.engine.cache.index.values()))
        stage.proxy.driver.engine.refreshing.behind(entry, clock.now())
        stage.proxy.driver.flush()
        await stage.upstream.until(2)
        assert stage.proxy.driver.engine.asking.flights
        async with asyncio.timeout(20.0):
            await stage.proxy.stop(60.0)


@on_both_loops
async def test_the_end_delivers_what_was_asked_over_tcp() -> None:
    async with scene(ONCE, scheme="tcp://") as stage:
        stage.upstream.behave(HELD)
        stage.tcp.send(*(query(f"n{number}.test", "TXT", id=number) for number in range(20)))
        await stage.upstream.until(20)
        task = asyncio.create_task(stage.proxy.stop(20.0))
        await asyncio.sleep(0)
        stage.upstream.release()
        replies = by_id(await stage.tcp.hear(20))  # some 50 KB each: more than one write takes
        assert all(reply.message.answer for reply in replies.values())
        assert await stage.tcp.closed()
        await task


@on_both_loops
async def test_the_end_frees_every_address() -> None:
    async with scene(scheme="tcp://") as stage:
        await stage.udp.resolve("www.test")
        await stage.proxy.stop(0.0)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((HOST, stage.proxy.port))
        assert len(stage.proxy.driver.ports) == len(stage.proxy.driver.streams) == 0


@on_both_loops
async def test_an_error_does_not_stop_everything_after_it() -> None:
    """Should one ever escape, the next packet must find a driver that works."""
    async with scene() as stage:
        driver = stage.proxy.driver
        notice = driver._notice
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        def broken(*_: object) -> None:
            driver._notice = notice
            raise RuntimeError("a planted defect")

        driver._notice = broken
        policy = driver.engine.policy
        ask_policy = dataclasses.replace(policy.ask, deadline=0.2)
        driver.engine.reload(dataclasses.replace(policy, ask=ask_policy), 0.0)
        stage.upstream.stop()
        await stage.udp.resolve("www.test")  # refused: that is worth a notice
        assert driver._notice is notice
        assert (await stage.udp.resolve("two.test")).rcode == "SERVFAIL"
