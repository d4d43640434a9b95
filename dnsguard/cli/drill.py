"""`dnsguard drill`: an outage rehearsed on a running instance, and what it has shown.

The instance runs it for as long as this command is connected: Ctrl-C, a lost connection, the end of
the time and too many failures end it, and its report says which. Knows nothing of how a drill is
done; it reads what was typed and shows what comes.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from dnsguard.cli.instance import Instance, instance_options, reach, reading
from dnsguard.cli.status import drill_line
from dnsguard.config import units
from dnsguard.config.addresses import read_name
from dnsguard.core.reply import span

KINDS = ("silent", "failing", "wrong")
NAMES_SHOWN = 20


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report, most important first."""
    lookups, failed = report["lookups"], report["failed"]
    yield f"{'ENDED EARLY' if report['aborted'] else 'done'}: {report['words']}"
    where = f" in {report['workers']} workers" if "workers" in report else ""
    yield f"over after {span(report['lasted'])}{where}: {report['ended']}"
    yield ""
    if not lookups:
        yield "Nobody asked for any of these names meanwhile, so it has shown nothing."
        return
    told = ", ".join(
        f"{n:,} {name}" for name, n in sorted(report["sources"].items(), key=lambda one: -one[1])
    )
    yield f"look-ups  {lookups:,} for {report['names']:,} names ({told})"
    yield f"answered  {report['answered']:,} ({report['answered'] / lookups:.1%})"
    yield f"failed    {failed:,} ({failed / lookups:.1%})"
    if report["broken"]:
        yield f"broken    {report['broken']:,} failed that fail without a drill as well"
    yield f"longest   {report['longest_wait'] * 1000:.0f} ms until an answer"
    if report["events"]:
        yield ""
        yield "it would have said:"
        yield from (f"{event['at']:>8.1f} s  {event['text']}" for event in report["events"])
    yield from _to_fix(report)


def _to_fix(report: Mapping[str, Any]) -> Iterator[str]:
    names = report["to_fix"]
    if not names:
        return
    yield ""
    yield "names to fix:"
    width = max(len(one["name"]) for one in names[:NAMES_SHOWN])
    for one in names[:NAMES_SHOWN]:
        times = "once" if one["times"] == 1 else f"{one['times']:,} times"
        yield f"  {one['name']:<{width}}  {one['type']:<6} {times:<10} {one['words']}"
    if len(names) > NAMES_SHOWN or report["unnamed"]:
        more = len(names) - min(len(names), NAMES_SHOWN)
        yield (
            f"  and {more} more, which --json has; {report['unnamed']:,} failed look-ups were of "
            "names beyond those"
        )


def follow(instance: Instance, plan: Mapping[str, Any], show: Callable[[str], None]) -> Any:
    """Run a drill and return its report; a first Ctrl-C ends the drill, a second one all."""

    def end(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        instance.say("drill.report")

    before = signal.signal(signal.SIGINT, end)
    try:
        for found in instance.follow("drill", **plan):
            if "report" in found:
                return found["report"]
            show(drill_line(found["running"]))
    finally:
        signal.signal(signal.SIGINT, before)
    raise AssertionError("unreachable: an instance ends a drill with its report")


@click.command(name="drill")
@click.argument("zone", callback=reading(read_name))
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True,
              help="How the upstream fails: no answer, SERVFAIL, or no such name.")  # fmt: skip
@click.option("--for", "lasts", metavar="DURATION", default="5m",
              callback=reading(units.read_duration), help="How long, up to 4h. [5m]")  # fmt: skip
@click.option("--fraction", metavar="SHARE", default="10%", callback=reading(units.read_share),
              help="Of the names, each with all of its questions. [10%]")  # fmt: skip
@click.option("--abort-above", metavar="SHARE", default="5%", callback=reading(units.read_share),
              help="End it when more look-ups than this fail. [5%]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The report for scripts.")
@instance_options
def command(
    zone: str, kind: str, lasts: float, fraction: float, abort_above: float, as_json: bool,
    control: str | None, state_dir: str | None,
) -> None:  # fmt: skip
    """Rehearse: answer as if every upstream of ZONE had failed.

    ZONE is any name; it and all below it take part ("." is everything). Real clients get what they
    would get in such an outage, so begin with a small fraction. What is known, the upstreams'
    health and the store are not touched. Ctrl-C ends it. Exit code 1 if it ended before its time.
    """
    plan = {
        "zone": zone, "kind": kind, "lasts": lasts, "fraction": fraction,
        "abort_above": abort_above,
    }  # fmt: skip
    live = sys.stderr.isatty()

    def show(line: str) -> None:
        if live:
            click.echo(f"\r\x1b[K{line}", err=True, nl=False)

    with reach(control, state_dir) as instance:
        report = follow(instance, plan, show)
    if live:
        click.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(lines(report)))
    sys.exit(1 if report["aborted"] else 0)
