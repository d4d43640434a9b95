"""The UDP listener on real sockets: bursts, who may ask, and a kernel that takes no more.

A burst mixes finished replies, which leave by pointers into memory that the next batch overwrites,
with queries for the engine; every reply must reach its own client, with its own id and spelling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dnsguard.net import listen as module, mmsg
from dnsguard.net._libc import ffi
from dnsguard.net.listen import bind_udp
from tests.core.build import query
from tests.net.asking import Heard, ask, datagrams
from tests.net.running import (
    HOST,
    LOOPBACKS,
    ONCE,
    Proxy,
    access,
    later,
    on_a_loop,
    on_both_loops,
    proxy,
    scene,
    stand_still,
)
from tests.net.upstream import HELD, Upstream, address_of

BURST = 150  # more than two batches, and no more than any system's socket buffer holds


class Crowd:
    """Clients that all send before the server reads: their sockets wait for nobody."""

    def __init__(self, running: Proxy, size: int, host: str = HOST) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(size)]
        for client in self.sockets:
            client.connect((host, running.port))
            client.setblocking(False)

    def close(self) -> None:
        for client in self.sockets:
            client.close()

    def take(self) -> list[tuple[int, Heard]]:
        """What has come so far, with the number of the client that it came to."""
        found = []
        for number, client in enumerate(self.sockets):
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append((number, Heard(client.recv(65535))))
        return found


@contextlib.contextmanager
def crowd(running: Proxy, size: int, host: str = HOST) -> Iterator[Crowd]:
    clients = Crowd(running, size, host)
    try:
        yield clients
    finally:
        clients.close()


def spelled(chance: random.Random, name: str) -> str:
    return "".join(c.upper() if chance.random() < 0.5 else c for c in name)


@pytest.mark.parametrize("host", LOOPBACKS)
@on_a_loop
async def test_a_burst_of_hits_and_misses_is_answered_right(host: str, calls: None) -> None:
    chance = random.Random(host)
    names = [f"n{number}.test" for number in range(40)]
    async with (
        Upstream() as upstream,
        proxy([upstream.url], listen=[host]) as running,
        datagrams(running.port, host=host) as pacer,
    ):
        stand_still()  # or finished replies would lapse with every second
        with crowd(running, 7, host) as clients:
            for turn in range(8):
                sent: dict[tuple[int, int], str] = {}
                for number in range(BURST):
                    # Known names in few spellings become finished replies; new ones are misses.
                    new = chance.random() < turn % 4 / 4
                    name = f"t{turn}n{number}.test" if new else chance.choice(names)
                    name = spelled(chance, name) if chance.random() < 0.2 else name
                    client = chance.randrange(len(clients.sockets))
                    sent[client, number] = f"{name}."
                    edns = chance.choice([None, 1232])
                    clients.sockets[client].send(query(name, id=number, edns=edns))
                heard = clients.take()
                while len(heard) < BURST:
                    await pacer.resolve("ping.test")  # lets the server work in the meantime
                    heard += clients.take()
                assert {(client, reply.id): reply.question for client, reply in heard} == sent
                for _, reply in heard:
                    assert reply.addresses == [address_of(reply.question)], reply
    packets = running.driver.engine.datagrams.table.values()
    assert sum(packet.hits for packet in packets) > BURST * 2, "few finished replies were used"


@on_both_loops
async def test_a_burst_of_finished_replies_alone(calls: None) -> None:
    async with scene() as stage:
        stand_still()
        wire = query("www.test")
        await stage.udp.ask(wire)
        await stage.udp.ask(wire)  # from here on it is a finished reply
        (packet,) = stage.proxy.driver.engine.datagrams.table.values()
        with crowd(stage.proxy, 3) as clients:
            for number in range(BURST):
                clients.sockets[number % 3].send(number.to_bytes(2, "big") + wire[2:])
            heard: list[tuple[int, Heard]] = []
            while len(heard) < BURST:
                await stage.udp.resolve("ping.test")
                heard += clients.take()
        assert {(reply.id % 3, reply.id) for _, reply in heard} == {
            (client, reply.id) for client, reply in heard
        }
        assert all(reply.addresses == [address_of("www.test")] for _, reply in heard)
        assert packet.hits == BURST, "they went another way"
        assert len(stage.upstream.seen) == 2


@on_both_loops
async def test_replies_fit_into_what_the_client_takes() -> None:
    async with scene() as stage:
        stage.upstream.behave("long", name="big.test")
        stage.upstream.behave("truncated", name="big.test", transport="udp")
        stage.upstream.behave("long", name="big.test", transport="tcp")
        for _ in range(3):  # fetched, remembered, finished
            for size in (None, 512, 1232, 4096):
                reply = await stage.udp.resolve("big.test", edns=size)
                assert reply.truncated
                assert len(reply.wire) <= 512
            assert len((await stage.tcp.resolve("big.test", edns=None)).addresses) == 100


# -- who may ask -----------------------------------------------------------------------------

OUTSIDE = "127.0.0.9"


@on_both_loops
async def test_only_clients_in_access_allow_are_answered(calls: None) -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.0/29") as running,
        datagrams(running.port, "127.0.0.7") as inside,
        datagrams(running.port, OUTSIDE) as outside,
    ):
        for _ in range(3):  # a miss, a hit, a finished reply
            assert (await inside.resolve("www.test")).addresses == [address_of("www.test")]
            refused = await outside.resolve("www.test")
            assert (refused.rcode, refused.addresses, refused.ede) == ("REFUSED", [], [18])
        refused = await outside.resolve("www.test", edns=None)
        assert (refused.rcode, refused.ede) == ("REFUSED", [])
        # A stranger's mistakes are not worth a word.
        outside.send(b"\xff" * 20, query("www.test")[:-1])
        assert (await outside.resolve("www.test")).rcode == "REFUSED"
        assert outside.heard.empty()
        assert len(upstream.seen) == 1


@on_both_loops
async def test_who_may_ask_follows_the_settings() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url]) as running,
        datagrams(running.port, OUTSIDE) as client,
    ):
        policy = running.driver.engine.policy
        assert (await client.resolve("www.test")).rcode == "NOERROR"
        running.driver.reload(policy, access("127.0.0.0/29"))
        assert (await client.resolve("www.test")).rcode == "REFUSED"
        running.driver.reload(policy, access("127.0.0.0/8"))
        assert (await client.resolve("www.test")).rcode == "NOERROR"


@on_both_loops
async def test_ports_that_answer_everything_are_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.0/29") as running,
        datagrams(running.port) as echo,
        datagrams(running.port) as client,
    ):
        # Real ones are privileged, so this client's port plays the one of an echo server.
        port = echo.transport.get_extra_info("sockname")[1]
        monkeypatch.setattr(module, "REFLECTORS", frozenset({socket.htons(port)}))
        echo.send(ask("www.test"))
        for _ in range(2):
            assert (await client.resolve("www.test")).rcode == "NOERROR"
        assert echo.heard.empty()


@on_both_loops
async def test_a_client_over_its_rate_is_refused() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "limits.client_qps=5") as running,
        datagrams(running.port) as greedy,
        datagrams(running.port, OUTSIDE) as other,
    ):
        greedy.send(*(ask("www.test") for _ in range(100)))
        replies = await greedy.hear(100)
        refused = [reply for reply in replies if reply.rcode == "REFUSED"]
        assert len(refused) < 96
        assert len(refused) > 50, "a burst of 100 took ten seconds, or nobody counted"
        assert refused[0].ede == [18]
        assert (await other.resolve("www.test")).rcode == "NOERROR"
        later(1.0)
        assert (await greedy.resolve("www.test")).rcode == "NOERROR"


@on_both_loops
async def test_the_rate_follows_the_settings() -> None:
    async with scene() as stage:
        driver = stage.proxy.driver
        limits = dataclasses.replace(driver.engine.policy.limits, client_qps=1)
        policy = dataclasses.replace(driver.engine.policy, limits=limits)
        driver.reload(policy, access("loopback"))
        stage.udp.send(*(ask("www.test") for _ in range(50)))
        assert "REFUSED" in {reply.rcode for reply in await stage.udp.hear(50)}
        limits = dataclasses.replace(limits, client_qps=0)
        driver.reload(dataclasses.replace(policy, limits=limits), access("loopback"))
        stage.udp.send(*(ask("www.test") for _ in range(50)))
        assert {reply.rcode for reply in await stage.udp.hear(50)} == {"NOERROR"}


# -- a kernel that takes no more ---------------------------------------------------------------


class Moody:
    """The real sendmmsg, that refuses to work as often as it is told, for a reason."""

    def __init__(self, real: Callable[..., int]) -> None:
        self._real = real
        self.refusals: list[int] = []
        self.most = mmsg.BATCH

    def __call__(self, fd: int, vector: Any, size: int, flags: int) -> int:
        if self.refusals:
            ffi.errno = self.refusals.pop(0)
            return -1
        return self._real(fd, vector, min(size, self.most), flags)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Moody:
    moody = Moody(mmsg.sendmmsg)
    monkeypatch.setattr(mmsg, "sendmmsg", moody)
    return moody


async def finished(stage: Any, names: Sequence[str]) -> None:
    """Have a finished reply for the plain query of each name."""
    for name in names:
        for _ in range(2):
            await stage.udp.ask(query(name))
    assert len(stage.proxy.driver.engine.datagrams.table) == len(names)


NAMES = [f"n{number}.test" for number in range(10)]


@on_both_loops
async def test_hits_that_the_kernel_does_not_take_leave_when_it_does(kernel: Moody) -> None:
    async with scene() as stage:
        await finished(stage, NAMES)
        kernel.most = 3
        kernel.refusals = [errno.EAGAIN]
        stage.udp.send(*(query(name, id=number) for number, name in enumerate(NAMES)))
        replies = await stage.udp.hear(10)
        assert {(r.id, r.question, *r.addresses) for r in replies} == {
            (number, f"{name}.", address_of(name)) for number, name in enumerate(NAMES)
        }
        assert stage.proxy.driver.listeners[0].unsent == 0


@on_both_loops
async def test_replies_that_the_kernel_does_not_take_leave_when_it_does(kernel: Moody) -> None:
    async with scene(ONCE) as stage:
        stage.upstream.behave(HELD)
        stage.udp.send(*(ask(name) for name in NAMES))
        await stage.upstream.until(10)
        stage.upstream.release()
        kernel.most = 3
        kernel.refusals = [errno.EAGAIN, errno.EAGAIN]
        replies = await stage.udp.hear(10)
        assert {(r.question, *r.addresses) for r in replies} == {
            (f"{name}.", address_of(name)) for name in NAMES
        }


@on_both_loops
async def test_a_reply_that_cannot_be_sent_does_not_hold_up_the_others(kernel: Moody) -> None:
    async with scene(ONCE) as stage:
        await finished(stage, NAMES)
        kernel.refusals = [errno.EPERM]
        stage.udp.send(*(query(name, id=number) for number, name in enumerate(NAMES)))
        assert [reply.id for reply in await stage.udp.hear(9)] == list(range(1, 10))
        stage.upstream.behave(HELD)
        stage.udp.send(*(ask(f"new-{name}") for name in NAMES))
        await stage.upstream.until(len(stage.upstream.seen) + 10)
        kernel.refusals = [errno.EPERM]
        stage.upstream.release()
        await stage.udp.hear(9)
        assert stage.proxy.driver.listeners[0].unsent == 2


@on_both_loops
async def test_what_waits_for_the_kernel_has_a_bound(
    kernel: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 4)
    async with scene() as stage:
        await finished(stage, NAMES)
        kernel.refusals = [errno.EAGAIN]
        stage.udp.send(*(query(name, id=number) for number, name in enumerate(NAMES)))
        replies = await stage.udp.hear(4)
        assert [reply.id for reply in replies] == [6, 7, 8, 9]  # the latest: others have given up
        assert stage.proxy.driver.listeners[0].unsent == 6
        assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]


# -- binding ---------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_an_error() -> None:
    first = bind_udp(HOST, 0)
    with first, pytest.raises(OSError, match="in use"):
        bind_udp(HOST, first.getsockname()[1])


def test_an_address_can_be_shared_on_purpose() -> None:
    with bind_udp(HOST, 0, reuse_port=True) as first:
        port = first.getsockname()[1]
        with bind_udp(HOST, port, reuse_port=True) as second:
            assert second.getsockname() == first.getsockname()


def test_a_v6_socket_leaves_v4_alone() -> None:
    """Linux would let `::` take the IPv4 port too."""
    for host in LOOPBACKS[1:]:
        with bind_udp(host, 0) as six:
            assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


# -- finished replies ----------------------------------------------------------------------------


@on_both_loops
async def test_messages_too_long_for_a_kept_slice_are_answered_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = len(query("www.test")) + 1
    monkeypatch.setattr(module, "CUTS_MAX", size)
    monkeypatch.setattr(module, "_CUTS", tuple([None] * size for _ in range(mmsg.BATCH)))
    async with scene() as stage:
        stand_still()
        names = ["www.test", "longer-than-that.test"]  # the reply is too long, and the query too
        for name in names:
            await stage.udp.ask(query(name))
        for turn in range(3):
            stage.udp.send(*(query(name, id=n) for n, name in enumerate(names * 3)))
            for reply in await stage.udp.hear(6):
                assert reply.question == f"{names[reply.id % 2]}."
                assert reply.addresses == [address_of(names[reply.id % 2])], turn
        table = stage.proxy.driver.engine.datagrams.table
        assert sum(packet.hits for packet in table.values()) >= 12


@pytest.mark.parametrize("host", LOOPBACKS)
@on_a_loop
async def test_clients_that_are_known_pass_by_the_batch(host: str) -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.0/29,::1/128", listen=[host]) as running,
        datagrams(running.port, host=host) as client,
    ):
        running.driver.listeners[0]._guarded = True  # as where others than loopback can come
        for _ in range(4):
            client.send(*(ask("www.test") for _ in range(5)))
            assert {reply.rcode for reply in await client.hear(5)} == {"NOERROR"}
        assert len(running.driver.listeners[0]._welcome) == 1
        running.driver.reload(running.driver.engine.policy, access("127.0.0.8/32"))
        assert (await client.resolve("www.test")).rcode == "REFUSED"
