"""`dnsguard serve`: the proxy itself. The only place that knows uvloop."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from dnsguard.cli.options import load_settings, serve_options


@click.command("serve", short_help="Answer queries: forward, cache, and survive the upstream.")
@serve_options
def command(**options: Any) -> None:
    """Answer DNS queries, forward what is not known, and keep answering when upstreams fail.

    SIGHUP reads the settings again; SIGTERM answers what is under way and ends.
    """
    settings = load_settings(options)
    from dnsguard.config import others, resolv_conf

    resolvers = others(resolv_conf(), settings.listen)
    if settings.workers > 1:
        from dnsguard.workers.supervisor import Supervisor

        supervisor = Supervisor(settings, lambda: load_settings(options), resolvers)
        sys.exit(asyncio.run(supervisor.run()))

    from dnsguard.server import Server

    async def serve() -> None:
        await Server(settings, lambda: load_settings(options), resolvers).run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


def loop_factory() -> Any:
    """Return uvloop's loops, or asyncio's own where uvloop cannot be had."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
