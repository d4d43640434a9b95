"""The benchmarks' questions, judged by another codec, and asked of a small server on the loopback.

dnslib builds and reads what `asking` reads and builds. Nothing here depends on how fast the machine
is: what must have happened is waited for, with an end that only a fault reaches.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from dnslib import CNAME, EDNS0, QTYPE, RR, A, DNSRecord, EDNSOption

from benchmarks import asking
from benchmarks.harness import free_port


def test_query_is_one_that_another_codec_reads() -> None:
    message = DNSRecord.parse(asking.query("svc1.default.svc.cluster.local", 4711))
    assert message.header.id == 4711
    assert message.header.rd == 1
    assert str(message.q.qname) == "svc1.default.svc.cluster.local."
    assert [QTYPE[record.rtype] for record in message.ar] == ["OPT"]
    plain = DNSRecord.parse(asking.query("a.test", 4711, edns=False))
    assert (str(plain.q.qname), plain.ar) == ("a.test.", [])


def answer(query: bytes, address: str, ede: int | None) -> bytes:
    """A reply by dnslib: a CNAME first, names compressed, the EDE behind another option."""
    reply = DNSRecord.parse(query).reply()
    reply.add_answer(RR(reply.q.qname, QTYPE.CNAME, rdata=CNAME("real.test"), ttl=9))
    reply.add_answer(RR("real.test", QTYPE.A, rdata=A(address), ttl=4))
    cookie = EDNSOption(10, b"12345678")
    extra = [] if ede is None else [EDNSOption(15, ede.to_bytes(2, "big") + b"stale")]
    reply.add_ar(EDNS0(opts=[cookie, *extra]))
    return bytes(reply.pack())


@pytest.mark.parametrize("ede", [None, 3])
def test_reply_of_another_codec_is_read(ede: int | None) -> None:
    reply = asking.parse_reply(answer(asking.query("a.test", 7), "10.1.2.3", ede))
    assert reply == asking.Reply(7, "NOERROR", "10.1.2.3", 4, ede)


@contextmanager
def name_server(address: str, ede: int | None) -> Iterator[int]:
    """Answers every question in a thread until it is told to stop by an empty datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((asking.LOOPBACK, 0))

        def serve() -> None:
            while True:
                query, client = sock.recvfrom(4096)
                if not query:
                    return
                sock.sendto(answer(query, address, ede), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", sock.getsockname())
            thread.join()


def test_all_names_are_asked() -> None:
    names = [f"n{number}.test" for number in range(250)]
    with name_server("10.0.0.1", None) as port:
        replies = asking.ask_all(port, names, timeout=20)
    assert sorted(replies) == sorted(names)
    assert {reply.address for reply in replies.values()} == {"10.0.0.1"}


def test_nobody_there_is_no_answer() -> None:
    port = free_port()
    assert asking.ask_all(port, ["a.test", "b.test"], timeout=0.05) == {}
    with asking.stub(port, timeout=0.05) as sock:
        assert asking.ask(sock, "a.test") is None


def test_poller_keeps_what_it_saw() -> None:
    deadline = time.monotonic() + 30
    with name_server("10.0.0.1", 3) as port, asking.Poller(port, ["a.test", "b.test"], 0.01) as p:
        while len({sight.name for sight in p.sights}) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert {sight.name for sight in p.sights} == {"a.test", "b.test"}
    assert {(sight.reply.address, sight.reply.ede) for sight in p.sights} == {("10.0.0.1", 3)}
    assert p.asked >= len(p.sights)
    assert p.unanswered == 0
    assert p.since(p.sights[-1].at) == p.sights[-1:]
