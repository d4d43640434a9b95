"""The state of a running instance as plain data, with the sentences that people read.

A pure function of the engine and of what is kept about it; the page, `dnsguard status` and
`dnsguard top` show these very words. Numbers under `answers`, `stale` and `upstreams` are counts
since the start and may be added up over several processes; a state is the worst of theirs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dnsguard import __version__, message_text
from dnsguard.admin import facts
from dnsguard.admin.watching import Watch
from dnsguard.core.actions import Notice
from dnsguard.core.cache import SEGMENT_NAMES
from dnsguard.core.census import RECENT_SECONDS, Coverage, Share
from dnsguard.core.counters import SOURCES, VERDICTS, StoreCounts
from dnsguard.core.engine import Engine
from dnsguard.core.evidence import WHY
from dnsguard.core.history import SAMPLE_SECONDS
from dnsguard.core.unanswered import EVICTED, NEVER_ANSWERED, TOO_OLD, TTL_ZERO

if TYPE_CHECKING:
    from dnsguard.core.drill import Drill

IF_IT_DIED = "If the upstream died now"
NAMES_SHOWN = 20
PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")
LOST = {
    NEVER_ANSWERED: "no upstream has ever answered it",
    TTL_ZERO: "its answers have a TTL of 0 and may not be kept",
    EVICTED: "it had to make room: cache.max_bytes is too small",
    TOO_OLD: "its last answer is older than stale.max_age allows",
}
_REASON = re.compile(r", because | now: ")  # what the guard says before a reason
GOOD, WARN, BAD = "good", "warn", "bad"
STATES = {
    "normal": "normal: upstreams are asked, answers are fresh",
    "outage": "outage: serving last-known-good answers",
    "doubt": "doubt: upstreams answer and are not believed; serving last-known-good answers",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a status is read from."""

    engine: Engine
    watch: Watch
    numbers: Callable[[], Mapping[str, int]]
    store: StoreCounts | None = None
    names: bool = True  # whether names of questions are shown


def status(reading: Reading, now: float) -> dict[str, Any]:
    """Return everything that there is to see at `now`."""
    engine, watch = reading.engine, reading.watch
    engine.fold(now)
    coverage = watch.census.seen(now)
    zones = [_zone(facts.zone_facts(zone, now), coverage, now) for zone in engine.zones.all]
    found: dict[str, Any] = {
        "version": __version__,
        "pid": os.getpid(),
        "uptime": round(now - watch.began, 3),
        "headline": {},
        "drill": drill_facts(engine.drill, now) if engine.drill else None,
        "zones": zones,
        "upstreams": _upstreams(reading, now),
        "answers": _answers(reading, now),
        "stale": {
            "reasons": dict(engine.counters.stale),
            "oldest_age": round(engine.counters.stale_age(now), 3),
        },
        "readiness": readiness(coverage, now, reading.names),
        "guard": _guard(engine),
        "pins": _pins(engine, now, reading.names),
        "hot": _hot(coverage) if reading.names else None,
        "cache": _cache(engine),
        "store": _store(reading.store, now),
        "process": {
            "resident_bytes": resident(),
            "questions_under_way": len(engine.asking.flights),
            **reading.numbers(),
        },
        "events": [
            {
                "ago": round(now - at, 3), "level": notice.level,
                "event": notice.event, "text": _said(notice, reading.names),
            }
            for at, notice in reversed(watch.events)
        ],
    }  # fmt: skip
    found["headline"] = headline(found)
    return found


