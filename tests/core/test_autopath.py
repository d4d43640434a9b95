"""The corners of a walk along a search list; its stories are told in `scenarios/autopath.txt`."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import dns.message
import pytest

from dnsguard.core.policy import Kubernetes, Policy
from dnsguard.core.wire import name_octets, name_text
from tests.core import build
from tests.core.test_engine import asks, begin, replies
from tests.core.world import World, one_zone

LONG = "api.example.com.shop.svc.cluster.local"
ON = Kubernetes(namespace="shop", autopath=True)


def searching(settings: Kubernetes = ON) -> Policy:
    return replace(one_zone(), kubernetes=settings)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("db.shop.svc.cluster.local", ["db.svc.cluster.local.", "db.cluster.local.", "db."]),
        ("a.b.shop.svc.cluster.local", ["a.b.svc.cluster.local.", "a.b.cluster.local.", "a.b."]),
        ("shop.svc.cluster.local", None),  # nothing is searched for
        ("db.workshop.svc.cluster.local", None),
        ("db.other.svc.cluster.local", None),
        ("db.shop.svc", None),
    ],
)
def test_where_a_search_leads(name: str, steps: list[str] | None) -> None:
    autopath = begin(searching()).autopath
    expected = [f"{name}.", *steps] if steps else []
    assert [name_text(step) for step in autopath.steps(name_octets(name))] == expected


def test_a_suffix_within_a_label_is_none() -> None:
    inside = b"\x19x" + name_octets("shop.svc.cluster.local")
    assert begin(searching()).autopath.steps(inside) == []


def test_only_addresses_are_searched_for() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    world.put("api.example.com", "TXT", 30, "text")
    assert world.resolve(LONG, "A").read().data == ("192.0.2.1", "api.example.com.")
    assert world.resolve(LONG, "TXT").read().rcode == "NXDOMAIN"


@pytest.mark.parametrize("flags", [{"do": True}, {"cd": True}, {"rdclass": "CH"}])
def test_who_validates_searches_alone(flags: dict[str, Any]) -> None:
    """Nobody has signed the alias, and no other class has pods."""
    engine = begin(searching())
    engine.client(build.query(LONG, **flags), None, 1000.0)
    (ask,) = asks(engine)
    denial = build.answer_wire(b"\0\7" + ask.wire, rcode=3, authority=build.soa(".", 9, 9))
    assert engine.answer(ask, denial, 1000.0)
    (octets,) = replies(engine)
    assert dns.message.from_wire(octets).rcode() == 3
    assert asks(engine) == []


def test_the_case_of_the_question_is_the_clients() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    asked = world.resolve(LONG.title())
    assert asked.reply is not None
    assert dns.message.from_wire(asked.reply).question[0].name.to_text() == LONG.title() + "."


def test_many_ask_while_a_walk_goes_on() -> None:
    """One question of each step goes upstream, however many walk, and each has its reply."""
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    asked = [world.ask(LONG) for _ in range(50)]
    world.advance(1.0)
    assert {one.read().data for one in asked} == {("192.0.2.1", "api.example.com.")}
    assert world.packets() == 4
    assert world.engine.autopath.waiting == 0


def test_a_finished_walk_is_a_finished_reply_until_a_step_is_due() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    world.resolve(LONG)
    first = world.ask(LONG)
    packet = world.engine.datagrams.table[first.data[2:]]
    assert world.now < packet.until <= world.now + 1
    again = world.ask(LONG)
    assert packet.hits == 1
    assert again.read() == first.read()


def test_a_denial_on_the_way_is_never_repeated_as_the_answer() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 3, "192.0.2.1")  # the denials before it live for longer
    world.resolve(LONG)
    world.advance(3.5)
    pending = world.ask(LONG)  # the first steps are remembered, the last is not
    assert pending.reply is None
    assert pending.data[2:] not in world.engine.datagrams.table
    world.advance(0.1)
    assert pending.read().data == ("192.0.2.1", "api.example.com.")


def test_an_answer_too_big_for_the_client_is_cut() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, *(f"192.0.2.{n}" for n in range(1, 29)))
    plain = world.resolve("api.example.com", edns=None)
    assert plain.read().flags & 0x0200 == 0  # 479 octets, and an alias needs more
    assert world.resolve(LONG, edns=None).read().flags & 0x0200
    assert len(world.resolve(LONG, edns=None, stream=True).read().data) == 29
    world.put("big.example", "A", 30, *(f"192.0.2.{n}" for n in range(1, 99)))
    assert world.resolve("big.example.shop.svc.cluster.local").read().flags & 0x0200


def test_what_cannot_be_written_is_left_to_the_client() -> None:
    """An alias would push a pointer of this answer beyond what a pointer reaches."""
    engine = begin(searching())
    engine.client(build.query("x.shop.svc.cluster.local"), None, 1000.0, True)
    for _ in range(3):
        (ask,) = asks(engine)
        denial = build.answer_wire(b"\0\7" + ask.wire, rcode=3, authority=build.soa(".", 30, 30))
        assert engine.answer(ask, denial, 1000.0)
        engine.autopath.settle(1000.0)
    (ask,) = asks(engine)
    many = "\n".join(f"x. 5 IN A 10.{n >> 8}.{n & 255}.1" for n in range(1022))
    far = "tail.example. 5 IN A 10.9.9.9\nmore.tail.example. 5 IN A 10.9.9.9"
    wire = build.answer_wire(b"\0\7" + ask.wire, many, additional=far)
    assert wire.rindex(b"\4tail\7example") < 0x3FFF
    assert engine.answer(ask, wire, 1000.0)
    engine.autopath.settle(1000.0)
    (octets,) = replies(engine)
    found = dns.message.from_wire(octets)
    assert (found.rcode(), found.answer) == (3, [])
    assert found.question[0].name.to_text() == "x.shop.svc.cluster.local."


def test_data_that_holds_no_name_costs_nobody_a_reply() -> None:
    """An upstream may write anything into its records; the walks of others end all the same."""
    engine = begin(searching())
    names = ("x.shop.svc.cluster.local", "y.shop.svc.cluster.local")
    for name in names:
        engine.client(build.query(name), name, 1000.0)
    for _ in range(3):
        for ask in asks(engine):
            denial = build.answer_wire(b"\0\7" + ask.wire, rcode=3, authority=build.soa(".", 9, 9))
            assert engine.answer(ask, denial, 1000.0)
        engine.autopath.settle(1000.0)
    broken, whole = asks(engine)
    wire = build.answer_wire(b"\0\7" + broken.wire, "x. 5 IN A 192.0.2.1", edns=None)
    ns = b"\0" + struct.pack("!HHIH", 2, 1, 5, 1) + b"\1"  # a label without its octet
    assert engine.answer(broken, wire[:8] + b"\0\1" + wire[10:] + ns, 1000.0)
    wire = build.answer_wire(b"\0\7" + whole.wire, "y. 5 IN A 192.0.2.2")
    assert engine.answer(whole, wire, 1000.0)
    engine.autopath.settle(1000.0)
    first, second = map(dns.message.from_wire, replies(engine))
    assert (first.rcode(), first.answer) == (3, [])
    assert first.question[0].name.to_text() == f"{names[0]}."
    assert [rrset.to_text() for rrset in second.answer] == [
        f"{names[1]}. 5 IN CNAME y.", "y. 5 IN A 192.0.2.2",
    ]  # fmt: skip


def test_steps_that_clients_have_just_asked_for_are_found_finished() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    world.resolve(LONG)
    world.advance(1.0)
    direct = [world.ask(name) for name in ("api.example.com.cluster.local", "api.example.com")]
    before = [world.engine.datagrams.table[asked.data[2:]].hits for asked in direct]
    assert world.ask(LONG).read().data == ("192.0.2.1", "api.example.com.")
    after = [world.engine.datagrams.table[asked.data[2:]].hits for asked in direct]
    assert (before, after) == ([0, 0], [1, 1])


@pytest.mark.parametrize("edns", [None, 1232])
def test_a_failure_says_why_about_the_clients_own_question(edns: int | None) -> None:
    world = World(searching())
    world.behave("servfail", suffix="svc.cluster.local")
    world.put("gone.shop.svc.cluster.local", "A", 30, "10.1.0.1")
    asked = world.resolve(LONG, edns=edns)
    assert asked.reply is not None
    found = dns.message.from_wire(asked.reply)
    assert found.rcode() == 2
    assert found.question[0].name.to_text() == f"{LONG}."
    assert bool(found.extended_errors()) is (edns is not None)


def test_a_later_step_that_fails_ends_the_walk() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    world.behave("servfail", suffix="com.cluster.local")
    asked = world.resolve(LONG)
    assert asked.read().rcode == "SERVFAIL"
    assert asked.read().ede
    assert asked.reply is not None
    assert dns.message.from_wire(asked.reply).question[0].name.to_text() == f"{LONG}."


def test_settings_change_while_a_walk_is_under_way() -> None:
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    asked = world.ask(LONG)
    world.reload(searching(replace(ON, autopath=False)))
    world.advance(1.0)
    assert asked.read().data == ("192.0.2.1", "api.example.com.")
    assert world.resolve(LONG).read().rcode == "NXDOMAIN"
    world.reload(searching())
    assert world.resolve(LONG).read().rcode == "NOERROR"


def test_a_walk_under_way_is_answered_at_the_end() -> None:
    world = World(searching())
    world.behave("silent")
    asked = world.ask(LONG)
    world.stop()
    assert asked.read().rcode == "SERVFAIL"


def test_a_walk_that_could_go_on_at_the_end_is_answered_too() -> None:
    """The denial of its first step is remembered, and would have it ask for the next one."""
    world = World(searching())
    world.put("api.example.com", "A", 30, "192.0.2.1")
    world.resolve(LONG)
    world.advance(400.0)  # past the TTL of all that it was told
    world.behave("silent")
    asked = world.ask(LONG)
    world.stop()
    assert asked.read().data == ("192.0.2.1", "api.example.com.")
    assert not world.engine.asking.flights


def test_a_denial_is_as_old_as_it_is_when_the_search_ends() -> None:
    """A slow search that comes to nothing is told what is known of its first step by then."""
    world = World(searching())
    world.behave("ok", latency=1.5)
    nobody = "nobody.shop.svc.cluster.local"
    pending = world.ask(nobody)
    world.advance(5.9)
    assert pending.reply is None
    world.advance(1.0)
    assert (pending.read().rcode, pending.read().ttls) == ("NXDOMAIN", (26,))  # of 30 seconds
    world.advance(0.1)
    assert world.ask(nobody).read().ttls == (25,)


def test_a_name_that_appears_while_it_is_searched_for_is_found() -> None:
    world = World(searching())
    world.behave("ok", latency=1.0)
    pending = world.ask("new.shop.svc.cluster.local")
    world.advance(1.1)
    world.put("new.shop.svc.cluster.local", "A", 5, "10.1.0.9")
    world.engine.forget(name_octets("new.shop.svc.cluster.local") + b"\0\1\0\1\0")  # no room, say
    world.advance(4.0)
    assert pending.read().data == ("10.1.0.9",)


@pytest.mark.parametrize(("latency", "questions"), [(0.01, 4), (1.0, 5)])
def test_a_denial_that_is_not_kept_is_asked_for_anew_only_if_it_is_old(
    latency: float, questions: int
) -> None:
    world = World(searching())
    world.behave("empty-nxdomain", latency=latency)
    assert world.resolve("nobody.shop.svc.cluster.local").read().rcode == "NXDOMAIN"
    assert len({ask.flight for _, ask in world.sent if not ask.probe}) == questions


def test_a_loop_is_found_behind_a_walk() -> None:
    """The first step of a walk has the octets of the query, which may be our own."""
    world = World(searching())
    world.behave("itself")
    assert world.resolve(LONG).read().rcode == "SERVFAIL"
    assert world.engine.counters.loops == 1
    assert world.packets() < 5
