"""The scripted upstream: its messages held against dnslib, its ports against a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord

from dnsguard.bench.outage_plan import plan
from dnsguard.bench.outage_script import Script
from dnsguard.bench.outage_upstream import HOST, Upstream, open_doors, read, reply
from dnsguard.sim.cluster import Cluster
from dnsguard.sim.lookup import NXDOMAIN, SERVFAIL
from dnsguard.sim.told import CLOSED, Said
from tests.bench.outage_scenarios import LONG, SHORT, scenario

ADDRESSES = (b"\n\x60\0\1", b"\n\x60\0\2")


def question(name: str = "Svc0.ns1.svc.cluster.local", edns: bool = False) -> bytes:
    query = DNSRecord.question(name, "A")
    if edns:
        query.add_ar(EDNS0(udp_len=1232))
    return bytes(query.pack())


def replied(said: Said, edns: bool = False, name: str = "Svc0.ns1.svc.cluster.local") -> DNSRecord:
    query = read(question(name, edns))
    assert query is not None
    return DNSRecord.parse(reply(query, said))


def test_addresses() -> None:
    found = replied(Said(0, ADDRESSES, 5))
    assert [(str(r.rdata), r.ttl) for r in found.rr] == [("10.96.0.1", 5), ("10.96.0.2", 5)]
    assert str(found.q.qname) == "Svc0.ns1.svc.cluster.local.", "the question as it was spelled"
    assert not found.ar


def test_an_opt_for_an_opt() -> None:
    assert [record.rtype for record in replied(Said(0, ADDRESSES, 5), True).ar] == [QTYPE.OPT]


@pytest.mark.parametrize(
    ("name", "apex"),
    [
        ("a.b.svc.cluster.local", "cluster.local."),
        ("api0.example.com", "example.com."),
        ("local", "local."),
    ],
)
def test_a_denial_is_the_zones_own(name: str, apex: str) -> None:
    """An SOA of the root would say that there is no such TLD (RFC 8020), and be believed."""
    found = replied(Said(NXDOMAIN, (), 5), name=name)
    assert found.header.rcode == RCODE.NXDOMAIN
    (soa,) = found.auth
    assert (str(soa.rname), soa.ttl, soa.rdata.times[4]) == (apex, 5, 5)


def test_an_error_has_no_record() -> None:
    found = replied(Said(SERVFAIL))
    assert (found.header.rcode, found.rr, found.auth) == (RCODE.SERVFAIL, [], [])


def test_what_is_no_query_is_ignored() -> None:
    assert read(b"") is None
    assert read(b"\0" * 11) is None
    assert read(DNSRecord.question("a.").reply().pack()) is None


# --- the script ----------------------------------------------------------------------------------


def script(folder: Path, text: str) -> tuple[Script, Cluster]:
    one = plan(scenario(folder, text), 1.0, 1, 40.0, ["it"])
    cluster = Cluster(one.scenario, 1)
    return Script(one, cluster, random.Random(1)), cluster


def test_the_phase_decides(tmp_path: Path) -> None:
    it, cluster = script(tmp_path, SHORT)
    name = next(name for name in cluster.names if name.group == "services")
    for at in (0.0, 0.5, 2.5, 9.0):
        came = it.take(name.text, 1, at, 1000)
        assert came is not None
        assert came[1].addresses == name.at(at)
    assert it.take(name.text, 1, 1.0, 1000) is None


def test_replicas_roll_one_after_another(tmp_path: Path) -> None:
    text = LONG.replace("does: crashloop, every: 2m, up: 50%", "does: ok")
    it, cluster = script(tmp_path, text)
    begin = 30 * 60 + 30 * 60
    ports = range(1000, 1040)

    def closed(at: float) -> set[int]:
        found = set()
        for port in ports:
            came = it.take(cluster.names[0].text, 1, at, port)
            if came is not None and came[1].rcode == CLOSED:
                found.add(port)
        return found

    first, second = closed(begin + 1), closed(begin + 61)
    assert first
    assert second
    assert first | second == set(ports)
    assert not first & second
    assert not closed(begin + 121)


# --- sockets -------------------------------------------------------------------------------------


def at_a_door(folder: Path, at: float, ask: Callable[[int], object]) -> object:
    """Open a door at an instant of the scenario and have `ask` ask its port."""

    async def go() -> object:
        upstream = Upstream(plan(scenario(folder, text), 1.0, 1, 40.0, ["it"]))
        upstream.epoch = time.monotonic() - at
        async with contextlib.AsyncExitStack() as undo:
            (port,) = await open_doors(upstream, 1, undo)
            answer = await asyncio.to_thread(ask, port)
            if upstream.icmp is not None:
                upstream.icmp.close()
        assert [entry[0] for entry in upstream.log] == [0]
        return answer

    text = SHORT.replace("does: silent", "does: unreachable").replace("for: 1300ms", "for: 10m")
    return asyncio.run(go())


def by_udp(port: int) -> bytes | OSError:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((HOST, port))
        sock.send(question("svc0.ns0.svc.cluster.local"))
        try:
            return sock.recv(4096)
        except OSError as error:
            return error


def by_tcp(port: int) -> bytes:
    message = question("svc0.ns0.svc.cluster.local")
    with socket.create_connection((HOST, port), 5) as sock:
        sock.sendall(len(message).to_bytes(2, "big") + message)
        return sock.recv(4096)[2:]


@pytest.mark.parametrize("ask", [by_udp, by_tcp])
def test_both_transports_answer(tmp_path: Path, ask: Callable[[int], object]) -> None:
    answer = at_a_door(tmp_path, 0.1, ask)
    assert isinstance(answer, bytes)
    assert DNSRecord.parse(answer).header.qr == 1


def test_an_unreachable_one_is_refused_by_its_host(tmp_path: Path) -> None:
    """As the kernel does for a closed port; without the right to a raw socket it is silence."""
    answer = at_a_door(tmp_path, 1.0, by_udp)
    expected = ConnectionRefusedError if os.geteuid() == 0 else TimeoutError
    assert isinstance(answer, expected)
