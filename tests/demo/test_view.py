"""The live view: it fits its terminal, and it says what the numbers say."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from dnsguard.config import Address
from dnsguard.demo import view
from dnsguard.demo.show import Show
from dnsguard.demo.tally import Cell, Outcome
from dnsguard.demo.timeline import Mode, timeline
from dnsguard.demo.view import View
from tests.demo.staged import PLAN, show_at

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def console(width: int) -> Console:
    """A terminal without colours."""
    return Console(file=StringIO(), width=width, height=40, color_system=None, force_terminal=True)


def shown(on: Console) -> list[str]:
    """Every line that was written, without what moves the cursor."""
    file = on.file
    assert isinstance(file, StringIO)
    return CONTROLS.sub("", file.getvalue()).replace("\r", "\n").splitlines()


def frame(show: Show, width: int) -> list[str]:
    """The lines of one frame."""
    on = console(width)
    screen = View(on)
    screen.frame(show)
    screen.close()
    lines = shown(on)
    (end, *_) = (number for number, line in enumerate(lines) if line.startswith("╰"))
    return lines[: end + 1]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("second", [0, 1, 14, 24, 35])
def test_every_frame_fits(width: int, second: int) -> None:
    lines = frame(show_at(second), width)
    assert lines
    assert {cell_len(line) for line in lines} == {min(width, view.WIDTH_MAX)}
    assert len(lines) < 24  # the height of the smallest terminal in use


@pytest.mark.parametrize(("width", "cells"), [(80, 1), (120, 2)])
def test_the_strips_tell_the_outage(width: int, cells: int) -> None:
    show = show_at(24)
    lines = frame(show, width)
    guard, plain = (
        next(x for x in lines if title in x) for title in ("  dnsguard  ", "plain cache ")
    )
    assert guard.count(view.FULL) == 24 * cells
    assert plain.count(view.FULL) == 8 * cells
    assert plain.count(view.EMPTY) == 16 * cells
    assert guard.count(view.FUTURE) == 11 * cells
    assert "100 %" in guard
    assert " 0 %" in plain
    ruler = next(line for line in lines if "SERVFAIL" in line and "healthy" in line)
    assert ruler.index("SERVFAIL") < ruler.index("back") < ruler.index("in outage")


def test_numbers_are_of_the_last_whole_second() -> None:
    lines = frame(show_at(24), 80)
    rows = {line[4:30].strip(): line[30:-1].split() for line in lines if "  " in line}
    assert rows["queries"] == ["20", "20"]
    assert rows["age of the oldest answer"] == ["15", "s", "-"]
    assert rows["queries sent upstream"] == ["1", "7"]
    assert any("FAILING" in line and "00:11 left" in line for line in lines)


@pytest.mark.parametrize(
    ("sent", "outcomes", "expected"),
    [
        (0, {}, (view.FUTURE, "dim")),
        (4, {Outcome.FRESH: 4}, (view.FULL, view.FRESH)),
        (4, {Outcome.FRESH: 3, Outcome.STALE: 1}, (view.FULL, view.STALE)),
        (1000, {Outcome.FRESH: 999, Outcome.LOST: 1}, (view.PARTLY[-1], view.BROKEN)),
        (1000, {Outcome.STALE: 1}, (view.PARTLY[0], view.BROKEN)),
        (4, {Outcome.FAILED: 4}, (view.EMPTY, view.BROKEN)),
    ],
)
def test_a_full_block_is_a_second_without_a_loss(
    sent: int, outcomes: dict[Outcome, int], expected: tuple[str, str]
) -> None:
    cell = Cell(sent=sent)
    cell.outcomes.update(outcomes)
    assert view.glyph(cell) == expected


def test_a_long_timeline_is_squeezed() -> None:
    show = show_at(30)
    long = timeline(100, 200, 100, 100)
    object.__setattr__(show.settings, "timeline", long)
    lines = frame(show, 80)
    assert {cell_len(line) for line in lines} == {80}


@pytest.mark.parametrize(("width", "lost"), [(80, 0), (120, 0), (80, 3)])
def test_the_summary_says_how_it_went(width: int, lost: int) -> None:
    on = console(width)
    show = show_at(36, lost=lost)
    View(on).summary(show, show.summaries())
    lines = shown(on)
    text = "\n".join(lines)
    assert {cell_len(line) for line in lines} == {min(width, 120)}
    assert "An outage of 20 s" in text
    assert ("✘ dnsguard lost 3 of 720 queries" in text) == bool(lost)
    assert ("✔ dnsguard answered all 720 queries" in text) == (not lost)


@pytest.mark.parametrize("keys", [True, False])
def test_staying_up_tells_what_to_try(keys: bool) -> None:
    on = console(80)
    screen, show = View(on), show_at(40)
    screen.staying(show, keys)
    screen.idle(show)
    screen.close()
    text = "\n".join(shown(on))
    assert "dig @127.0.0.1 -p 5353 postgres.data.svc.cluster.local" in text
    assert "dnsguard query postgres.data.svc.cluster.local" in text
    assert "kill -STOP 4711" in text
    assert ("quit" in text) == keys
    assert "healthy" in text


def test_commands_are_never_broken_into_two_lines() -> None:
    on = console(80)
    View(on).staying(show_at(40, listen=Address("127.0.0.1", 15353)), False)
    assert any(line.endswith("SRV --server 127.0.0.1:15353") for line in shown(on))


def test_a_frozen_cluster_dns_is_seen() -> None:
    show = show_at(40)
    show.reported = 0.0
    on = console(80)
    screen = View(on)
    screen.idle(show)
    screen.close()
    assert "FROZEN" in "\n".join(shown(on))


def test_what_is_being_started_is_named() -> None:
    on = console(80)
    screen = View(on)
    screen.opening("cluster DNS")
    screen.opening("dnsguard serve")
    screen.close()
    assert "✔ cluster DNS   … dnsguard serve" in "\n".join(shown(on))


def test_the_outage_is_measured_and_not_taken_from_the_plan() -> None:
    over, under_way = show_at(36), show_at(20)
    over.changes = [(Mode.DEAD, 8.5), (Mode.SERVFAIL, 20.1), (Mode.HEALTHY, 28.2), (Mode.DEAD, 50)]
    under_way.changes = [(Mode.DEAD, 8.5)]
    assert over.outage == (8.5, 28.2)
    assert under_way.outage == (8.5, PLAN.outage[1])
