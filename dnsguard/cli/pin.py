"""`dnsguard pin`: an operator's own addresses for a name, on a running instance, for a while.

Without a name it lists what is pinned. The instance decides; this file reads what was typed.
"""

from __future__ import annotations

from typing import Any

import click

from dnsguard.cli.instance import instance_options, reach, reading
from dnsguard.config import units
from dnsguard.config.addresses import read_ip, read_name


def _all(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    read = reading(read_ip)
    return tuple(dict.fromkeys(read(context, parameter, text) for text in texts))


@click.command(name="pin")
@click.argument("name", default="", callback=reading(lambda text: read_name(text) if text else ""))
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1, callback=_all)
@click.option(
    "--for", "lasts", metavar="DURATION", default="1h", callback=reading(units.read_duration),
    help="How long; then it ends by itself. [1h]",
)  # fmt: skip
@click.option(
    "--ttl", metavar="DURATION", default="30s", callback=reading(units.read_duration),
    help="How long clients may keep it. [30s]",
)  # fmt: skip
@instance_options
def command(
    name: str,
    addresses: tuple[str, ...],
    lasts: float,
    ttl: float,
    control: str | None,
    state_dir: str | None,
) -> None:
    """Give a name these addresses, whatever the cache and the upstreams say.

    The pin wins at once, outlives a restart, and ends by itself. A name with addresses of one
    family has no record of the other. Without NAME: what is pinned now. To pin for good, use
    `pins` in the settings.
    """
    if name and not addresses:
        raise click.UsageError(f"which addresses is {name} to have? dnsguard pin {name} 10.1.2.3")
    with reach(control, state_dir) as instance:
        if not name:
            found = list(instance.stream("pins"))
            click.echo("\n".join(map(_line, found)) if found else "nothing is pinned")
            return
        done = instance.ask("pin", name=name, addresses=list(addresses), ttl=ttl, lasts=lasts)
    click.echo(_line(done))
    if not done["kept"]:
        click.echo(f"It will not outlive a restart: {done['trouble']}", err=True)


def _line(pin: dict[str, Any]) -> str:
    left = pin["ends_in"]
    end = "by the settings" if left is None else f"for {units.show_duration(max(1, round(left)))}"
    return f"{pin['name']} {' '.join(pin['addresses'])}  TTL {pin['ttl']}, {end}"
