"""`dnsguard top`: a running instance on one screen, anew every second, until `q` or Ctrl-C.

The words and numbers are those of `dnsguard status`, laid out for the size that the terminal has
at the moment; what finds no room is left out from the end. Knows nothing of how they come about.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dnsguard.cli.instance import Instance, instance_options, reach
from dnsguard.cli.status import MARKS, answers, drill_line, mebibytes, short_lines
from dnsguard.errors import ControlError

EVERY_SECONDS = 1.0
PATIENCE = 5.0  # seconds for an answer, before what is shown is called old
TONES = {"good": "green", "warn": "yellow", "bad": "red"}
STATES = {"normal": "green", "up": "green", "suspect": "yellow"}  # any other: red
BLOCKS = "▁▂▃▄▅▆▇█"
SHADES = {"hit": "blue", "upstream": "cyan", "pin": "magenta", "synthesized": "bright_black",
          "stale": "yellow", "failure": "red"}  # fmt: skip


def spark(values: Sequence[float | None], width: int) -> Text:
    """The latest values as blocks; where there was none stands an exclamation mark."""
    latest = values[-width:]
    most = max((value for value in latest if value is not None), default=0.0) or 1.0
    text = Text()
    for value in latest:
        if value is None:
            text.append("!", "red")
        else:
            text.append(BLOCKS[min(int(value / most * len(BLOCKS)), len(BLOCKS) - 1)], "cyan")
    return text


def screen(found: Mapping[str, Any], width: int, height: int, lost: str = "") -> Group:
    """Everything that fits, most important first; `lost` says why there is nothing newer."""
    headline = found["headline"]
    colour = "dim" if lost else TONES[headline["tone"]]
    sentence = Text(f"{MARKS[headline['tone']]}  {headline['text']}", f"bold {colour}")
    parts: list[Any] = [Text(lost, "bold reverse red")] if lost else []
    parts.append(Panel(sentence, border_style=colour))
    if found["drill"]:
        parts.append(Text(f"drill: {drill_line(found['drill'])}", "yellow"))
    parts += [_zones(found["zones"]), _upstreams(found["upstreams"], width), _sources(found, width)]
    parts.append(Text(found["readiness"]["words"]))
    parts += [
        Text(line, "magenta", no_wrap=True, overflow="ellipsis") for line in short_lines(found)
    ]
    parts.append(Text(_memory(found), "dim"))
    used = 12 + len(found["zones"]) + len(found["upstreams"]) + 7
    room = max(0, height - used - 2)
    parts += [
        Text(
            f"{event['ago']:>7.0f} s ago  {event['text']}", "dim", no_wrap=True, overflow="ellipsis"
        )
        for event in found["events"][:room]
    ]
    return Group(*parts)


def _zones(zones: Sequence[Mapping[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for zone in zones:
        table.add_row(
            Text(zone["state"], STATES.get(zone["state"], "red")),
            Text(zone["words"], overflow="ellipsis", no_wrap=True),
        )
    return table


def _upstreams(servers: Sequence[Mapping[str, Any]], width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    for server in servers:
        trip = server["round_trip"]
        table.add_row(
            Text(server["state"], STATES.get(server["state"], "red")),
            server["upstream"],
            f"{trip * 1000:.1f} ms" if trip else "-",
            spark(server["history"], max(8, width // 4)),
            Text(server["words"], "dim", overflow="ellipsis", no_wrap=True),
        )
    return table


def _sources(found: Mapping[str, Any], width: int) -> Table:
    series, every = found["answers"]["series"], found["answers"]["every"]
    total = found["answers"]["total"]
    table = Table.grid(padding=(0, 2))
    table.add_row(*(Text(word, "dim") for word in ("answers", "a second", "so far")), "")
    for name, shade in SHADES.items():
        if total[name] or name in ("hit", "stale"):
            values = series[name]
            now = values[-1] / every if values else 0.0
            table.add_row(
                Text(name, shade), Text(f"{now:,.1f}/s", justify="right"),
                Text(f"{total[name]:,}", justify="right"), spark(values, max(8, width // 3)),
            )  # fmt: skip
    return table


def _memory(found: Mapping[str, Any]) -> str:
    cache = found["cache"]
    store = found["store"]["words"] if found["store"] else "off"
    return (
        f"{sum(cache['entries'].values()):,} answers kept in {mebibytes(cache['bytes'])}; "
        f"answers so far: {answers(found)}; store: {store}"
    )


class Watched:
    """An instance that may go and come back. `lost` says so while it is gone, and since when."""

    def __init__(self, instance: Instance) -> None:
        self._path = instance.path
        self._instance: Instance | None = instance
        self._at = time.monotonic()
        self.found: dict[str, Any] = {}
        self.lost = ""

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        if self._instance is not None:
            self._instance.__exit__()

    def look(self) -> None:
        """Ask it how it is; raises ControlError if it does not say."""
        if self._instance is None:
            self._instance = reach(self._path)
        self._instance.patience = PATIENCE
        self.found = self._instance.ask("status", fresh=False)
        self._at, self.lost = time.monotonic(), ""

    def look_again(self) -> None:
        """Ask it again, and note if it does not say."""
        try:
            self.look()
        except ControlError as error:
            self.__exit__()
            self._instance = None
            ago = time.monotonic() - self._at
            self.lost = f"No connection to dnsguard: this is how it was {ago:.0f} s ago ({error})"


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """A terminal that hands over keys as they are pressed; None where stdin is none."""
    if not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _quits(fd: int | None) -> bool:
    """Wait for the next look at the instance; True if someone wants no more."""
    ready, _, _ = select.select([] if fd is None else [fd], [], [], EVERY_SECONDS)
    return bool(ready) and os.read(ready[0], 64)[:1] in (b"q", b"Q", b"\x1b", b"")


@click.command(name="top")
@instance_options
def command(control: str | None, state_dir: str | None) -> None:
    """Watch a running dnsguard, live; q ends it.

    The same words as `dnsguard status`, every second. An instance that is gone is waited for.
    """
    console = Console()
    if not console.is_terminal:
        raise ControlError("top needs a terminal; dnsguard status says the same once")
    with Watched(reach(control, state_dir)) as watched:
        watched.look()
        with (
            contextlib.suppress(KeyboardInterrupt),
            _keys() as fd,
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                shown = screen(watched.found, console.width, console.height, watched.lost)
                live.update(shown, refresh=True)
                if _quits(fd):
                    return
                watched.look_again()
