"""What is fuzzed of what operators and other programs hand in: files, and requests over HTTP.

Zone files and exported answers, what lies in a state directory, pins, scenarios, requests to the
admin address, and messages that are shown to people. As in `targets`, a target takes octets and
raises if a promise is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import cast

from dnsguard import clock, message_text
from dnsguard.admin.cache_verbs import _row, _take
from dnsguard.admin.facts import entry_facts
from dnsguard.admin.http import Reply, _parse, _Refused, _render
from dnsguard.admin.routes import Metrics, routes
from dnsguard.admin.status import Reading
from dnsguard.admin.watching import Watch
from dnsguard.cli.cache_text import rows_of, zone_text
from dnsguard.core.engine import Engine
from dnsguard.core.pins import ADDRESSES_MAX
from dnsguard.core.policy import Policy, Upstream, Zone
from dnsguard.core.wire import HEADER_OCTETS
from dnsguard.errors import ConfigError, ControlError, StoreError
from dnsguard.sim import scenario_file
from dnsguard.store import pins_file, rows
from dnsguard.store.place import FILE
from dnsguard.store.resting import at_rest
from dnsguard.store.sqlite import Database

POLICY = Policy(zones=(Zone(".", (Upstream("192.0.2.53"),)),))
STALE = POLICY.zones[0].stale
MAX_TTL = POLICY.cache.max_ttl

_folder = tempfile.TemporaryDirectory(prefix="dnsguard-fuzz-")
_place = Path(_folder.name)


def _engine() -> Engine:
    return Engine(POLICY, random.Random(1), clock.now())


def imported(data: bytes) -> None:
    """A line of exported answers: taken, of no use, or none; and what was taken is stale."""
    engine = _engine()
    text = data.decode("utf-8", "replace")
    if not _take(engine, text):
        assert not engine.cache.index
        return
    (entry,) = engine.cache.index.values()
    now = clock.now()
    assert entry.expires <= now, "a stranger's word taken for fresh"
    assert entry.dies() <= now + MAX_TTL + STALE.max_age
    assert _take(_engine(), json.dumps(_row(entry))), "what was exported cannot be imported"
    shown = zone_text(_row(entry))
    assert shown.endswith("\n")
    assert all(line.isprintable() for line in shown.splitlines())
    json.dumps(entry_facts(entry, now, True))


def zone_file(data: bytes) -> None:
    """The text of a zone file: every answer in it can be imported, or a line is told."""
    text = data.decode("utf-8", "replace")
    try:
        found = list(rows_of(text.splitlines(), clock.read().wall))
    except ControlError as error:
        assert str(error)
        return
    for row in found:
        engine = _engine()
        if _take(engine, json.dumps(row)):
            (entry,) = engine.cache.index.values()
            shown = zone_text(_row(entry))
            if not entry.negative:
                (again,) = rows_of(shown.splitlines(), clock.read().wall)
                assert again["key"] == row["key"], "written as another question"
                assert zone_text(again) == shown, "written as another answer"


def pins(data: bytes) -> None:
    """The file of pins: pins that end, or trouble of the kinds that are told."""
    (_place / pins_file.FILE).write_bytes(data)
    clocks = clock.read()
    with contextlib.suppress(OSError, ValueError, RecursionError):
        for pin in pins_file.load(_folder.name, clocks):
            assert pin.until > clocks.now
            assert pin.since <= clocks.now
            assert 0 < len(pin.addresses) <= ADDRESSES_MAX
            assert _engine().pin(pin)


def scenario(data: bytes) -> None:
    """A scenario: read, or every mistake told with its place."""
    path = _place / "scenario.yaml"
    path.write_bytes(data)
    try:
        scenario_file.read(path)
    except ConfigError as error:
        assert error.mistakes
        assert str(error)


def resting(data: bytes) -> None:
    """Rows of a state directory whose checksums fit: listed and written back, or left out."""
    size = data[0] if data else 0
    key, record = data[1 : 1 + size], data[1 + size :]
    with tempfile.TemporaryDirectory(dir=_folder.name) as directory:
        path = os.path.join(directory, FILE)
        Path(path).touch(0o600)
        database = Database(path, 1 << 20, True)
        whole = record + rows._SUM.pack(rows._checksum(key, record))
        mark = rows.Mark(record[4:20].ljust(16, b"\0"), 5.0, 1e9)
        boot = (mark.boot, mark.wall, rows.encode_mark(mark))
        database.write([(key, 0.0, whole)], (), boot)
        database.close()
        try:
            with at_rest(directory) as found:
                engine = found.engine
                assert len(engine.cache.index) + found.damaged <= 1
                for entry in list(engine.cache.index.values()):
                    json.dumps(entry_facts(entry, clock.now(), True))
                    assert entry.expires <= clock.now()
                    engine.forget(entry.key)
        except StoreError as error:
            assert str(error)


_asked = _engine()
_SOCKETS = ("tcp_connections", "tcp_refused", "upstream_sockets", "unsent_replies")
_reading = Reading(_asked, Watch(_asked), lambda: dict.fromkeys(_SOCKETS, 0))
_metrics = Metrics(_reading)
asyncio.run(_metrics.load())
_routes = routes(_metrics, _reading, lambda: "")
_AT_ONCE = ("/livez", "/readyz", "/metrics", "/api/v1/status", "/api/v1/cache", "/api/v1/explain")


def http(data: bytes) -> None:
    """A request to the admin address: answered, or refused with a status of the client's error."""
    try:
        method, request, _ = _parse(data)
    except _Refused as refused:
        assert 400 <= refused.reply.status < 500
        assert _render(refused.reply, False, True).startswith(b"HTTP/1.1 4")
        return
    if request.path not in _AT_ONCE:
        return
    found = cast(Reply, _routes[request.path](request))
    assert found.status in (HTTPStatus.OK, HTTPStatus.BAD_REQUEST)
    if found.content_type == "application/json":
        json.loads(found.body)
    head, _, body = _render(found, method == "HEAD", False).partition(b"\r\n\r\n")
    assert head.count(b"\r\n") <= 8
    assert body == (b"" if method == "HEAD" else found.body)


def shown(data: bytes) -> None:
    """A message for people: every line can be printed on a terminal, whatever is in it."""
    if len(data) < HEADER_OCTETS:
        return
    message = message_text.read(data)
    lines = message_text.lines(message)
    assert all(line.isprintable() for line in lines)
    json.dumps(message_text.as_dict(message))
