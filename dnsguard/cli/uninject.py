"""`dnsguard uninject`: manifests with the sidecar in, the manifests as they were before out."""

from __future__ import annotations

from typing import Any

import click

from dnsguard.cli.manifests import FILES, Report, rewrite


@click.command(name="uninject")
@FILES
@click.option("--dry-run", is_flag=True, help="Print the difference instead of the manifests.")
def command(files: tuple[str, ...], dry_run: bool) -> None:
    """Take dnsguard out of manifests that `dnsguard inject` has put it into.

    \b
    dnsguard uninject -f injected.yaml | kubectl apply -f -

    DNS policy, nameservers, search list and everything else are again what they were.
    """
    from dnsguard.kube.inject import restore

    def change(template: Any, _: str, where: str, report: Report) -> bool:
        reason = restore(template)
        report.say("skipped" if reason else "restored", where, reason)
        return not reason

    rewrite(files, change, dry_run)
