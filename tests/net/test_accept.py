"""The TCP listener on real sockets: what a client may do, and what costs it its connection.

RFC 7766 is followed where clients are good: pipelined, answered in any order, half-closed. Where
they are not (idle, dribbling, not reading, too many), they lose their connection and nobody else
notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from typing import Any

import dns.edns
import pytest

from dnsguard.core.framing import frame
from dnsguard.net import accept as module
from dnsguard.net.accept import bind_tcp
from tests.core.build import query
from tests.net.asking import Stream, ask, by_id, stream
from tests.net.running import (
    HOST,
    LOOPBACKS,
    ONCE,
    Scene,
    access,
    later,
    on_both_loops,
    proxy,
    scene,
    stand_still,
    until,
)
from tests.net.upstream import HELD, Upstream, address_of

IDLE = "limits.tcp_idle=200ms"
PATIENT = ("stale.client_timeout=10s", "upstream.deadline=20s")


def sweep(stage: Scene, seconds: float) -> None:
    """Let time pass, and the acceptor look after its connections."""
    later(seconds)
    acceptor = stage.proxy.driver.acceptor
    acceptor.sweep(acceptor.clock())


@pytest.mark.parametrize("host", LOOPBACKS)
@on_both_loops
async def test_queries_are_answered_one_after_the_other(host: str) -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], listen=[host]) as running,
        stream(running.port, host=host) as client,
    ):
        for _ in range(3):  # a miss, a hit, a finished reply
            assert (await client.resolve("www.test")).addresses == [address_of("www.test")]
        assert len(upstream.seen) == 1


@on_both_loops
async def test_a_finished_reply_keeps_its_own_id() -> None:
    async with scene() as stage:
        stand_still()
        wire = query("www.test")
        for number in range(5):
            reply = await stage.tcp.ask(number.to_bytes(2, "big") + wire[2:])
            assert (reply.id, reply.addresses) == (number, [address_of("www.test")])
        (packet,) = stage.proxy.driver.engine.streams.table.values()
        assert packet.hits == 3


@on_both_loops
async def test_queries_may_be_pipelined_and_answers_overtake() -> None:
    async with scene(ONCE, *PATIENT) as stage:
        await stage.tcp.resolve("known.test")
        stage.upstream.behave(HELD, name="slow.test")
        stage.tcp.send(ask("slow.test"), ask("known.test"), ask("new.test"))
        assert [r.question for r in await stage.tcp.hear(2)] == ["known.test.", "new.test."]
        stage.upstream.release()
        assert [r.question for r in await stage.tcp.hear(1)] == ["slow.test."]


@on_both_loops
async def test_many_queries_in_one_write_are_all_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 10)  # reading stops and goes on several times
    async with scene() as stage:
        for start in range(0, 180, 60):
            names = [f"n{number}.test" for number in range(start, start + 60)]
            stage.tcp.send(*(ask(name) for name in names))
        replies = by_id(await stage.tcp.hear(180))
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies.values())


@on_both_loops
async def test_queries_may_come_an_octet_at_a_time() -> None:
    async with scene() as stage:
        no_delay = stage.tcp.writer.get_extra_info("socket")
        no_delay.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in frame(ask("one.test")) + frame(ask("two.test")):
            stage.tcp.writer.write(bytes([octet]))
            await asyncio.sleep(0)  # so that it leaves before the next is written
        replies = await stage.tcp.hear(2)
        assert {r.question: r.addresses for r in replies} == {
            "one.test.": [address_of("one.test")],
            "two.test.": [address_of("two.test")],
        }


@on_both_loops
async def test_who_has_said_everything_still_gets_every_answer() -> None:
    async with scene(ONCE, *PATIENT) as stage:
        stage.upstream.behave(HELD)
        stage.tcp.send(*(ask(f"n{number}.test") for number in range(20)))
        stage.tcp.writer.write_eof()
        await stage.upstream.until(20)
        stage.upstream.release()
        assert len(by_id(await stage.tcp.hear(20))) == 20
        assert await stage.tcp.closed()
        assert len(stage.proxy.driver.acceptor) == 0


@on_both_loops
async def test_who_has_said_everything_and_waits_for_nothing_is_closed() -> None:
    async with scene() as stage:
        await stage.tcp.resolve("www.test")
        stage.tcp.send(query("www.test", edns=1232), b"\xff" * 20)  # a hit, and what is no query
        stage.tcp.writer.write_eof()
        await stage.tcp.hear(1)
        assert await stage.tcp.closed()


@on_both_loops
async def test_a_long_read_is_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand queries come in one read, and whoever asks over UDP waited for all of them."""
    monkeypatch.setattr(module, "AT_ONCE", 16)
    async with scene() as stage:
        await stage.udp.resolve("known.test")
        counters = stage.proxy.driver.engine.counters
        acceptor = stage.proxy.driver.acceptor
        turns: list[int] = []
        done = acceptor.done

        def watched() -> None:
            turns.append(counters.queries["tcp"] - sum(turns))
            done()

        monkeypatch.setattr(acceptor, "done", watched)
        names = [f"n{n}.test" if n % 3 else "known.test" for n in range(300)]
        stage.tcp.send(*(ask(name) for name in names))
        stage.tcp.writer.write_eof()
        replies = by_id(await stage.tcp.hear(300))
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies.values())
        assert (max(turns), sum(turns)) == (16, 300)
        assert await stage.tcp.closed()


