"""What a running instance knows, as plain data for JSON: the same over HTTP and the control socket.

Reads the engine and changes nothing. Ages are in seconds at the moment of asking.
"""

from __future__ import annotations

from typing import Any

from dnsguard import message_text
from dnsguard.core.engine import Engine
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.explain import KINDS, explain
from dnsguard.core.pins import FOREVER, Pin
from dnsguard.core.staleness import judge
from dnsguard.core.wire import KEY_DO, KEY_TAILS, OPTION, U16, name_octets, name_text
from dnsguard.core.zones import ZoneState


def entry_facts(entry: Entry, now: float, records: bool = True) -> dict[str, Any]:
    """Return what is remembered under one key."""
    qtype, qclass = OPTION.unpack_from(entry.key, len(entry.key) - 5)
    tail = entry.key[-1]
    facts: dict[str, Any] = {
        "name": name_text(entry.key),
        "type": message_text.type_name(qtype),
        "class": message_text.class_name(qclass),
        "do": bool(tail & KEY_DO),
        "cd": bool(tail & ~KEY_DO),
        "zone": entry.zone.name,
        "kind": KINDS[entry.kind],
        "verdict": judge(entry, now)[0].value,
        "age": round(now - entry.stored, 3),
        "ttl": entry.ttl,
        "expires_in": round(entry.expires - now, 3),
        "dies_in": round(entry.dies() - now, 3),
        "hits": entry.hits,
        "failed": None,
    }
    if entry.failed != NEVER:
        facts["failed"] = {"ago": round(now - entry.failed, 3), "reason": entry.reason}
    if records:
        message = message_text.read(entry.wire)
        section = "answer" if message.sections["answer"] else "authority"
        facts["records"] = [str(record) for record in message.sections[section]]
    return facts


def cache_facts(engine: Engine, name: str, qtype: int | None, now: float) -> dict[str, Any]:
    """Return what is remembered under one name, of one type or of every type with a name.

    Raises `WireError` for no name.
    """
    octets = name_octets(name)
    types = message_text.known_types() if qtype is None else [qtype]
    found = [
        entry_facts(entry, now)
        for number in types
        for tail in KEY_TAILS
        if (entry := engine.cache.get(octets + U16.pack(number) + b"\0\1" + tail)) is not None
    ]
    return {"name": name_text(octets), "entries": found}


def explain_facts(engine: Engine, name: str, qtype: int, now: float) -> dict[str, Any]:
    """Return why a name is answered as it is. Raises `WireError` for no name."""
    engine.fold(now)
    octets, drill, words = name_octets(name), engine.drill, {}
    if drill is not None and drill.covers(octets):
        engine = drill.shadow  # which answers it at present
        words["drill"] = f"{drill.plan.words}: what is said here is as good as true, for clients"
    found = explain(engine, name, qtype, now)
    return {
        "name": name_text(octets),
        "type": message_text.type_name(qtype),
        "source": found.source,
        "words": {**found.words, **words},
        "entry": None if found.entry is None else entry_facts(found.entry, now),
        "zone": zone_facts(found.zone, now),
    }


def pin_facts(pin: Pin, now: float) -> dict[str, Any]:
    """Return one pin; `ends_in` is None for one of the settings, which does not end."""
    return {
        "name": name_text(name_octets(pin.name)),
        "addresses": list(pin.addresses),
        "ttl": pin.ttl,
        "ends_in": None if pin.until == FOREVER else round(pin.until - now, 3),
    }


def all_pins(engine: Engine, now: float) -> list[dict[str, Any]]:
    """Return every pin that has not ended."""
    found = list(engine.pins.table.values())
    return [pin_facts(pin, now) for pin in found if now < pin.until]


def zone_facts(zone: ZoneState, now: float) -> dict[str, Any]:
    """Return how a zone and its upstreams are doing."""
    return {
        "name": zone.name,
        "state": zone.state,
        "since": None if zone.state == "normal" else round(now - zone.since, 3),
        "denied": len(zone.guard.held),
        "upstreams": [
            {
                "upstream": server.label,
                "state": server.health.state.value,
                "reason": server.health.reason if not server.health.up else None,
                "round_trip": server.health.trip.present or None,
            }
            for server in zone.servers
        ],
    }
