"""`dnsguard doubt`: zones whose upstream denies what it knew, and an operator's word on that.

A zone comes into doubt by itself and leaves it by itself, when the names are back. Who knows better
says so here: `--accept` believes that the names are gone, `--reject` goes on serving the last good
answers for another `guard.max_hold`.
"""

from __future__ import annotations

import json
from typing import Any

import click

from dnsguard.cli.instance import instance_options, reach
from dnsguard.core.reply import span


def lines(found: dict[str, Any], decision: str) -> list[str]:
    """What was decided, or how every zone is doing."""
    if decision == "accept":
        return [f"zone {z['zone']}: {_names(z['names'])} believed gone" for z in found["decided"]]
    if decision == "reject":
        return [
            f"zone {z['zone']}: {_names(z['names'])} held for another guard.max_hold"
            for z in found["decided"]
        ]
    return [_state(zone) for zone in found["zones"]]


def _names(count: int) -> str:
    return "1 name is" if count == 1 else f"{count} names are"


def _state(zone: dict[str, Any]) -> str:
    text = f"zone {zone['name']}: {zone['state']}"
    if zone["since"] is not None:
        text += f" for {span(zone['since'])}"
    if zone["state"] == "doubt":
        text += f"; {_names(zone['denied'])} denied and served from what was last known"
    return text


@click.command(name="doubt")
@click.argument("zone", default="")
@click.option("--accept", "decision", flag_value="accept", help="The denied names are really gone.")
@click.option("--reject", "decision", flag_value="reject", help="They are not: go on holding them.")
@click.option("--json", "as_json", is_flag=True, help="All that is known, for scripts.")
@instance_options
def command(
    zone: str, decision: str | None, as_json: bool, control: str | None, state_dir: str | None
) -> None:
    """Show which zones are in doubt, or decide for ZONE (all that are, unless given)."""
    with reach(control, state_dir) as instance:
        found = instance.ask("doubt", zone=zone, decision=decision or "")
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(lines(found, decision or "")))
