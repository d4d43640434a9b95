"""What goes to an upstream, which of its messages count, and what is concluded from them.

Asks and answers are handed over by hand, at instants given by hand. How upstreams that misbehave
look to clients is told in `scenarios/`.
"""

from __future__ import annotations

import random
from dataclasses import replace

import dns.flags
import dns.message
import pytest

from dnsguard.core.asking import EDNS_PAUSE, SAMPLE_PAUSE
from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.health import Event, State
from dnsguard.core.policy import AskPolicy, Policy, StalePolicy, Upstream, Zone
from dnsguard.core.wire import name_octets
from dnsguard.core.zones import KNOWN_PAUSE, Server
from tests.core import build
from tests.core.watch import read
from tests.core.world import one_zone

T0 = 1000.0
NAME = "web.cluster.local"
A = f"{NAME}. 30 IN A 10.1.0.1"
HEADER = 12


def begin(ask: AskPolicy | None = None, *hosts: str) -> Engine:
    return Engine(replace(one_zone(*hosts), ask=ask or AskPolicy()), random.Random(1), T0)


def ask_for(engine: Engine, name: str = NAME, now: float = T0, cd: bool = False) -> Ask:
    """Have a client ask, and return what goes to the upstream."""
    engine.client(build.query(name, cd=cd), "client", now)
    return taken(engine)[0]


def taken(engine: Engine) -> list[Ask]:
    asks, engine.out.asks = engine.out.asks, []
    return asks


def octets_of(ask: Ask) -> bytes:
    ask.id = 7
    return b"\0\7" + ask.wire


def good(ask: Ask, answer: str = A) -> bytes:
    return build.answer_wire(octets_of(ask), answer)


def told(engine: Engine) -> list[str]:
    replies, engine.out.replies = engine.out.replies, []
    return [read(octets).rcode for _, octets in replies]


def server_of(engine: Engine) -> Server:
    return engine.zones.root.servers[0]


# -- what is sent -------------------------------------------------------------------------------


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("cd", [False, True])
def test_an_ask_is_our_own_message_with_our_own_opt(do: bool, cd: bool) -> None:
    engine = begin()
    query = build.query(NAME.upper(), edns=4096, do=do, cd=cd, rd=False)
    engine.client(query, None, T0)
    (ask,) = taken(engine)
    message = dns.message.from_wire(octets_of(ask))
    assert message.flags == dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
    assert message.question[0].name.to_text() == NAME + "."
    assert message.edns == 0
    assert message.payload == 1232
    assert bool(message.ednsflags & dns.flags.DO) is do
    assert message.options == ()
    assert not ask.stream


def test_a_server_over_tcp_is_asked_over_tcp() -> None:
    upstream = Upstream("10.0.0.53", transport="tcp")
    engine = Engine(Policy(zones=(Zone(".", (upstream,)),)), random.Random(1), T0)
    ask = ask_for(engine)
    assert ask.stream
    assert engine.answer(ask, good(ask), T0 + 0.1)
    assert server_of(engine).health.outcomes["ok"] == 1
    assert server_of(engine).health.trip.present > 0


def test_letters_change_their_case_and_nothing_else_does() -> None:
    engine = begin(AskPolicy(case_randomization=True))
    name = "x-12_z." + "abcdefghijklmnopqrstuvwxyz." * 8
    spellings = set()
    for n in range(20):
        ask = ask_for(engine, name, cd=bool(n % 2), now=T0 + 40 * n)
        spelled = octets_of(ask)[HEADER : HEADER + len(name) + 1]
        assert spelled.lower() == name_octets(name)
        spellings.add(spelled)
        assert engine.answer(ask, good(ask, f"{name} 1 IN A 10.1.0.1"), T0 + 40 * n)
    assert len(spellings) == 20


