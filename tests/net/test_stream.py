"""The TCP and TLS side towards upstreams, over real sockets: kept open, pipelined, and strict.

RFC 7766 says how a connection is shared and lost, RFC 7858 and RFC 8310 section 5 what is to be
seen of a question where a server's name is wrong: nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dnsguard import clock
from dnsguard.net import stream as module
from tests.net.asking import ask, by_id, datagrams
from tests.net.running import HOST, ONCE, later, on_a_loop, on_both_loops, proxy, scene, until
from tests.net.upstream import HANG_UP, HELD, Upstream, address_of

TCP = "tcp://"
PATIENT = ("stale.client_timeout=10s", "upstream.deadline=20s")
CERTIFICATES = Path(__file__).with_name("certificates")
BAD = [
    "wrong id", "wrong question", "not a reply", "garbage", "header only", "empty header",
    "three octets", "nothing at all", "cut short", "pointer loop",
]  # fmt: skip


@on_both_loops
async def test_a_connection_is_kept_for_the_next_question() -> None:
    async with scene(scheme=TCP) as stage:
        for number in range(5):
            name = f"n{number}.test"
            assert (await stage.udp.resolve(name)).addresses == [address_of(name)]
        assert {seen.transport for seen in stage.upstream.seen} == {"tcp"}
        assert len(stage.upstream.streams) == 1


@on_both_loops
async def test_questions_are_pipelined_and_answered_in_any_order() -> None:
    async with scene(ONCE, scheme=TCP) as stage:
        stage.upstream.behave(HELD)
        stage.udp.send(*(ask(f"n{number}.test") for number in range(100)))
        await stage.upstream.until(100)
        stage.upstream.release(newest_first=True)
        replies = by_id(await stage.udp.hear(100))
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies.values())
        assert len(stage.upstream.streams) == 1
        assert len({seen.id for seen in stage.upstream.seen}) == 100


@on_both_loops
async def test_an_idle_connection_that_the_server_closed_costs_nothing() -> None:
    async with scene(*PATIENT, scheme=TCP) as stage:
        for number in range(3):
            name = f"n{number}.test"
            assert (await stage.udp.resolve(name)).addresses == [address_of(name)]
            stage.upstream.close_streams()
        assert len(stage.upstream.streams) == 3
        assert outcomes(stage.proxy) == {"ok": 3}


@on_both_loops
async def test_questions_on_a_connection_that_closes_go_over_the_next() -> None:
    async with scene(ONCE, *PATIENT, scheme=TCP) as stage:
        await stage.udp.resolve("first.test")
        stage.upstream.behave(HELD)
        stage.udp.send(*(ask(f"n{number}.test") for number in range(10)))
        await stage.upstream.until(11)
        stage.upstream.behave("ok")
        stage.upstream.close_streams()
        replies = await stage.udp.hear(10)
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies)
        assert outcomes(stage.proxy) == {"ok": 11}


def outcomes(running: object) -> dict[str, int]:
    """What came of the questions to the only upstream."""
    engine = running.driver.engine  # type: ignore[attr-defined]
    (server,) = engine.zones.root.servers
    return dict(server.health.outcomes)


@on_both_loops
async def test_a_server_that_hangs_up_on_every_question_is_not_asked_for_ever() -> None:
    async with scene(*PATIENT, scheme=TCP) as stage:
        stage.upstream.behave(HANG_UP)
        cold = await stage.udp.resolve("www.test")
        assert (cold.rcode, cold.ede) == ("SERVFAIL", [23])
        assert len(stage.upstream.seen) <= 3


@on_both_loops
async def test_a_server_that_hangs_up_between_answers_is_asked_three_times_at_most() -> None:
    async with scene(*PATIENT, scheme=TCP) as stage:
        stage.upstream.behave(HANG_UP, name="www.test")
        await stage.udp.resolve("first.test")
        cold = await stage.udp.resolve("www.test")
        assert cold.rcode == "SERVFAIL"
        assert len(stage.upstream.asked("www.test")) <= 4  # one was lost with the old connection


@pytest.mark.parametrize("bad", BAD)
@on_a_loop
async def test_the_wait_goes_on_after_a_bad_message(bad: str) -> None:
    async with scene(scheme=TCP) as stage:
        stage.upstream.behave(bad, "twice", bad)
        for _ in range(2):
            assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        stage.upstream.behave("ok")
        assert (await stage.udp.resolve("two.test")).addresses == [address_of("two.test")]
        assert len(stage.upstream.streams) == 1


@on_both_loops
async def test_a_refused_connection_is_known_at_once() -> None:
    async with scene(*PATIENT, scheme=TCP) as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.stop()
        later(2.0)
        stale = await stage.udp.resolve("www.test")
        assert (stale.addresses, stale.ede) == ([address_of("www.test")], [3])
        assert (await stage.udp.resolve("cold.test")).ede == [22]


@on_both_loops
async def test_a_connection_that_never_stands_ends_with_its_questions() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(4):  # more than its queue holds: whoever comes after these is not let in
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"{TCP}{HOST}:{full.getsockname()[1]}"
        async with (
            proxy([url], "upstream.deadline=200ms") as running,
            datagrams(running.port) as client,
        ):
            cold = await client.resolve("cold.test")
            assert (cold.rcode, cold.ede) == ("SERVFAIL", [22])


@on_both_loops
async def test_connections_that_nobody_needs_are_closed() -> None:
    async with scene(ONCE, scheme=TCP) as stage:
        streams = stage.proxy.driver.streams
        await stage.udp.resolve("one.test")
        streams.sweep(clock.now())
        assert len(streams) == 1
        later(module.IDLE_SECONDS + 1)
        streams.sweep(clock.now())
        assert len(streams) == 0
        await stage.udp.resolve("two.test")
        stage.upstream.behave(HELD)
        stage.udp.send(ask("three.test"))
        await stage.upstream.until(3)
        later(module.AGE_SECONDS + 1)
        streams.sweep(clock.now())
        assert len(streams) == 1  # someone waits for an answer on it


@on_both_loops
async def test_a_connection_lives_no_longer_than_its_server_lets_it() -> None:
    """RFC 7828: the server's word holds where it is shorter than ours."""
    async with scene(ONCE, scheme=TCP) as stage:
        stage.upstream.behave("three seconds")
        streams = stage.proxy.driver.streams
        assert (await stage.udp.resolve("one.test")).addresses == [address_of("one.test")]
        later(2.9)
        assert (await stage.udp.resolve("two.test")).addresses == [address_of("two.test")]
        assert len(stage.upstream.streams) == 1
        later(3.1)
        assert (await stage.udp.resolve("three.test")).addresses == [address_of("three.test")]
        assert len(stage.upstream.streams) == 2
        later(3.1)
        streams.sweep(clock.now())
        assert len(streams) == 0


