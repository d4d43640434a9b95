"""What is fuzzed, and what must hold of it whatever comes in.

A target takes octets and raises if a promise is broken: an exception that is no answer to bad
input, an answer that reads past its end, a reply that is not one. `run.py` feeds them, guided by
coverage; `make test` feeds them the corpus and a few thousand mutations of it.
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from dnsguard.admin.control import Arguments, ControlServer, Verb
from dnsguard.config import load
from dnsguard.core import edns, reply
from dnsguard.core.answer import Kind, read_answer
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.framing import FrameReader, frame
from dnsguard.core.kept import read_kept, restore
from dnsguard.core.policy import CachePolicy, Policy, Upstream, Zone
from dnsguard.core.wire import (
    HEADER_OCTETS,
    STREAM_MAX,
    Malformed,
    name_octets,
    name_text,
    read_name,
    read_query,
    skip_name,
)
from dnsguard.core.zones import build_zones
from dnsguard.errors import ConfigError, ControlError, StoreError, WireError
from dnsguard.kube.inject import apply
from dnsguard.kube.profile import Profile
from dnsguard.kube.review import WARNING_CHARS_MAX, NotAReview, answer as answer_review
from dnsguard.store import rows
from tests.fuzz import files, judges, walks

Target = Callable[[bytes], None]
MAX_TTL, MAX_NEGATIVE = 86400, 300
NOW = 1000.0
POLICY = Policy(zones=(Zone(".", (Upstream("192.0.2.53"),)),))
ZONE = build_zones(POLICY, NOW, {}).root
QUESTION = b"\3www\7example\0\0\1\0\1"
HEAD = b"\x81\x80\0\1"


def query(data: bytes) -> None:
    """A client's message: read, or refused with a reply that is one."""
    for stream in (False, True):
        try:
            found = read_query(data, None, NOW, stream)
        except Malformed as why:
            if why.rcode is not None:
                out = reply.malformed(data, why)
                assert out[:2] == data[:2]
                assert out[2] & 0x80
                assert len(out) <= len(data) + 11, "a refusal that amplifies"
            continue
        assert found.key[:-5] == found.question[:-4].lower()
        assert found.key[-5:-1] == found.question[-4:]
        assert 512 <= found.limit <= (STREAM_MAX if stream else 1232)
        for out in (reply.truncated(found), reply.failure(found, 2, 22, "x" * 2000)):
            assert out[:2] == found.id
            assert out[12 : 12 + len(found.question)] == found.question
            assert len(out) <= found.limit
            try:
                read_query(out, None, NOW)
            except Malformed as why:
                assert why.rcode is None, "a reply that is taken for a query"
            else:
                raise AssertionError("a reply that is taken for a query")


def answer(data: bytes) -> None:
    """What follows the question in an upstream's reply: understood or refused, once and for all."""
    counts, sections = data[:6].ljust(6, b"\0"), data[6:]
    wire = b"\0\0" + HEAD + counts + QUESTION + sections
    try:
        found = read_answer(wire, QUESTION, 1, MAX_TTL, MAX_NEGATIVE)
    except WireError:
        return
    assert 0 <= found.ttl <= MAX_TTL
    assert len(found.wire) <= STREAM_MAX  # it may grow where records were left out
    end = HEADER_OCTETS + len(QUESTION)
    assert all(end < offset <= len(found.wire) - 6 for offset in found.offsets)
    if found.kind not in (Kind.POSITIVE, Kind.NODATA, Kind.NXDOMAIN):
        return
    for offset in found.offsets:
        assert int.from_bytes(found.wire[offset : offset + 4], "big") <= MAX_TTL
    again = read_answer(found.wire, QUESTION, 1, MAX_TTL, MAX_NEGATIVE)
    assert (again.kind, again.ttl, again.offsets) == (found.kind, found.ttl, found.offsets)
    assert again.wire == found.wire
    asked = b"\xab\xcd\1\0\0\1\0\0\0\0\0\1\3WwW\7eXample\0\0\1\0\1\0\0\x29\x04\xd0\0\0\0\0\0\0"
    entry = Entry(b"\3www\7example\0\0\1\0\1\0", found, ZONE, NOW)
    for stream in (False, True):
        heard = read_query(asked, None, NOW, stream)
        for out in (
            reply.fresh(entry, heard, NOW + 1), reply.stale(entry, heard, "outage", NOW + 1e6)
        ):  # fmt: skip
            assert len(out) <= heard.limit
            assert out[12 : 12 + len(heard.question)] == heard.question


