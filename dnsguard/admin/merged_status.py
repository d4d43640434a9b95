"""What several workers say of themselves, as the word of one: status, explanations, entries.

Counts and sizes are summed. A zone or an upstream is in the worst of the states that it is in
anywhere. What would be left in an outage is told by the worker that would lose most: questions
that several of them were asked cannot be counted together. Pure functions of plain data, as
`status` and `facts` return it, by the worker's number; where it came from is not known here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from dnsguard.admin.status import guard_words, headline, zone_words
from dnsguard.admin.watching import EVENTS_MAX
from dnsguard.core.census import HOT_MAX, NAMES_MAX

Facts = Mapping[str, Any]
ZONE_STATES = ("normal", "doubt", "outage")  # from the best to the worst
UPSTREAM_STATES = ("up", "suspect", "probing", "down")
SAME_SECONDS = 10.0  # within which two workers see one thing happen


def workers_words(answered: int, wanted: int, missing: Mapping[int, str]) -> dict[str, Any]:
    """Return who has answered: `1 of 2 workers`, and of each other one why it has not."""
    words = f"{answered} of {wanted} workers"
    told = "; ".join(f"worker {number} {why}" for number, why in sorted(missing.items()))
    return {
        "answered": answered, "wanted": wanted,
        "missing": {str(number): why for number, why in sorted(missing.items())},
        "words": f"{words} answered{': ' + told if told else ''}",
    }  # fmt: skip


def merged_status(found: Mapping[int, Facts], workers: Facts, process: Facts) -> dict[str, Any]:
    """Return the status of all; `process` has pid, uptime, resident_bytes and events of the parent.

    There is at least one in `found`. Numbers of `process` are added to those of the workers.
    """
    all_ = [found[number] for number in sorted(found)]
    merged: dict[str, Any] = dict(all_[0])
    merged.update(
        pid=process["pid"], uptime=process["uptime"], workers=dict(workers),
        drill=_drill([one["drill"] for one in all_ if one["drill"] is not None]),
        zones=[_zone(same) for same in _by(all_, "zones", "name")],
        upstreams=[_upstream(same) for same in _by(all_, "upstreams", "upstream")],
        answers=_answers([one["answers"] for one in all_]),
        stale={
            "reasons": _sums(one["stale"]["reasons"] for one in all_),
            "oldest_age": max(one["stale"]["oldest_age"] for one in all_),
        },
        readiness=_readiness([one["readiness"] for one in all_]),
        guard=_guard([one["guard"] for one in all_]),
        hot=_hot([one["hot"] for one in all_ if one["hot"] is not None]),
        cache=_cache([one["cache"] for one in all_]),
        store=_store([one["store"] for one in all_ if one["store"] is not None]),
        process=_sums([*(one["process"] for one in all_), process["process"]]),
        events=_events([*(one["events"] for one in all_), process["events"]]),
    )  # fmt: skip
    merged["headline"] = _headline(merged, workers)
    return merged


def _headline(merged: Facts, workers: Facts) -> dict[str, str]:
    said = headline(merged)
    if workers["answered"] == workers["wanted"]:
        return said
    tone = "warn" if said["tone"] == "good" else said["tone"]
    return {"tone": tone, "text": f"{said['text']}; {workers['words']}"}


def _drill(same: Sequence[Facts]) -> dict[str, Any] | None:
    if not same:
        return None
    from dnsguard.admin.merged_drill import sums

    return sums(same)


def _by(all_: Sequence[Facts], what: str, name: str) -> Iterable[list[Facts]]:
    """Return the facts about one thing of all, thing by thing in the order that they are known."""
    things: dict[str, list[Facts]] = {}
    for one in all_:
        for facts in one[what]:
            things.setdefault(facts[name], []).append(facts)
    return things.values()


def _sums(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: defaultdict[str, Any] = defaultdict(int)
    for table in tables:
        for key, count in table.items():
            total[key] += count or 0
    return dict(total)


def _most_lost(tables: Sequence[Facts]) -> Facts:
    return max(tables, key=lambda one: (one["asked"] - one["covered"], one["asked"]))


def _soonest(runways: Iterable[float]) -> float:
    return min((runway for runway in runways if runway > 0), default=0.0)


def worst_zone(same: Sequence[Facts]) -> dict[str, Any]:
    """Return one zone in the worst of its states, with its upstreams in the worst of theirs."""
    worst = max(same, key=lambda zone: (ZONE_STATES.index(zone["state"]), zone["since"] or 0.0))
    zone = dict(worst)
    zone["denied"] = max(one["denied"] for one in same)
    if not all(isinstance(server, str) for server in zone["upstreams"]):
        zone["upstreams"] = [
            max(servers, key=_badness) for servers in _by(same, "upstreams", "upstream")
        ]
    return zone


def _zone(same: Sequence[Facts]) -> dict[str, Any]:
    zone = worst_zone(same)
    lost = _most_lost(same)
    zone["asked"], zone["covered"] = lost["asked"], lost["covered"]
    zone["runway"] = _soonest(one["runway"] for one in same)
    zone["words"] = zone_words(zone)
    return zone


def _badness(server: Facts) -> int:
    return UPSTREAM_STATES.index(server["state"])


def _upstream(same: Sequence[Facts]) -> dict[str, Any]:
    """Return the worst of what is said of one server; of two that are well, the one that asked."""
    worst = max(same, key=lambda one: (_badness(one), one["round_trip"] or 0.0))
    server = dict(worst)
    server["outcomes"] = _sums(one["outcomes"] for one in same)
    rings = zip_longest(*(reversed(one["history"]) for one in same), fillvalue=0.0)
    server["history"] = [None if None in trips else max(trips) for trips in rings][::-1]
    return server


def _answers(same: Sequence[Facts]) -> dict[str, Any]:
    series = {}
    for name in same[0]["series"]:
        rings = zip_longest(*(reversed(one["series"][name]) for one in same), fillvalue=0)
        series[name] = [sum(counts) for counts in rings][::-1]
    return dict(same[0]) | {"total": _sums(one["total"] for one in same), "series": series}


def _readiness(same: Sequence[Facts]) -> dict[str, Any]:
    ready = dict(_most_lost(same))
    ready["runway"] = _soonest(one["runway"] for one in same)
    lost: dict[str, dict[str, Any]] = {}
    for one in same:
        for why, facts in one["lost"].items():
            known = lost.setdefault(why, dict(facts))
            known["count"] = max(known["count"], facts["count"])
    ready["lost"] = dict(sorted(lost.items()))
    if ready["names"] is not None:
        names = {(n["name"], n["type"]): n for one in same for n in one["names"] or ()}
        ready["names"] = list(names.values())[:NAMES_MAX]
    return ready


def _guard(same: Sequence[Facts]) -> dict[str, Any]:
    """Return what became of denials; a name that is in doubt is so in each that asked for it."""
    verdicts, held = _sums(one["verdicts"] for one in same), max(one["held"] for one in same)
    return dict(same[0]) | {
        "verdicts": verdicts, "held": held, "words": guard_words(verdicts, held),
    }  # fmt: skip


def _hot(lists: Sequence[Sequence[Facts]]) -> list[dict[str, Any]] | None:
    if not lists:
        return None
    hits: defaultdict[tuple[str, str], int] = defaultdict(int)
    for one in lists:
        for facts in one:
            hits[facts["name"], facts["type"]] += facts["hits"]
    order = sorted(hits.items(), key=lambda item: -item[1])[:HOT_MAX]
    return [{"name": name, "type": rtype, "hits": count} for (name, rtype), count in order]


def _cache(same: Sequence[Facts]) -> dict[str, Any]:
    return {
        "entries": _sums(one["entries"] for one in same),
        "evicted": _sums(one["evicted"] for one in same),
        "bytes": sum(one["bytes"] for one in same),
        "max_bytes": sum(one["max_bytes"] for one in same),
    }


def _store(same: Sequence[Facts]) -> dict[str, Any] | None:
    """Return how the disk is doing, which one of them holds for all."""
    if not same:
        return None
    holder = max(same, key=lambda one: (one["up"], one["rows"], -one["flushed"]))
    return dict(holder) | {
        "loaded": max(one["loaded"] for one in same),
        "writes": sum(one["writes"] for one in same),
        "errors": _sums(one["errors"] for one in same),
    }


def _events(lists: Iterable[Iterable[Facts]]) -> list[Facts]:
    """Return what happened, the newest first; what several have seen happen stands there once."""
    events: list[Facts] = []
    for event in sorted((e for one in lists for e in one), key=lambda event: event["ago"]):
        said = (event["event"], event["text"])
        if not any(
            (other["event"], other["text"]) == said and event["ago"] - other["ago"] < SAME_SECONDS
            for other in events
        ):
            events.append(event)
    return events[:EVENTS_MAX]


# -- about one name -----------------------------------------------------------------------------


def entry_id(facts: Facts) -> tuple[Any, ...]:
    """Return what tells one answer from another in the facts about it."""
    return tuple(facts[word] for word in ("name", "type", "class", "do", "cd"))


def merged_entries(lists: Iterable[Iterable[Facts]]) -> list[dict[str, Any]]:
    """Return the newest of each answer, with the hits of all."""
    entries: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in lists:
        for facts in one:
            known = entries.get(entry_id(facts))
            if known is None:
                entries[entry_id(facts)] = dict(facts)
                continue
            hits = known["hits"] + facts["hits"]
            if facts["age"] < known["age"]:
                known.update(facts)
            known["hits"] = hits
    return list(entries.values())


def merged_cache(found: Mapping[int, Facts], workers: Facts) -> dict[str, Any]:
    """Return what is remembered under one name by any of them."""
    all_ = [found[number] for number in sorted(found)]
    entries = merged_entries(one["entries"] for one in all_)
    return dict(all_[0]) | {"entries": entries, "workers": dict(workers)}


def merged_explanation(found: Mapping[int, Facts], workers: Facts) -> dict[str, Any]:
    """Return the explanation of the worker that knows most, and who would answer otherwise.

    That is the one with the newest answer; it is said with the zone as it is at its worst.
    """
    numbers = sorted(found, key=lambda number: (_newest(found[number]), number))
    best = found[numbers[0]]
    told = [
        f"worker {n} would answer: {found[n]['words'].get('answer', found[n]['source'])}"
        for n in sorted(found)
        if found[n]["source"] != best["source"]
    ]
    words = dict(best["words"])
    if workers["missing"]:
        told.append(workers["words"])
    if told:
        words["workers"] = "; ".join([f"this is what worker {numbers[0]} says", *told])
    return dict(best) | {
        "words": words, "zone": worst_zone([f["zone"] for f in found.values()]),
        "workers": dict(workers),
    }  # fmt: skip


def _newest(facts: Facts) -> float:
    entry = facts["entry"]
    return float("inf") if entry is None else float(entry["age"])


MERGED: Mapping[str, Callable[[Mapping[int, Facts], Facts], dict[str, Any]]] = {
    "/api/v1/cache": merged_cache,
    "/api/v1/explain": merged_explanation,
}