# -- which messages count -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "spoil"),
    [
        ("short", lambda good: good[:20]),
        ("short", lambda good: good[:3]),
        ("not_a_reply", lambda good: good[:2] + b"\x01" + good[3:]),
        ("not_a_reply", lambda good: good[:2] + b"\xa1" + good[3:]),
        ("not_a_reply", lambda good: good[:4] + b"\0\0" + good[6:]),
        ("not_a_reply", lambda good: good[:4] + b"\0\2" + good[6:]),
        ("question", lambda good: good.replace(b"\x03web", b"\x03wab", 1)),
        ("question", lambda good: good.replace(b"\0\0\1\0\1", b"\0\0\x1c\0\1", 1)),
        ("question", lambda good: good.replace(b"\0\0\1\0\1", b"\0\0\1\0\3", 1)),
        ("garbage", lambda good: good[:6] + b"\xff\xff" + good[8:]),
        ("garbage", lambda good: good + b"\0"),
    ],
)
def test_a_message_that_is_no_answer_does_not_end_the_wait(why: str, spoil: object) -> None:
    engine = begin()
    ask = ask_for(engine)
    assert callable(spoil)
    assert engine.answer(ask, spoil(good(ask)), T0 + 0.01) is False
    assert engine.counters.ignored == {why: 1}
    assert told(engine) == []
    assert server_of(engine).health.heard < T0
    assert engine.answer(ask, good(ask), T0 + 0.02) is True
    assert told(engine) == ["NOERROR"]


def test_another_spelling_of_the_question_is_the_same_question() -> None:
    engine = begin()
    ask = ask_for(engine)
    assert engine.answer(ask, good(ask).replace(b"\x03web", b"\x03WEB"), T0) is True


def test_what_comes_after_the_end_is_taken_without_a_word() -> None:
    engine = begin(AskPolicy(attempts=1))
    ask = ask_for(engine)
    engine.failed(ask, Event.REFUSED, T0)
    assert told(engine) == ["SERVFAIL"]
    assert engine.answer(ask, good(ask), T0) is True
    engine.failed(ask, Event.REFUSED, T0)
    assert told(engine) == []
    assert len(engine.cache) == 0
    assert server_of(engine).health.state is State.SUSPECT


# -- when is asked again ------------------------------------------------------------------------


def instants(engine: Engine, until: float) -> list[float]:
    """When what went out in this time went out, in seconds after T0, without probes."""
    found = []
    while (due := engine.deadline()) is not None and due < until:
        engine.tick(due)
        found += [round(ask.sent - T0, 2) for ask in taken(engine) if not ask.probe]
    return found


@pytest.mark.parametrize(("attempts", "expected"), [(1, []), (2, [0.81]), (3, [0.81, 2.14])])
def test_tries_are_few_and_further_apart(attempts: int, expected: list[float]) -> None:
    # Two upstreams, one of which is never heard: the zone is not in outage.
    engine = begin(AskPolicy(attempts=attempts), "10.0.0.1", "10.0.0.2")
    ask_for(engine)
    assert instants(engine, T0 + 6) == pytest.approx(expected, abs=0.011)
    assert told(engine) == ["SERVFAIL"]


def test_in_an_outage_nothing_is_tried_again() -> None:
    engine = begin()
    ask_for(engine)
    assert instants(engine, T0 + 6) == [0.8]  # known to be one only after the second try
    assert engine.zones.root.outage
    assert told(engine) == ["SERVFAIL"]


def test_a_failure_is_followed_by_the_next_try_at_once_and_elsewhere() -> None:
    engine = begin(None, "10.0.0.1", "10.0.0.2")
    first = ask_for(engine)
    assert engine.answer(first, build.answer_wire(octets_of(first), rcode=2), T0 + 0.1)
    (second,) = taken(engine)
    assert second.server is not first.server
    assert engine.answer(second, good(second), T0 + 0.2)
    assert told(engine) == ["NOERROR"]


def test_a_deadline_before_the_client_timer_is_kept() -> None:
    zone = Zone(".", (Upstream("10.0.0.53"),), StalePolicy(client_timeout=1.8))
    engine = Engine(Policy(zones=(zone,), ask=AskPolicy(deadline=0.2)), random.Random(1), T0)
    ask_for(engine)
    instants(engine, T0 + 0.3)
    assert told(engine) == ["SERVFAIL"]


# -- EDNS ---------------------------------------------------------------------------------------


