"""Numbers in words: nothing is rounded to its advantage."""

from __future__ import annotations

import pytest

from dnsguard.bench import outage_words as words
from tests.bench.outages import EMPTY, RESULT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1.0, "100 %"),
        (0.9999996, "99.9999 %"),
        (0.99996, "99.9960 %"),
        (0.9999, "99.99 %"),
        (0.99899, "99.89 %"),
        (0.99, "99.0 %"),
        (0.4567, "45.6 %"),
        (0.0, "0.0 %"),
    ],
)
def test_a_share_is_rounded_down(value: float | None, text: str) -> None:
    assert words.share(value) == text


@pytest.mark.parametrize(
    ("value", "band"),
    [(None, ""), (1.0, "held"), (0.9999, "held"), (0.99, "nearly"), (0.5, "broken"), (0.0, "down")],
)
def test_bands(value: float | None, band: str) -> None:
    assert words.band(value) == band


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (48e-6, "48 µs"), (0.0023, "2.3 ms"), (0.12, "120 ms"), (1.85, "1.9 s")],
)
def test_a_latency(seconds: float | None, text: str) -> None:
    assert words.latency(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.0, "0 s"),
        (1.25, "1.2 s"),
        (75.0, "1 min 15 s"),
        (59.9, "1 min"),
        (15_720.0, "4 h 22 min"),
        (262_800.0, "3 d 1 h"),
    ],
)
def test_a_duration(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_the_clock_of_a_long_and_a_short_scenario() -> None:
    assert words.clock(1830, 15_720) == "0:30 h"
    assert words.clock(75, 120) == "1:15"


def test_the_best_are_named_unless_all_are() -> None:
    one = RESULT.scenarios[0]
    assert words.best(words.SURVIVED, one.systems) == {"dnsguard"}
    assert words.best(words.COLUMNS[1], one.systems) == set()  # look-ups: nobody is better
    assert words.best(words.SURVIVED, one.systems[:1]) == set()
    late = next(column for column in words.COLUMNS if column.title == "late")
    assert words.best(late, one.systems) == set()  # both had none


def test_the_headline_is_the_worst_of_dnsguard() -> None:
    assert words.headline(RESULT).startswith("dnsguard answered every look-up")
    assert words.headline(EMPTY) == ""


def test_seeds() -> None:
    assert words.seeds([7]) == "7"
    assert words.seeds(range(1, 21)) == "1 to 20"
    assert words.seeds([3, 9]) == "3, 9"
    assert words.seeds([]) == "none"


def test_where_answers_came_from_is_of_the_outage_alone() -> None:
    one = RESULT.scenarios[0]
    assert dict(words.during(one.systems[0], one.scenario)) == {"stale": 240}
    assert words.sources(one) == ["stale", "failure", "hit"]
