"""What is fuzzed where an answer becomes the answer to another question, or to nobody's.

Search lists that are walked, answers that are put behind an alias, records that are cut out of a
message, and drills. As in `targets`, a target takes octets and raises if a promise is broken.
"""

from __future__ import annotations

import random
from struct import Struct

from dnsguard.core import reply
from dnsguard.core.answer import Answer, Kind, read_answer
from dnsguard.core.chain import CHAIN_MAX, names_in, without
from dnsguard.core.drill import KINDS, Drill, Plan, begin
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.flights import Ask
from dnsguard.core.graft import grafted
from dnsguard.core.kept import restore
from dnsguard.core.policy import Kubernetes, Policy, Upstream, Zone
from dnsguard.core.wire import (
    HEADER_OCTETS,
    RECORD,
    T_CNAME,
    name_octets,
    read_name,
    read_query,
    skip_name,
)
from dnsguard.core.zones import build_zones
from dnsguard.errors import WireError

MAX_TTL, MAX_NEGATIVE = 86400, 300
NOW = 1000.0
ZONES = (Zone(".", (Upstream("192.0.2.53"),)),)
POLICY = Policy(zones=ZONES)
SEARCHING = Policy(zones=ZONES, kubernetes=Kubernetes(autopath=True, namespace="shop"))
ZONE = build_zones(POLICY, NOW, {}).root
QUESTION = b"\3www\7example\0\0\1\0\1"
START = HEADER_OCTETS + len(QUESTION)
HEAD = b"\x81\x80\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
SEARCHED = name_octets("www.example.shop.svc.cluster.local") + b"\0\1\0\1"
BESIDE = name_octets("db.shop.svc.cluster.local") + b"\0\1\0\1"
_COUNTS = Struct("!HHH")


def _asking(question: bytes, edns: bool) -> bytes:
    counts = b"\0\1\0\0\0\0\0\1" if edns else b"\0\1\0\0\0\0\0\0"
    return b"\xab\xcd\1\0" + counts + question + (OPT if edns else b"")


def _records(wire: bytes, start: int) -> list[tuple[object, ...]]:
    """Every record by what it says: its owner, type, class, TTL, and its data with names read."""
    found: list[tuple[object, ...]] = []
    position = start
    for _ in range(sum(_COUNTS.unpack_from(wire, 6))):
        owner = _said(wire, position)
        position = skip_name(wire, position)
        rtype, rclass, ttl, length = RECORD.unpack_from(wire, position)
        position += RECORD.size
        end = position + length
        try:
            places = names_in(wire, position, end, rtype)
        except WireError:
            places = ()
        names = [_said(wire, place) for place in places]
        rest = skip_name(wire, places[-1]) if places else position
        before = wire[position : places[0]] if places else b""
        found.append((owner, rtype, rclass, ttl, before, *names, wire[rest:end]))
        position = end
    return found


def _said(wire: bytes, position: int) -> bytes | None:
    try:
        return read_name(wire, position)
    except WireError:
        return None


def _upstream(question: bytes, data: bytes, rcode: int = 0) -> bytes:
    """A reply to `question` whose counts and sections are `data`."""
    head = b"\0\0\x81" + bytes((0x80 | rcode,)) + b"\0\1"
    return head + data[:6].ljust(6, b"\0") + question + data[6:]


def graft(data: bytes) -> None:
    """An answer behind an alias says what it said before, or is none."""
    wire = _upstream(QUESTION, data)
    try:
        found = read_answer(wire, QUESTION, 1, MAX_TTL, MAX_NEGATIVE)
    except WireError:
        return
    if found.rcode or (found.kind is Kind.LAME and not found.offsets):
        return
    entry = Entry(QUESTION + b"\0", found, ZONE, NOW)
    for edns in (False, True):
        heard = read_query(_asking(QUESTION, edns), None, NOW, True)
        for before in (reply.fresh(entry, heard, NOW), reply.stale(entry, heard, "outage", NOW)):
            after = grafted(before, SEARCHED)
            if after is not None:
                _same_behind_alias(before, after, found)


def _same_behind_alias(before: bytes, after: bytes, found: Answer) -> None:
    start = HEADER_OCTETS + len(SEARCHED)
    assert after[HEADER_OCTETS:start] == SEARCHED
    assert not after[3] & 0x20, "an alias that nobody signed"
    alias, *rest = _records(after, start)
    assert rest == _records(before, START)
    name = QUESTION[:-4]
    assert alias[:3] == (SEARCHED[:-4], T_CNAME, 1)
    assert name in alias
    ttl = alias[3]
    assert isinstance(ttl, int)
    try:
        again = read_answer(after, SEARCHED, 1, MAX_TTL, MAX_NEGATIVE)
    except WireError as error:
        assert "different names" in str(error)
        return
    links = sum(1 for record in rest if record[1] == T_CNAME)
    if found.kind in (Kind.LAME, Kind.UNPROVEN):
        assert again.kind is Kind.LAME  # an alias of nothing
    elif again.kind is not found.kind:  # one link more than a chain may have
        assert links >= CHAIN_MAX, (found.kind, again.kind)
    elif found.kind is Kind.POSITIVE:
        assert again.ttl == ttl


