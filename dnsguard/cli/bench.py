"""`dnsguard bench`: measurements of DNS servers, each a command of its own.

One row in BENCHES is one command: `dnsguard/cli/bench_<name>.py` with a click command called
`command`, imported when it is called and not before.
"""

from __future__ import annotations

import importlib

import click

BENCHES = {
    "scenarios": "List the outages that can be replayed, or show one.",
    "simulate": "Replay outages in virtual time, through dnsguard and models of others.",
    "load": "Ask a DNS server many questions and measure its answers.",
    "outage": "Replay outages on real sockets, against other DNS servers too.",
    "report": "Show results of replayed outages again, as tables or as a page.",
}


class _Benches(click.Group):
    """Finds commands by the table; their help comes from it too, so that `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BENCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in BENCHES:
            return None
        module = importlib.import_module(f"dnsguard.cli.bench_{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(BENCHES.items()))


@click.group(name="bench", cls=_Benches)
def command() -> None:
    """Measure DNS servers: dnsguard, or any other."""
