"""`dnsguard bench load`: asks a DNS server many questions and says what became of them.

This file reads the options, shows how far the load is, and prints the result. The work is done by
`dnsguard.bench`. Exit codes: 0 when there is a result, 130 when it was cut short by Ctrl-C, 1 when
the server answers nothing, 2 when what was asked for cannot be.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import click

from dnsguard.bench.load import CONNECTIONS, OUTSTANDING, OUTSTANDING_MAX, Load, Progress
from dnsguard.bench.names import FORMS, SEARCH, SEARCH_SUFFIX, SUFFIX
from dnsguard.cli.bench_progress import Bar, Lines
from dnsguard.config import Address
from dnsguard.config.addresses import AN_ADDRESS, read_address
from dnsguard.errors import DnsguardError

CONNECTIONS_MAX = 1000  # below the usual limit of open files
INTERRUPTED = 130

_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


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
        "--outstanding", type=click.IntRange(1, CONNECTIONS_MAX * OUTSTANDING_MAX), metavar="N",
        help=f"The most queries without an answer at once. [{OUTSTANDING}; with --qps no limit]",
    ),
    click.option(
        "--duration", type=_ABOVE_ZERO, default=10.0, show_default=True, metavar="SECONDS",
        help="How long to measure.",
    ),
    click.option(
        "--warmup", type=click.FloatRange(min=0), default=1.0, show_default=True,
        metavar="SECONDS", help="How long to ask before that.",
    ),
    click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True, max=60), default=2.0,
        show_default=True, metavar="SECONDS", help="A query without an answer for so long is lost.",
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
        "--json", "json_", type=click.File("wb", lazy=False), metavar="FILE",
        help="Write every number there (- for stdout, instead of the text).",
    ),
    click.option(
        "--plot", type=click.Path(dir_okay=False, writable=True, path_type=Path),
        metavar="FILE.svg", help="Draw latencies and time line there (needs dnsguard[bench]).",
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
    json_: IO[bytes] | None,
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
        interrupted = _carry_out(load, pids, group, ceiling, json_, plot)
    except LoadFailed as error:
        click.echo(str(error), err=True)
        sys.exit(2 if error.usage else 1)
    except DnsguardError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    sys.exit(INTERRUPTED if interrupted else 0)


def _carry_out(
    load: Load,
    pids: tuple[int, ...],
    group: bool,
    ceiling: bool,
    json_: IO[bytes] | None,
    plot: Path | None,
) -> bool:
    """Load, print, write, draw; returns whether the load was cut short."""
    import dataclasses

    from dnsguard.bench import conduct, report
    from dnsguard.bench.usage import NoProcess, Processes

    if plot:
        _require_plot(plot)
    try:
        processes = Processes(pids, group) if pids else None
    except NoProcess as error:
        raise conduct.LoadFailed(str(error), usage=True) from None
    limit: conduct.Ceiling | None = None
    if ceiling:
        with _shown("the generator's ceiling", conduct.CEILING_SECONDS) as tell:
            limit = conduct.ceiling(load, tell)
    with _shown(load.server, load.duration) as tell:
        outcome = conduct.conduct(load, tell, processes)
    outcome = dataclasses.replace(outcome, ceiling=limit)
    if not outcome.measured.sent:
        click.echo("Interrupted before anything was measured.", err=True)
        return True
    if json_:
        json_.write(report.as_json(outcome))
        json_.flush()
    if json_ is None or json_.name != "<stdout>":
        click.echo(report.as_text(outcome))
    if plot:
        _draw(outcome, plot)
    return outcome.measured.interrupted
