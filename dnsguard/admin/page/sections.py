"""The parts of the status page as HTML text, each from the state alone; all of it is escaped.

A part's name is the id of its element. Colour never speaks alone: a shape and a word stand beside
it. What a screen reader is told unasked is `said`, which changes with a state and not with a
second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from dnsguard.admin.page.charts import bars, sparkline
from dnsguard.admin.status import IF_IT_DIED, counted, span

MARKS = {"good": "✓", "warn": "▲", "bad": "■"}
TONES = {
    "normal": "good", "outage": "bad", "doubt": "bad",
    "up": "good", "suspect": "warn", "down": "bad", "probing": "bad",
}  # fmt: skip
# From the ground up: what is fresh below, what should worry on top.
DRAWN = ("hit", "upstream", "pin", "synthesized", "stale", "failure")
MEANINGS = {
    "hit": "fresh, from the cache", "upstream": "fresh, just asked for", "pin": "pinned by hand",
    "synthesized": "made up: cannot exist", "stale": "last known good", "failure": "no answer",
}  # fmt: skip
VERDICTS = {
    "believed": "gone: a second look confirmed it",
    "held": "not believed: the last good answer goes on",
    "restored": "believed first, and taken back",
    "disputed": "denied by one, affirmed by another",
    "observed": "only counted: <code>guard.mode</code> is observe",
}
_ALL = ' <span class="quiet-ink">all other names</span>'
NAMES_SHOWN = 20
EVENTS_SHOWN = 15


def sections(state: Mapping[str, Any]) -> dict[str, str]:
    """Return every part of the page, by its id; `title` and `said` are plain text, escaped."""
    tone = state["headline"]["tone"]
    word = {"good": "OK", "warn": "look", "bad": "OUTAGE"}[tone]
    return {
        "title": f"{MARKS[tone]} {word} · dnsguard",
        "said": escape(_said(state)),
        "headline": headline(state),
        "drill": _drill(state["drill"]),
        "zones": _zones(state["zones"]),
        "upstreams": _upstreams(state["upstreams"]),
        "answers": _answers(state["answers"], state["stale"]),
        "readiness": _readiness(state["readiness"]),
        "cache": _cache(state),
        "guard": _guard(state["guard"], state["zones"]),
        "pins": _pins(state["pins"]),
        "hot": _hot(state["hot"]),
        "events": _events(state["events"]),
    }


def headline(state: Mapping[str, Any]) -> str:
    """Return the one sentence in large type."""
    tone = state["headline"]["tone"]
    workers = state.get("workers")
    more = f" and {counted(workers['wanted'], 'worker')}" if workers else ""
    return (
        f'<p class="sentence {tone}"><span class="mark" aria-hidden="true">{MARKS[tone]}</span> '
        f"<strong>{escape(state['headline']['text'])}</strong></p>"
        f'<h1>dnsguard {escape(state["version"])} <span class="quiet-ink">· process '
        f"{state['pid']}{more} · up for {span(state['uptime'])}</span></h1>"
    )


def _said(state: Mapping[str, Any]) -> str:
    zones = [f"zone {zone['name']}: {zone['state']}" for zone in state["zones"]]
    dead = [
        f"upstream {server['upstream']} is down"
        for server in state["upstreams"]
        if server["state"] in ("down", "probing")
    ]
    drill = ["a drill runs"] if state["drill"] else []
    return "; ".join(drill + zones + dead)


def badge(word: str) -> str:
    """Return a state as a shape, a colour and a word."""
    tone = TONES.get(word, "warn")
    mark = f'<span aria-hidden="true">{MARKS[tone]}</span>'
    return f'<span class="badge {tone}">{mark} {escape(word)}</span>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """Return a table of cells that are HTML already, the first of each row its heading."""
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(
            f'<td data-head="{escape(head)}">{cell}</td>'
            for head, cell in zip(heads[1:], rest, strict=True)
        )
        + "</tr>"
        for first, *rest in rows
    )
    if not body:
        return f"<p>{escape(empty)}</p>"
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll"><table><caption class="quiet">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _drill(drill: Mapping[str, Any] | None) -> str:
    """Nothing, as long as everything that is seen is real."""
    if drill is None:
        return ""
    facts = (
        ("Ends in", span(drill["left"])),
        ("Look-ups", f"{drill['lookups']:,} for {counted(drill['names'], 'name')}"),
        ("Failed", f"{drill['failed']:,}; above {drill['abort_above']:.0%} it ends by itself"),
    )
    told = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
    return (
        f"<h2>A drill runs</h2><p>Rehearsed is an outage: {escape(drill['words'])}. Clients are "
        "answered as they would be then; zones, upstreams and what is kept, below, are the real "
        "ones.</p>"
        f"<dl>{told}</dl>"
    )


def _zones(zones: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"<code>{escape(zone['name'])}</code>" + (_ALL if zone["name"] == "." else ""),
            badge(zone["state"]) + (f" for {span(zone['since'])}" if zone["since"] else ""),
            f"{zone['covered']:,} of {zone['asked']:,}",
            span(zone["runway"]) if zone["covered"] else "-",
            ", ".join(f"<code>{escape(server)}</code>" for server in zone["upstreams"]),
        )
        for zone in zones
    ]
    heads = ("Zone", "State", "Covered of the last hour", "Runway", "Upstreams")
    return "<h2>Zones</h2>" + table("Zones and their state", heads, rows, "no zones")


def _upstreams(servers: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for server in servers:
        trip, usual = server["round_trip"], server["usual_round_trip"]
        said = f"round trip of {server['upstream']} over the last ten minutes"
        took = f"{trip * 1000:.1f} ms" if trip else "-"
        if trip:
            took += f' <span class="quiet-ink">usually {usual * 1000:.1f} ms</span>'
        rows.append((
            f"<code>{escape(server['upstream'])}</code>",
            f'{badge(server["state"])} <span class="quiet-ink">{escape(_without(server))}</span>',
            took,
            sparkline(server["history"], said) if len(server["history"]) > 1 else "-",
        ))  # fmt: skip
    heads = ("Upstream", "Health", "Round trip", "Last ten minutes")
    return "<h2>Upstreams</h2>" + table("Upstreams and their health", heads, rows, "none")


def _without(server: Mapping[str, Any]) -> str:
    """Return what is said of a server, without the state that stands before it already."""
    words: str = server["words"]
    return words.removeprefix(server["state"]).strip()


def _answers(answers: Mapping[str, Any], stale: Mapping[str, Any]) -> str:
    series, total, every = answers["series"], answers["total"], answers["every"]
    shown = [name for name in DRAWN if total[name] or name in ("hit", "upstream", "stale")]
    last = {name: values[-1] / every if (values := series[name]) else 0.0 for name in shown}
    said = "answers of the last half hour by source; now " + ", ".join(
        f"{last[name]:,.1f} a second {name}" for name in shown
    )
    rows = [
        (
            f'<span class="key fill-{name}" aria-hidden="true"></span> {name}',
            MEANINGS[name],
            f"{last[name]:,.1f}",
            f"{total[name]:,}",
        )
        for name in shown
    ]
    told = [f"{count:,} {escape(why)}" for why, count in sorted(stale["reasons"].items())]
    words = "No stale answer so far."
    if told:
        words = f"Stale answers so far, by reason: {', '.join(told)}."
    if stale["oldest_age"]:
        words += f" The oldest of the last minute was {span(stale['oldest_age'])} past its TTL."
    return (
        "<h2>Answers by source</h2>"
        + bars({name: series[name] for name in shown}, every, said)
        + table(
            "Answers by source", ("Source", "Meaning", "A second, now", "Since the start"), rows, ""
        )
        + f"<p>{words}</p>"
    )


def _readiness(ready: Mapping[str, Any]) -> str:
    share, gauge = ready["ratio"], ""
    if ready["asked"]:
        gauge = (
            '<p><meter min="0" max="1" low="0.9" high="0.99" optimum="1" '
            f'value="{share:.4f}" aria-label="covered share">{share:.1%}</meter></p>'
        )
    words = ready["words"].removeprefix(f"{IF_IT_DIED}: ")
    lost = "".join(
        f"<li>{facts['count']:,} would not: {escape(facts['words'])}</li>"
        for facts in ready["lost"].values()
    )
    names = ""
    if ready["names"]:
        rows = [
            (f"<code>{escape(one['name'])}</code>", escape(one["type"]),
             escape(ready["lost"][one["why"]]["words"]))
            for one in ready["names"][:NAMES_SHOWN]
        ]  # fmt: skip
        names = table("Names without an answer", ("Name", "Type", "Why"), rows, "")
    return (
        f"<h2>{IF_IT_DIED}</h2>{gauge}<p>{escape(words[0].upper() + words[1:])}.</p>"
        f"{f'<ul>{lost}</ul>' if lost else ''}{names}"
    )


def _cache(state: Mapping[str, Any]) -> str:
    cache, process, store = state["cache"], state["process"], state["store"]
    entries, evicted = cache["entries"], cache["evicted"]
    resident = process["resident_bytes"]
    lost = evicted["protected"]
    steady = f"; {lost:,} of them in steady use" if lost else ""
    facts = [
        ("Cache", f"{_size(cache['bytes'])} of {_size(cache['max_bytes'])}"),
        ("Kept", f"{_kept(entries)}, {counted(entries['failure'], 'failure')}"),
        ("Had to make room", _kept(evicted) + steady),
        ("Resident memory", _size(resident) if resident else "-"),
        ("Questions under way", f"{process['questions_under_way']:,}"),
        ("TCP connections", f"{process['tcp_connections']:,}"),
        ("On disk", escape(store["words"]) if store else "off: answers are kept in memory only"),
    ]
    if store and store["errors"]:
        errors = ", ".join(f"{n:,} {escape(kind)}" for kind, n in store["errors"].items())
        facts.append(("Failures of the disk", errors))
    rows = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts)
    return f"<h2>Cache and store</h2><dl>{rows}</dl>"


def _kept(kinds: Mapping[str, int]) -> str:
    good = kinds["probation"] + kinds["protected"]
    return f"{counted(good, 'answer')}, {counted(kinds['negative'], 'denial')}"


def _guard(guard: Mapping[str, Any], zones: Sequence[Mapping[str, Any]]) -> str:
    doubts = "".join(
        f"<p>{badge('doubt')} <code>{escape(zone['name'])}</code>: for {span(zone['since'])} its "
        f"upstreams have denied names that were good, {zone['denied']:,} now. Deleted on purpose? "
        "<code>dnsguard doubt --accept</code></p>"
        for zone in zones
        if zone["state"] == "doubt"
    )
    rows = [
        (escape(word), VERDICTS[word], f"{count:,}")
        for word, count in guard["verdicts"].items()
        if count
    ]
    off = [name for name, mode in guard["modes"].items() if mode != "enforce"]
    modes = [f"<code>{escape(name)}</code>: {escape(guard['modes'][name])}" for name in off]
    mode = f"<p>Does not hold back denials everywhere ({', '.join(modes)}).</p>" if off else ""
    heads = ("Verdict", "Meaning", "Since the start")
    told = table("Denials of good names", heads, rows, "No good name was denied so far.")
    return f"<h2>Guard</h2>{doubts}{mode}{told}"


def _pins(pins: Mapping[str, Any]) -> str:
    if pins["pins"] is None:
        return f"<h2>Pins</h2><p>{pins['count']:,}; names are switched off.</p>"
    rows = [
        (
            f"<code>{escape(pin['name'])}</code>",
            ", ".join(f"<code>{escape(address)}</code>" for address in pin["addresses"]),
            "by the settings" if pin["ends_in"] is None else f"in {span(pin['ends_in'])}",
        )
        for pin in pins["pins"][:NAMES_SHOWN]
    ]
    more = len(pins["pins"]) - NAMES_SHOWN
    rest = f"<p>And {more:,} more: <code>dnsguard pin</code></p>" if more > 0 else ""
    heads = ("Name", "Addresses", "Ends")
    return "<h2>Pins</h2>" + table("Pins", heads, rows, "Nothing is pinned.") + rest


def _hot(hot: Sequence[Mapping[str, Any]] | None) -> str:
    if hot is None:
        return "<h2>Hot names</h2><p>Switched off (<code>admin.hot_names</code>).</p>"
    rows = [
        (f"<code>{escape(one['name'])}</code>", escape(one["type"]), f"{one['hits']:,}")
        for one in hot[:NAMES_SHOWN]
    ]
    heads = ("Name", "Type", "Asked")
    return "<h2>Hot names</h2>" + table("Hot names", heads, rows, "Nothing asked within the hour.")


def _events(events: Sequence[Mapping[str, Any]]) -> str:
    rows = [(f"{span(event['ago'])} ago", escape(event["text"])) for event in events[:EVENTS_SHOWN]]
    return "<h2>Lately</h2>" + table("Events", ("When", "What"), rows, "Nothing worth telling.")


def _size(octets: float) -> str:
    if octets < 1 << 20:
        return f"{octets / (1 << 10):,.0f} KiB"
    return f"{octets / (1 << 20):,.1f} MiB"
