"""`dnsguard explain`: why a running instance answers a name as it does, line by line.

The words are the instance's own, the same as under `/api/v1/explain`; here they are put in order
and into columns. Asking changes nothing and starts no question.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import Any

import click

from dnsguard.cli.instance import instance_options, reach

LABELS = ("answer", "why", "age", "last said", "dies", "upstreams")
WIDTH_MAX, WIDTH_MIN, INDENT = 100, 40, 12


def lines(found: dict[str, Any], width: int) -> list[str]:
    """The explanation in two columns, no wider than `width`."""
    text = [f"{found['name']} {found['type']}"]
    words: dict[str, str] = dict(found["words"])
    for label in (*LABELS, *(extra for extra in words if extra not in LABELS)):
        if label in words:
            text += _column(label, words[label], width)
    entry = found["entry"]
    if entry is not None:
        for n, record in enumerate(entry["records"]):
            text += _column("" if n else "records", " ".join(record.split()), width)
    return text


def _column(label: str, words: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(words, width - INDENT, break_on_hyphens=False) or [""]
    return [f"{head:<{INDENT}}{part}" for head, part in _heads(f"  {label}", wrapped)]


def _heads(label: str, parts: list[str]) -> list[tuple[str, str]]:
    return list(zip([label] + [""] * (len(parts) - 1), parts, strict=True))


@click.command(name="explain")
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", default="A")
@click.option("--json", "as_json", is_flag=True, help="All that is known, for scripts.")
@instance_options
def command(
    name: str, rtype: str, as_json: bool, control: str | None, state_dir: str | None
) -> None:
    """Say what a running dnsguard would answer now, and why.

    Where the answer comes from, how old it is, what the upstream last said, when it dies and who is
    asked. TYPE is A unless given. Nothing is asked upstream, and nothing is changed.
    """
    with reach(control, state_dir) as instance:
        found = instance.ask("explain", name=name, type=rtype)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    width = max(WIDTH_MIN, min(WIDTH_MAX, shutil.get_terminal_size().columns))
    click.echo("\n".join(lines(found, width)))
