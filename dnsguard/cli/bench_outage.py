"""`dnsguard bench outage`: outages on real sockets, dnsguard beside other DNS servers.

This file reads the options, shows how far it is, and hands the result to the report. Exit codes: 0
when there is a result, 130 when Ctrl-C cut it short (what was measured until then is reported), 1
when something broke, 2 when what was asked for cannot be.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnsguard.bench import outage_words as words
from dnsguard.cli import outage_report
from dnsguard.errors import DnsguardError

if TYPE_CHECKING:
    from dnsguard.bench.outage_run import Sight
    from dnsguard.bench.outage_stage import Rival
    from dnsguard.sim.result import Result, ScenarioRun
    from dnsguard.sim.scenario import Scenario

INTERRUPTED = 130
MINUTES, RATE = 2.0, 20.0
LINE_SECONDS = 5.0
COMPRESSED = (
    "Compressed are phases, events, the churn of pods and TTLs (1 s at the least). Not compressed "
    "are the time-outs of programs (5 s of glibc) and of caches, the 30 s of Java's own cache, "
    "round trips and retries: a short phase counts for less than it did, and limits of hours or "
    "days are never reached. `bench simulate` has no such limits."
)


def _setting(
    _context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r}: write KEY=VALUE.", param=option)
        found.append((key, value))
    return tuple(found)


@click.command(name="outage", epilog=COMPRESSED)
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--minutes",
    type=click.FloatRange(0.05, 24 * 60),
    default=MINUTES,
    show_default=True,
    help="Longest time that a scenario may take; a longer one is compressed to that.",
)
@click.option(
    "--compress",
    type=click.FloatRange(1, 10_000),
    metavar="FACTOR",
    help="Compress time by this factor, whatever time that takes.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 2000),
    default=RATE,
    show_default=True,
    help="Look-ups a second at each server, where the scenario's load is 1.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="What chance draws from.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Take only this server part, dnsguard too (repeatable).",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_setting,
    help="A setting of dnsguard (repeatable).",
)
@outage_report.options
def command(
    scenarios: tuple[str, ...],
    minutes: float,
    compress: float | None,
    rate: float,
    seed: int,
    only: tuple[str, ...],
    settings: tuple[tuple[str, str], ...],
    json_: Path | None,
    html: Path | None,
) -> None:
    """Replay outages on real sockets against dnsguard and other DNS servers.

    SCENARIO is a name from `dnsguard bench scenarios`, or the path of a file. Every server gets the
    same look-ups at the same moments, and an upstream of its own that fails in the same way. Other
    servers take part where dnsguard runs from a source checkout and they are installed. Before the
    start every name is looked up at each server, as the hours before an outage would.
    """
    from dnsguard.bench.outage_plan import factor_for
    from dnsguard.sim import library

    found = [library.load(name) for name in scenarios]
    rivals, notes = _rivals(only, settings)
    factors = [compress or factor_for(one, minutes * 60) for one in found]
    try:
        result = _replay(list(zip(found, factors, strict=True)), seed, rate, rivals, notes)
    except DnsguardError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    if result is None:
        click.echo("Interrupted before anything was measured.", err=True)
        sys.exit(INTERRUPTED)
    try:
        outage_report.tell(result, json_, html)
    except OSError as error:
        click.echo(f"{error.filename} cannot be written: {error.strerror}.", err=True)
        sys.exit(1)
    if any(" was interrupted after " in note for note in result.made.notes):
        sys.exit(INTERRUPTED)


def _rivals(
    only: tuple[str, ...], settings: tuple[tuple[str, str], ...]
) -> tuple[list[Rival], list[str]]:
    """Who takes part, and who does not and why."""
    from dnsguard.bench import outage_stage

    others, notes = outage_stage.others()
    found = [outage_stage.dnsguard(settings), *others]
    if not only:
        return found, notes
    names = [rival.name for rival in found]
    for name in only:
        if name not in names:
            why = next((note for note in notes if note.startswith(f"{name} ")), "")
            raise click.UsageError(
                why or f"--only {name}: no such server here; there are {', '.join(names)}."
            )
    return [rival for rival in found if rival.name in only], []


def _replay(
    plays: list[tuple[Scenario, float]], seed: int, rate: float, rivals: list[Rival],
    notes: list[str],
) -> Result | None:  # fmt: skip
    from dnsguard import __version__
    from dnsguard.bench.outage_run import Run
    from dnsguard.sim import result

    done: list[ScenarioRun] = []
    said = list(notes)

    async def play() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        for scenario, factor in plays:
            with _shown(scenario.name) as tell:
                run = Run(scenario, factor, seed, rate, rivals, tell, stop)
                one = await run.go()
            said.extend(note for note in run.notes if note not in said)
            if one is not None:
                done.append(one)
            if stop.is_set():
                return

    asyncio.run(play())
    if not done:
        return None
    if any(one.scenario.compression > 1 for one in done):
        said.append(COMPRESSED)
    made = result.Made(
        command=shlex.join(["dnsguard", *sys.argv[1:]]),
        mode=result.Mode.OUTAGE,
        seeds=(seed,),
        dnsguard=__version__,
        machine=_machine(),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        notes=tuple(said),
    )
    return result.Result(made, tuple(done))


def _machine() -> str:
    count = len(os.sched_getaffinity(0))
    return f"{count} processors, {platform.machine()}, {platform.system()} {platform.release()}"


# --- how far it is -------------------------------------------------------------------------------


@contextmanager
def _shown(name: str) -> Iterator[Callable[[Sight], None]]:
    """A bar on a terminal, else a line every few seconds; on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(name).tell
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bars:
        task = bars.add_task(name, total=1.0, told="")

        def tell(sight: Sight) -> None:
            bars.update(task, total=sight.length, completed=max(sight.at, 0.0), told=_told(sight))
            bars.refresh()

        yield tell


class _Lines:
    """A line every few seconds, and one for every phase."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = float("-inf")
        self._phase = ""

    def tell(self, sight: Sight) -> None:
        if sight.at < self._next and sight.phase == self._phase:
            return
        self._next, self._phase = sight.at + LINE_SECONDS, sight.phase
        at = f"{max(sight.at, 0):.0f} of {sight.length:.0f} s, " if sight.at >= 0 else ""
        click.echo(f"{self._name}: {at}{_told(sight)}", err=True)


def _told(sight: Sight) -> str:
    """The phase, dnsguard, and the best and the worst of the others."""
    shares = dict(sight.shares)
    parts = [sight.phase]
    if "dnsguard" in shares:
        parts.append(f"dnsguard {words.share(shares.pop('dnsguard'))}")
    if shares:
        low, high = min(shares, key=lambda n: shares[n]), max(shares, key=lambda n: shares[n])
        parts += [f"{name} {words.share(shares[name])}" for name in dict.fromkeys((high, low))]
    return ", ".join(parts)