_engine = Engine(POLICY, random.Random(1), NOW)
_clock = [NOW]


def engine(data: bytes) -> None:
    """Both faces of one engine that goes on and on: at most one reply to a client's message."""
    out = _engine.out
    now = _clock[0] = _clock[0] + 0.001
    _engine.tick(now)
    flights = _engine.asking.flights
    honest = len(data) >= HEADER_OCTETS and not data[2] & 0x80
    for count, stream in ((1, False), (2, True)):
        _engine.client(data, "fuzz", now, stream)
        waiting = sum(len(flight.waiters) for flight in flights.values())
        assert len(out.replies) + waiting == count * honest, "not exactly one reply to a query"
    asks, out.asks[:] = out.asks[:], []
    for ask in asks:  # the same octets as if an upstream had sent them, and then a real answer
        ask.id = 0
        bad = data[:2] + HEAD + data[6:12] + ask.flight.question + data[12:]
        _engine.answer(ask, data, now)
        _engine.answer(ask, bad, now)
        lost = b"\0\0\x81\x82\0\1\0\0\0\0\0\0" + ask.flight.question
        while not ask.flight.over and ask.flight.asks:
            for one in ask.flight.asks:
                _engine.answer(one, lost, now)
            out.asks.clear()
            if not ask.flight.over:
                _engine.sending.end(ask.flight, now)
    assert not flights
    out.replies.clear()
    _engine.failures.clear()
    _engine.zones.root.outage = False
    for server in _engine.zones.root.servers:
        server.health.state = server.health.state.UP
    out.asks.clear()
    out.notices.clear()


def names(data: bytes) -> None:
    """Names: walked and read to the same end, and told and read back the same."""
    wire = bytes(HEADER_OCTETS) + data
    try:
        end = skip_name(wire, HEADER_OCTETS)
        name = read_name(wire, HEADER_OCTETS)
    except WireError:
        return
    assert HEADER_OCTETS < end <= len(wire)
    assert len(name) <= 255
    assert name_octets(name_text(name)) == name


def options(data: bytes) -> None:
    """The EDNS of an upstream's reply: nothing is read past its end."""
    wire = b"\0\0" + HEAD + b"\0\0\0\0\0\1" + QUESTION + data
    start = HEADER_OCTETS + len(QUESTION)
    for code in (edns.COOKIE, edns.KEEPALIVE):
        found = edns.option(wire, start, code)
        assert found is None or found in data
    assert 0 <= edns.extended_rcode(wire, start) < 4096
    dress = edns.Dress(data[-8:].ljust(8, b"x"), NOW)
    dress.accepts(wire, start)
    assert len(dress.server) <= 32
    assert len(dress.stream(QUESTION, 0, True)) % edns.BLOCK == edns.BLOCK - 2
    edns.idle_time(wire)


def framing(data: bytes) -> None:
    """A stream: cut anywhere, the same messages come out, and no more is kept than one."""
    whole = FrameReader()
    messages = whole.feed(data)
    pieces, found, at = FrameReader(), [], 0
    chance = random.Random(len(data))
    while at < len(data):
        size = chance.randrange(1, 9)
        found += pieces.feed(data[at : at + size])
        at += size
    assert found == messages
    assert pieces.partial == whole.partial
    back = b"".join(map(frame, messages))
    assert data.startswith(back)
    assert len(data) - len(back) < STREAM_MAX + 2


