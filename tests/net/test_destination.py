"""Listeners at all addresses of a machine: a reply leaves from the address that was asked.

A client's socket is connected, so its kernel takes a reply from nowhere else. For IPv4 the many
addresses of loopback do; IPv6 has one, so what needs two runs in a network namespace of its own
(`make chaos`, as root).
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dnsguard.net import destination
from dnsguard.net.destination import IncomingAnywhere, OutgoingAnywhere, is_everywhere
from dnsguard.net.listen import NOBODYS_PORT, bind_udp
from dnsguard.net.mmsg import BATCH
from tests.core.build import query
from tests.net.asking import Datagrams, ask, datagrams
from tests.net.running import (
    LOOPBACKS,
    ONCE,
    SIX,
    Proxy,
    access,
    on_a_loop,
    on_both_loops,
    proxy,
    proxy_on,
    settings_for,
    stand_still,
)
from tests.net.test_listen import Moody, kernel  # noqa: F401 - a fixture
from tests.net.upstream import HELD, Upstream, address_of

ASKED = ["127.0.0.1", "127.0.0.2", "127.1.2.3"]

BIND_TRIES = 20


@pytest.mark.parametrize(
    ("host", "all_of_them"),
    [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False), ("fe80::1%lo", False)],
)
def test_what_stands_for_all_addresses(host: str, all_of_them: bool) -> None:
    assert is_everywhere(host) is all_of_them


def test_only_a_socket_of_all_addresses_is_told_destinations() -> None:
    for host in ("0.0.0.0", "127.0.0.1"):
        with bind_udp(host, 0) as sock:
            told = sock.getsockopt(socket.IPPROTO_IP, destination.IP_PKTINFO)
            assert bool(told) is is_everywhere(host)
    for host in ("::", SIX)[: 2 * (SIX in LOOPBACKS)]:
        with bind_udp(host, 0) as sock:
            told = sock.getsockopt(socket.IPPROTO_IPV6, destination.IPV6_RECVPKTINFO)
            assert bool(told) is is_everywhere(host)


@asynccontextmanager
async def one_of_each(running: Proxy) -> AsyncIterator[list[Datagrams]]:
    """A client of every address in ASKED, all from 127.0.0.1."""
    clients = []
    try:
        for host in ASKED:
            maker = datagrams(running.port, host=host)
            clients.append((maker, await maker.__aenter__()))
        yield [client for _, client in clients]
    finally:
        for maker, _ in clients:
            await maker.__aexit__(None, None, None)


@on_both_loops
async def test_a_reply_leaves_from_the_address_that_was_asked(calls: None) -> None:
    """First from the engine, then as a finished reply, then of many clients in one batch."""
    async with (
        Upstream() as upstream,
        proxy([upstream.url], listen=["0.0.0.0"]) as running,
        one_of_each(running) as clients,
    ):
        stand_still()
        for turn in range(4):
            for client in clients:
                reply = await client.ask(query("www.test"))
                assert reply.addresses == [address_of("www.test")], turn
        for turn in range(40):
            for number, client in enumerate(clients):
                new = f"t{turn}n{number}.test" if turn % 3 == 0 else "www.test"
                client.send(query("www.test", id=turn), ask(new), query("www.test", id=turn))
        for client in clients:
            replies = await client.hear(120)
            assert all(reply.addresses == [address_of(reply.question)] for reply in replies)
            assert len({(reply.id, reply.question) for reply in replies}) >= 40
        packets = running.driver.engine.datagrams.table.values()
        assert sum(packet.hits for packet in packets) > 200, "few finished replies were used"


@on_both_loops
async def test_refusals_and_held_replies_leave_from_there_too(kernel: Moody) -> None:  # noqa: F811
    async with (
        Upstream() as upstream,
        proxy([upstream.url], ONCE, listen=["0.0.0.0"]) as running,
        one_of_each(running) as clients,
    ):
        wire = query("www.test")
        for _ in range(2):
            await clients[0].ask(wire)
        kernel.most = 2
        kernel.refusals = [errno.EAGAIN]  # finished replies that wait for the kernel
        for client in clients:
            client.send(wire)
        for client in clients:
            assert (await client.hear(1))[0].rcode == "NOERROR"
        upstream.behave(HELD)
        for client in clients:
            client.send(ask("new.test"))
        await upstream.until(len(upstream.seen) + 1)
        kernel.refusals = [errno.EAGAIN]  # replies of the engine that do
        upstream.release()
        for client in clients:
            assert (await client.hear(1))[0].addresses == [address_of("new.test")]
        running.driver.reload(running.driver.engine.policy, access("127.0.0.8/32"))
        for client in clients:
            assert (await client.resolve("www.test")).rcode == "REFUSED"


@on_a_loop
async def test_who_may_ask_is_found_by_the_batch_there_too() -> None:
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.1/32", listen=["0.0.0.0"]) as running,
        datagrams(running.port) as client,
        datagrams(running.port, "127.0.0.9") as stranger,
    ):
        for _ in range(3):
            client.send(*(ask("www.test") for _ in range(5)))
            assert {reply.rcode for reply in await client.hear(5)} == {"NOERROR"}
            assert (await stranger.resolve("www.test")).rcode == "REFUSED"
        assert len(running.driver.listeners[0]._welcome) == 1


def everywhere_pair() -> tuple[socket.socket, socket.socket]:
    """Both transports at every address, on one port: any that others use for TCP is passed over."""
    for _ in range(BIND_TRIES):
        udp = bind_udp("0.0.0.0", 0)
        try:
            return udp, socket.create_server(("0.0.0.0", udp.getsockname()[1]))
        except OSError:
            udp.close()
    raise OSError(f"no port is free for both transports, of {BIND_TRIES}")


@on_both_loops
async def test_our_own_questions_that_come_back_are_known() -> None:
    """What a client is known by is longer here than the address that it asked from."""
    pair = everywhere_pair()
    port = pair[0].getsockname()[1]
    async with (
        proxy_on([pair], settings_for([f"127.0.0.1:{port}"])) as running,
        datagrams(port) as client,
    ):
        assert (await client.resolve("www.test")).rcode == "SERVFAIL"
        assert running.driver.engine.counters.loops == 1


@on_both_loops
async def test_who_leaves_still_answers_from_where_it_was_asked() -> None:
    """What had come by then is answered by this one."""
    async with (
        Upstream() as upstream,
        proxy([upstream.url], listen=["0.0.0.0"]) as running,
        one_of_each(running) as clients,
    ):
        wire = query("www.test")
        for _ in range(2):
            await clients[0].ask(wire)
        for client in clients:
            client.send(wire, ask("new.test"))
        listener = running.driver.listeners[0]
        assert listener.leave()
        listener.readable()
        for client in clients:
            assert [reply.rcode for reply in await client.hear(2)] == ["NOERROR"] * 2


@pytest.mark.parametrize("host", LOOPBACKS)
def test_who_leaves_gets_no_more_at_any_address(host: str) -> None:
    everywhere, asked = ("::", [host]) if ":" in host else ("0.0.0.0", ASKED)
    with (
        bind_udp(everywhere, 0, reuse_port=True) as old,
        bind_udp(everywhere, old.getsockname()[1], reuse_port=True) as new,
        socket.socket(old.family, socket.SOCK_DGRAM) as client,
    ):
        port = old.getsockname()[1]
        old.connect((everywhere, NOBODYS_PORT))
        for number in range(30):
            client.sendto(b"%d" % number, (asked[number % len(asked)], port))
        assert [int(new.recv(10)) for _ in range(30)] == list(range(30))
        with pytest.raises(BlockingIOError):
            old.recv(10)


# -- in a namespace of its own ---------------------------------------------------------------

INSIDE = """
import subprocess
from pathlib import Path
from tests.net.test_destination import turn_around

