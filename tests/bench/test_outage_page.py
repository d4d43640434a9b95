"""The page is whole, escapes what it is given, asks nobody for anything, and has the numbers."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from dnsguard.bench import plot
from dnsguard.bench.outage_page import page
from dnsguard.bench.outage_plot import NARROW, SERIES, WIDE, draw, series
from tests.bench.outages import EMPTY, RESULT, SPITE

VOID = {"meta", "br", "link", "img", "input", "hr"}
LOADING = {"src", "srcset", "data", "poster", "action", "background", "ping", "xlink:href"}


class Reading(HTMLParser):
    """Every element in its place: one that is not closed, or by another, is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def written() -> str:
    return page(RESULT)


def reading(text: str) -> Reading:
    found = Reading()
    found.feed(text)
    found.close()
    assert not found.open
    return found


def test_every_element_is_closed_in_its_place(written: str) -> None:
    tags = {tag for tag, _ in reading(written).tags}
    assert {"html", "table", "svg", "path", "text", "pre"} <= tags


def test_ids_are_there_once(written: str) -> None:
    ids = [attrs["id"] for _, attrs in reading(written).tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_drawings_refer_to_their_own_parts(written: str) -> None:
    found = reading(written).tags
    ids = {attrs["id"] for _, attrs in found if "id" in attrs}
    wanted = set(re.findall(r"url\(#([^)]*)\)", written))
    wanted |= {a["xlink:href"][1:] for _, a in found if a.get("xlink:href", "").startswith("#")}
    assert wanted
    assert wanted <= ids


def test_nobody_is_asked_for_anything(written: str) -> None:
    """No script, style sheet, font or picture from elsewhere; a link waits to be clicked."""
    for tag, attrs in reading(written).tags:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        for name in LOADING & set(attrs):
            assert attrs[name].startswith(("data:image/png;base64,", "#")), (tag, name)
        if tag != "a":
            assert "http" not in attrs.get("href", "")
        assert not any(name.startswith("on") for name in attrs)
    assert "@import" not in written
    assert not re.search(r"url\((?!#)", written)


def test_what_a_result_says_is_text_and_nothing_else(written: str) -> None:
    assert "<script" not in written
    text = "".join(reading(written).text)
    assert text.count(SPITE) >= 10
    assert "javascript:" in text
    links = [attrs["href"] for tag, attrs in reading(written).tags if tag == "a"]
    assert links == ["https://status.example/incidents/1?a=1&b=2"] * 2


def test_the_numbers_are_there(written: str) -> None:
    text = " ".join(" ".join(reading(written).text).split())
    # 480 look-ups, of which 120 of the 240 in the dark failed for the plain cache.
    for words in ("100 %", "75.0 %", "50.0 %", "99.0 to 100 %", "480", "120", "5.0 s", "400 µs"):
        assert words in text, words
    assert "dnsguard answered every look-up right and in time, in all 2 outages." in text
    assert "somebody is left out" in text
    assert "4 h, run in 4 min (compressed 60 times)" in text
    assert "cache, past its TTL" in text


def test_the_same_result_gives_the_same_page(written: str) -> None:
    assert page(RESULT) == written


def test_a_result_without_any_number_is_a_page_too() -> None:
    text = "".join(reading(page(EMPTY)).text)
    assert "Not known of these systems." in text


@pytest.mark.parametrize("shape", [WIDE, NARROW], ids=lambda shape: shape.name)
def test_a_drawing_is_xml_in_the_pages_colours(shape: object) -> None:
    assert shape in (WIDE, NARROW)
    svg = draw(RESULT.scenarios[0], WIDE if shape is WIDE else NARROW, "m")
    ET.fromstring(svg)
    assert "var(--ink)" in svg
    assert "var(--s0)" in svg
    assert "var(--s1)" in svg
    assert not re.search(r"#0[12]0[123]0[0-9a-f]", svg), "a stand-in for a colour was left"


def test_there_is_a_variable_for_every_series(written: str) -> None:
    for number in range(SERIES):
        assert written.count(f"--s{number}:") == 2, "one for light, one for dark"
    assert series(SERIES) == series(0)


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plot.NoPlot, match="--html needs matplotlib"):
        page(RESULT)
