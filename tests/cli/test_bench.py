"""`dnsguard bench load` as its users call it: output, files, progress and exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from dnsguard.bench.load import Progress
from dnsguard.cli import bench, bench_progress
from tests.bench.serving import good, silent
from tests.cli.scripted import Scripted

SHORT = ("--names=list:10", "--qps=500", "--duration=400ms", "--warmup=0.1")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench.command, ["load", *arguments])


def test_the_table_names_commands_that_exist() -> None:
    result = CliRunner().invoke(bench.command, ["--help"])
    assert result.exit_code == 0
    for name, what in bench.BENCHES.items():
        assert f"{name} {what}" in " ".join(result.output.split())
        assert CliRunner().invoke(bench.command, [name, "--help"]).exit_code == 0
    assert CliRunner().invoke(bench.command, ["nothing"]).exit_code == 2


def test_a_load_is_reported(tmp_path: Path) -> None:
    json_, plot = tmp_path / "load.json", tmp_path / "load.svg"
    with Scripted(good) as server:
        result = run(
            server.option, *SHORT, f"--pid={os.getpid()}", f"--json={json_}", f"--plot={plot}"
        )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"127.0.0.1:{server.port} over UDP: list:10, at 500 qps")
    told = [line[:10].strip() for line in lines[2:] if line]
    assert told[:9] == [
        "sent", "answered", "lost", "rcodes", "latency", "sent late", "server CPU", "memory",
        "generator",
    ]  # fmt: skip
    found = json.loads(json_.read_text())
    assert found["measured"]["sent"] == found["measured"]["answered"] == 200
    assert found["measured"]["rcodes"] == {"NOERROR": 200}
    assert found["usage"]["processes"] == 1
    assert plot.read_text().startswith("<?xml")


def test_tcp_and_a_type_of_ones_own() -> None:
    with Scripted(good) as server:
        result = run(server.option, *SHORT, "--tcp", "--connections=1", "--qtype=TXT", "--edns")
        queries = [query for query, transport in server.queries if transport == "tcp"]
    assert result.exit_code == 0, result.output
    assert "over TCP" in result.stdout
    assert len(queries) >= 200
    assert all(query[-15:-11] == b"\0\x10\0\1" for query in queries)  # before the OPT record


def test_json_alone_goes_to_stdout() -> None:
    with Scripted(good) as server:
        result = run(server.option, *SHORT, "--json=-")
    assert json.loads(result.stdout)["measured"]["lost"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--server=nowhere"], "ADDR:PORT"),
        (["--server=127.0.0.1"], "port is missing"),
        (["--server=127.0.0.1:0"], "port 0"),
        (["--names=/nowhere"], "names in /nowhere cannot be read"),
        (["--names=zipf:many"], "number of names"),
        (["--suffix=a..b"], "not a domain name"),
        (["--search=one,,two"], "suffixes with commas"),
        (["--qtype=FOO"], "not a record type"),
        (["--qps=0"], "--qps"),
        (["--qps=nan"], "not a finite number"),
        (["--duration=inf"], "not a finite number"),
        (["--duration=10 minutes"], "a number and a unit"),
        (["--warmup=-1s"], "--warmup"),
        (["--connections=0"], "--connections"),
        (["--outstanding=0"], "--outstanding"),
        (["--pid=4194304"], "no process 4194304"),
        (["--group"], "--group needs --pid"),
        (["--json=/nowhere/x"], "cannot be written"),
        (["--json=/"], "is a directory"),
        (["--plot=x.png"], "ends in .svg"),
    ],
)
def test_bad_usage_ends_with_two(arguments: list[str], told: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_plot_without_the_library_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--plot=x.svg")
    assert result.exit_code == 2
    assert "pip install 'dnsguard[bench]'" in result.stderr


def test_a_server_that_says_nothing_ends_with_one() -> None:
    with Scripted(silent) as server:
        result = run(server.option, *SHORT, "--timeout=0.2")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if "lost" not in line]
    assert line.startswith(f"127.0.0.1:{server.port} answers nothing over UDP")


def test_ctrl_c_prints_what_there_is() -> None:
    command = [sys.executable, "-m", "dnsguard", "bench", "load", "--names=list:10", "--qps=100"]
    with (
        Scripted(good) as server,
        subprocess.Popen(
            [*command, server.option, "--warmup=0", "--duration=3600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert "of 3600 s" in first
    assert process.returncode == 130, err
    assert "Interrupted: these are the numbers until then." in out
    assert "\nlost       0 " in out


# -- progress -----------------------------------------------------------------------------------


def progress(measuring: bool, elapsed: float, answered: int) -> Progress:
    return Progress(measuring, elapsed, answered + 5, answered, 3)


STEPS = [
    progress(False, 0.0, 0), progress(False, 1.0, 900),
    progress(True, 0.0, 0), progress(True, 0.5, 500), progress(True, 1.0, 1000),
    progress(True, 1.5, 1600), progress(True, 2.0, 3000),
]  # fmt: skip


def test_without_a_terminal_there_is_a_line_a_second() -> None:
    lines: list[str] = []
    with bench_progress.shown("server", 2, Console(file=io.StringIO()), lines.append) as tell:
        for step in STEPS:
            tell(step)
    assert lines == [
        "server: warm-up, 900 answers/s, 3 lost",
        "server: 1.0 of 2 s, 1,000 answers/s, 3 lost",
        "server: 2.0 of 2 s, 2,000 answers/s, 3 lost",
    ]


def test_on_a_terminal_there_is_a_bar() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with bench_progress.shown("server", 2, console, lambda _: None) as tell:
        for step in STEPS:
            tell(step)
    assert "warm-up, 900 answers/s, 3 lost" in screen.getvalue()
    assert "2,800 answers/s" in screen.getvalue()  # 1,400 in the last half of a second
    assert "━" in screen.getvalue()
