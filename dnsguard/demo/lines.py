"""The demo as plain lines: one a second, for logs, pipes and terminals that cannot draw."""

from __future__ import annotations

import math
from collections.abc import Callable

from dnsguard.demo import words
from dnsguard.demo.show import Show
from dnsguard.demo.tally import GUARD, PLAIN, Cell, Summary
from dnsguard.demo.timeline import Mode

IDLE_LINE_SECONDS = 10
GRACE_SECONDS = 0.3  # a second is told when its last answers had time to arrive


class Lines:
    """A stream of text as a screen; `say` takes one line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told = -1  # the last second that was told
        self._mode: tuple[Mode, bool] | None = None

    def opening(self, what: str) -> None:
        self._say(f"starting {what}")

    def frame(self, show: Show) -> None:
        self._tell(show, int(show.now - GRACE_SECONDS))

    def _tell(self, show: Show, until: int) -> None:
        """Every whole second before `until` that was not told yet."""
        plan = show.settings.timeline
        end = math.ceil(plan.total)
        for second in range(self._told + 1, min(until, end)):
            self._told = second
            when = f"{words.clock(second + 1)} of {words.clock(end)}"
            self._say(f"{when}  {plan.at(second).title:<8}  {told(show, second)}")

    def summary(self, show: Show, summaries: dict[str, Summary]) -> None:
        self._tell(show, int(show.now))
        guard, plain = summaries[GUARD], summaries[PLAIN]
        died, back = show.outage
        self._say("")
        self._say(f"An outage of {back - died:.0f} s, as the clients saw it:")
        for title, mine, theirs in (
            ("", "with dnsguard", "with a plain cache"), *words.summary_rows(guard, plain)
        ):  # fmt: skip
            self._say(f"  {title:<32} {mine:>20} {theirs:>20}")
        self._say("")
        self._say(words.verdict(show.lost, show.tally.answered[GUARD], plain))

    def staying(self, show: Show, keys: bool) -> None:
        del keys  # someone who reads lines types commands
        self._say("")
        self._say("Still up; Ctrl-C ends the demo. From another terminal:")
        for command, meaning in (*words.try_it(show), *words.break_it(show)):
            self._say(f"  {command}    # {meaning}")
        self._say("")

    def idle(self, show: Show) -> None:
        second = int(show.now - GRACE_SECONDS) - 1
        state = show.mode, show.frozen
        if state != self._mode or second >= self._told + IDLE_LINE_SECONDS:
            self._mode, self._told = state, second
            self._say(f"cluster DNS {show.condition}  {told(show, second)}")

    def close(self) -> None:
        """A line is out once it is said."""


def told(show: Show, second: int) -> str:
    """One second in one line."""
    tally = show.tally

    def part(title: str, target: str) -> str:
        cell = tally.cells[target].get(second, Cell())
        speed = words.latencies(cell.quantile(0.5), cell.quantile(0.99))
        text = f"{title} {words.share(cell.share)} of {cell.sent}, {speed}"
        if stale := tally.stale[target]:
            text += f", {stale} stale so far, oldest {words.age(cell.oldest)}"
        return text + f", {tally.asked_in[target].get(second, 0)} upstream"

    return f"{part('dnsguard', GUARD)} | {part('plain cache', PLAIN)}"
