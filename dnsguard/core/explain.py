"""Why a name is answered as it is: what a client would get now, in words and in numbers.

The judgement is the one that answers queries; nothing here decides. It says where the answer comes
from, why, how old it is, what the upstream last said, when it dies and who is asked. Explaining
counts no hit and starts no question. The words are the same wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dnsguard.core.answer import Kind
from dnsguard.core.autopath import SEARCHED
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.evidence import WHY
from dnsguard.core.failures import Failure
from dnsguard.core.pins import FOREVER, Pin
from dnsguard.core.reply import span
from dnsguard.core.staleness import Verdict, judge
from dnsguard.core.wire import KEY_TAILS, NXDOMAIN, U16, name_octets, name_text
from dnsguard.core.zones import Server, ZoneState

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine

KINDS = {
    Kind.POSITIVE: "positive", Kind.NODATA: "nodata", Kind.NXDOMAIN: "nxdomain",
}  # fmt: skip
SAYS = {
    Kind.POSITIVE: "an answer", Kind.NODATA: "no such record", Kind.NXDOMAIN: "no such name",
}  # fmt: skip
# What became of the last try to refresh an answer, by the word that metrics use.
TRIES = {
    "timeout": "no upstream answered in time",
    "servfail": "the upstream answered SERVFAIL",
    "refused": "the upstream answered REFUSED",
    "unreachable": "no upstream could be reached",
    "invalid": "the upstream answered nothing usable",
    "guard": "the upstream denies it, which is not believed",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """`source` is a word for scripts; `words` maps a label to a sentence; `entry` is the answer."""

    source: str
    words: Mapping[str, str]
    zone: ZoneState
    entry: Entry | None


def explain(engine: Engine, name: str, qtype: int, now: float) -> Explanation:
    """Explain what a query for `name` would get at `now`. Raises `WireError` for no name."""
    octets = name_octets(name)
    zone = engine.zones.find(octets)
    question = octets + U16.pack(qtype) + b"\0\1"
    entry, note = _variant(engine, question)
    pin = engine.pins.find(question + KEY_TAILS[0], now)
    if pin is not None:
        source, words = "pin", _pinned(pin, qtype, now)
    elif entry is not None and judge(entry, now)[0] is not Verdict.DEAD:
        source, words = _known(entry, now, note)
    else:
        source, words = _unknown(engine, question + KEY_TAILS[0], zone, entry, now)
    steps = engine.autopath.steps(octets) if engine.autopath.on else []
    if steps and qtype in SEARCHED:
        words["search"] = _search(engine, steps, U16.pack(qtype) + b"\0\1", now)
    words["upstreams"] = "; ".join(_server(server, now) for server in zone.servers)
    return Explanation(source, words, zone, entry)


def _search(engine: Engine, steps: list[bytes], tail: bytes, now: float) -> str:
    """Say where a search that begins with the name leads (see `autopath`)."""
    for step in steps:
        entry = engine.cache.get(step + tail + KEY_TAILS[0])
        pinned = engine.pins.find(step + tail + KEY_TAILS[0], now) is not None
        if not pinned and (entry is None or judge(entry, now)[0] is Verdict.DEAD):
            return f"autopath: clients are told what becomes of {name_text(step)}, not known yet"
        if pinned or (entry is not None and entry.kind is not Kind.NXDOMAIN):
            return f"autopath: clients are answered with {name_text(step)}"
    return "autopath: no name of this search exists"


def _variant(engine: Engine, question: bytes) -> tuple[Entry | None, str]:
    """Return what a plain query finds, or else one that asks for DNSSEC data."""
    for tail in KEY_TAILS:
        entry = engine.cache.get(question + tail)
        if entry is not None:
            return entry, "" if tail == KEY_TAILS[0] else " (to queries with DO or CD)"
    return None, ""


def _pinned(pin: Pin, qtype: int, now: float) -> dict[str, str]:
    addresses = ", ".join(pin.addresses)
    words = {"answer": f"pinned: {addresses}", "why": "an operator pinned it in the settings"}
    if not pin.data(qtype):
        words["answer"] = f"no such record: the name is pinned to {addresses}"
    if pin.until != FOREVER:
        words["why"] = f"an operator pinned it {span(now - pin.since)} ago"
        words["dies"] = f"in {span(pin.until - now)}, and then the usual way answers"
    return words


def _known(entry: Entry, now: float, note: str) -> tuple[str, dict[str, str]]:
    verdict, reason = judge(entry, now)
    zone = entry.zone
    age = f"{span(now - entry.stored)} ago"
    words = {"answer": "", "why": "", "age": ""}
    past = f"{span(now - entry.expires)} past its TTL of {entry.ttl} s"
    if verdict is Verdict.FRESH:
        words["answer"] = f"fresh{note}"
        words["why"] = f"an upstream said so {age}, and its TTL of {entry.ttl} s has not ended"
        words["age"] = f"{span(now - entry.stored)}; fresh for {span(entry.expires - now)} more"
    elif verdict is Verdict.VERIFY:
        words["answer"] = f"asked for first, and stale if that fails{note}"
        words["why"] = (
            f"it is {past}; a client waits up to {zone.patience * 1000:.0f} ms for a fresh answer"
        )
    elif verdict is Verdict.BEHIND:
        words["answer"] = f"stale at once, refreshed behind it{note}"
        words["why"] = f"it is {past}, and {_behind(zone)}"
    else:
        words["answer"] = f"stale at once{note}"
        words["why"] = f"it is {past}, and {_not_asked(entry, reason, now)}"
    words["age"] = words["age"] or f"{span(now - entry.stored)}; {past}"
    said = f"{SAYS[entry.kind]}, {age}"
    if entry.failed != NEVER:
        tried = TRIES.get(entry.reason, entry.reason)
        said += f"; tried again in vain {span(now - entry.failed)} ago: {tried}"
    words["last said"] = said
    if entry.dies() > entry.expires:
        words["dies"] = f"in {span(entry.dies() - now)}, unless it is refreshed"
        if entry.dies() < entry.expires + zone.stale.max_age:
            words["dies"] += "; pods' addresses go to others, so they live shorter than a Service's"
    else:
        words["dies"] = f"in {span(entry.expires - now)}: stale answers are switched off"
    return ("fresh" if verdict is Verdict.FRESH else "stale"), words


def _behind(zone: ZoneState) -> str:
    if zone.stale.mode == "immediate":
        return "stale.mode is immediate"
    return "the upstream answers far later than it usually does"


def _not_asked(entry: Entry, reason: str, now: float) -> str:
    zone = entry.zone
    if zone.outage:
        return f"{_outage(zone, now)}: nobody is asked"
    if reason != "outage":
        return f"the last try failed {span(now - entry.failed)} ago: {TRIES.get(reason, reason)}"
    if not zone.waits:
        return f"every upstream of zone {zone.name} is under suspicion"
    return f"zone {zone.name} is recovering, and as much is under way as may be"


def _outage(zone: ZoneState, now: float) -> str:
    return f"zone {zone.name} has been in outage for {span(now - zone.outage_since)}"


def _unknown(
    engine: Engine, key: bytes, zone: ZoneState, dead: Entry | None, now: float
) -> tuple[str, dict[str, str]]:
    failure = engine.failures.get(key)
    if failure is not None and (now >= failure.until or failure.at < zone.recovered):
        failure = None
    source, answer, why = "nothing", "SERVFAIL at once", "nothing is remembered"
    denial = engine.schema.denial(key, zone, now) if zone.outage and engine.schema else None
    if denial is not None:
        named = "no such name" if denial.rcode == NXDOMAIN else "no such record"
        source, answer = "synthesized", f"{named}, which nobody has said"
        why = f"{denial.why}; {_outage(zone, now)}"
        return source, {"answer": answer, "why": why}
    if failure is not None:
        why += f", and {_failed(failure, now)}"
    elif zone.outage:
        why += f", and {_outage(zone, now)}"
    else:
        answer = "asked for: the client gets what the upstream says"
        if key in engine.asking.flights:
            why += ", and the question is under way"
    words = {"answer": answer, "why": why}
    if dead is not None:
        words["last said"] = (
            f"{SAYS[dead.kind]}, {span(now - dead.stored)} ago; that died "
            f"{span(now - dead.dies())} ago and is not served any more"
        )
    return source, words


def _failed(failure: Failure, now: float) -> str:
    left = max(1, round(failure.until - now))
    return f"the last try failed ({failure.text}); not asked again for {left} s"


def _server(server: Server, now: float) -> str:
    health = server.health
    if health.up:
        present = health.trip.present
        trip = f", {present * 1000:.1f} ms" if present else ""
        return f"{server.label} (up{trip})"
    text = f"{server.label} ({health.state.value} for {span(now - health.since)}"
    return f"{text}: {WHY[health.reason]})"
