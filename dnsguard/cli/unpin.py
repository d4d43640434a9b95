"""`dnsguard unpin`: ends a pin before its time."""

from __future__ import annotations

import click

from dnsguard.cli.instance import instance_options, reach


@click.command(name="unpin")
@click.argument("name")
@instance_options
def command(name: str, control: str | None, state_dir: str | None) -> None:
    """End a pin that was set with `dnsguard pin`; the cache and the upstreams answer again."""
    with reach(control, state_dir) as instance:
        done = instance.ask("unpin", name=name)
    click.echo(f"{done['name']} is not pinned any more")
    if not done["kept"]:
        click.echo(f"A restart will bring it back: {done['trouble']}", err=True)
