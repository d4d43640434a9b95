"""The picture is SVG, has both halves, and the same numbers give the same file."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dnsguard.bench import plot
from tests.bench.results import OUTCOME, outcome


def test_the_picture_is_drawn_twice_alike(tmp_path: Path) -> None:
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"
    plot.draw(OUTCOME, one)
    plot.draw(OUTCOME, other)
    assert one.read_bytes() == other.read_bytes()
    assert ET.parse(one).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    # Letters are drawn as shapes; what they say is kept in comments.
    text = one.read_text()
    for words in ("share of the answers", "latency, ms", "answers per second", "lost/s", "p99"):
        assert f"<!-- {words} -->" in text


def test_a_single_answer_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "one.svg"
    timeline = OUTCOME.measured.timeline[:1]
    plot.draw(outcome(answered=1, histogram=[(0, 1)], timeline=timeline), path)
    assert path.stat().st_size > 1000


def test_no_answer_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "none.svg"
    plot.draw(outcome(answered=0, histogram=[], timeline=OUTCOME.measured.timeline[1:]), path)
    assert path.stat().st_size > 1000


def test_the_curve_rises_to_the_slowest() -> None:
    x, y = plot.curve([(100, 90), (200, 9), (5000, 1)])
    assert x == pytest.approx([0, 1, 2, plot.NINES_MAX])
    assert y == [0.1, 0.1, 0.2, 5.0]


def test_a_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as the import system marks what is not
    with pytest.raises(plot.NoPlot, match=r"pip install 'dnsguard\[bench\]'"):
        plot.draw(OUTCOME, tmp_path / "x.svg")
