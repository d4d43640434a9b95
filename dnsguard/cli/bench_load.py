"""`dnsguard bench load`: asks a DNS server many questions and says what became of them.

This file reads the options, shows how far the load is, and prints the result. The work is done by
`dnsguard.bench`. Exit codes: 0 when there is a result, 130 when it was cut short by Ctrl-C, 1 when
the server answers nothing, 2 when what was asked for cannot be.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnsguard.bench.load import CONNECTIONS, OUTSTANDING, Load, Progress
from dnsguard.bench.names import FORMS, SEARCH, SEARCH_SUFFIX, SUFFIX
from dnsguard.config import Address
from dnsguard.config.addresses import AN_ADDRESS, read_address
from dnsguard.config.units import read_duration
from dnsguard.errors import DnsguardError

if TYPE_CHECKING:
    from dnsguard.bench.conduct import Outcome

CONNECTIONS_MAX = 1000  # below the usual limit of open files
INTERRUPTED = 130
STDOUT = "-"
NOTHING = "Interrupted before anything was measured."


class _Finite(click.FloatRange):
    """A range of numbers without nan, which is in none, and without infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class _Duration(_Finite):
    """A length of time as settings have it (`10s`, `500ms`), or a bare number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = read_duration(value)
            except ValueError as error:
                self.fail(f"{value!r}: write {error}; or seconds.", param, ctx)
        return super().convert(seconds, param, ctx)


_ABOVE_ZERO = _Finite(min=0, min_open=True)


def _server(_context: click.Context, _option: click.Parameter, text: str) -> Address:
    try:
        address = read_address(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: write {error}") from None
    if not address.port:
        raise click.BadParameter(f"{text!r}: write {AN_ADDRESS}; nothing answers at port 0")
    return address


def _search(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    suffixes = tuple(part.strip(" .") for part in text.split(","))
    if not all(suffixes):
        raise click.BadParameter(f"{text!r}: write suffixes with commas between them")
    return suffixes


def _target(_context: click.Context, _option: click.Parameter, text: str | None) -> Path | None:
    """A file that can be written: said now, and not when the load is over."""
    path = None if text is None else Path(text)
    if path is None or text == STDOUT:
        return path
    if path.is_dir():
        raise click.BadParameter(f"{text!r} is a directory: write the name of a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{text!r} cannot be written: no such directory, or no permission")
    return path


_OPTIONS = (
    click.option(
        "--server", metavar="ADDR:PORT", default="127.0.0.1:5353", show_default=True,
        callback=_server, help="The server to ask.",
    ),
    click.option(
        "--names", metavar="NAMES", default="zipf:1000", show_default=True,
        help=f"What to ask for: {FORMS}. A file has a name and a type on each line, as dnsperf's. "
        "unique never asks for a name twice; search asks for what a pod's search list makes of "
        "each name, A and AAAA.",
    ),
    click.option(
        "--qtype", metavar="TYPE", default="A", show_default=True,
        help="Type to ask for where the names do not say it.",
    ),
    click.option(
        "--suffix", metavar="NAME",
        help=f"What generated names end in. [{SUFFIX}; with search {SEARCH_SUFFIX}]",
    ),
    click.option(
        "--search", metavar="NAME,…", default=",".join(SEARCH), show_default=True,
        callback=_search, help="The search list (with ndots:5).",
    ),
    click.option("--edns", is_flag=True, help="Ask with EDNS."),
    click.option("--tcp", is_flag=True, help="Over TCP connections that stay open, pipelined."),
    click.option(
        "--connections", type=click.IntRange(1, CONNECTIONS_MAX), default=CONNECTIONS,
        show_default=True, metavar="N", help="UDP sockets (source ports), or TCP connections.",
    ),
    click.option(
        "--qps", type=_ABOVE_ZERO, metavar="N",
        help="Ask at this steady rate; latency counts from when a query was due. [flat out]",
    ),
    click.option(
        "--outstanding", type=click.IntRange(min=1), metavar="N",
        help=f"The most queries without an answer at once. [{OUTSTANDING}; with --qps no limit]",
    ),
    click.option(
        "--duration", type=_Duration(min=0, min_open=True), default="10s", show_default=True,
        metavar="TIME", help="How long to measure: 10s, 500ms, or seconds.",
    ),
    click.option(
        "--warmup", type=_Duration(min=0), default="1s", show_default=True,
        metavar="TIME", help="How long to ask before that.",
    ),
    click.option(
        "--timeout", type=_Duration(min=0, min_open=True, max=60), default="2s",
        show_default=True, metavar="TIME", help="A query without an answer for so long is lost.",
    ),
    click.option(
        "--spin", is_flag=True,
        help="Never sleep: exacter instants for a whole processor, if there is one to spare.",
    ),
    click.option(
        "--pid", "pids", type=click.IntRange(min=1), multiple=True, metavar="PID",
        help="Show the CPU time and memory of the server's process (repeatable).",
    ),
    click.option("--group", is_flag=True, help="With --pid: of its whole process group."),
    click.option(
        "--ceiling", is_flag=True,
        help="Measure the generator itself first, by a bare echo on this machine.",
    ),
    click.option(
        "--json", "json_", metavar="FILE", callback=_target,
        help=f"Write every number there ({STDOUT} for stdout, instead of the text).",
    ),
    click.option(
        "--plot", metavar="FILE.svg", callback=_target,
        help="Draw latencies and time line there (needs dnsguard[bench]).",
    ),
)  # fmt: skip


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(name="load")
@_options
def command(
    server: Address,
    pids: tuple[int, ...],
    group: bool,
    ceiling: bool,
    json_: Path | None,
    plot: Path | None,
    **of_load: Any,
) -> None:
    """Ask a DNS server many questions and measure its answers.

    The server may be any. Ctrl-C ends it early and prints what was measured until then.
    """
    from dnsguard.bench.conduct import LoadFailed

    if group and not pids:
        raise click.UsageError("--group needs --pid: the group of which process?")
    load = Load(host=server.host, port=server.port, **of_load)
    try:
        if plot:
            _check_plot(plot)
        outcome = _carry_out(load, pids, group, ceiling)
        _tell(outcome, json_, plot)
    except KeyboardInterrupt:
        click.echo(NOTHING, err=True)
        sys.exit(INTERRUPTED)
    except LoadFailed as error:
        click.echo(str(error), err=True)
        sys.exit(2 if error.usage else 1)
    except (DnsguardError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    sys.exit(INTERRUPTED if outcome.measured.interrupted else 0)


def _check_plot(path: Path) -> None:
    from dnsguard.bench import plot
    from dnsguard.bench.conduct import LoadFailed

    if path.suffix != ".svg":
        raise LoadFailed(
            f"--plot {path}: the picture is SVG; write a name that ends in .svg.", True
        )
    try:
        plot.require()
    except plot.NoPlot as error:
        raise LoadFailed(str(error), usage=True) from None


def _carry_out(load: Load, pids: tuple[int, ...], group: bool, ceiling: bool) -> Outcome:
    from dnsguard.bench import conduct
    from dnsguard.bench.usage import NoProcess, Processes

    try:
        processes = Processes(pids, group) if pids else None
    except NoProcess as error:
        raise conduct.LoadFailed(str(error), usage=True) from None
    limit: conduct.Ceiling | None = None
    if ceiling:
        with _shown("bare echo", conduct.CEILING_SECONDS) as tell:
            limit = conduct.ceiling(load, tell)
    with _shown(load.server, load.duration) as tell:
        outcome = conduct.conduct(load, tell, processes)
    return dataclasses.replace(outcome, ceiling=limit)


def _shown(what: str, seconds: float) -> AbstractContextManager[Callable[[Progress], None]]:
    from rich.console import Console

    from dnsguard.cli.bench_progress import shown

    return shown(what, seconds, Console(stderr=True), lambda line: click.echo(line, err=True))


def _tell(outcome: Outcome, json_: Path | None, plot: Path | None) -> None:
    from dnsguard.bench import report

    if not outcome.measured.sent:
        click.echo(NOTHING, err=True)
        return
    on_stdout = json_ is not None and str(json_) == STDOUT
    click.echo(report.as_json(outcome).decode() if on_stdout else report.as_text(outcome))
    if json_ and not on_stdout:
        json_.write_bytes(report.as_json(outcome))
    if plot:
        from dnsguard.bench.plot import draw

        draw(outcome, plot)