def stored(data: bytes) -> None:
    """A row of the disk, whole and with its checksum made right: taken back, or refused."""
    size = data[0] if data else 0
    key, record = data[1 : 1 + size], data[1 + size :]
    for one in (record, record + rows._SUM.pack(rows._checksum(key, record))):
        try:
            row = rows.decode(key, one)
        except StoreError:
            continue
        again = rows.decode(key, rows.encode(row))
        assert again == row
        try:
            read_kept(key, row.wire, CachePolicy())
        except WireError:
            continue
        fresh = Engine(POLICY, random.Random(1), NOW)
        if restore(fresh, key, row.wire, NOW - 5, NOW):
            entry = fresh.cache.index[key]
            assert entry.expires <= NOW
            assert entry.dies() <= NOW - 5 + MAX_TTL + POLICY.zones[0].stale.max_age


def kept(data: bytes) -> None:
    """A key and an answer from a disk whose checksum fits: what an upstream could have said."""
    size = 12 + (data[0] if data else 0)
    key, wire = data[1:size], data[size:]
    try:
        found = read_kept(key, wire, CachePolicy())
    except WireError:
        return
    assert read_name(bytes(HEADER_OCTETS) + key, HEADER_OCTETS) == key[:-5]
    assert found.ttl <= MAX_TTL


_folder = tempfile.TemporaryDirectory(prefix="dnsguard-fuzz-")


def config(data: bytes) -> None:
    """A settings file: read, or every mistake told with its place."""
    path = Path(_folder.name, "dnsguard.yaml")
    path.write_bytes(data)
    try:
        load((), {}, path, lambda: ("192.0.2.53",))
    except ConfigError as error:
        assert error.mistakes
        assert str(error)


def _told(arguments: Arguments) -> dict[str, object]:
    found = {
        "name": arguments.text("name", "x"),
        "names": arguments.texts("names"),
        "seconds": int(arguments.number("seconds", 1.0)),
        "all": arguments.flag("all"),
    }
    arguments.end()
    return found


_control = ControlServer({"do": Verb(_told)}, 0)


def control(data: bytes) -> None:
    """A line on the control socket: obeyed, or refused with a sentence."""
    try:
        verb, arguments = _control._read(data)
        facts = verb.run(arguments)
    except ControlError as error:
        assert str(error)
        return
    assert isinstance(facts, dict)
    assert isinstance(facts["name"], str)


PROFILE = Profile(upstream=("10.96.0.10",))
_FIELDS = {"uid", "allowed", "patchType", "patch", "warnings"}


def review(data: bytes) -> None:
    """An admission review: its pod is let through, with a patch that can be applied; or none."""
    try:
        verdict = answer_review(data, PROFILE)
    except NotAReview as error:
        assert str(error)
        return
    said = json.loads(verdict.body)["response"]
    request = json.loads(data)["request"]
    assert (said["allowed"], said["uid"]) == (True, request["uid"])
    assert set(said) <= _FIELDS
    assert all(len(line) <= WARNING_CHARS_MAX for line in said.get("warnings", ()))
    assert verdict.outcome in ("injected", "skipped", "failed")
    if "patch" in said:
        assert verdict.outcome == "injected"
        pod = request["object"]
        apply(pod, json.loads(base64.b64decode(said["patch"])))
        again = json.loads(data)
        again["request"]["object"] = pod
        twice = json.loads(answer_review(json.dumps(again).encode(), PROFILE).body)["response"]
        assert "patch" not in twice, "injected twice"


TARGETS: dict[str, Target] = {
    "query": query,
    "answer": answer,
    "engine": engine,
    "names": names,
    "options": options,
    "framing": framing,
    "stored": stored,
    "kept": kept,
    "config": config,
    "control": control,
    "review": review,
    "graft": walks.graft,
    "cut": walks.cut,
    "walk": walks.walk,
    "drill": walks.drill,
    "imported": files.imported,
    "zone-file": files.zone_file,
    "resting": files.resting,
    "pins": files.pins,
    "scenario": files.scenario,
    "http": files.http,
    "shown": files.shown,
    "judged-queries": judges.queries,
    "judged-answers": judges.answers,
}
