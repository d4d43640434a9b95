"""The verbs that look into the cache and change it: list, export, import, purge.

All of them go through the entries in pieces, between which queries are answered; a cache that
changes meanwhile is listed as it was at the beginning. What is imported is a stranger's and is read
as what lies on the disk is: stale until an upstream has confirmed it, and never longer-lived than
it was.
"""

from __future__ import annotations

import asyncio
import binascii
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any

from dnsguard import clock
from dnsguard.admin.control import Arguments, Facts, Verb
from dnsguard.admin.facts import entry_facts
from dnsguard.core.engine import Engine
from dnsguard.core.entry import Entry
from dnsguard.core.explain import KINDS
from dnsguard.core.kept import restore
from dnsguard.core.wire import name_octets, name_text
from dnsguard.errors import ControlError, WireError

LOOKED_AT_ONCE = 256  # entries between two turns of the loop: half a millisecond or so
CLOCKS_APART = 0.01  # seconds by which two clocks read one after the other may differ
_KIND_WORDS = frozenset(KINDS.values())


class Filter:
    """Which entries a request is about."""

    def __init__(self, arguments: Arguments) -> None:
        self._name = arguments.text("name", "").lower().removesuffix(".")
        zone, self._kind = arguments.text("zone", ""), arguments.text("kind", "")
        self._stale = arguments.flag("stale")
        if self._kind and self._kind not in _KIND_WORDS:
            raise ControlError(f"{self._kind!r} is no kind: {', '.join(sorted(_KIND_WORDS))}")
        try:
            self._zone = name_octets(zone) if zone else b""
        except WireError as wrong:
            raise ControlError(str(wrong)) from None
        self.everything = not (self._name or zone or self._kind or self._stale)

    def takes(self, entry: Entry, now: float) -> bool:
        """True if the entry is one of them."""
        if self._stale and now < entry.expires:
            return False
        if self._kind and KINDS[entry.kind] != self._kind:
            return False
        if self._zone and not _below(entry.key[:-5], self._zone):
            return False
        return not self._name or fnmatchcase(name_text(entry.key)[:-1], self._name)


def _below(name: bytes, zone: bytes) -> bool:
    position = 0
    while len(name) - position > len(zone):
        position += name[position] + 1
    return name[position:] == zone


async def _found(engine: Engine, wanted: Filter) -> AsyncIterator[Entry]:
    for count, entry in enumerate(list(engine.cache.index.values()), 1):
        if wanted.takes(entry, clock.now()):
            yield entry
        if count % LOOKED_AT_ONCE == 0:
            await asyncio.sleep(0)


def cache_verbs(engine: Engine) -> Mapping[str, Verb]:
    """Return the verbs `cache.list`, `cache.export`, `cache.import` and `cache.purge`."""

    async def listed(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        wanted, records = Filter(arguments), arguments.flag("records")
        arguments.end()
        engine.fold(clock.now())
        async for entry in _found(engine, wanted):
            yield entry_facts(entry, clock.now(), records)

    async def export(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        wanted = Filter(arguments)
        arguments.end()
        async for entry in _found(engine, wanted):
            yield _row(entry)

    async def take(arguments: Arguments) -> Facts:
        rows = arguments.texts("rows")
        arguments.end()
        taken = damaged = 0
        for text in rows:
            result = _take(engine, text)
            taken += result is True
            damaged += result is None
            await asyncio.sleep(0)
        return {"taken": taken, "damaged": damaged, "left": len(rows) - taken - damaged}

    async def purge(arguments: Arguments) -> Facts:
        wanted, everything = Filter(arguments), arguments.flag("everything")
        arguments.end()
        if wanted.everything and not everything:
            raise ControlError("purge what? Name it, its zone or its kind, or say that all may go")
        count = 0
        async for entry in _found(engine, wanted):
            if engine.cache.get(entry.key) is entry:
                engine.forget(entry.key)
                if engine.learned is not None:
                    # However many: what an operator has purged must not come back from the disk.
                    engine.learned.waiting[entry.key] = None
                count += 1
        return {"purged": count}

    return {
        "cache.list": Verb(listed),
        "cache.export": Verb(export),
        "cache.import": Verb(take),
        "cache.purge": Verb(purge),
    }


def _row(entry: Entry) -> dict[str, Any]:
    """Return an answer as it can be imported again; the name is there for people to read."""
    clocks = clock.read()
    return {
        "name": name_text(entry.key),
        "key": entry.key.hex(),
        "stored": round(clocks.wall - (clocks.now - entry.stored), 3),
        "wire": binascii.b2a_base64(b"\0\0" + entry.wire[2:], newline=False).decode(),
    }


def _take(engine: Engine, text: str) -> bool | None:
    """Take one exported answer; False if it is of no use, None if it is none."""
    clocks = clock.read()
    try:
        row = json.loads(text)
        key, wire = bytes.fromhex(row["key"]), binascii.a2b_base64(row["wire"], strict_mode=True)
        since = float(row["stored"])
        if not isfinite(since):
            return None
        stored = clocks.now - max(0.0, clocks.wall - since)
        old = engine.cache.get(key)
        if old is not None and stored <= old.stored + CLOCKS_APART:
            return False
        taken = restore(engine, key, wire, stored, clocks.now)
        if taken and engine.learned is not None:
            engine.learned.adopt(engine.cache.index[key])  # it is not on this disk yet
        return taken
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, WireError):
        return None
