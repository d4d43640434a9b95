"""An engine driven by hand: questions, asks and answers handed over at instants given by hand."""

from __future__ import annotations

import random
from dataclasses import replace

from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.policy import AskPolicy
from dnsguard.core.zones import Server
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
