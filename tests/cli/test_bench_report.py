"""`dnsguard bench report` as its users call it: tables, a page, JSON again, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from dnsguard.cli import bench, outage_tables
from dnsguard.sim.result import from_json, to_json
from tests.bench.outages import EMPTY, RESULT


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "result.json"
    path.write_bytes(to_json(RESULT))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench.command, ["report", *arguments])


def test_tables_say_who_survived(saved: str) -> None:
    result = run(saved)
    assert result.exit_code == 0, result.output
    assert "Answered right within 2 s" in result.output
    assert "100 %" in result.output
    assert "75.0 %" in result.output
    assert "somebody is left out" in result.output
    assert "it died" in result.output


def test_json_is_what_was_read(saved: str) -> None:
    result = run(saved, "--json", "-")
    assert result.exit_code == 0
    assert from_json(result.stdout) == RESULT


def test_several_files_are_one_result(saved: str, tmp_path: Path) -> None:
    joined = tmp_path / "joined.json"
    result = run(saved, saved, "--json", str(joined))
    assert result.exit_code == 0, result.output
    found = json.loads(joined.read_text())
    assert len(found["scenarios"]) == 4
    assert found["made"]["seeds"] == [1, 2, 3]
    assert found["made"]["machine"] == RESULT.made.machine


def test_a_page_is_written(tmp_path: Path) -> None:
    source, target = tmp_path / "empty.json", tmp_path / "page.html"
    source.write_bytes(to_json(EMPTY))
    assert run(str(source), "--html", str(target)).exit_code == 0
    assert target.read_text().startswith("<!doctype html>")


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"format": 1}')
    result = run(str(wrong))
    assert result.exit_code == 2
    assert f"{wrong}: This result is damaged" in result.output
    result = run(str(tmp_path / "none.json"))
    assert result.exit_code == 2
    assert "none.json cannot be read" in result.output


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_target_that_cannot_be_is_told_first(saved: str, tmp_path: Path, option: str) -> None:
    result = run(saved, option, str(tmp_path))
    assert result.exit_code == 2
    assert "is a directory" in result.output
    result = run(saved, option, str(tmp_path / "none" / "x"))
    assert result.exit_code == 2
    assert "there is no directory" in result.output
    assert "Answered" not in result.output


def test_a_page_without_matplotlib(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(saved, "--html", "page.html")
    assert result.exit_code == 2
    assert "pip install 'dnsguard[bench]'" in result.output


@pytest.mark.parametrize("width", [60, 100, 200])
def test_tables_fit_where_they_are_shown(width: int) -> None:
    target = io.StringIO()
    console = Console(file=target, width=width, force_terminal=True, color_system=None)
    outage_tables.show(RESULT, console)
    assert max(len(line.rstrip()) for line in target.getvalue().splitlines()) <= width
    assert "100 %" in target.getvalue()
