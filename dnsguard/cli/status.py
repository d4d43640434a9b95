"""`dnsguard status`: how a running instance is doing, in the words of its page, once.

Knows nothing of how it comes to its judgements: they are the instance's own, asked for over the
control socket. `--what-if` tells what would be left if the upstream died now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from dnsguard.cli.instance import instance_options, reach

MARKS = {"good": "OK", "warn": "LOOK", "bad": "OUTAGE"}
NAMES_SHOWN = 20
EVENTS_SHOWN = 8
PINS_SHOWN = 3


def mebibytes(octets: float) -> str:
    """Return a size for people."""
    if octets < 1 << 20:
        return f"{octets / (1 << 10):,.0f} KiB"
    return f"{octets / (1 << 20):,.1f} MiB"


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The whole state, a line a fact."""
    headline = found["headline"]
    yield f"{MARKS[headline['tone']]}  {headline['text']}"
    yield ""
    if found["drill"]:
        yield f"drill     {drill_line(found['drill'])}"
    for zone in found["zones"]:
        yield f"zone      {zone['words']}"
    for server in found["upstreams"]:
        trip = server["round_trip"]
        up = server["state"] in ("up", "suspect")
        took = f", round trip {trip * 1000:.1f} ms" if trip and up else ""
        yield f"upstream  {server['upstream']}  {server['words']}{took}"
    yield f"answers   {answers(found)}"
    stale = found["stale"]
    if stale["reasons"]:
        reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(stale["reasons"].items()))
        yield f"stale     {reasons}; oldest of the last minute {stale['oldest_age']:.0f} s past TTL"
    yield f"what if   {found['readiness']['words']}"
    yield from short_lines(found)
    cache, process = found["cache"], found["process"]
    resident = process["resident_bytes"]
    yield (
        f"cache     {_counted(sum(cache['entries'].values()))}, {mebibytes(cache['bytes'])} of "
        f"{mebibytes(cache['max_bytes'])}"
        + (f"; {mebibytes(resident)} resident" if resident else "")
    )
    yield f"store     {found['store']['words'] if found['store'] else 'off: memory only'}"
    if found["events"]:
        yield ""
        for event in found["events"][:EVENTS_SHOWN]:
            yield f"{event['ago']:>8.0f} s ago  {event['text']}"


def _counted(answers: int) -> str:
    return "1 answer" if answers == 1 else f"{answers:,} answers"


def short_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What the guard has judged and what is pinned, a line each, if there is any of it."""
    guard, pins = found["guard"], found["pins"]
    if guard["held"] or any(guard["verdicts"].values()):
        yield f"guard     {guard['words']}"
    if pins["count"]:
        first = [f"{pin['name']} {' '.join(pin['addresses'])}" for pin in pins["pins"][:PINS_SHOWN]]
        more = ", …" if pins["count"] > PINS_SHOWN else ""
        yield f"pins      {pins['count']:,}: {', '.join(first)}{more}"


def drill_line(drill: Mapping[str, Any]) -> str:
    """How a drill is doing."""
    return (
        f"{drill['words']}: {drill['lookups']:,} look-ups, {drill['failed']:,} failed, "
        f"{drill['left']:.0f} s to go"
    )


def answers(found: Mapping[str, Any]) -> str:
    """Answers since the start by source, the largest first."""
    total = found["answers"]["total"]
    told = [f"{n:,} {name}" for name, n in sorted(total.items(), key=lambda item: -item[1]) if n]
    return ", ".join(told) or "none yet"


def readiness_lines(ready: Mapping[str, Any]) -> Iterator[str]:
    """What would be if the upstream died now, with the names to see to."""
    yield ready["words"]
    for facts in ready["lost"].values():
        yield f"  {facts['count']:,} would not: {facts['words']}"
    names = ready["names"]
    if names:
        yield ""
        width = max(len(one["name"]) for one in names[:NAMES_SHOWN])
        for one in names[:NAMES_SHOWN]:
            why = ready["lost"][one["why"]]["words"]
            yield f"  {one['name']:<{width}}  {one['type']:<6} {why}"
        if len(names) > NAMES_SHOWN:
            yield f"  and {len(names) - NAMES_SHOWN} more; --json has up to 100"


@click.command(name="status")
@click.option("--json", "as_json", is_flag=True, help="All that is known, for scripts.")
@click.option("--what-if", is_flag=True, help="What would be left if the upstream died now.")
@instance_options
def command(as_json: bool, what_if: bool, control: str | None, state_dir: str | None) -> None:
    """Say how a running dnsguard is doing.

    Zones and their upstreams, where answers come from, what is remembered and what happened of
    late: the same words as on its page. Exit code 1 only if no instance could be asked.
    """
    with reach(control, state_dir) as instance:
        found = instance.ask("status", fresh=what_if)
    shown = found["readiness"] if what_if else found
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(readiness_lines(shown) if what_if else lines(shown)))
