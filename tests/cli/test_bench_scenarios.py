"""`dnsguard bench scenarios` as its users call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnsguard.cli import bench
from dnsguard.errors import ConfigError, DnsguardError
from dnsguard.sim import library


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench.command, ["scenarios", *arguments])


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_the_list_has_every_scenario_on_a_line() -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for one in library.everything():
        (line,) = [line for line in lines if line.startswith(f" {one.name} ")]
        assert one.summary in line
        assert one.date == "none" or f" {one.date} " in line


def test_one_is_shown_whole() -> None:
    result = run("coredns-rollout", "zalando-2019-01-07")
    assert result.exit_code == 0
    for text in (
        "coredns-rollout: A rollout of CoreDNS",
        "https://github.com/kubernetes/kubernetes/issues/129617",
        "rollout, 2m (outage): one replica after another is replaced",
        "- at 10m 05s: roll kube-dns, for 10s",
        "- kube-dns: ports, 30 % of the source ports",
        "- kube-dns: crashloop, every 330s, up 9 %",
        "storm, 2m (outage, 4 times the look-ups)",
        "- kube-dns: ok, median 20ms, p99 1s, capacity 4000",
        "150 clients, 60 look-ups a second with search list",
    ):
        assert text in result.stdout, text


def test_json_for_programs() -> None:
    listed = json.loads(run("--json").stdout)
    assert {one["name"] for one in listed} == set(library.paths())
    (whole,) = json.loads(run("--json", "node-reboot").stdout)
    assert whole["phases"][1]["does"][0]["does"] == "silent"
    assert whole["length"] == 4800.0


def test_a_file_of_ones_own_with_all_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = library.path("node-reboot").read_text().replace("do: kill", "do: explode")
    path.write_text(text.replace("for: 10m", "for: ten"))
    error = run(str(path)).exception
    assert isinstance(error, ConfigError)
    assert error.what == "the scenario"
    assert len(error.mistakes) == 4
    assert f"phases[0].for ({path}:" in str(error)


def test_a_scenario_that_is_not_there() -> None:
    error = run("node-rebot").exception
    assert isinstance(error, ConfigError)
    assert "the nearest is node-reboot" in str(error)


def test_an_installation_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "paths", dict)
    error = run().exception
    assert isinstance(error, DnsguardError)
    assert "no library in this installation" in str(error)
