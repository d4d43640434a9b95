"""Which queries are our own asks, come back to us; what clients see of it is in `scenarios/`."""

from __future__ import annotations

import random

from dnsguard.core.engine import Engine
from tests.core import build
from tests.core.byhand import NAME, T0, ask_for, octets_of, taken, told
from tests.core.world import one_zone


def test_an_ask_that_comes_back_from_our_own_socket_ends_its_flight() -> None:
    engine = Engine(one_zone(), random.Random(1), T0, lambda client, ask: client == "socket")
    ask = ask_for(engine)
    engine.client(octets_of(ask), "socket", T0 + 0.01)
    assert told(engine) == ["SERVFAIL", "SERVFAIL"]  # the loop's end, and the client that waited
    assert not engine.asking.flights
    assert engine.counters.loops == 1
    (notice,) = engine.out.notices
    assert notice.text == "forwarding loop: upstream 10.0.0.53:53 leads back to dnsguard itself"


def test_a_client_that_sends_the_same_octets_is_a_client() -> None:
    engine = Engine(one_zone(), random.Random(1), T0, lambda client, ask: client == "socket")
    ask = ask_for(engine)
    engine.client(octets_of(ask), "client", T0 + 0.01)
    engine.client(b"\0\x08" + ask.wire, "socket", T0 + 0.01)  # another id: not the one sent
    engine.client(build.query(NAME, id=7, edns=512), "socket", T0 + 0.01)  # other octets
    assert told(engine) == []
    assert taken(engine) == []
    assert engine.counters.coalesced == 3
    assert engine.counters.loops == 0


def test_every_loop_is_counted_and_the_first_is_told() -> None:
    engine = Engine(one_zone(), random.Random(1), T0)
    for n in range(3):
        ask = ask_for(engine, f"web{n}.local")
        engine.client(octets_of(ask), "socket", T0 + 0.01)
    assert engine.counters.loops == 3
    assert len(engine.out.notices) == 1
