"""Forwarding loops: one of our own questions that comes back to us as if a client had asked it.

An upstream that leads back to dnsguard would have it ask itself for ever, and an answer of its own
would come back as a fresh one and never die. A query is ours if it has the octets and the id of an
ask under way and was sent from the socket that the ask left by; only the network knows the latter.
"""

from __future__ import annotations

from collections.abc import Callable

from dnsguard.core.actions import Actions, Notice
from dnsguard.core.answering import Answering
from dnsguard.core.autopath import Walk
from dnsguard.core.counters import Counters
from dnsguard.core.flights import Ask, Flight
from dnsguard.core.reply import EDE_NETWORK
from dnsguard.core.wire import SERVFAIL, Query


def _sender(query: Query) -> object:
    """Whoever sent the query; the first step of a walk has the octets that a client sent."""
    client = query.client
    return client.query.client if isinstance(client, Walk) else client


class Loops:
    """Finds loops and breaks them; `fail` ends a flight without an answer."""

    def __init__(
        self,
        is_ours: Callable[[object, Ask], bool],
        fail: Callable[[Flight, int, str, float], None],
        answering: Answering,
        out: Actions,
        counters: Counters,
    ) -> None:
        self._is_ours = is_ours
        self._fail = fail
        self._answering = answering
        self._out = out
        self._counters = counters

    def broken(self, flight: Flight, query: Query, data: bytes, now: float) -> bool:
        """Break the loop if this query is an ask of `flight`, come back to us; True if it is."""
        number = int.from_bytes(query.id, "big")
        for ask in flight.asks:
            if ask.id == number and data[2:] == ask.wire and self._is_ours(_sender(query), ask):
                self._break(flight, query, now)
                return True
        return False

    def _break(self, flight: Flight, query: Query, now: float) -> None:
        self._counters.loops += 1
        label = flight.asks[-1].server.label
        text = f"forwarding loop: upstream {label} leads back to dnsguard itself"
        if self._counters.loops == 1:
            self._out.notices.append(Notice("error", "loop", text))
        self._answering.refuse(query, SERVFAIL, EDE_NETWORK, text)
        self._fail(flight, EDE_NETWORK, text, now)
