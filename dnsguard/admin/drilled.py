"""What a request for a drill says, and what is told of one that is over, in words and numbers."""

from __future__ import annotations

import base64
from array import array
from typing import Any

from dnsguard import message_text
from dnsguard.admin.control import Arguments
from dnsguard.admin.status import LOST, drill_facts
from dnsguard.core.drill import DENIED, KINDS, SECONDS_MAX, Drill, Plan
from dnsguard.core.wire import name_octets, name_text
from dnsguard.errors import ControlError, WireError

WHY = LOST | {DENIED: "a wrong upstream would have clients believe that it does not exist"}


def read_plan(arguments: Arguments) -> Plan:
    """Return the drill that a request asks for. Raises `ControlError` for what makes none."""
    zone, kind = arguments.text("zone"), arguments.text("kind", KINDS[0])
    lasts = arguments.number("lasts")
    fraction = arguments.number("fraction", 1.0)
    abort_above = arguments.number("abort_above", 0.05)
    salt = int(arguments.number("salt", -1))
    arguments.end()
    try:
        zone = name_text(name_octets(zone))
    except WireError as wrong:
        raise ControlError(f"zone {zone!r}: {wrong}") from None
    if kind not in KINDS:
        raise ControlError(f"kind {kind!r}: write one of {', '.join(KINDS)}")
    if not 0 < lasts <= SECONDS_MAX:
        raise ControlError(f"lasts: more than 0 and at most {SECONDS_MAX:g} seconds")
    if not 0 < fraction <= 1:
        raise ControlError("fraction: more than 0 and at most 1")
    if not 0 <= abort_above <= 1:
        raise ControlError("abort_above: between 0 and 1")
    return Plan(zone, kind, lasts, fraction, abort_above, salt & 0xFFFFFFFF if salt >= 0 else None)


def report(drill: Drill, marks: bool = False) -> dict[str, Any]:
    """Return what came of a drill that is over; with `marks`, also which names took part.

    Those are checksums under the drill's salt, for whoever counts the names of several processes.
    """
    told = {"marks": base64.b64encode(array("I", drill.names)).decode()} if marks else {}
    return told | drill_facts(drill, drill.began) | {
        "ended": drill.ended,
        "aborted": drill.aborted,
        "sources": dict(drill.sources),
        "longest_wait": round(drill.tally.longest, 6),
        "events": [{"at": round(at, 3), "text": text} for at, text in drill.events],
        "to_fix": [
            {
                "name": name_text(question),
                "type": message_text.type_name(question[-2] << 8 | question[-1]),
                "times": times, "why": why, "words": WHY[why],
            }
            for question, (times, why) in sorted(
                drill.to_fix.items(), key=lambda item: (-item[1][0], item[0])
            )
        ],
        "unnamed": drill.unnamed,
    }  # fmt: skip