@on_both_loops
async def test_who_leaves_with_queries_that_wait_for_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    async with scene(ONCE, *PATIENT) as stage:
        stage.upstream.behave(HELD, name="www.test")
        stage.tcp.send(*[ask("www.test") for _ in range(1000)])
        await stage.upstream.until(1)
        stage.tcp.writer.transport.abort()
        stage.upstream.release()
        assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        await gone(stage.proxy.driver.acceptor)


@on_both_loops
async def test_who_leaves_before_the_answer_is_forgotten() -> None:
    async with scene(ONCE, *PATIENT) as stage:
        stage.upstream.behave(HELD, name="www.test")
        stage.tcp.send(ask("www.test"))
        await stage.upstream.until(1)
        stage.tcp.writer.transport.abort()
        await stage.udp.resolve("ping.test", "AAAA")
        stage.upstream.release()
        assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        await gone(stage.proxy.driver.acceptor)


async def gone(acceptor: module.Acceptor, left: int = 0) -> None:
    """Wait until so many connections are left."""
    await until(lambda: len(acceptor) <= left)


# -- time ------------------------------------------------------------------------------------


@on_both_loops
async def test_an_idle_connection_is_closed() -> None:
    async with scene(IDLE) as stage:
        await stage.tcp.resolve("www.test")
        assert await stage.tcp.closed()  # by the driver's own sweep, within a second or so


@on_both_loops
async def test_a_connection_that_never_said_anything_is_closed() -> None:
    async with scene() as stage:
        await stage.udp.resolve("www.test")
        sweep(stage, 9.0)
        assert not stage.tcp.reader.at_eof()
        sweep(stage, 2.0)
        assert await stage.tcp.closed()


@on_both_loops
async def test_a_connection_that_waits_for_an_answer_is_not_idle() -> None:
    async with scene(ONCE, *PATIENT) as stage:
        stage.upstream.behave(HELD)
        stage.tcp.send(ask("www.test"))
        await stage.upstream.until(1)
        sweep(stage, 11.0)
        stage.upstream.release()
        assert (await stage.tcp.hear(1))[0].question == "www.test."
        sweep(stage, 11.0)
        assert await stage.tcp.closed()


@pytest.mark.parametrize("rubbish", [b"\xff" * 20, b"", b"\0\1"])
@on_both_loops
async def test_what_gets_no_reply_keeps_no_connection_open(rubbish: bytes) -> None:
    async with scene() as stage:
        stage.tcp.send(rubbish)
        await stage.tcp.resolve("www.test")
        sweep(stage, 11.0)
        assert await stage.tcp.closed()


@on_both_loops
async def test_who_dribbles_is_dropped() -> None:
    """A little at a time, for ever: each octet is news, but the query is never whole."""
    async with scene(*PATIENT) as stage:
        wire = frame(ask("www.test"))
        await stage.tcp.resolve("one.test")
        for octet in wire[:3]:
            assert len(stage.proxy.driver.acceptor) == 1
            stage.tcp.writer.write(bytes([octet]))
            await stage.udp.resolve("www.test")  # it has been read by then
            sweep(stage, 4.9)
        assert await stage.tcp.closed()


@on_both_loops
async def test_who_completes_queries_does_not_dribble() -> None:
    async with scene() as stage:
        rest = b""
        for number in range(5):
            wire = rest + frame(ask(f"n{number}.test"))
            following = frame(ask(f"n{number + 1}.test"))
            stage.tcp.writer.write(wire + following[:5])
            rest = following[5:]
            await stage.tcp.hear(1)
            sweep(stage, 6.0)
            rest = rest + frame(ask("between.test"))
            stage.tcp.writer.write(rest)
            await stage.tcp.hear(2)
            rest = b""
        assert len(stage.proxy.driver.acceptor) == 1


# -- who does not read what they ask for -----------------------------------------------------------


