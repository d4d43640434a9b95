"""The life of a query, octet by octet: what the engine does with one message at one instant.

Stories with time in them are told in `scenarios/`; here stand the tables and the corners.
"""

from __future__ import annotations

import random

import dns.flags
import dns.message
import pytest

from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.learned import Learned
from dnsguard.core.policy import (
    Policy,
)
from tests.core import build
from tests.core.watch import read
from tests.core.world import World, one_zone

T0 = 1000.0
NAME = "web.cluster.local"
KEY = build.read(build.query(NAME)).key
A = f"{NAME}. 30 IN A 10.1.0.1"


def begin(policy: Policy | None = None) -> Engine:
    return Engine(policy or one_zone(), random.Random(1), T0)


def replies(engine: Engine) -> list[bytes]:
    """Take what the engine wants to send to clients."""
    taken = [octets for _, octets in engine.out.replies]
    engine.out.replies.clear()
    return taken


def asks(engine: Engine) -> list[Ask]:
    taken = engine.out.asks[:]
    engine.out.asks.clear()
    return taken


def give(engine: Engine, ask: Ask, now: float, answer: str = A, ad: bool = False) -> bool:
    """Let an upstream answer."""
    return engine.answer(ask, build.answer_wire(b"\0\7" + ask.wire, answer, ad=ad), now)


def know(engine: Engine, query: bytes, ad: bool = False) -> bytes:
    """Have a question answered, and return the reply."""
    engine.client(query, None, T0)
    (ask,) = asks(engine)
    assert give(engine, ask, T0, ad=ad)
    (octets,) = replies(engine)
    return octets


# -- what is no question ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 11, b"\0\1\x80\0\0\1\0\0\0\0\0\0\0\0\1\0\1"],
    ids=["empty", "cut", "reply"],
)
def test_what_is_no_query_is_met_with_silence(data: bytes) -> None:
    engine = begin()
    engine.client(data, None, T0)
    assert replies(engine) == []
    assert engine.counters.malformed == 1


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x03web", "FORMERR"),
        (b"\x12\x34\x01\0\0\2\0\0\0\0\0\0\0\0\1\0\1\0\0\1\0\1", "FORMERR"),
        (b"\x12\x34\x21\0\0\1\0\0\0\0\0\0\0\0\1\0\1", "NOTIMP"),
    ],
)
def test_a_broken_query_is_told_so(data: bytes, rcode: str) -> None:
    engine = begin()
    engine.client(data, None, T0)
    (octets,) = replies(engine)
    assert octets[:2] == b"\x12\x34"
    assert read(octets).rcode == rcode
    assert sum(engine.counters.answers.values()) == engine.counters.malformed == 1


@pytest.mark.parametrize(
    ("qtype", "rcode"),
    [
        ("AXFR", "REFUSED"), ("IXFR", "REFUSED"), ("TKEY", "NOTIMP"), ("TSIG", "NOTIMP"),
        ("MAILB", "NOTIMP"), ("MAILA", "NOTIMP"), ("OPT", "NOTIMP"),
    ],
)  # fmt: skip
def test_types_that_are_no_data_are_never_forwarded(qtype: str, rcode: str) -> None:
    engine = begin()
    engine.client(build.query(NAME, qtype), None, T0)
    (octets,) = replies(engine)
    assert read(octets).rcode == rcode
    assert asks(engine) == []


def test_any_over_udp_is_sent_to_tcp_and_there_it_is_forwarded_each_time() -> None:
    engine = begin()
    query = build.query(NAME, "ANY")
    engine.client(query, None, T0)
    (octets,) = replies(engine)
    assert read(octets).flags & dns.flags.TC
    assert asks(engine) == []
    for _ in range(2):
        engine.client(query, None, T0, stream=True)
        (ask,) = asks(engine)
        assert give(engine, ask, T0)
        assert read(replies(engine)[0]).data == ("10.1.0.1",)
    assert len(engine.cache) == 0


def test_what_stands_beside_an_answer_answers_nothing_else() -> None:
    """Authority, additional data and other names' records are nobody's answer (RFC 2181 5.4.1)."""
    engine = begin()
    engine.client(build.query(NAME), None, T0)
    (ask,) = asks(engine)
    wire = build.answer_wire(
        b"\0\7" + ask.wire, f"{A}\nvictim.example. 60 IN A 192.0.2.6",
        authority="victim.example. 60 IN NS ns.victim.example.",
        additional="ns.victim.example. 60 IN A 192.0.2.6\nvictim.example. 60 IN A 192.0.2.6",
    )  # fmt: skip
    assert engine.answer(ask, wire, T0)
    (octets,) = replies(engine)
    assert read(octets).data == ("10.1.0.1",)
    assert list(engine.cache.index) == [KEY]
    for name, rtype in (
        ("victim.example", "A"),
        ("victim.example", "NS"),
        ("ns.victim.example", "A"),
    ):
        engine.client(build.query(name, rtype), None, T0)
        assert len(asks(engine)) == 1, "answered without being asked for"
        assert replies(engine) == []


@pytest.mark.parametrize("qtype", ["URI", "TYPE65280", "HTTPS", "SRV", "NULL"])
def test_any_type_of_data_is_forwarded(qtype: str) -> None:
    engine = begin()
    engine.client(build.query(NAME, qtype), None, T0)
    assert len(asks(engine)) == 1


