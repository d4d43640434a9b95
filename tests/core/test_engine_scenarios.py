"""Plays every scenario in `scenarios/`, and checks that a scenario can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.scenario import FOLDER, Unmet, play, read

FILES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    play(path.read_text(encoding="utf-8"), path.name)


def test_every_scenario_says_what_it_shows() -> None:
    assert FILES
    for path in FILES:
        assert path.read_text(encoding="utf-8").startswith("# "), path.name


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("expect NXDOMAIN within 1s", "NOERROR 10.1.0.1"),
        ("expect NOERROR 10.1.0.2 within 1s", "NOERROR 10.1.0.1"),
        ("expect NOERROR 10.1.0.1 ttl 29 within 1s", "TTLs (30,)"),
        ("expect NOERROR 10.1.0.1 ede 3 within 1s", "EDE ()"),
        ("expect NOERROR 10.1.0.1 text stale within 1s", "EDE ()"),
        ("expect NOERROR 10.1.0.1 cut within 1s", "NOERROR"),
        ("expect NOERROR 10.1.0.1 ad within 1s", "NOERROR"),
        ("expect NOERROR 10.1.0.1", "answered after 0.0010 s"),
        ("expect NOERROR 10.1.0.1 after 5ms within 1s", "answered after 0.0010 s"),
        ("expect NOERROR 10.1.0.1 within 1s from nobody", "not understood"),
        ("packets 2", "there were 1"),
        ("packets atmost 0", "there were 1"),
        ("zone . outage", "the zone is in normal"),
        ("said 1 anything", "said 0 times"),
        ("pass 5", "not understood"),
        ("shout", "not understood"),
        ("pass 5s now", "what does ['now'] mean"),
    ],
)
def test_what_does_not_come_true_is_reported_with_its_line(line: str, why: str) -> None:
    text = f"data web.test A 30 10.1.0.1\n\nask web.test # a comment\n{line}\n"
    with pytest.raises(Unmet) as unmet:
        play(text, "some.txt")
    assert str(unmet.value).startswith("some.txt:4: ")
    assert why in str(unmet.value)


def test_comments_and_empty_lines_are_no_statements() -> None:
    assert read("# nothing\n\n   # nothing\n", "x") == []