@contextlib.asynccontextmanager
async def deaf(port: int) -> AsyncIterator[Stream]:
    """A client that reads nothing, and whose system keeps little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((HOST, port))
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        yield Stream(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def sent(turn: int, count: int, known: bool) -> list[bytes]:
    """Queries whose replies are some 50 KB each; those for known names need no upstream."""
    names = ["big.test"] * count if known else [f"n{turn}x{n}.test" for n in range(count)]
    return [query(name, "TXT", id=n) for n, name in enumerate(names)]


@pytest.mark.parametrize("known", [True, False])
@on_both_loops
async def test_who_reads_nothing_is_dropped(known: bool) -> None:
    async with scene(*PATIENT, scheme="tcp://") as stage, deaf(stage.proxy.port) as client:
        await stage.tcp.resolve("big.test", "TXT", edns=None)
        acceptor = stage.proxy.driver.acceptor
        await until(lambda: len(acceptor) == 2)
        for turn in itertools.count():
            client.send(*sent(turn, 20, known))
            await stage.udp.resolve("ping.test")
            if len(acceptor) == 1:
                break
        assert (await stage.tcp.resolve("www.test")).addresses == [address_of("www.test")]


@on_both_loops
async def test_who_reads_nothing_and_asks_no_more_is_dropped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it fits into the bound. It is closed; but to wait for it to be read is too much."""
    monkeypatch.setattr(module, "UNREAD_OCTETS_MAX", 1 << 30)
    async with scene(*PATIENT, scheme="tcp://") as stage, deaf(stage.proxy.port) as client:
        acceptor = stage.proxy.driver.acceptor
        port = client.writer.get_extra_info("sockname")[1]
        await until(lambda: len(acceptor) == 2)
        (deaf_one,) = (c for c in acceptor._clients if c.peer[1] == port)
        assert deaf_one.transport is not None
        for turn in itertools.count():
            client.send(*sent(turn, 5, True))
            await stage.udp.resolve("ping.test")
            if deaf_one.transport.get_write_buffer_size() > 0:
                break
        assert len(acceptor) == 2
        sweep(stage, 11.0)
        await gone(acceptor, 1)
        sweep(stage, 1.0)
        await gone(acceptor)


# -- how many --------------------------------------------------------------------------------


@on_both_loops
async def test_one_address_gets_a_share_of_the_connections() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "limits.tcp_connections=8") as running,
        contextlib.AsyncExitStack() as stack,
    ):
        greedy = [await stack.enter_async_context(stream(running.port)) for _ in range(4)]
        assert [await greedy[n].closed() for n in (2, 3)] == [True, True]
        for client in greedy[:2]:
            assert (await client.resolve("www.test")).rcode == "NOERROR"
        other = await stack.enter_async_context(stream(running.port, "127.0.0.2"))
        assert (await other.resolve("www.test")).rcode == "NOERROR"
        assert running.driver.numbers()["tcp_refused"] == 2
        assert running.driver.numbers()["tcp_connections"] == 3
        greedy[0].writer.close()
        await gone(running.driver.acceptor, 2)
        again = await stack.enter_async_context(stream(running.port))
        assert (await again.resolve("www.test")).rcode == "NOERROR"


@on_both_loops
async def test_a_newcomer_takes_the_place_of_who_has_been_quiet_for_longest() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], ONCE, "limits.tcp_connections=4", *PATIENT) as running,
        contextlib.AsyncExitStack() as stack,
    ):
        upstream.behave(HELD, name="slow.test")
        clients = []
        for number in range(4):
            client = await stack.enter_async_context(stream(running.port, f"127.0.0.{number + 1}"))
            clients.append(client)
            await client.resolve("www.test")
            later(1.0)
        clients[0].send(ask("slow.test"))  # this one waits, and so the second is the quietest
        await upstream.until(2)
        newcomer = await stack.enter_async_context(stream(running.port, "127.0.0.9"))
        assert (await newcomer.resolve("www.test")).rcode == "NOERROR"
        assert await clients[1].closed()
        for client in clients[1:3]:
            client.send(ask("slow.test"))
        upstream.release()
        await clients[0].hear(1)
        assert (await clients[3].resolve("www.test")).rcode == "NOERROR"


@on_both_loops
async def test_a_newcomer_is_turned_away_where_everyone_waits() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], ONCE, "limits.tcp_connections=2", *PATIENT) as running,
        stream(running.port, "127.0.0.1") as one,
        stream(running.port, "127.0.0.2") as two,
    ):
        upstream.behave(HELD)
        for client in (one, two):
            client.send(ask("slow.test"))
        await upstream.until(1)
        await one.writer.drain()
        await until(lambda: all(c.pending for c in running.driver.acceptor._clients))
        async with stream(running.port, "127.0.0.3") as newcomer:
            assert await newcomer.closed()
        upstream.release()
        for client in (one, two):
            assert (await client.hear(1))[0].rcode == "NOERROR"


