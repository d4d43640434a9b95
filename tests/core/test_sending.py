"""What goes to an upstream, to which of them, and when it is sent again.

Asks and answers are handed over by hand, at instants given by hand. What comes of them is told in
`test_asking.py`.
"""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import pytest

from dnsguard.core.engine import Engine
from dnsguard.core.policy import AskPolicy, Policy, StalePolicy, Upstream, Zone
from dnsguard.core.wire import name_octets
from tests.core import build
from tests.core.byhand import (
    HEADER,
    NAME,
    T0,
    ask_for,
    begin,
    good,
    octets_of,
    server_of,
    taken,
    told,
)

# -- what is sent -------------------------------------------------------------------------------


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("cd", [False, True])
def test_an_ask_is_our_own_message_with_our_own_opt(do: bool, cd: bool) -> None:
    engine = begin()
    theirs = (dns.edns.GenericOption(dns.edns.COOKIE, b"client's"), dns.edns.ECSOption("192.0.2.0"))
    query = build.query(NAME.upper(), edns=4096, do=do, cd=cd, rd=False, options=theirs)
    engine.client(query, None, T0)
    (ask,) = taken(engine)
    message = dns.message.from_wire(octets_of(ask))
    assert message.flags == dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
    assert message.question[0].name.to_text() == NAME + "."
    assert message.edns == 0
    assert message.payload == 1232
    assert bool(message.ednsflags & dns.flags.DO) is do
    (cookie,) = message.options
    assert isinstance(cookie, dns.edns.CookieOption)
    assert (len(cookie.client), cookie.server) == (8, b"")
    assert cookie.client != b"client's"
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
