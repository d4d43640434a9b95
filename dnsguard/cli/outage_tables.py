"""The result of replayed outages in a terminal: who survived what, then each outage."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dnsguard.bench import outage_words as words
from dnsguard.sim.result import Result, ScenarioRun

TITLE_WIDTH, SYSTEM_WIDTH = 22, 12  # columns of characters
STYLES = {
    "held": "green", "nearly": "green", "hurt": "yellow", "broken": "dark_orange", "down": "red",
    "": "",
}  # fmt: skip


def show(result: Result, console: Console) -> None:
    """Print everything. Systems that do not fit side by side are in further tables."""
    fits = max(1, (console.width - TITLE_WIDTH) // SYSTEM_WIDTH)
    if not console.is_terminal:
        fits = max(1, len(result.systems()))
        console.width = max(console.width, TITLE_WIDTH + fits * SYSTEM_WIDTH)
    for systems in _parts(result.systems(), fits):
        console.print(survival(result, systems))
    for one in result.scenarios:
        for systems in _parts([run.name for run in one.systems], fits):
            console.print()
            console.print(scenario(one, systems))
        for run in one.systems:
            for note in run.notes:
                console.print(Text(f"{run.name}: {note}"))
    if lines := list(_last(result)):
        console.print()
        for line in lines:
            console.print(Text(line))


def _parts(systems: list[str], fits: int) -> list[list[str]]:
    return [systems[n : n + fits] for n in range(0, len(systems), fits)]


def survival(result: Result, systems: list[str]) -> Table:
    """Scenarios down, systems across."""
    table = _table("Answered right within 2 s, of names that existed before the outage")
    table.add_column("outage", width=TITLE_WIDTH - 2)
    for name in systems:
        table.add_column(name, justify="right", overflow="fold", min_width=SYSTEM_WIDTH - 2)
    for one in result.scenarios:
        runs = {run.name: run for run in one.systems}
        best = words.best(words.SURVIVED, one.systems)
        cells = [Text(one.scenario.title)]
        for name in systems:
            run = runs.get(name)
            share = None if run is None else run.total.survival
            text = words.share(share)
            if run is not None and (interval := words.interval(run)):
                text += f"\n{interval}"
            cells.append(_graded(text, words.band(share), name in best))
        table.add_row(*cells)
    return table


def scenario(one: ScenarioRun, systems: list[str]) -> Table:
    """Numbers down, systems across."""
    facts = one.scenario
    when = f"{facts.date}, " if facts.date else ""
    table = _table(f"{facts.title} ({when}{words.length(facts)})")
    table.add_column("", width=TITLE_WIDTH - 2)
    runs = [run for run in one.systems if run.name in systems]
    for run in runs:
        table.add_column(run.name, justify="right", overflow="fold", min_width=SYSTEM_WIDTH - 2)
    for column in words.COLUMNS:
        best = words.best(column, one.systems)
        cells = [
            _graded(
                column.text(run),
                words.band(run.total.survival) if column is words.SURVIVED else "",
                run.name in best,
            )
            for run in runs
        ]
        table.add_row(Text(column.title), *cells)
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title, "bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="dim",
    )


def _graded(text: str, band: str, best: bool) -> Text:
    return Text(text, f"{STYLES[band]}{' bold' if best else ''}".strip())


def _last(result: Result) -> Iterator[str]:
    """How it came about, and what the reader must know."""
    made = result.made
    yield from made.notes
    facts = (
        f"dnsguard {made.dnsguard}", words.MODES[made.mode], f"seeds {words.seeds(made.seeds)}",
        made.machine, made.date,
    )  # fmt: skip
    yield f"{', '.join(filter(None, facts))}."
