"""The live view of a demo, drawn with rich: timeline, numbers, summary, and what to try.

It looks right from 80 columns on and uses up to 120: a second of the timeline is one cell or two.
Knows no process and no socket: it reads a `Show`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dnsguard.demo import words
from dnsguard.demo.show import Show
from dnsguard.demo.tally import GUARD, PLAIN, TARGETS, Cell, Outcome, Summary
from dnsguard.demo.timeline import Mode, Timeline

TITLES = {GUARD: "dnsguard", PLAIN: "plain cache"}
MODE_STYLES = {Mode.HEALTHY: "green", Mode.DEAD: "red", Mode.SERVFAIL: "magenta"}
FRESH, STALE, BROKEN = "green", "yellow", "red"
FULL, EMPTY, PARTLY = "█", "▁", "▂▃▄▅▆▇"  # a full block only where nothing is missing
RUNNING, FUTURE = "░", "·"
LABEL_WIDTH = 13
SHARE_WIDTH = 9
FRAME_WIDTH = 6  # the panel's border and padding
NUMBER_WIDTH = 18
CELL_WIDTH_MAX = 2
WIDTH_MAX = 120


class View:
    """A terminal as a screen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._opened: list[str] = []
        self._keys = False

    def opening(self, what: str) -> None:
        self._opened.append(what)
        text = Text("starting  ")
        for done in self._opened[:-1]:
            text.append("✔ ", FRESH).append(f"{done}   ")
        self._draw(self._panel(text.append("… ", STALE).append(what)))

    def frame(self, show: Show) -> None:
        plan = show.settings.timeline
        head = Table.grid(expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right")
        left = max(0.0, plan.total - show.now)
        head.add_row(condition(show), Text(f"{words.clock(left)} left", "bold"))
        bar = ProgressBar(
            total=plan.total, completed=min(show.now, plan.total), style="grey37",
            complete_style=MODE_STYLES[show.mode], finished_style=FRESH,
        )  # fmt: skip
        self._draw(
            self._panel(
                head, bar, Text(), *strips(show, self._inner), legend(), Text(),
                numbers(show, self._inner), note="Ctrl-C ends the demo",
            )
        )  # fmt: skip

    def summary(self, show: Show, summaries: dict[str, Summary]) -> None:
        self._end_live()
        guard, plain = summaries[GUARD], summaries[PLAIN]
        died, back = show.outage
        caption = Text(f"An outage of {back - died:.0f} s, as the clients saw it", "bold")
        shares = {target: summary.share for target, summary in summaries.items()}
        good = not show.lost
        sentence = words.verdict(show.lost, show.tally.answered[GUARD], plain)
        verdict = Text("✔ " if good else "✘ ", f"bold {FRESH if good else BROKEN}")
        self._console.print(
            self._panel(
                caption, Text(), *strips(show, self._inner, shares), legend(), Text(),
                summary_table(guard, plain, self._inner), verdict.append(sentence),
            )
        )  # fmt: skip

    def staying(self, show: Show, keys: bool) -> None:
        self._keys = keys
        for title, commands in (
            ("Still up. From another terminal:", words.try_it(show)),
            ("Break the cluster DNS yourself:", words.break_it(show)),
        ):
            self._console.print(Text(f"\n {title}", "bold"))
            for line in commands_text(commands, self._width):
                # Never wrapped here, so that what is copied is one line.
                self._console.print(line, soft_wrap=True)

    def idle(self, show: Show) -> None:
        keys = Text("  ").join(
            Text(f" {key} ", "reverse").append(f" {meaning}", "not reverse")
            for key, meaning in (("d", "dead"), ("s", "SERVFAIL"), ("b", "back"), ("q", "quit"))
        )
        foot = keys if self._keys else Text("Ctrl-C ends the demo", "dim")
        self._draw(
            self._panel(condition(show), *rolling(show, self._inner), foot, title="still up")
        )

    def close(self) -> None:
        self._end_live()

    @property
    def _width(self) -> int:
        return min(self._console.width, WIDTH_MAX)

    @property
    def _inner(self) -> int:
        return self._width - FRAME_WIDTH

    def _panel(
        self, *parts: RenderableType, title: str = "an outage, with it and without", note: str = ""
    ) -> Panel:
        return Panel(
            Group(*parts), title=f"[bold]dnsguard demo[/] · {title}", title_align="left",
            subtitle=note or None, subtitle_align="right", box=ROUNDED, padding=(0, 2),
            border_style="grey50", width=self._width,
        )  # fmt: skip

    def _draw(self, what: RenderableType) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
            )
            self._live.start()
        self._live.update(what, refresh=True)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def commands_text(commands: Sequence[tuple[str, str]], width: int) -> Iterator[Text]:
    """Each command with its meaning: beside it if all of them fit so, else above."""
    longest = max(len(command) for command, _ in commands)
    beside = longest + max(len(meaning) for _, meaning in commands) + 8 <= width
    for command, meaning in commands:
        if beside:
            yield (
                Text("   ")
                .append(command.ljust(longest), "bold cyan")
                .append(f"  # {meaning}", "dim")
            )
        else:
            yield Text(f"   # {meaning}", "dim")
            yield Text("   ").append(command, "bold cyan")


def condition(show: Show) -> Text:
    style = BROKEN if show.frozen else MODE_STYLES[show.mode]
    return Text("cluster DNS ").append("● ", style).append(show.condition, f"bold {style}")


def legend() -> Text:
    text = Text(" " * LABEL_WIDTH)
    for glyph, style, meaning in (
        (FULL, FRESH, "fresh"), (FULL, STALE, "stale, marked so"),
        (f"{PARTLY[-1]}{PARTLY[1]}{EMPTY}", BROKEN, "some or none answered"),
    ):  # fmt: skip
        text.append(glyph, style).append(f" {meaning}   ", "dim")
    return text


