"""A question under way: which of its instants comes next, and who waits for it."""

from __future__ import annotations

import pytest

from dnsguard.core.flights import Ask, Flight
from dnsguard.core.policy import Upstream, Zone
from dnsguard.core.reply import EDE_UNREACHABLE
from dnsguard.core.zones import Server, ZoneState

KEY = b"\x03web\0\0\x01\0\x01\0"


def zone() -> ZoneState:
    upstream = Upstream("10.0.0.53")
    return ZoneState(Zone(".", (upstream,)), (Server(upstream, 0.0),))


def test_a_new_flight_waits_for_nothing_yet() -> None:
    flight = Flight(KEY, KEY[:-1], zone(), 5.0)
    assert flight.began == 5.0
    assert flight.at == float("inf")
    assert (flight.over, flight.late, flight.queued) == (False, False, False)
    assert len(flight.waiters) == len(flight.asks) == 0
    assert flight.code == EDE_UNREACHABLE  # what a client hears if nobody says anything better


@pytest.mark.parametrize(
    ("silent_at", "retry_at", "ends", "at"),
    [(1.0, 2.0, 3.0, 1.0), (2.0, 1.0, 3.0, 1.0), (3.0, 2.0, 1.0, 1.0), (9.0, 9.0, 9.0, 9.0)],
)
def test_the_next_instant_is_the_earliest(
    silent_at: float, retry_at: float, ends: float, at: float
) -> None:
    flight = Flight(KEY, KEY[:-1], zone(), 0.0)
    flight.silent_at, flight.retry_at, flight.ends = silent_at, retry_at, ends
    flight.plan()
    assert flight.at == at


def test_an_ask_has_no_id_before_its_sender_draws_one() -> None:
    flight = Flight(KEY, KEY[:-1], zone(), 0.0)
    ask = Ask(flight, flight.zone.servers[0], b"octets", 1.5, stream=True, probe=False)
    assert ask.id == -1
    assert (ask.sent, ask.stream, ask.probe) == (1.5, True, False)
