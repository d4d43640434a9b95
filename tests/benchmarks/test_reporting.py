"""Tables, percentiles, JSON and sections come out as a reader needs them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import reporting
from benchmarks.dnsperf import Load


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_percentile_is_a_measured_value(share: float, expected: float) -> None:
    assert reporting.percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_percentile_counts_a_lost_query_as_the_slowest() -> None:
    latencies = [0.001] * 98 + [math.inf] * 2
    assert reporting.percentile(latencies, 0.98) == 0.001
    assert reporting.percentile(latencies, 0.99) == math.inf


def test_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        reporting.percentile([], 0.5)


def test_table_aligns_its_columns() -> None:
    text = reporting.table(["name", "qps"], [["a", "1,000"], ["longer", "7"]])
    assert text.splitlines() == [
        "name      qps",
        "------  -----",
        "a       1,000",
        "longer      7",
    ]


def test_json_has_no_infinity(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    reporting.write_json(path, {"load": Load(1, 0, 1, {}, 1.0, 0.0), "worst": [math.inf, 1.5]})
    read = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert read["worst"] == [None, 1.5]
    assert read["load"]["lost"] == 1


def test_markdown_aligns_numbers_to_the_right() -> None:
    text = reporting.markdown(["name", "qps"], [["a", "1,000"]])
    assert text.splitlines() == ["| name | qps |", "| --- | ---: |", "| a | 1,000 |"]


def test_section_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    reporting.write_section(path, "one", "first", "Results")
    reporting.write_section(path, "two", "second", "Results")
    path.write_text(path.read_text() + "\nBy hand.\n")
    reporting.write_section(path, "one", "first again", "Results")
    text = path.read_text()
    assert text.startswith("# Results\n")
    assert text.count("# Results") == 1
    assert "first again" in text
    assert "\nfirst\n" not in text
    assert text.index("first again") < text.index("second") < text.index("By hand.")


def test_section_without_an_end_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n<!-- begin: one -->\nlong text")
    with pytest.raises(ValueError, match="end: one"):
        reporting.write_section(path, "one", "first", "Results")
    assert "long text" in path.read_text()
