"""`dnsguard cache`: what an instance remembers, to look at, to keep, and to throw away.

Everything is asked of the instance over its control socket, and comes back piece by piece, so that
a large cache fits through a small terminal. Where none is running, `--state-dir` names the answers
that it left behind, and the same is done to these.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from dnsguard.cli import cache_text
from dnsguard.cli.instance import Instance, instance_options, reach
from dnsguard.core.reply import span
from dnsguard.errors import ControlError

if TYPE_CHECKING:
    from dnsguard.cli.at_rest import Resting

BATCH_OCTETS = 128 * 1024  # of exported rows in one request; a line may have twice as many
Command = TypeVar("Command", bound=Callable[..., Any])

_FILTERS = (
    click.option("--name", default="", metavar="GLOB", help="Names like web-*.shop.svc.*"),
    click.option("--zone", default="", metavar="NAME", help="This name and all below it."),
    click.option(
        "--kind", default="", type=click.Choice(["", "positive", "nodata", "nxdomain"]),
        metavar="KIND", help="positive, nodata or nxdomain.",
    ),
    click.option(
        "--stale", "--stale-only", "stale", is_flag=True, help="Only what is past its TTL."
    ),
)  # fmt: skip


_format = click.option(
    "--format", "form", type=click.Choice(["json", "zone"]), default="json", show_default=True,
    help="JSON lines, or the text of a zone file.",
)  # fmt: skip


def _filters(command: Command) -> Command:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@contextmanager
def _reach(control: str | None, state_dir: str | None) -> Iterator[Instance | Resting]:
    """Give the running instance that is meant; where none runs, what lies in `state_dir`."""
    try:
        instance = reach(control, state_dir)
    except ControlError as unreached:
        if state_dir is None or control is not None:
            raise
        nobody = unreached
    else:
        with instance:
            yield instance
        return
    from dnsguard.cli.at_rest import left_behind  # SQLite is loaded only where it is needed

    with left_behind(state_dir, nobody) as resting:
        yield resting


@click.group(name="cache")
def command() -> None:
    """Look into the cache of a dnsguard, keep a copy of it, or purge some of it.

    Of the running one; or, with --state-dir DIR where none is running, of what it left there.
    """


@command.command(name="list", short_help="One line for each answer.")
@_filters
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@instance_options
def list_(as_json: bool, control: str | None, state_dir: str | None, **wanted: Any) -> None:
    """One line for each answer: name, type, kind, age, and how long it may still be served."""
    with _reach(control, state_dir) as instance:
        for found in instance.stream("cache.list", **wanted):
            click.echo(json.dumps(found, ensure_ascii=False) if as_json else _line(found))


def _line(found: dict[str, Any]) -> str:
    state = "fresh" if found["expires_in"] > 0 else "stale"
    if found["dies_in"] <= 0:
        state = "dead"
    dies = span(found["dies_in"])
    return (
        f"{found['name']} {found['type']} {found['kind']} {state}, "
        f"{span(found['age'])} old, dies in {dies}, asked {found['hits']} times"
    )


@command.command(name="show", short_help="The answers under one name, with records.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each answer.")
@instance_options
def show(name: str, as_json: bool, control: str | None, state_dir: str | None) -> None:
    """Every answer under one NAME, or under all that a glob matches, with its records."""
    with _reach(control, state_dir) as instance:
        number = 0
        for found in instance.stream("cache.list", name=name, records=True):
            number += 1
            if as_json:
                click.echo(json.dumps(found, ensure_ascii=False))
                continue
            click.echo(_line(found))
            for record in found["records"]:
                click.echo(f"  {' '.join(record.split())}")
    if not number:
        click.echo(f"nothing is remembered under {name}", err=True)
        sys.exit(1)


@command.command(name="export", short_help="Write answers to a file.")
@click.argument("file", type=click.File("w", encoding="utf-8", atomic=True), default="-")
@_filters
@_format
@instance_options
def export(
    file: IO[str], form: str, control: str | None, state_dir: str | None, **wanted: Any
) -> None:
    """Write answers to FILE (or to the terminal), to be imported: a JSON object a line, or a zone
    file, where denials are only comments.
    """
    number = 0
    with _reach(control, state_dir) as instance:
        for found in instance.stream("cache.export", **wanted):
            if form == "zone":
                file.write(cache_text.zone_text(found) + "\n")
            else:
                file.write(json.dumps(found, ensure_ascii=False) + "\n")
            number += 1
    click.echo(f"{number} answers", err=True)


@command.command(name="import", short_help="Give it the answers in such a file.")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@_format
@instance_options
def import_(file: IO[str], form: str, control: str | None, state_dir: str | None) -> None:
    """Give a dnsguard the answers in FILE; each is stale until an upstream confirms it.

    What it knows already and newer, and what has died by now, is left out.
    """
    total = {"taken": 0, "left": 0, "damaged": 0}
    with _reach(control, state_dir) as instance:
        lines: Iterator[str] | IO[str] = file
        if form == "zone":
            lines = map(json.dumps, list(cache_text.rows_of(file, time.time())))
        for rows in _batches(lines):
            done = instance.ask("cache.import", rows=rows)
            total = {word: total[word] + done[word] for word in total}
    click.echo(
        f"{total['taken']} answers taken, {total['left']} of no use any more, "
        f"{total['damaged']} lines not understood"
    )
    if total["damaged"]:
        sys.exit(1)


def _batches(lines: Iterator[str] | IO[str]) -> Iterator[list[str]]:
    """Rows in requests of a bounded size; a line too long for any is left to be refused."""
    rows: list[str] = []
    octets = 0
    for line in lines:
        text = line.strip()[:BATCH_OCTETS]
        if rows and octets + len(text) > BATCH_OCTETS:
            yield rows
            rows, octets = [], 0
        if text:
            rows.append(text)
            octets += len(text)
    if rows:
        yield rows


@command.command(name="purge", short_help="Forget answers.")
@_filters
@click.option("--all", "everything", is_flag=True, help="All of it.")
@instance_options
def purge(control: str | None, state_dir: str | None, **wanted: Any) -> None:
    """Forget answers, in memory and on disk. In an outage nothing brings them back."""
    with _reach(control, state_dir) as instance:
        done = instance.ask("cache.purge", **wanted)
    click.echo(f"{done['purged']} answers forgotten")
