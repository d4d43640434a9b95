"""The whole loop against a real server on loopback that does what a test says."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from dnsguard.bench.generator import Generator
from dnsguard.bench.load import Load, NoAnswers
from dnsguard.bench.names import read_names
from dnsguard.bench.queries import lay_out
from tests.bench.serving import forget, good, measure, name_of, reply, silent
from tests.cli.scripted import Scripted

SHORT = Load(host="127.0.0.1", port=0, names="list:10", duration=0.3, warmup=0.05, timeout=1.0)


def load(**changes: Any) -> Load:
    return dataclasses.replace(SHORT, **changes)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("qps", [None, 500.0])
def test_every_query_is_answered_and_counted(tcp: bool, qps: float | None) -> None:
    # The server in these tests has one TCP connection at a time.
    found, queries = measure(good, load(tcp=tcp, qps=qps, connections=1 if tcp else 8))
    assert found.sent == found.answered > 0
    assert (found.lost, found.strays, found.unsent, found.reconnects) == (0, 0, 0, 0)
    assert found.rcodes == {"NOERROR": found.sent}
    assert len(queries) > found.sent  # the warm-up is not counted
    assert {name_of(query) for query in queries} == {
        f"n{number}.default.svc.cluster.local" for number in range(10)
    }
    assert sum(one.sent for one in found.timeline) == found.sent
    assert sum(one.answered for one in found.timeline) == found.answered
    assert found.latency_us["min"] >= 0
    assert found.reply_octets == pytest.approx(sum(map(len, queries)) / len(queries), abs=0.5)
    if qps:
        assert found.sent == 150


def test_the_number_of_outstanding_queries_has_its_limit() -> None:
    """A server that answers only when five are waiting sees no sixth."""
    held: list[bytes] = []
    most = 0

    def script(query: bytes, _transport: str) -> Sequence[bytes]:
        nonlocal held, most
        held.append(query)
        most = max(most, len(held))
        if len(held) < 5:
            return []
        answered, held = held, []
        return [reply(one) for one in answered]

    found, _ = measure(script, load(outstanding=5, connections=1, warmup=0))
    assert found.sent == found.answered + found.lost
    assert most == 5


def test_what_is_not_answered_is_lost() -> None:
    seen = 0

    def script(query: bytes, _transport: str) -> Sequence[bytes]:
        nonlocal seen
        seen += 1
        return [reply(query)] if seen % 10 else []

    found, queries = measure(script, load(qps=1000, warmup=0))
    assert len(queries) == found.sent == 300
    assert (found.answered, found.lost) == (270, 30)
    assert sum(one.lost for one in found.timeline) == 30


def test_answers_that_nobody_waits_for_are_strays() -> None:
    def script(query: bytes, _transport: str) -> Sequence[bytes]:
        wrong = bytes((query[0] ^ 0x40,)) + query[1:]
        return [reply(query), reply(query, rcode=2), reply(wrong, rcode=5), b"short"]

    found, _ = measure(script, load(qps=500))
    assert found.answered == found.sent == 150
    # The last two may come after the last answer, when nobody listens any more; the message that
    # is none counts as no answer at all.
    assert 2 * 150 - 2 <= found.strays <= 2 * 150
    assert found.rcodes == {"NOERROR": 150}


def test_rcodes_and_flags_are_told_apart() -> None:
    seen = 0

    def script(query: bytes, _transport: str) -> Sequence[bytes]:
        nonlocal seen
        seen += 1
        kinds = [reply(query), reply(query, rcode=3), reply(query, flags=2), query]
        return [kinds[seen % 4]]

    found, _ = measure(script, load(qps=1000, duration=0.2, warmup=0))
    assert found.rcodes == {"NOERROR": 150, "NXDOMAIN": 50}
    assert (found.truncated, found.not_replies) == (50, 50)


def test_a_closed_connection_is_opened_again() -> None:
    seen = 0

    def script(query: bytes, _transport: str) -> Sequence[bytes]:
        nonlocal seen
        seen += 1
        return [reply(query)] if seen % 20 else []  # closes the stream

    found, _ = measure(script, load(tcp=True, connections=1, outstanding=1, warmup=0))
    assert found.reconnects > 0
    assert found.lost > 0
    assert found.sent == found.answered + found.lost


def test_messages_in_pieces_are_put_together() -> None:
    """Replies of 5 kB, so that what one read brings ends in the middle of one."""
    found, _ = measure(lambda query, _: [reply(query) + bytes(5000)], load(tcp=True, connections=1))
    assert found.answered == found.sent > 0
    assert found.reply_octets > 5000


def test_unique_names_are_asked_once_each() -> None:
    found, queries = measure(good, load(names="unique", suffix="shop.test"))
    names = [name_of(query) for query in queries]
    assert found.answered == found.sent
    assert len(set(names)) == len(names)


def test_a_silent_server_is_told() -> None:
    with pytest.raises(NoAnswers, match="answers nothing over UDP"):
        measure(silent, load(outstanding=3))


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    ("tcp", "kind"), [(False, socket.SOCK_DGRAM), (True, socket.SOCK_STREAM)], ids=["UDP", "TCP"]
)
def test_a_closed_port_is_told_at_once(tcp: bool, kind: socket.SocketKind) -> None:
    rows = lay_out(read_names("list:1", "A"), edns=False)
    aim = load(tcp=tcp, port=free_port(kind), duration=3600)

    def run() -> None:
        generator = Generator(aim, rows, forget)
        try:
            generator.measure()
        finally:
            generator.close()

    with pytest.raises(NoAnswers, match=f"refuses {'TCP' if tcp else 'UDP'}: nothing listens"):
        run()


def test_it_can_be_stopped() -> None:
    found: list[bytes] = []

    def script(query: bytes, _transport: str) -> Sequence[bytes]:
        if len(found) == 50:
            generator.stop()
        found.append(query)
        return [reply(query)]

    with Scripted(script) as server:
        rows = lay_out(read_names("list:1", "A"), edns=False)
        generator = Generator(load(port=server.port, duration=3600), rows, forget)
        try:
            measured = generator.measure()
        finally:
            generator.close()
    assert measured.interrupted
    assert measured.sent == measured.answered + measured.lost >= 50
