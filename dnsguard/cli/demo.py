"""`dnsguard demo`: an outage of cluster DNS on this machine, with dnsguard and without.

Starts the real `dnsguard serve` in front of an embedded cluster DNS, beside it a plain cache, and
asks both the same questions while the cluster DNS dies, fails and comes back. The parts are in
`dnsguard.demo`; this file reads the options and turns signals into an orderly end.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnsguard.config import Address
from dnsguard.config.addresses import read_address
from dnsguard.errors import DnsguardError

if TYPE_CHECKING:
    from dnsguard.demo.show import Screen, Settings

ADMIN = Address("127.0.0.1", 9153)
PHASE_SECONDS = "8,12,8,8"
PHASE_SECONDS_MIN = 0.5
NARROWEST = 60  # columns; below that lines read better than a broken picture


def proxy_command(listen: Address, upstream: Address) -> list[str]:
    """The real thing, with its defaults, except that it must not know what the last demo did."""
    admin = str(ADMIN) if _is_free(ADMIN) else "off"
    return [
        sys.executable, "-m", "dnsguard", "serve", "--listen", str(listen),
        "--upstream", str(upstream), "--admin", admin, "--no-state",
    ]  # fmt: skip


def perform(settings: Settings, screen: Screen) -> int:
    """Run the demo and return its exit code; SIGINT, SIGTERM and SIGHUP end it in order."""
    from dnsguard.demo.stage import perform as play

    caught: list[signal.Signals] = []

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            if not caught:  # a second one changes nothing: the end is on its way and bounded
                task.cancel()
            caught.append(number)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        return await play(settings, screen)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        return 128 + caught[0]


def choose_screen(plain: bool) -> Screen:
    """The live view where it can be drawn, lines where not."""
    from rich.console import Console

    console = Console(highlight=False)
    drawable = console.is_terminal and not console.is_dumb_terminal and console.width >= NARROWEST
    if plain or not drawable or not console.encoding.startswith("utf"):
        from dnsguard.demo.lines import Lines

        return Lines(click.echo)
    from dnsguard.demo.view import View

    return View(console)


def query_command() -> str:
    """How this user types `dnsguard query`."""
    if shutil.which("dnsguard"):
        return "dnsguard query"
    script = Path(sys.executable).with_name("dnsguard")
    if script.exists():
        near = script.is_relative_to(Path.cwd())
        return f"{script.relative_to(Path.cwd()) if near else script} query"
    return f"{sys.executable} -m dnsguard query"


def _is_free(address: Address) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def _listen(_context: click.Context, _option: click.Parameter, text: str) -> Address:
    try:
        return read_address(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: write {error}") from None


def _phases(_context: click.Context, _option: click.Parameter, text: str) -> Sequence[float]:
    try:
        seconds = [float(part) for part in text.split(",")]
    except ValueError:
        seconds = []
    if len(seconds) != 4 or not all(PHASE_SECONDS_MIN <= s <= 3600 for s in seconds):
        raise click.BadParameter(
            f"{text!r}: write four numbers of seconds, each from {PHASE_SECONDS_MIN:g} to 3600, "
            f"as in {PHASE_SECONDS}"
        )
    return seconds


@click.command(name="demo")
@click.option("--once", is_flag=True, help="End after the summary.")
@click.option(
    "--listen",
    metavar="ADDR:PORT",
    default="127.0.0.1:5353",
    show_default=True,
    callback=_listen,
    help="Where dnsguard answers meanwhile.",
)
@click.option(
    "--qps",
    type=click.FloatRange(min=20, max=2000),
    default=200.0,
    show_default=True,
    help="Queries per second to dnsguard, and as many to the plain cache.",
)
@click.option("--plain", is_flag=True, help="No live view: one line a second.")
@click.option(
    "--phases",
    metavar="H,D,F,B",
    default=PHASE_SECONDS,
    show_default=True,
    callback=_phases,
    help="Seconds that the cluster DNS is healthy, dead, failing, and back.",
)
@click.option(
    "--ttl",
    type=click.IntRange(min=1, max=300),
    default=5,
    show_default=True,
    help="TTL of its records, as CoreDNS has it.",
)
def command(
    once: bool, listen: Address, qps: float, plain: bool, phases: Sequence[float], ttl: int
) -> None:
    """Show an outage of cluster DNS, with dnsguard and without.

    Everything runs on this machine's loopback. Exit code 0 if dnsguard answered every query.
    """
    from dnsguard.demo.show import Settings
    from dnsguard.demo.timeline import timeline

    extras = ((f"curl http://{ADMIN}/metrics", "what dnsguard counts"),) if _is_free(ADMIN) else ()
    settings = Settings(
        timeline=timeline(*phases),
        proxy=proxy_command,
        listen=listen,
        qps=qps,
        ttl=ttl,
        once=once,
        query_command=query_command(),
        extras=extras,
    )
    try:
        code = perform(settings, choose_screen(plain))
    except DnsguardError as error:
        click.echo(str(error), err=True)
        code = 1
    sys.exit(code)