def test_a_server_that_chokes_on_edns_is_asked_without_for_a_while() -> None:
    engine = begin()
    ask = ask_for(engine)
    formerr = build.answer_wire(octets_of(ask), rcode=1, edns=None)
    assert engine.answer(ask, formerr, T0)
    (plain,) = taken(engine)
    assert dns.message.from_wire(octets_of(plain)).edns == -1
    assert engine.answer(plain, good(plain), T0)
    assert told(engine) == ["NOERROR"]
    assert server_of(engine).health.strikes == 0
    later = T0 + EDNS_PAUSE - 1
    assert dns.message.from_wire(octets_of(ask_for(engine, now=later))).edns == -1
    later += 10
    assert dns.message.from_wire(octets_of(ask_for(engine, "db.local", now=later))).edns == 0


@pytest.mark.parametrize("dead", [False, True])
def test_tries_that_all_meet_formerr_lead_to_one_without_edns(dead: bool) -> None:
    engine = begin(None, "10.0.0.1", "10.0.0.2")
    first = ask_for(engine)
    first.server.zones[0].servers = first.server.zones[0].servers[:1]  # it alone is left to ask
    engine.tick(T0 + 0.82)
    second = next(ask for ask in taken(engine) if not ask.probe)
    formerr = build.answer_wire(octets_of(first), rcode=1, edns=None)
    assert engine.answer(first, formerr, T0 + 0.9)
    (plain,) = taken(engine)
    if dead:
        assert engine.answer(plain, formerr, T0 + 0.9)
        (third,) = taken(engine)
        assert engine.answer(third, formerr, T0 + 0.9)
        assert told(engine) == []
    assert engine.answer(second, formerr, T0 + 0.91)
    assert taken(engine) == []
    if not dead:
        assert engine.answer(plain, good(plain), T0 + 0.92)
    assert told(engine) == ["SERVFAIL" if dead else "NOERROR"]


def test_formerr_without_edns_is_an_error() -> None:
    engine = begin(AskPolicy(attempts=1))
    ask = ask_for(engine)
    for _ in range(2):
        assert engine.answer(ask, build.answer_wire(octets_of(ask), rcode=1, edns=None), T0)
        ask = (taken(engine) or [ask])[0]
    assert told(engine) == ["SERVFAIL"]


# -- what is learned on the way ------------------------------------------------------------------


def test_round_trips_are_measured_once_a_millisecond() -> None:
    engine = begin()
    trip = server_of(engine).health.trip
    for n, now in enumerate((T0, T0 + SAMPLE_PAUSE / 2, T0 + 2 * SAMPLE_PAUSE)):
        ask = ask_for(engine, f"web{n}.local", now - 0.1)
        engine.answer(ask, good(ask, f"web{n}.local. 30 IN A 10.1.0.1"), now)
        assert trip.at == (T0, T0, T0 + 2 * SAMPLE_PAUSE)[n]


def test_a_name_to_probe_with_is_kept_once_a_second() -> None:
    engine = begin()
    known = engine.zones.root.known
    for n, now in enumerate((T0, T0 + KNOWN_PAUSE / 2, T0 + KNOWN_PAUSE)):
        ask = ask_for(engine, f"web{n}.local", now)
        engine.answer(ask, good(ask, f"web{n}.local. 30 IN A 10.1.0.1"), now)
    assert [key[1:5] for key in known] == [b"web0", b"web2"]


# -- TCP for what is cut ------------------------------------------------------------------------


def test_two_cut_answers_lead_to_one_question_over_tcp() -> None:
    engine = begin(None, "10.0.0.1", "10.0.0.2")
    first = ask_for(engine)
    instants_before = engine.deadline()
    assert instants_before is not None
    engine.tick(T0 + 0.81)
    again = [ask for ask in taken(engine) if not ask.probe]
    cut = build.answer_wire(octets_of(first), tc=True)
    assert engine.answer(first, cut, T0 + 0.82)
    (stream,) = taken(engine)
    assert stream.stream
    assert stream.server is first.server
    for ask in again:
        assert engine.answer(ask, build.answer_wire(octets_of(ask), tc=True), T0 + 0.83)
    others = taken(engine)
    assert all(ask.server is not first.server for ask in others)
    assert engine.answer(stream, good(stream), T0 + 0.84)
    assert told(engine) == ["NOERROR"]
