"""Where the result of replayed outages goes: the options, and what happens with them at the end.

Shared by the commands that have such a result. What cannot be written is told before anything is
measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dnsguard.sim.result import Result

STDOUT = "-"


def _target(_context: click.Context, option: click.Parameter, text: str | None) -> Path | None:
    """A file that can be written, so far as that is known before it is."""
    if text is None:
        return None
    path = Path(text)
    if text == STDOUT:
        return path
    if path.is_dir():
        raise click.BadParameter(f"{text!r} is a directory; name a file in it.", param=option)
    if not path.parent.is_dir():
        raise click.BadParameter(
            f"there is no directory {str(path.parent)!r}; make it first.", param=option
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{text!r} cannot be written by this user.", param=option)
    return path


def _page(context: click.Context, option: click.Parameter, text: str | None) -> Path | None:
    path = _target(context, option, text)
    if path is not None:
        from dnsguard.bench import plot

        try:
            plot.require("--html")
        except plot.NoPlot as error:
            raise click.UsageError(str(error)) from None
    return path


def options(command: Any) -> Any:
    """Give a command `--json` and `--html`, as `json_` and `html`."""
    html = click.option(
        "--html", metavar="FILE", callback=_page,
        help="Write one page with tables and time lines there (needs dnsguard[bench]).",
    )  # fmt: skip
    json_ = click.option(
        "--json", "json_", metavar="FILE", callback=_target,
        help=f"Write every number there ({STDOUT} for stdout, instead of the tables).",
    )  # fmt: skip
    return json_(html(command))


def tell(result: Result, json_: Path | None, html: Path | None) -> None:
    """Print the tables and write the files. Raises OSError when a file cannot be written."""
    from rich.console import Console

    from dnsguard.cli import outage_tables
    from dnsguard.sim.result import to_json

    document = to_json(result)
    if json_ is not None and str(json_) == STDOUT:
        click.echo(document.decode(), nl=False)
    else:
        outage_tables.show(result, Console())
        if json_ is not None:
            json_.write_bytes(document)
    if html is not None:
        from dnsguard.bench.outage_page import page

        text = page(result)
        if str(html) == STDOUT:
            click.echo(text, nl=False)
        else:
            html.write_text(text, encoding="utf-8")