@on_both_loops
async def test_an_old_connection_takes_no_new_questions() -> None:
    async with scene(scheme=TCP) as stage:
        await stage.udp.resolve("one.test")
        later(module.AGE_SECONDS + 1)
        await stage.udp.resolve("two.test")
        assert len(stage.upstream.streams) == 2


@on_both_loops
async def test_a_connection_that_has_gone_mute_takes_no_new_questions() -> None:
    """What it led to may be gone, as behind a stale conntrack entry (found by a fault)."""
    async with scene(ONCE, scheme=TCP) as stage:
        streams = stage.proxy.driver.streams
        assert (await stage.udp.resolve("one.test")).addresses == [address_of("one.test")]
        stage.upstream.behave(HELD, name="held.test")
        stage.udp.send(ask("held.test"))
        await stage.upstream.until(2)
        later(module.MUTE_SECONDS - 0.5)
        assert (await stage.udp.resolve("two.test")).addresses == [address_of("two.test")]
        assert len(stage.upstream.streams) == 1  # it said something meanwhile
        stage.udp.send(ask("held.test", "AAAA"))
        await stage.upstream.until(4)
        later(module.MUTE_SECONDS + 0.1)
        assert (await stage.udp.resolve("three.test")).addresses == [address_of("three.test")]
        assert len(stage.upstream.streams) == 2
        assert len(streams) == 2  # someone waits for an answer on the first
        stage.upstream.release()
        await stage.udp.hear(2)
        streams.sweep(clock.now())
        assert len(streams) == 1


@on_both_loops
async def test_a_connection_takes_so_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 2)
    async with scene(ONCE, scheme=TCP) as stage:
        stage.upstream.behave(HELD)
        stage.udp.send(*(ask(f"n{number}.test") for number in range(5)))
        await stage.upstream.until(5)
        assert len(stage.upstream.streams) == 3
        stage.upstream.release()
        await stage.udp.hear(5)


# -- TLS -------------------------------------------------------------------------------------


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    context.set_alpn_protocols(["dot"])
    return context


