"""`dnsguard bench scenarios`: the outages that can be replayed, as a list, or some of them whole.

Reads files and prints; what a scenario is, `dnsguard.sim.scenario` says.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from dnsguard.config.units import show_duration
from dnsguard.errors import DnsguardError

if TYPE_CHECKING:
    from rich.console import Console

    from dnsguard.sim.scenario import Does, Event, Phase, Scenario

# What is not worth a word: it holds wherever nothing else is said.
_PLAIN = ("upstream", "does", "names", "share", "at", "do")


def _short(seconds: float) -> str:
    """A length of time for a column: hours and minutes, or minutes and seconds."""
    if seconds >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours}h {minutes:02}m"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02}s" if rest else f"{minutes}m"


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _share(share: tuple[float, float]) -> str:
    first, last = share
    return _percent(first) if first == last else f"{_percent(first)} to {_percent(last)}"


def _others(one: Does | Event) -> list[str]:
    """The values that are not the defaults, in the file's own words."""
    said = []
    for field in dataclasses.fields(one):
        value = getattr(one, field.name)
        if field.name in _PLAIN or value == field.default:
            continue
        read = field.metadata["read"]
        shown = str(value)
        if field.name in ("loss", "keep", "up"):
            shown = _percent(value)
        elif isinstance(value, float) and field.name != "capacity":
            shown = show_duration(value)
        elif isinstance(value, bool):
            shown = "on" if value else "off"
        elif isinstance(value, float):
            shown = f"{value:g}"
        assert read is not None
        said.append(f"{'for' if field.name == 'seconds' else field.name} {shown}")
    return said


def _does(one: Does) -> str:
    words = [f"{one.upstream}: {one.does}"]
    if one.does == "ports":
        words.append(f"{_share(one.share)} of the source ports")
    elif one.share != (1.0, 1.0):
        words.append(f"for {_share(one.share)} of {one.names}")
    elif one.names != "all":
        words.append(f"for {one.names}")
    return ", ".join([*words, *_others(one)])


def _happens(at: float, event: Event) -> str:
    words = [f"at {_short(at)}: {event.do}"]
    if event.upstream:
        words.append(event.upstream)
    elif event.do not in ("restart", "kill", "new-node"):
        words.append(f"{_percent(event.share)} of {event.names}")
    return ", ".join([" ".join(words), *_others(dataclasses.replace(event, upstream=""))])


def _list(found: Iterable[Scenario], console: Console) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("scenario", no_wrap=True)
    table.add_column("date", no_wrap=True)
    table.add_column("length", justify="right", no_wrap=True)
    table.add_column("what happens", overflow="fold")
    for one in found:
        date = "" if one.date == "none" else one.date
        table.add_row(one.name, date, _short(one.length), one.summary)
    console.print(table)
    console.print("`dnsguard bench scenarios NAME` shows one whole, with its sources.")


def _phase(phase: Phase, one: Scenario) -> list[str]:
    marks = ["outage"] if phase.outage else []
    marks += [f"{phase.load:g} times the look-ups"] if phase.load != 1.0 else []
    marks += ["no pod moves"] if phase.still else []
    mark = f" ({', '.join(marks)})" if marks else ""
    lines = [
        f"  {_short(phase.begin):>8}  {phase.name}, {_short(phase.seconds)}{mark}: {phase.what}"
    ]
    lines += [f"{'':12}- {_does(does)}" for does in phase.does]
    for at, event in one.events:
        if phase.begin <= at < phase.end or (at == phase.end == one.length):
            lines.append(f"{'':12}- {_happens(at, event)}")
    return lines


def _whole(one: Scenario, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    names, clients = one.names, one.clients
    date = "" if one.date == "none" else f", {one.date}"
    console.print(Text(f"{one.name}: {one.title}", style="bold"))
    console.print(Text(f"{one.summary} ({_short(one.length)}{date})"))
    for head, text in (("Known", one.known), ("Assumed", one.assumed)):
        console.print(Text(f"\n{head}"))
        console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))
    console.print(Text("\nSources"))
    for source in one.sources:
        console.print(Text(f"  {source}"), soft_wrap=True)
    hosts = f", {', '.join(names.hosts)}" if names.hosts else ""
    stubs = ", ".join(
        f"{model} {getattr(clients, model):g}"
        for model in ("glibc", "musl", "go", "java")
        if getattr(clients, model)
    )
    search = "with" if clients.search else "without"
    ttl, external_ttl = show_duration(names.ttl), show_duration(names.external_ttl)
    said = [f"{names.services} Services, {names.headless} headless ones (TTL {ttl})"]
    said.append(f"{names.external} names outside{hosts} (TTL {external_ttl})")
    said.append(f"{clients.count} clients, {clients.rate:g} look-ups a second {search} search list")
    said.append(f"stubs: {stubs}; {clients.instances} such caches in the cluster")
    for up in one.upstreams:
        replicas = f"{up.replicas} replicas, " if up.replicas > 1 else ""
        capacity = f", {up.capacity:g} queries a second each" if up.capacity else ""
        trip = f"round trip {show_duration(up.median)}, 99 % below {show_duration(up.p99)}"
        said.append(f"{up.name} for {up.serves} names: {replicas}{trip}{capacity}")
    console.print(Text("\nSetting"))
    for line in said:
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
    console.print(Text("\nPhases"))
    for phase in one.phases:
        for line in _phase(phase, one):
            indent = len(line) - len(line.lstrip())
            console.print(Padding(Text(line.strip()), (0, 0, 0, indent), expand=False))


def _plain(one: Scenario, whole: bool) -> dict[str, Any]:
    if whole:
        return dataclasses.asdict(one) | {"length": one.length}
    keys = ("name", "title", "date", "summary", "length", "sources")
    return {key: getattr(one, key) for key in keys}


@click.command(name="scenarios")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: durations in seconds.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the outages that can be replayed, or show some of them whole.

    SCENARIO is a name from the list, or the path of a file of your own (docs/scenarios.md says what
    stands in one): whatever is wrong with it is told. Exits with 2 if anything is.
    """
    from rich.console import Console

    from dnsguard.sim import library

    found = [library.load(name) for name in names] if names else library.everything()
    if not found:
        raise DnsguardError(
            "There is no library in this installation: an image has none. "
            "Name a file of your own, or install the package with pip."
        )
    if as_json:
        click.echo(json.dumps([_plain(one, bool(names)) for one in found], indent=2))
        return
    console = Console(file=sys.stdout, highlight=False)
    if not names:
        _list(found, console)
    for number, one in enumerate(found if names else []):
        if number:
            console.print()
        _whole(one, console)