def _said(notice: Notice, names: bool) -> str:
    """What happened; the guard's reasons have a name for an example, which may not be shown."""
    return notice.text if names else _REASON.split(notice.text)[0]


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: `2 d 11 h`, `12 min`, `40 s`."""
    whole = max(0, int(seconds))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2 or (parts and unit == "min"):
            break
    return " ".join(parts) or "0 s"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 name`, `12 names`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def drill_facts(drill: Drill, now: float) -> dict[str, Any]:
    """Return how a drill is doing, or how it went."""
    plan, tally = drill.plan, drill.tally
    return {
        "words": plan.words,
        "zone": plan.zone,
        "kind": plan.kind,
        "fraction": plan.fraction,
        "abort_above": plan.abort_above,
        "lasted": round(drill.lasted if drill.over else now - drill.began, 3),
        "left": 0.0 if drill.over else round(max(drill.ends - now, 0.0), 3),
        "lookups": tally.lookups,
        "answered": tally.lookups - tally.failed - tally.broken,
        "failed": tally.failed,
        "broken": tally.broken,
        "names": len(drill.names),
    }


# -- zones and the one sentence -----------------------------------------------------------------


def _zone(zone: dict[str, Any], coverage: Coverage, now: float) -> dict[str, Any]:
    share = coverage.zones.get(zone["name"], Share())
    zone["upstreams"] = [server["upstream"] for server in zone["upstreams"]]
    zone["asked"], zone["covered"] = share.asked, share.covered
    zone["runway"] = round(share.runway(now), 3)
    zone["words"] = zone_words(zone)
    return zone


def zone_words(zone: Mapping[str, Any]) -> str:
    """Return in one sentence how a zone is doing."""
    state = zone["state"]
    if zone["since"] is not None:
        state = f"{state} for {span(zone['since'])}"
    parts = [state]
    if zone["state"] != "normal":
        parts.append("serving last-known-good")
    if zone["denied"]:
        parts.append(f"{counted(zone['denied'], 'name')} denied and not believed to be gone")
    parts.append(_covered(zone["asked"], zone["covered"]))
    if zone["covered"]:
        parts.append(f"runway {span(zone['runway'])}")
    return f"{zone_title(zone['name'])}: {'; '.join(parts)}"


def zone_title(name: str) -> str:
    """Return a zone's name for people; the root alone would be a dot."""
    return "All names (zone .)" if name == "." else name.rstrip(".")


def _covered(asked: int, covered: int) -> str:
    if not asked:
        return "nothing asked within the hour"
    return f"{covered:,} of {counted(asked, 'question')} of the last hour covered"


