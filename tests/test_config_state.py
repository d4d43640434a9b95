"""Where state is kept: by flag, by setting, and by what the system says when nobody else does."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from dnsguard.cli.check import command
from dnsguard.config.keys import KEYS
from tests.settings_from import flag, loaded, mistakes_of

HOME = {"HOME": "/home/dns"}


@pytest.mark.parametrize(
    ("environ", "directory", "origin"),
    [
        (HOME, "/home/dns/.local/state/dnsguard", "default from $HOME"),
        ({"HOME": "/"}, "/.local/state/dnsguard", "default from $HOME"),
        (HOME | {"XDG_STATE_HOME": "/s"}, "/s/dnsguard", "default from $XDG_STATE_HOME"),
        (HOME | {"XDG_STATE_HOME": "s"}, "/home/dns/.local/state/dnsguard", "default from $HOME"),
        (
            HOME | {"XDG_STATE_HOME": "/s", "STATE_DIRECTORY": "/var/lib/dnsguard"},
            "/var/lib/dnsguard",
            "default from $STATE_DIRECTORY",
        ),
        (
            {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"},
            "/var/lib/a",
            "default from $STATE_DIRECTORY",
        ),
        ({}, None, "default no $HOME, no $STATE_DIRECTORY"),
    ],
)
def test_the_system_says_where(environ: dict[str, str], directory: str | None, origin: str) -> None:
    for found in (loaded(environ=environ), loaded(flag("store.dir", "auto"), environ=environ)):
        assert found.store.dir == directory
        value, where = found.effective["store.dir"]
        assert (value, str(where)) == (directory or "off", origin)
        assert loaded(flag("store.dir", str(value))).store == found.store


def test_what_is_set_beats_what_the_system_says() -> None:
    assert loaded(flag("store.dir", "state"), environ=HOME).store.dir == "state"
    assert loaded(flag("store.dir", "off"), environ=HOME).store.dir is None


@pytest.mark.parametrize("text", ["", "~/state", "~", "a\0b"])
def test_what_is_no_directory_is_a_mistake(text: str) -> None:
    (mistake,) = mistakes_of(flag("store.dir", text))
    assert mistake.expected.startswith(KEYS["store.dir"].allowed)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--state-dir", "/s"], "dir: /s  # flag --state-dir"),
        (["--no-state"], "dir: 'off'  # flag --no-state"),
        (["--no-state", "--state-dir", "/s"], "dir: 'off'  # flag --no-state"),
        (["--state-dir", "/s", "--set", "store.dir=/t"], "dir: /t  # flag --set"),
    ],
)
def test_the_flags(flags: list[str], shown: str) -> None:
    found = CliRunner().invoke(command, ["--upstream", "192.0.2.53", *flags])
    assert found.exit_code == 0
    assert shown in found.output
