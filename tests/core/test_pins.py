"""Pins by themselves: which win, how they end, how many there may be."""

from __future__ import annotations

import dns.message
import pytest

from dnsguard.core.pins import PINS_MAX, Pin, Pins
from dnsguard.core.wire import name_octets
from tests.core import build
from tests.core.byhand import begin, told

NAME = "web.cluster.local"
FIXED = Pin(NAME, ("10.9.0.1",))
BY_HAND = Pin(NAME, ("10.2.0.1", "fd00::1"), 5, 100.0, 200.0)


def key(rtype: str = "A", rdclass: str = "IN") -> bytes:
    return build.read(build.query(NAME, rtype, rdclass=rdclass)).key


def test_one_set_by_hand_wins_until_it_ends() -> None:
    pins = Pins([FIXED])
    assert pins.find(key(), 0.0) is FIXED
    assert pins.put(BY_HAND)
    assert pins.find(key(), 199.9) is BY_HAND
    assert pins.operators(199.9) == [BY_HAND]
    assert pins.operators(200.0) == []
    assert pins.find(key(), 200.0) is FIXED
    assert pins.remove(name_octets(NAME)) is None


def test_other_settings_leave_an_operators_pins_alone() -> None:
    pins = Pins([FIXED])
    pins.put(BY_HAND)
    pins.obey([])
    assert pins.find(key(), 150.0) is BY_HAND
    assert pins.remove(name_octets(NAME)) is BY_HAND
    assert pins.find(key(), 150.0) is None
    assert not pins.table


@pytest.mark.parametrize(("rtype", "rdclass"), [("TXT", "IN"), ("MX", "IN"), ("A", "CH")])
def test_only_addresses_are_pinned(rtype: str, rdclass: str) -> None:
    assert Pins([FIXED]).find(key(rtype, rdclass), 0.0) is None


def test_there_may_be_only_so_many() -> None:
    engine = begin()
    assert all(engine.pin(Pin(f"web{n}.local", ("10.1.0.1",))) for n in range(PINS_MAX))
    assert not engine.pin(BY_HAND)
    assert engine.pin(Pin("web0.local", ("10.1.0.2",)))


def test_many_addresses_go_by_tcp_where_they_do_not_fit() -> None:
    engine = begin()
    engine.pin(Pin(NAME, tuple(f"10.1.0.{n}" for n in range(60))))
    for stream, cut in ((False, True), (True, False)):
        engine.client(build.query(NAME, edns=512), None, 0.0, stream)
        ((_, octets),) = engine.out.replies
        engine.out.replies.clear()
        message = dns.message.from_wire(octets, raise_on_truncation=False)
        assert bool(message.flags & dns.flags.TC) is cut
        assert sum(map(len, message.answer)) == (0 if cut else 60)
    assert engine.counters.answers["pin", 0] == 2
    assert told(engine) == []