def headline(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the sentence that a tired person reads first, and its tone."""
    sick = [zone for zone in found["zones"] if zone["state"] != "normal"]
    ready = found["readiness"]
    lost = ready["asked"] - ready["covered"]
    if sick:
        first = max(sick, key=lambda zone: zone["asked"])  # the first of those that nobody asks
        text = f"{zone_title(first['name'])}: {first['state']} for {span(first['since'])}"
        if len(sick) > 1:
            text += f", and {counted(len(sick) - 1, 'more zone')}"
        if not first["asked"]:
            return {"tone": BAD, "text": f"{text}; nothing was asked there within the hour"}
        if first["covered"] == 0:
            return {"tone": BAD, "text": f"{text}; nothing is remembered to answer with"}
        text += (
            f"; serving last-known-good to {first['covered']:,} of "
            f"{counted(first['asked'], 'question')}, for {span(first['runway'])} at least"
        )
        return {"tone": BAD, "text": text}
    drill = found["drill"]
    if drill:
        text = f"A drill: {drill['words']}; {drill['failed']:,} of "
        text += f"{counted(drill['lookups'], 'look-up')} failed; it ends in {span(drill['left'])}"
        return {"tone": WARN, "text": text}
    down = [server for server in found["upstreams"] if server["state"] in ("down", "probing")]
    if down:
        text = f"Answering fresh, without {counted(len(down), 'upstream')}: {down[0]['upstream']}"
        return {"tone": WARN, "text": f"{text} is down for {span(down[0]['since'])}"}
    if not ready["asked"]:
        return {"tone": GOOD, "text": "All well; nothing was asked within the hour"}
    text = f"All well; {ready['covered']:,} of {counted(ready['asked'], 'question')} of the last "
    text += "hour would be answered in an outage"
    return {"tone": WARN if lost > ready["asked"] * 0.05 else GOOD, "text": text}


def _upstreams(reading: Reading, now: float) -> list[dict[str, Any]]:
    servers = {s.label: s for zone in reading.engine.zones.all for s in zone.servers}
    found = []
    for label, server in servers.items():
        health, trips = server.health, reading.watch.history.trips.get(label, ())
        words = f"{health.state.value} for {span(now - health.since)}"
        if not health.up:
            words += f": {WHY.get(health.reason, health.reason)}"
        elif not health.trip.present:
            words = "not asked yet"
        found.append({
            "upstream": label,
            "state": health.state.value,
            "since": round(now - health.since, 3),
            "reason": health.reason if not health.up else None,
            "round_trip": health.trip.present or None,
            "usual_round_trip": health.trip.usual or None,
            "zones": [zone.name for zone in server.zones],
            "outcomes": dict(health.outcomes),
            "history": [None if trip < 0 else round(trip, 6) for trip in trips],
            "words": words,
        })  # fmt: skip
    return found


# -- numbers ------------------------------------------------------------------------------------


def _answers(reading: Reading, now: float) -> dict[str, Any]:
    history = reading.watch.history
    total = dict.fromkeys(SOURCES, 0)
    for (source, _), count in reading.engine.counters.answers.items():
        total[source] += count
    series = zip(*history.answers, strict=True) if history.answers else [()] * len(SOURCES)
    return {
        "total": total,
        "every": SAMPLE_SECONDS,
        "sampled": round(now - history.at, 3),
        "series": {name: list(values) for name, values in zip(SOURCES, series, strict=True)},
    }


def readiness(coverage: Coverage, now: float, names: bool = True) -> dict[str, Any]:
    """Return what would be if the upstream died at `now`."""
    whole = coverage.whole
    text = f"{IF_IT_DIED}: "
    if whole.asked:
        text += (
            f"{whole.covered:,} of {counted(whole.asked, 'question')} asked within the hour "
            f"({coverage.ratio:.1%}) would still be answered"
        )
    else:
        text += "nobody can tell, as nothing was asked within the hour"
    if whole.covered:
        text += f", all of them for {span(whole.runway(now))}"
    return {
        "words": text,
        "window": RECENT_SECONDS,
        "asked": whole.asked,
        "covered": whole.covered,
        "ratio": round(coverage.ratio, 6),
        "runway": round(whole.runway(now), 3),
        "taken": round(now - coverage.at, 3),
        "lost": {
            why: {"count": count, "words": LOST[why]}
            for why, count in sorted(coverage.lost.items())
        },
        "names": _lost_names(coverage.names) if names else None,
    }


def _lost_names(names: Sequence[tuple[str, int, str]]) -> list[dict[str, str]]:
    return [
        {"name": name, "type": message_text.type_name(number), "why": why}
        for name, number, why in names
    ]


def _hot(coverage: Coverage) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": message_text.type_name(number), "hits": hits}
        for name, number, hits in coverage.hottest()
    ]


def _guard(engine: Engine) -> dict[str, Any]:
    """What the guard has made of denials of good names, since the start and at present."""
    verdicts = {word: engine.counters.guard.get(word, 0) for word in VERDICTS}
    held = sum(len(zone.guard.held) for zone in engine.zones.all)
    modes = {zone.name: zone.guard.policy.mode for zone in engine.zones.all}
    words = guard_words(verdicts, held)
    return {"verdicts": verdicts, "held": held, "modes": modes, "words": words}


def guard_words(verdicts: Mapping[str, int], held: int) -> str:
    """Return in words what has become of denials of good names."""
    told = ", ".join(f"{count:,} {word}" for word, count in verdicts.items() if count)
    words = f"denials of good names so far: {told}" if told else "no good name was denied so far"
    return f"{words}; {counted(held, 'name')} in doubt now" if held else words


def _pins(engine: Engine, now: float, names: bool) -> dict[str, Any]:
    found = facts.all_pins(engine, now)
    return {"count": len(found), "pins": found if names else None}


def _cache(engine: Engine) -> dict[str, Any]:
    cache = engine.cache
    entries = {name: cache.live(segment) for segment, name in enumerate(SEGMENT_NAMES)}
    return {
        "entries": entries | {"failure": len(engine.failures)},
        "evicted": dict(zip(SEGMENT_NAMES, cache.evicted, strict=True)),
        "bytes": cache.total + engine.datagrams.octets + engine.streams.octets,
        "max_bytes": engine.policy.cache.max_bytes,
    }


def _store(store: StoreCounts | None, now: float) -> dict[str, Any] | None:
    if store is None:
        return None
    words = f"{counted(store.rows, 'answer')} on disk"
    if store.up:
        words += f", all that was due written {span(now - store.flushed)} ago"
    elif not store.errors:
        words = "another process of this address writes them to disk, or the file is being opened"
    else:
        words = f"failing, serving from memory; {words} when it last worked"
    return {
        "up": store.up, "rows": store.rows, "bytes": store.octets, "loaded": store.loaded,
        "writes": store.writes, "errors": dict(store.errors),
        "flushed": round(now - store.flushed, 3), "words": words,
    }  # fmt: skip


def resident() -> int | None:
    """Return the octets of memory that this process has, where the system tells."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_OCTETS
    except OSError:
        return None
