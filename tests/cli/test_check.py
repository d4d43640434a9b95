"""`dnsguard check`, the options it shares with `serve`, and the group of commands around it.

Commands run as their users run them, in a process of their own, where exit codes and streams count.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dnsguard import __version__
from dnsguard.cli import main as cli
from dnsguard.cli.check import command, render
from dnsguard.cli.options import flags, load_settings
from dnsguard.config import Given, Origin, load
from dnsguard.errors import ConfigError, DnsguardError, Mistake, StoreError


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DNSGUARD_")}
    return subprocess.run(
        [sys.executable, "-m", "dnsguard", *args],
        capture_output=True, text=True, check=False, timeout=60, env=clean | environ,
    )  # fmt: skip


def parsed(*args: str) -> dict[str, object]:
    """The options as click hands them to a command."""
    return command.make_context("check", list(args)).params


ALL = (
    "--config", "a.yaml", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2",
    "--upstream", "192.0.2.1", "--upstream", "192.0.2.2",
    "--zone", "corp.example=192.0.2.3,192.0.2.4", "--zone", "lab.example=192.0.2.5",
    "--admin", "off", "--set", "stale.max_age=1d", "--set", " keep_fresh.names=a=b",
    "--log-format", "json", "--log-level", "debug",
)  # fmt: skip


def test_options_become_settings_of_the_highest_layer() -> None:
    assert flags(parsed(*ALL)) == (
        Given("listen", "127.0.0.1:1", Origin("flag", "--listen")),
        Given("listen", "127.0.0.1:2", Origin("flag", "--listen")),
        Given("zones...upstreams", "192.0.2.1", Origin("flag", "--upstream")),
        Given("zones...upstreams", "192.0.2.2", Origin("flag", "--upstream")),
        Given("zones.corp.example.upstreams", "192.0.2.3,192.0.2.4", Origin("flag", "--zone")),
        Given("zones.lab.example.upstreams", "192.0.2.5", Origin("flag", "--zone")),
        Given("admin.listen", "off", Origin("flag", "--admin")),
        Given("log.format", "json", Origin("flag", "--log-format")),
        Given("log.level", "debug", Origin("flag", "--log-level")),
        Given("stale.max_age", "1d", Origin("flag", "--set")),
        Given("keep_fresh.names", "a=b", Origin("flag", "--set")),
    )
    assert flags(parsed()) == ()


def test_options_without_their_value_are_mistakes_too() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(parsed("--zone", "corp.example", "--zone", "=192.0.2.1", "--zone", ".",
                             "--set", "stale.max_age", "--set", ""))  # fmt: skip
    assert [(m.path, m.value) for m in caught.value.mistakes] == [
        ("zones.corp.example.upstreams (flag --zone)", None),
        ("zones..upstreams (flag --zone)", "192.0.2.1"),
        ("zones...upstreams (flag --zone)", None),
        ("stale.max_age (flag --set)", None),
        (" (flag --set)", None),
    ]


def test_settings_come_from_options_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("log.level: debug\nlog.format: json\nstale.mode: immediate\n")
    monkeypatch.setenv("DNSGUARD_LOG__FORMAT", "text")
    found = load_settings(
        parsed("--config", str(file), "--log-level", "error", "--upstream", "192.0.2.1")
    )
    assert (found.log_level, found.log_format) == ("error", "text")
    assert found.policy.zones[0].stale.mode == "immediate"


def test_check_prints_a_file_with_the_origin_of_each_value(tmp_path: Path) -> None:
    first = run("check", "--upstream", "192.0.2.1", "--admin", "off", DNSGUARD_STALE__MAX_AGE="36h")
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert lines[0] == f"# dnsguard {__version__}: effective settings"
    assert "  .:" in lines
    assert "    upstreams: ['192.0.2.1:53']  # flag --upstream" in lines
    assert "  listen: 'off'  # flag --admin" in lines
    assert "  max_age: 36h  # env DNSGUARD_STALE__MAX_AGE" in lines
    assert "  max_bytes: 64MiB  # default" in lines

    file = tmp_path / "effective.yaml"
    file.write_text(first.stdout)
    again = run("check", "--config", str(file))
    assert again.returncode == 0
    assert f"  max_age: 36h  # file {file}:" in again.stdout
    values = [[line.split("  #")[0] for line in out.stdout.splitlines()] for out in (first, again)]
    assert values[0] == values[1]


def test_check_lists_every_mistake_on_stderr() -> None:
    found = run("check", "--listen", "here", "--upstream", "192.0.2.1", "--set", "stale.maxage=1d",
                DNSGUARD_UPSTREAM__ATTEMPTS="7")  # fmt: skip
    assert (found.returncode, found.stdout) == (2, "")
    lines = found.stderr.splitlines()
    assert lines[0] == "dnsguard: 3 mistakes in the settings:"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  upstream.attempts (env DNSGUARD_UPSTREAM__ATTEMPTS)",
        "  listen (flag --listen)",
        "  stale.maxage (flag --set)",
    ]


def test_the_rendering_is_for_the_settings_and_not_for_their_spelling() -> None:
    one, other = (
        load(
            [Given("stale.max_age", text, Origin("flag", "--set"))], {}, None, lambda: ["10.0.0.1"]
        )
        for text in ("72h", "3d")
    )
    assert render(one) == render(other)


def test_help_and_version_import_no_command() -> None:
    assert run("--version").stdout == f"dnsguard {__version__}\n"
    shown = run("--help").stdout
    for name, meaning in cli.COMMANDS.items():
        assert f"  {name}" in shown
        assert meaning in shown
    code = (
        "import sys; from dnsguard.cli.main import commands;"
        "commands(['--help'], standalone_mode=False);"
        "print([n for n in sys.modules if n.startswith('dnsguard.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = found.stdout.splitlines()[-1]
    assert modules == str(["dnsguard.cli", "dnsguard.errors", "dnsguard.cli.main"])


def test_every_row_is_a_command() -> None:
    context = click.Context(cli.commands)
    for name in cli.COMMANDS:
        found = cli.commands.get_command(context, name)
        assert found is not None
        assert found.name == name
    assert cli.commands.get_command(context, "options") is None


def test_an_unknown_command_is_bad_usage() -> None:
    found = run("chek")
    assert found.returncode == 2
    assert "chek" in found.stderr


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (
            ConfigError([Mistake("a", "x", "a y")]),
            2,
            "dnsguard: 1 mistake in the settings:\n  a: 'x': a y\n",
        ),
        (StoreError("cannot\n  write"), 1, "dnsguard: cannot write\n"),
    ],
)
def test_errors_become_exit_codes(
    error: DnsguardError,
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    @click.command
    def failing() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["dnsguard", "check"])
    monkeypatch.setattr("dnsguard.cli.check.command", failing)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capfd.readouterr().err == shown


def test_a_password_is_not_printed() -> None:
    shared = "--set=store.shared=redis://me:secret@192.0.2.1:6379/0"
    found = run("check", shared, "--upstream=10.0.0.53")
    assert found.returncode == 0
    assert "redis://me:***@192.0.2.1:6379/0" in found.stdout
    assert "secret" not in found.stdout + found.stderr