# -- one question, one flight -------------------------------------------------------------------


def test_clients_of_all_kinds_share_one_flight_and_get_their_own_reply() -> None:
    engine = begin()
    queries = {
        n: build.query(NAME.upper() if n % 2 else NAME, edns=4096 if n % 3 else None, id=n)
        for n in range(200)
    }
    for n, query in queries.items():
        engine.client(query, n, T0, stream=n % 5 == 0)
    (ask,) = asks(engine)
    assert give(engine, ask, T0 + 0.01)
    told = dict(engine.out.replies)
    assert len(engine.out.replies) == len(told) == 200
    for n, query in queries.items():
        octets = told[n]
        assert isinstance(octets, bytes)
        assert octets[:2] == n.to_bytes(2, "big")
        assert octets[12:35] == query[12:35]
    assert engine.counters.coalesced == 199


def test_do_cd_class_and_type_are_questions_of_their_own() -> None:
    engine = begin()
    variants = [
        build.query(NAME), build.query(NAME, do=True), build.query(NAME, cd=True),
        build.query(NAME, do=True, cd=True), build.query(NAME, rdclass="CH"),
        build.query(NAME, "AAAA"),
    ]  # fmt: skip
    for query in variants * 2:
        engine.client(query, None, T0)
    assert len(asks(engine)) == len(variants)


def test_ad_goes_to_those_who_understand_it_and_never_with_stale_data() -> None:
    engine = begin()
    plain, knows = build.query(NAME), build.query(NAME, ad=True)
    wire = know(engine, plain, ad=True)
    assert not read(wire).flags & dns.flags.AD
    engine.client(knows, None, T0 + 1)
    assert read(replies(engine)[0]).flags & dns.flags.AD
    engine.client(knows, None, T0 + 40)
    for ask in asks(engine):
        engine.answer(ask, build.answer_wire(b"\0\7" + ask.wire, rcode=5), T0 + 40)
    for ask in asks(engine):
        engine.answer(ask, build.answer_wire(b"\0\7" + ask.wire, rcode=5), T0 + 40)
    for ask in asks(engine):
        engine.answer(ask, build.answer_wire(b"\0\7" + ask.wire, rcode=5), T0 + 40)
    (stale,) = replies(engine)
    assert read(stale).data == ("10.1.0.1",)
    assert not read(stale).flags & dns.flags.AD


def test_what_does_not_fit_is_cut_on_miss_hit_and_stale_alike() -> None:
    world = World()
    world.put(NAME, "A", 30, *(f"10.1.0.{n}" for n in range(60)))
    world.behave("over-tcp")
    asked = [world.resolve(NAME, edns=512), world.resolve(NAME, edns=512)]
    assert len(world.resolve(NAME, edns=1232).read().data) == 60
    assert len(world.resolve(NAME, edns=512, stream=True).read().data) == 60
    world.behave("silent")
    world.advance(40)
    asked += [world.resolve(NAME, edns=512), world.resolve(NAME, edns=512)]
    for one in asked:
        found = one.read()
        assert found.flags & dns.flags.TC
        assert found.rcode == "NOERROR"
        assert found.data == ()
    world.finish()


# -- through a restart --------------------------------------------------------------------------


def test_what_is_learned_and_forgotten_is_noted_for_a_restart() -> None:
    world = World()
    learned = world.engine.learned = Learned(world.engine.cache)
    world.put(NAME, "A", 30, "10.1.0.1")
    world.resolve(NAME)
    ((key, entry),) = learned.take(world.now)
    assert entry is world.engine.cache.get(key)
    world.advance(40)
    world.behave("zero-ttl")
    world.resolve(NAME)
    assert learned.take(world.now) == [(key, None)]
    world.finish()


# -- the end ------------------------------------------------------------------------------------


def test_after_the_end_nothing_is_under_way() -> None:
    engine = begin()
    for n in range(5):
        engine.client(build.query(f"web{n}.cluster.local", edns=1232), n, T0)
    taken = asks(engine)
    engine.shutdown(T0 + 1)
    assert not engine.asking.flights
    found = [read(octets) for octets in replies(engine)]
    assert [(f.rcode, f.ede) for f in found] == [("SERVFAIL", ((22, "dnsguard is stopping"),))] * 5
    for ask in taken:
        assert give(engine, ask, T0 + 2)  # too late, and taken without a word
    assert replies(engine) == []
    while (due := engine.deadline()) is not None:
        engine.tick(due + 0.001)
    assert replies(engine) == []


def test_only_what_clients_wait_for_and_may_get_is_waited_for() -> None:
    world = World()
    world.put("web.test", "A", 5, "10.1.0.1")
    world.resolve("web.test")
    waited = [world.engine.asking.waited_for]
    world.behave("silent")
    world.ask("cold.test")
    waited.append(world.engine.asking.waited_for)
    world.advance(3.0)
    assert world.engine.zones.root.outage
    world.ask("colder.test")
    assert world.engine.asking.flights
    waited.append(world.engine.asking.waited_for)
    assert waited == [False, True, False]
    world.finish()