def cut(data: bytes) -> None:
    """A message without some of its records says the same with the others."""
    chosen, data = data[:1] or b"\0", data[1:]
    wire = b"\0\0" + HEAD + data[:6].ljust(6, b"\0") + QUESTION + data[6:]
    count = wire[6] << 8 | wire[7]
    gone = {index for index in range(min(count, 8)) if chosen[0] >> index & 1}
    try:
        left = without(wire, START, gone)
    except WireError:
        return
    whole = [r for index, r in enumerate(_records(wire, START)) if index not in gone]
    assert _records(left, START) == whole
    assert without(left, START, set()) == left


def walk(data: bytes) -> None:
    """A search is answered once, whatever an upstream says on its way, and so is another one's."""
    flags, data = data[0] if data else 0, data[1:]
    edns, stream, depth, rcode = flags & 1, bool(flags & 2), flags >> 2 & 3, flags >> 4 & 3
    engine = Engine(SEARCHING, random.Random(1), NOW)
    asked = {"fuzz": _asking(SEARCHED, bool(edns)), "beside": _asking(BESIDE, True)}
    for client, query in asked.items():
        engine.client(query, client, NOW, stream)
    steps = 0
    while engine.out.asks:
        asks, engine.out.asks[:] = engine.out.asks[:], []
        for ask in asks:
            ask.id = 0
            question = ask.flight.question
            mine = question.startswith(QUESTION[:-5])
            if mine and steps == depth:
                engine.answer(ask, _upstream(question, data, rcode), NOW)
            if not ask.flight.over:
                engine.answer(ask, _honest(ask, mine), NOW)
            assert ask.flight.over
        steps += 1
        engine.autopath.settle(NOW)
    assert not engine.asking.flights
    assert engine.autopath.waiting == 0
    got = dict(engine.out.replies)
    assert len(engine.out.replies) == len(got) == 2, "not exactly one reply to a query"
    for client, query in asked.items():
        _is_reply(got[client], query, stream)
    assert got["beside"][3] & 15 == 0
    assert got["beside"].endswith(b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1" + OPT)


def _honest(ask: Ask, mine: bool) -> bytes:
    """Say that there is no such name on the way of a search, and an address at its end."""
    question = ask.flight.question
    if not mine or question == QUESTION:
        data = b"\0\1\0\0\0\0\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1"
        return _upstream(question, data)
    soa = b"\0\0\6\0\1\0\0\0\x1e\0\x16\0\0" + bytes(16) + b"\0\0\0\x1e"
    return _upstream(question, b"\0\0\0\1\0\0" + soa, 3)


def _is_reply(wire: bytes, query: bytes, stream: bool) -> None:
    heard = read_query(query, None, NOW, stream)
    assert wire[:2] == heard.id
    assert wire[2] & 0x80
    assert len(wire) <= heard.limit
    end = HEADER_OCTETS + len(heard.question)
    assert wire[HEADER_OCTETS:end] == heard.question


def drill(data: bytes) -> None:
    """In a drill, too, a query gets exactly one reply, at the latest when the drill ends."""
    kind, data = KINDS[(data[0] if data else 0) % 3], data[1:]
    engine = Engine(SEARCHING, random.Random(1), NOW)
    known = _upstream(QUESTION, b"\0\1\0\0\0\0\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1")
    assert restore(engine, QUESTION + b"\0", known, NOW - 5, NOW)
    plan = Plan("example" if data[:1] < b"\x80" else ".", kind, 60.0, abort_above=1.0)
    drilled = begin(engine, plan, random.Random(2), NOW)
    assert isinstance(drilled, Drill)
    honest = len(data) >= HEADER_OCTETS and not data[2] & 0x80
    queries = [data, _asking(QUESTION, True), _asking(b"\1x\0\0\1\0\1", False)]
    for number, query in enumerate(queries):
        for stream in (False, True):
            engine.client(query, (number, stream), NOW, stream)
    now = NOW
    for _ in range(40):
        engine.autopath.settle(now)
        for ask in engine.out.asks:  # the real upstream says nothing that answers
            engine.answer(ask, _upstream(ask.flight.question, b"", 2), now)
        engine.out.asks.clear()
        due = engine.deadline()
        if due is None or now > NOW + 10:
            break
        now = max(now, due)
        engine.tick(now)
    drilled.end("enough", now)
    engine.shutdown(now)
    engine.autopath.settle(now)
    wanted = {(n, s) for n in range(len(queries)) for s in (False, True) if n or honest}
    clients = [client for client, _ in engine.out.replies]
    assert len(clients) == len(wanted)
    assert set(clients) == wanted
