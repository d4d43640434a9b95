"""`dnsguard`: the group of commands, each imported when it is called and not before.

One row in COMMANDS is one command: `dnsguard/cli/<name>.py` with a click command called `command`.
Exit codes: 2 for bad usage or settings, with every mistake on a line of its own; 1 for any other
failure, in one line; 0 otherwise.
"""

from __future__ import annotations

import importlib
import sys

import click

from dnsguard import __version__
from dnsguard.errors import ConfigError, DnsguardError

COMMANDS = {
    "serve": "Answer DNS queries, also when the upstream does not.",
    "demo": "Watch an outage, with and without dnsguard.",
    "check": "Print the effective settings, or every mistake.",
    "status": "Say how a running dnsguard is doing.",
    "top": "Watch a running dnsguard, live.",
    "explain": "Say why a name is answered as it is.",
    "doubt": "Show zones whose upstream denies too much, and decide.",
    "drill": "Rehearse an outage on a running dnsguard.",
    "cache": "Look into a running cache, keep a copy of it, purge it.",
    "pin": "Give a name addresses that win over everything, for a while.",
    "unpin": "End such a pin.",
    "query": "Ask a DNS server one question.",
    "inject": "Put dnsguard beside the workloads in Kubernetes manifests.",
    "uninject": "Take it out of them again.",
    "webhook": "Put it into Kubernetes pods as they are created.",
    "node": "Answer for a whole Kubernetes node: addresses, rules, resolver.",
    "bench": "Measure DNS servers: dnsguard, or any other.",
}


class _Commands(click.Group):
    """Finds commands by the table; their help comes from it too, so that `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dnsguard.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dnsguard", message="%(prog)s %(version)s")
def commands() -> None:
    """A DNS caching proxy that keeps answering when cluster DNS does not."""


def _last_words(text: str) -> None:
    from dnsguard.logs import last_words

    last_words(text)


def main() -> None:
    """Run one command and end the process with its exit code."""
    try:
        commands(prog_name="dnsguard")
    except ConfigError as error:
        number = len(error.mistakes)
        head = f"{number} mistake{'s' if number > 1 else ''} in {error.what}"
        _last_words("\n  ".join([f"dnsguard: {head}:", *map(str, error.mistakes)]))
        sys.exit(2)
    except DnsguardError as error:
        _last_words(f"dnsguard: {' '.join(str(error).split())}")
        sys.exit(1)