def glyph(cell: Cell) -> tuple[str, str]:
    """How one stretch of time looks: height for the share answered, colour for how."""
    share = cell.share
    if share is None:
        return FUTURE, "dim"
    if share >= 1.0:
        return FULL, STALE if cell.outcomes[Outcome.STALE] else FRESH
    return (PARTLY[int(share * len(PARTLY))] if share else EMPTY), BROKEN


def merged(cells: Mapping[int, Cell], start: int, end: int) -> Cell:
    """The seconds from `start` to `end` as one; reads and adds none."""
    total = Cell()
    for second in range(start, end):
        if (cell := cells.get(second)) is not None:
            total.sent += cell.sent
            total.outcomes.update(cell.outcomes)
    return total


def strips(
    show: Show, width: int, shares: Mapping[str, float] | None = None
) -> list[RenderableType]:
    """The phases and, under them, one strip a target: what happened so far."""
    plan, now = show.settings.timeline, show.now
    room = width - LABEL_WIDTH - SHARE_WIDTH
    seconds = math.ceil(plan.total)
    each = math.ceil(seconds / room)  # seconds a column; one, unless the timeline is long
    cell_width = max(1, min(CELL_WIDTH_MAX, room // seconds))
    died, back = show.outage  # in whole seconds while it lasts; measured once it is over
    rows: list[RenderableType] = [ruler(plan, now, each, cell_width)]
    for target in TARGETS:
        row = Text(TITLES[target].ljust(LABEL_WIDTH), "bold")
        for start in range(0, seconds, each):
            if start + each <= now:
                text, style = glyph(merged(show.tally.cells[target], start, start + each))
            else:
                text, style = (RUNNING if start <= now else FUTURE), "dim"
            row.append(text * cell_width, style)
        share: float | None = show.tally.share_since(target, int(died), int(min(now, back)))
        if shares is not None:
            share = shares[target]
        row.append((words.share(share) if now > died + 1 else "").rjust(SHARE_WIDTH), "bold")
        rows.append(row)
    return rows


def ruler(plan: Timeline, now: float, each: int, cell_width: int) -> Text:
    """The phases' names over the stretches that they last."""
    text = Text(" " * LABEL_WIDTH)
    for phase in plan.phases:
        columns = round(phase.end / each) - round(phase.start / each)
        room = columns * cell_width
        name = f"{'' if room <= len(phase.title) else ' '}{phase.title}"[:room].ljust(room)
        style = MODE_STYLES[phase.mode]
        text.append(name, f"bold white on {style}" if phase.start <= now else f"{style} on grey19")
    in_outage = now > show_from(plan)
    return text.append("in outage".rjust(SHARE_WIDTH), "dim") if in_outage else text


def show_from(plan: Timeline) -> float:
    """From when on there is an outage to sum up."""
    return plan.outage[0] + 1


def rolling(show: Show, width: int) -> list[RenderableType]:
    """The last seconds, for as long as the demo stays up."""
    notes = 36  # share, latency and age beside the strip
    room = width - LABEL_WIDTH - notes
    last = int(show.now)  # the second that is not over
    rows: list[RenderableType] = []
    for target in TARGETS:
        cells = show.tally.cells[target]
        row = Text(TITLES[target].ljust(LABEL_WIDTH), "bold")
        for second in range(last - room, last):
            row.append(*glyph(cells.get(second, Cell())))
        cell = cells.get(last - 1, Cell())
        row.append(words.share(cell.share).rjust(8), "bold")
        age = f"  oldest {words.age(cell.oldest)}" if cell.oldest > show.settings.ttl + 1 else ""
        row.append(f"  p99 {words.latency(cell.quantile(0.99))}{age}", "dim")
        rows.append(row)
    return rows


def numbers(show: Show, width: int) -> Table:
    """The last whole second in numbers."""
    second = int(show.now) - 1
    tally = show.tally
    guard, plain = (tally.cells[target].get(second, Cell()) for target in TARGETS)
    asked = {target: tally.asked_in[target].get(second, 0) for target in TARGETS}
    table = columns(width, "last second")

    def row(title: str, mine: str, theirs: str, style: str = "") -> None:
        table.add_row(title, Text(mine, style), Text(theirs, style))

    def speed(cell: Cell) -> str:
        p50, p99 = cell.quantile(0.5), cell.quantile(0.99)
        return words.latencies(p50, p99) if cell.sent else words.NOTHING

    row("queries", f"{guard.sent:,}", f"{plain.sent:,}")
    table.add_row("answered", share_text(guard), share_text(plain))
    row("latency p50 · p99", speed(guard), speed(plain))
    row("age of the oldest answer", words.age(guard.oldest), words.age(plain.oldest))
    row("queries sent upstream", f"{asked[GUARD]:,}", f"{asked[PLAIN]:,}")
    row("stale answers, so far", f"{tally.stale[GUARD]:,}", f"{tally.stale[PLAIN]:,}")
    return table


def share_text(cell: Cell) -> Text:
    return Text(words.share(cell.share), f"bold {glyph(cell)[1]}")


def columns(width: int, first: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1), show_edge=False, width=width, header_style="bold"
    )
    table.add_column(first, ratio=1, no_wrap=True)
    for title in ("with dnsguard", "with a plain cache"):
        table.add_column(title, justify="right", min_width=NUMBER_WIDTH, no_wrap=True)
    return table


def summary_table(guard: Summary, plain: Summary, width: int) -> Table:
    table = columns(width, "measured in this run")
    for title, mine, theirs in words.summary_rows(guard, plain):
        strong = "bold" if title == words.ANSWERED else ""
        table.add_row(Text(title, strong), Text(mine, strong), Text(theirs, strong))
    return table
