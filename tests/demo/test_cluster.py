"""The embedded cluster DNS over real sockets: well, dead, failing, and counting all the time."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import AbstractAsyncContextManager

import pytest
from dnslib import QTYPE

from dnsguard.demo.cluster import ClusterDns, bind_pair, listening
from dnsguard.demo.timeline import Mode
from tests.demo.asking import HOST, addresses, ask

DOORS = ("one", "two")
WEB = "web.shop.svc.cluster.local"


def cluster() -> tuple[ClusterDns, AbstractAsyncContextManager[dict[str, int]]]:
    dns = ClusterDns(5, time.monotonic(), DOORS)
    return dns, listening(dns)


@pytest.mark.parametrize("tcp", [False, True])
def test_it_answers_fails_and_recovers(tcp: bool) -> None:
    async def main() -> None:
        dns, opened = cluster()
        async with opened as ports:
            good = await ask(ports["one"], WEB, tcp=tcp)
            dns.mode = Mode.SERVFAIL
            bad = await ask(ports["one"], WEB, tcp=tcp)
            dns.mode = Mode.DEAD
            silence = await ask(ports["one"], WEB, tcp=tcp, patience=0.1)
            dns.mode = Mode.HEALTHY
            again = await ask(ports["one"], WEB, tcp=tcp)
        assert addresses(good) == addresses(again) == ["10.96.0.11"]
        assert good is not None
        assert [QTYPE[record.rtype] for record in good.ar] == ["OPT"]
        assert bad is not None
        assert (bad.header.rcode, bad.rr) == (2, [])
        assert silence is None

    asyncio.run(main())


def test_each_door_counts_also_while_dead() -> None:
    async def main() -> dict[str, int]:
        dns, opened = cluster()
        async with opened as ports:
            await ask(ports["one"], WEB)
            await ask(ports["one"], WEB, tcp=True)
            dns.mode = Mode.DEAD
            await ask(ports["two"], WEB, patience=0.05)
        return dns.asked

    assert asyncio.run(main()) == {"one": 2, "two": 1}


@pytest.mark.parametrize("wire", [b"", b"\0" * 5, b"\xff" * 40, b"\0\1\x80\0\0\1" + bytes(11)])
def test_what_is_no_query_gets_silence(wire: bytes) -> None:
    dns, _ = cluster()
    assert dns.reply(wire, "one") is None


def test_a_pair_of_sockets_has_one_port() -> None:
    udp, tcp = bind_pair(HOST)
    with udp, tcp:
        assert udp.getsockname() == tcp.getsockname()
        with pytest.raises(OSError) as taken:  # noqa: PT011 - the number is checked below
            bind_pair(HOST, udp.getsockname()[1])
    assert taken.value.errno == errno.EADDRINUSE


def test_a_port_whose_tcp_side_is_taken_is_not_used() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(OSError):  # noqa: PT011 - any reason will do
            bind_pair(HOST, other.getsockname()[1])