# -- who may ask -----------------------------------------------------------------------------


@on_both_loops
async def test_a_stranger_is_refused_and_leaves() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.0/29") as running,
        stream(running.port, "127.0.0.7") as inside,
        stream(running.port, "127.0.0.9") as outside,
    ):
        assert (await inside.resolve("www.test")).addresses == [address_of("www.test")]
        outside.send(b"\xff" * 20, ask("www.test"), ask("www.test", edns=None))
        with_edns, without = await outside.hear(2)
        assert (with_edns.rcode, with_edns.ede) == ("REFUSED", [18])
        assert (without.rcode, without.addresses) == ("REFUSED", [])
        assert await outside.closed()
        assert len(upstream.seen) == 1
        assert (await inside.resolve("www.test")).rcode == "NOERROR"


@on_both_loops
async def test_a_stranger_takes_nobodys_place() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.0/29", "limits.tcp_connections=1") as running,
        stream(running.port, "127.0.0.7") as inside,
    ):
        await inside.resolve("www.test")
        async with stream(running.port, "127.0.0.9") as outside:
            assert await outside.closed()
        assert (await inside.resolve("www.test")).rcode == "NOERROR"


@on_both_loops
async def test_who_may_ask_follows_the_settings() -> None:
    async with scene() as stage:
        driver = stage.proxy.driver
        assert (await stage.tcp.resolve("www.test")).rcode == "NOERROR"
        driver.reload(driver.engine.policy, access("127.0.0.2/32"))
        assert (await stage.tcp.resolve("www.test")).rcode == "REFUSED"
        assert await stage.tcp.closed()


@on_both_loops
async def test_the_rate_of_a_client_counts_over_both_transports() -> None:
    async with scene("limits.client_qps=10") as stage:
        stand_still()
        replies = [await client.resolve("www.test") for client in stage.clients for _ in range(8)]
        assert [reply.rcode for reply in replies] == ["NOERROR"] * 10 + ["REFUSED"] * 6
        later(1.0)
        stage.tcp.send(*(ask("www.test") for _ in range(12)))
        rcodes = [reply.rcode for reply in await stage.tcp.hear(12)]
        assert sorted(rcodes) == ["NOERROR"] * 10 + ["REFUSED"] * 2


# -- binding ---------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_an_error() -> None:
    first = bind_tcp(HOST, 0)
    with first, pytest.raises(OSError, match="in use"):
        bind_tcp(HOST, first.getsockname()[1])


def test_an_address_can_be_shared_on_purpose() -> None:
    with bind_tcp(HOST, 0, reuse_port=True) as first:
        port = first.getsockname()[1]
        with bind_tcp(HOST, port, reuse_port=True) as second:
            assert second.getsockname() == first.getsockname()


def test_a_v6_socket_leaves_v4_alone() -> None:
    """Linux would let `::` take the IPv4 port too."""
    for host in LOOPBACKS[1:]:
        with bind_tcp(host, 0) as six:
            assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@on_both_loops
async def test_a_client_is_told_how_long_its_connection_lives_if_it_asks() -> None:
    """RFC 7828: over TCP, in answer to the option, whatever the answer is."""
    wish = (dns.edns.GenericOption("KEEPALIVE", b""),)
    async with scene("limits.tcp_idle=7.5s", "stale.client_timeout=50ms") as stage:
        stage.upstream.behave("short-lived")

        async def told(client: Any, name: str, **more: Any) -> list[tuple[int, bytes]]:
            reply = await client.resolve(name, **more)
            options = [o for o in reply.message.options if int(o.otype) != dns.edns.EDE]
            return [(int(option.otype), option.data) for option in options]

        seconds = [(11, (75).to_bytes(2, "big"))]
        for _ in range(2):
            assert await told(stage.tcp, "www.test", options=wish) == seconds
        assert await told(stage.tcp, "www.test", options=wish, do=True) == seconds
        assert await told(stage.tcp, "www.test", rtype="AXFR", options=wish) == seconds
        for _ in range(2):  # the second is answered from a finished reply, which has no option
            assert await told(stage.tcp, "www.test") == []
        assert await told(stage.tcp, "www.test", options=wish) == seconds
        assert await told(stage.udp, "www.test", options=wish) == []
        other = (dns.edns.GenericOption("65001", b"x"),)
        assert await told(stage.tcp, "www.test", options=other) == []
        stage.upstream.behave("silent")
        later(3.0)
        stale = await stage.tcp.resolve("www.test", options=wish)
        assert stale.ede == [3]
        assert await told(stage.tcp, "www.test", options=wish) == seconds
