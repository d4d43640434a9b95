"""Which messages of an upstream count, and what is concluded from them.

Asks and answers are handed over by hand, at instants given by hand. How upstreams that misbehave
look to clients is told in `scenarios/`.
"""

from __future__ import annotations

import dns.flags
import dns.message
import pytest

from dnsguard.core.asking import EDNS_PAUSE, SAMPLE_PAUSE
from dnsguard.core.health import Event, State
from dnsguard.core.policy import AskPolicy
from dnsguard.core.zones import KNOWN_PAUSE
from tests.core import build
from tests.core.byhand import (
    T0,
    ask_for,
    begin,
    good,
    octets_of,
    server_of,
    taken,
    told,
)

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