def ip(*words):
    subprocess.run(["ip", *words], check=True)

ip("link", "set", "lo", "up")
ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
Path("/proc/sys/net/ipv6/conf/veth1/disable_ipv6").write_text("1")  # or it hears groups too
for link in ("veth0", "veth1"):
    ip("link", "set", link, "up")
for address in ("10.8.0.1/24", "10.8.0.2/24", "fd08::1/64", "fd08::2/64", "fe80::8/64"):
    ip("addr", "add", address, "dev", "veth0", *(["nodad"] if ":" in address else []))
turn_around("0.0.0.0", ["10.8.0.1", "10.8.0.2", "127.0.0.1"], "10.8.0.1")
turn_around("::", ["fd08::1", "fd08::2", "::1"], "fd08::1")
turn_around("::", ["fe80::8%veth0"], "fe80::8%veth0")
turn_around("::", ["fe80::8%veth0", "fd08::2", "fe80::8%veth0"], "fd08::1")
turn_around("::", ["ff02::1%veth0"], "fe80::8%veth0")
print("every reply came from where it was asked")
"""


def turn_around(everywhere: str, asked: list[str], source: str) -> None:
    """Send from `source` to each address asked, and back from there, twice around."""
    with bind_udp(everywhere, 0) as server, contextlib.ExitStack() as stack:
        incoming = IncomingAnywhere(64, server.family)
        outgoing = OutgoingAnywhere(server.family)
        for index in range(BATCH):
            outgoing.words[2 * index] = incoming.arena_at + index * 64
            outgoing.point_name(index, incoming.names_at + index * incoming.stride)
        clients = []
        for host in asked:
            client = stack.enter_context(socket.socket(server.family, socket.SOCK_DGRAM))
            client.settimeout(5)
            if host not in ("127.0.0.1", "::1"):
                client.bind(place(source, 0))
            if not host.startswith("ff"):  # no reply comes from a group's address
                client.connect(place(host, server.getsockname()[1]))
            clients.append(client)
        for turn in range(2):
            for client, host in zip(clients, asked, strict=True):
                client.sendto(f"{turn} {host}".encode(), place(host, server.getsockname()[1]))
            select.select([server], [], [], 5)  # what goes to a group comes a moment later
            assert incoming.receive(server.fileno()) == len(asked)
            for index in range(len(asked)):
                outgoing.words[2 * index + 1] = incoming.lengths[incoming.length_at[index]]
            assert outgoing.send(server.fileno(), 0, len(asked)) == len(asked), asked
            for client, host in zip(clients, asked, strict=True):
                assert client.recv(64) == f"{turn} {host}".encode(), asked


def place(host: str, port: int) -> Any:
    """The socket address of a literal one, with its interface's number."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4]


@pytest.mark.parametrize("host", LOOPBACKS)
@on_a_loop
async def test_both_families_are_answered_there(host: str) -> None:
    """A miss, a hit and a burst; where IPv6 has one address only, from that."""
    everywhere = "::" if ":" in host else "0.0.0.0"
    async with (
        Upstream() as upstream,
        proxy([upstream.url], "access.allow=127.0.0.0/29,::1/128", listen=[everywhere]) as running,
        datagrams(running.port, host=host) as client,
    ):
        for _ in range(3):
            assert (await client.ask(query("www.test"))).addresses == [address_of("www.test")]
        client.send(*(ask(f"n{number % 9}.test") for number in range(90)))
        replies = await client.hear(90)
        assert all(reply.addresses == [address_of(reply.question)] for reply in replies)


@pytest.mark.chaos
def test_two_addresses_of_each_family_on_one_interface() -> None:
    """IPv6 too, with and without an interface as part of the address, and from a group."""
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", sys.executable, "-c", INSIDE],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "every reply came from where it was asked\n"
