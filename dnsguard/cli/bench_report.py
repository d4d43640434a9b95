"""`dnsguard bench report`: a result of replayed outages again, as tables or as a page.

Reads what `--json` wrote, several files as one, so that a page can be made of runs on different
days without measuring again. Exit codes: 0, 1 when a file cannot be written, 2 when one is no
result.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dnsguard.cli import outage_report
from dnsguard.errors import DnsguardError


@click.command(name="report")
@click.argument("files", nargs=-1, required=True, metavar="FILE.json...")
@outage_report.options
def command(files: tuple[str, ...], json_: Path | None, html: Path | None) -> None:
    """Show results that `bench simulate` or `bench outage` wrote with --json."""
    from dnsguard.sim.result import from_json, joined

    results = []
    for name in files:
        try:
            results.append(from_json(Path(name).read_bytes()))
        except OSError as error:
            click.echo(f"{name} cannot be read: {error.strerror or error}.", err=True)
            sys.exit(2)
        except DnsguardError as error:
            click.echo(f"{name}: {error}", err=True)
            sys.exit(2)
    try:
        outage_report.tell(joined(results), json_, html)
    except OSError as error:
        click.echo(f"{error.filename} cannot be written: {error.strerror}.", err=True)
        sys.exit(1)