class Eavesdropper:
    """Passes octets on between a client and a server and remembers what the client said."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.overheard = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.WriteTransport] = []
        self._closed = False

    async def __aenter__(self) -> Eavesdropper:
        self._server = await asyncio.start_server(self._accepted, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends:
            end.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0.01)  # one that was being accepted comes only now

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        self._ends.append(writer.transport)
        self._tasks.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._port)
        self._ends.append(far_writer.transport)
        with contextlib.suppress(OSError):  # one of the two has had enough
            await asyncio.gather(
                self._pass(reader, far_writer, True), self._pass(far_reader, writer, False)
            )
        writer.transport.abort()
        far_writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listen: bool
    ) -> None:
        while data := await reader.read(65536):
            if listen:
                self.overheard += data
            writer.write(data)
        writer.write_eof()


@dataclasses.dataclass
class Private:
    """A TLS upstream with someone listening on the way."""

    upstream: Upstream
    ear: Eavesdropper

    def url(self, name: str = "") -> str:
        return f"tls://{HOST}:{self.ear.port}{name and f'#{name}'}"


@contextlib.asynccontextmanager
async def private() -> AsyncIterator[Private]:
    async with (
        Upstream(tls=server_context()) as upstream,
        Eavesdropper(upstream.port) as ear,
    ):
        yield Private(upstream, ear)


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the authority of these tests be the only one that is trusted, as operators can."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))


@pytest.mark.parametrize("name", ["dns.test", "", HOST])
@on_both_loops
async def test_tls_with_the_right_name_works(name: str, trust: None) -> None:
    async with (
        private() as line,
        proxy([line.url(name)]) as running,
        datagrams(running.port) as client,
    ):
        for number in range(3):
            asked = f"n{number}.test"
            assert (await client.resolve(asked)).addresses == [address_of(asked)]
        (connection,) = line.upstream.streams
        tls = connection.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "dot"
        assert tls.version() in ("TLSv1.2", "TLSv1.3")
        assert line.ear.overheard
        assert b"n0\4test" not in line.ear.overheard


@on_both_loops
async def test_a_second_connection_resumes_the_session_of_the_first(trust: None) -> None:
    """RFC 7858 section 3.4; and only with the server that gave it."""
    async with (
        private() as line,
        private() as other,
        proxy([line.url("dns.test")], f"zones.other.upstreams={other.url('dns.test')}") as running,
        datagrams(running.port) as client,
    ):
        for number in range(3):
            asked = f"n{number}.test"
            assert (await client.resolve(asked)).addresses == [address_of(asked)]
            line.upstream.close_streams()
            await until(lambda: not len(running.driver.streams))
        assert (await client.resolve("www.other")).addresses == [address_of("www.other")]
        assert [tls.session_reused for tls in line.upstream.tls] == [False, True, True]
        assert [tls.session_reused for tls in other.upstream.tls] == [False]


@on_both_loops
async def test_every_question_over_tls_is_of_one_length(trust: None) -> None:
    """RFC 8467 section 4.1: padded to 128 octets."""
    async with (
        private() as line,
        proxy([line.url("dns.test")]) as running,
        datagrams(running.port) as client,
    ):
        names = ["a.test", "a-longer-name.of.some.depth.test", f"{'x' * 40}.test"]
        for name in names:
            assert (await client.resolve(name)).addresses == [address_of(name)]
        assert {len(seen.wire) for seen in line.upstream.seen} == {128}


@on_both_loops
async def test_tls_with_a_wrong_name_asks_nothing(trust: None) -> None:
    async with (
        private() as line,
        proxy([line.url("other.test")], *PATIENT) as running,
        datagrams(running.port) as client,
    ):
        cold = await client.resolve("secret.test")
        assert (cold.rcode, cold.ede) == ("SERVFAIL", [23])
        assert not line.upstream.seen
        assert line.ear.overheard
        assert b"secret" not in line.ear.overheard


@on_both_loops
async def test_tls_with_an_unknown_authority_asks_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "none.pem").write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with (
        private() as line,
        proxy([line.url("dns.test")], *PATIENT) as running,
        datagrams(running.port) as client,
    ):
        assert (await client.resolve("secret.test")).rcode == "SERVFAIL"
        assert not line.upstream.seen
        assert b"secret" not in line.ear.overheard


@on_both_loops
async def test_tls_with_a_server_that_speaks_clear_text_asks_nothing(trust: None) -> None:
    async with (
        Upstream() as upstream,
        Eavesdropper(upstream.port) as ear,
        proxy([f"tls://{HOST}:{ear.port}#dns.test"], "upstream.deadline=300ms") as running,
        datagrams(running.port) as client,
    ):
        assert (await client.resolve("secret.test")).rcode == "SERVFAIL"
        assert not upstream.asked("secret.test")
        assert ear.overheard
        assert b"secret" not in ear.overheard
