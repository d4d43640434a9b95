"""How far a load is, while it is under way: a bar on a terminal, a line a second elsewhere.

Both write to stderr, so that stdout has the result and nothing else. They are told four times a
second and draw no more often: drawing takes processor time, which on a small machine the server
would otherwise have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress as Bars, TextColumn

from dnsguard.bench.load import Progress

LINE_SECONDS = 1.0


class Rate:
    """Answers per second between two looks."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._answered = 0

    def of(self, progress: Progress) -> float:
        if progress.elapsed < self._elapsed:  # the warm-up is over: it counts from nothing again
            self._elapsed, self._answered = 0.0, 0
        span = progress.elapsed - self._elapsed
        rate = (progress.answered - self._answered) / span if span > 0 else 0.0
        self._elapsed, self._answered = progress.elapsed, progress.answered
        return rate


class Lines:
    """One line a second."""

    def __init__(self, what: str, seconds: float, write: Callable[[str], None]) -> None:
        self._what = what
        self._seconds = seconds
        self._write = write
        self._rate = Rate()
        self._next = 0.0

    def tell(self, progress: Progress) -> None:
        """Show `progress` if it is time."""
        if progress.elapsed < self._next - LINE_SECONDS:
            self._next = 0.0  # the warm-up is over
        if progress.elapsed < self._next:
            return
        self._next = progress.elapsed + LINE_SECONDS
        rate = self._rate.of(progress)
        if not progress.answered and progress.elapsed < LINE_SECONDS:
            return  # nothing to tell yet
        share = (
            f"{progress.elapsed:.1f} of {self._seconds:g} s" if progress.measuring else "warm-up"
        )
        self._write(f"{self._what}: {share}, {rate:,.0f} answers/s, {progress.lost:,} lost")


class Bar:
    """A bar that fills."""

    def __init__(self, what: str, seconds: float, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task(what, total=seconds, told="warm-up")
        self._rate = Rate()

    def tell(self, progress: Progress) -> None:
        """Show `progress`."""
        told = f"{self._rate.of(progress):,.0f} answers/s, {progress.lost:,} lost"
        if progress.measuring:
            self._bars.update(self._task, completed=progress.elapsed, told=told)
        else:
            self._bars.update(self._task, told=f"warm-up, {told}")
        self._bars.refresh()


@contextmanager
def shown(
    what: str, seconds: float, console: Console, write: Callable[[str], None]
) -> Iterator[Callable[[Progress], None]]:
    """Show the progress that is told, on `console` if that is a terminal, else by `write`."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(what, seconds, write).tell
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")
    # No thread that draws by itself: it is drawn when there is news.
    with Bars(*columns, console=console, auto_refresh=False, transient=True) as bars:
        bar = Bar(what, seconds, bars)
        bars.refresh()
        yield bar.tell
