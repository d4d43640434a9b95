"""`dnsguard bench outage` as its users call it, on real sockets and with dnsguard alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnsguard import offspring
from dnsguard.bench import outage_stage
from dnsguard.bench.outage_run import Sight
from dnsguard.cli import bench, bench_outage
from dnsguard.sim.result import Kind, Mode, from_json
from tests.bench.outage_scenarios import SHORT, written

ALONE = ("--only", "dnsguard")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench.command, ["outage", *arguments])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dnsguard", "bench", "outage", *arguments]


def children_of(pid: int) -> set[int]:
    """The processes that have it for their parent."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.add(int(entry.name))
    return found


def test_a_short_outage_from_begin_to_end(tmp_path: Path) -> None:
    """Names known before are answered in the silence, and the report says from where."""
    target = tmp_path / "result.json"
    done = subprocess.run(
        command(str(written(tmp_path)), *ALONE, "--rate=40", "--json", str(target)),
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "short: starting" in done.stderr
    assert "A second of silence" in done.stdout
    found = from_json(target.read_bytes())
    assert (found.made.mode, found.made.seeds) == (Mode.OUTAGE, (1,))
    assert found.made.command.startswith("dnsguard bench outage")
    (one,) = found.scenarios
    assert one.scenario.length == pytest.approx(3.0)
    (system,) = one.systems
    assert (system.name, system.kind, system.notes) == ("dnsguard", Kind.DNSGUARD, ())
    total, silent = system.total, system.phases["silent"]
    # 40 a second for three seconds; what is asked does not depend on how busy this machine is.
    assert 80 <= total.lookups <= 160
    assert total.wrong_negative == total.dead_address == total.deleted == total.failed == 0
    assert silent.right + silent.late == silent.lookups > 20
    assert silent.sources.get("stale", 0) > 0
    assert system.phases["after"].upstream > 0


def test_an_interruption_keeps_what_there_is(tmp_path: Path) -> None:
    text = SHORT.replace("for: 1300ms", "for: 10m")
    target = tmp_path / "result.json"
    arguments = (str(written(tmp_path, text)), *ALONE, "--minutes=20", "--json", str(target))
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(", silent, dnsguard" in line for line in process.stderr)
        children = children_of(process.pid)
        assert len(children) >= 3, "the upstream, the clients and dnsguard"
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == bench_outage.INTERRUPTED
    assert "Traceback" not in complaints
    document = json.loads(target.read_text())
    assert any("was interrupted after" in note for note in document["made"]["notes"])
    assert document["scenarios"][0]["systems"][0]["total"]["lookups"] > 0
    deadline = time.monotonic() + 30
    while left := {pid for pid in children if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none-such"], "none-such"),
        (["lying-replica", "--only", "nobody"], "no such server here; there are dnsguard"),
        (["lying-replica", "--set", "stale.max_age"], "write KEY=VALUE"),
        (["lying-replica", "--compress", "0.5"], "0.5"),
        (["lying-replica", "--json", "/none/such/file"], "there is no directory"),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_be_is_told_at_once(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_is_compressed() -> None:
    text = " ".join(run("--help").output.split())
    assert "Not compressed are the time-outs" in text
    assert "--minutes" in text


def test_without_a_checkout_dnsguard_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offspring, "PACKAGE_HOME", str(tmp_path))
    found, notes = outage_stage.others()
    assert found == []
    assert notes == [outage_stage.NO_CHECKOUT]
    rivals, said = bench_outage._rivals((), ())
    assert [rival.name for rival in rivals] == ["dnsguard"]
    assert said == notes


def test_a_setting_reaches_dnsguard(tmp_path: Path) -> None:
    rival = outage_stage.dnsguard((("stale.max_age", "1h"),))
    spot = outage_stage.Spot(tmp_path, 1, 2, 3)
    assert "stale.max_age=1h" in rival.command(spot)
    assert rival.settings == {"stale.max_age": "1h"}


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    rival = outage_stage.dnsguard((("stale.max_ago", "1h"),))
    cache = outage_stage.Cache(rival, outage_stage.free_port(), tmp_path)
    try:
        assert "stale.max_age" in cache.why_not()
    finally:
        cache.stop()


def test_a_cache_has_a_port_that_nobody_takes_while_it_is_away() -> None:
    lowest = int(outage_stage.PORT_RANGE.read_text().split()[0])
    ports = {outage_stage.free_port() for _ in range(20)}
    assert all(outage_stage.PORT_MIN <= port < lowest for port in ports)


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = bench_outage._Lines("dark")
    shares = {"dnsguard": 1.0, "unbound": 0.5, "bind": 0.75, "knot": 0.25}
    for at in (0.0, 0.5, 1.0, 6.0):
        lines.tell(Sight(at, 10.0, "silent", shares))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "dark: 0 of 10 s, silent, dnsguard 100 %, bind 75.0 %, knot 25.0 %",
        "dark: 6 of 10 s, silent, dnsguard 100 %, bind 75.0 %, knot 25.0 %",
    ]


def test_a_dnsguard_elsewhere_does_not_mix_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "DNSGUARD_NO_SUCH_KEY", "1")
    cache = outage_stage.Cache(outage_stage.dnsguard(), outage_stage.free_port(), tmp_path)
    try:
        assert cache.why_not() == ""
    finally:
        cache.stop()
