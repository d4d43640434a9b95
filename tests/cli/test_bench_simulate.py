"""`dnsguard bench simulate` as its users call it: tables, files, settings to try, mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dnsguard.cli import bench

SCENARIO = """\
title: A minute without upstreams
date: none
summary: all upstreams are silent for a minute
known: nothing
assumed: all of it
sources: []
names: {services: 10, headless: 2, external: 2, namespaces: 2, ttl: 5s, negative_ttl: 5s}
upstreams:
  kube-dns: {replicas: 2}
clients: {count: 10, rate: 10}
phases:
  - {name: healthy, for: 30s, what: all is well}
  - name: dark
    for: %s
    outage: on
    what: nobody answers
    does:
      - {upstream: kube-dns, does: silent}
  - {name: after, for: 20s, what: all is well again}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "dark.yaml"
    path.write_text(SCENARIO % "60s")
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench.command, ["simulate", *arguments], prog_name="bench")


def read(path: Path) -> dict[str, Any]:
    """The numbers of every system of the first scenario in a document."""
    document = json.loads(path.read_text())
    return {one["name"]: one for one in document["scenarios"][0]["systems"]}


def test_all_systems_are_replayed_and_dnsguard_survives(scenario: str, tmp_path: Path) -> None:
    result = run(scenario, "--json", str(tmp_path / "r.json"))
    assert result.exit_code == 0, result.output
    assert "A minute without upstreams" in " ".join(result.output.split())
    assert "seed 1" in result.stderr
    found = read(tmp_path / "r.json")
    assert len(found) == 8
    shares = {
        name: one["total"]["known_right"] / one["total"]["known"] for name, one in found.items()
    }
    assert shares["dnsguard"] == 1.0
    assert shares["no-cache"] < 0.7
    assert shares["node-cache"] < 0.8


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(
    scenario: str, tmp_path: Path
) -> None:
    documents = []
    for number, seed in enumerate(("7", "7", "8")):
        path = tmp_path / f"{number}.json"
        assert (
            run(scenario, "--systems=dnsguard", f"--seed={seed}", "--json", str(path)).exit_code
            == 0
        )
        documents.append(json.loads(path.read_text()))
        documents[-1]["made"].pop("command")  # it names the file of its own
    assert documents[0] == documents[1]
    assert documents[0] != documents[2]


def test_runs_give_an_interval(scenario: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert run(scenario, "--systems=no-cache", "--runs=3", "--json", str(path)).exit_code == 0
    interval = read(path)["no-cache"]["interval"]
    assert interval["runs"] == 3
    assert interval["low"] < interval["high"]


def test_a_sweep_compares_values_of_a_setting(scenario: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    result = run(scenario, "--sweep", "stale.max_age=10s,1h", "--json", str(path))
    assert result.exit_code == 0, result.output
    found = read(path)
    assert list(found) == ["stale.max_age=10s", "stale.max_age=1h"]
    right = [one["total"]["known_right"] for one in found.values()]
    assert right[0] < right[1]


def test_a_file_of_settings_is_tried(scenario: str, tmp_path: Path) -> None:
    settings, path = tmp_path / "settings.yaml", tmp_path / "r.json"
    settings.write_text("stale: {max_age: 10s}\nlisten: 127.0.0.1:9999\n")
    asked = (scenario, "--systems=dnsguard", "--config", str(settings), "--json", str(path))
    assert run(*asked).exit_code == 0
    found = read(path)["dnsguard"]
    assert found["settings"] == {"stale.max_age": "10s"}
    assert found["total"]["known_right"] < found["total"]["known"]


def test_search_lists_are_not_walked_in_a_replay(scenario: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("kubernetes: {autopath: on, namespace: ns0}\n")
    done = run(scenario, "--systems=dnsguard", "--config", str(settings))
    assert "kubernetes.autopath" in str(done.exception)
    assert done.exit_code != 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("openai-2024-12-12",), "nearest is openai-2024-12-11"),
        (("./nowhere.yaml",), "nowhere.yaml"),
        (("--systems=unbond",), "nearest is unbound"),
        (("--sweep=stale.max_aje=1h,2h",), "nearest is stale.max_age"),
        (("--sweep=stale.max_age",), "stale.max_age=1h,1d,3d"),
        (("--runs=0",), "--runs"),
        (("--json=/nowhere/r.json",), "/nowhere"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(words: tuple[str, ...], said: str, scenario: str) -> None:
    named = words if not words[0].startswith("-") else (scenario, *words)
    program = (sys.executable, "-m", "dnsguard", "bench", "simulate", *named)
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_an_interrupted_replay_reports_what_it_has(scenario: str, tmp_path: Path) -> None:
    long, path = tmp_path / "long.yaml", tmp_path / "r.json"
    long.write_text(SCENARIO % "10d")
    program = (sys.executable, "-m", "dnsguard", "bench", "simulate", "--systems=dnsguard")
    # Whoever runs the tests in the background has SIGINT ignored, and so would a child.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            (*program, scenario, str(long), "--json", str(path)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("dark: dnsguard"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "A minute without upstreams" in " ".join(out.split())
    document = json.loads(path.read_text())
    assert [one["scenario"]["name"] for one in document["scenarios"]] == ["dark"]
    assert document["made"]["notes"] == ["Interrupted: 1 of 2 scenarios were left out."]
