"""The options that decide settings, shared by every command that starts or checks a server.

They are taken as plain text, since `config` reads all of them and lists every mistake at once,
where click would stop at the first. Knows no type and no default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dnsguard.config import Given, Origin, Settings, load
from dnsguard.config.keys import OFF, ROOT_UPSTREAMS

Command = TypeVar("Command", bound=Callable[..., Any])

# Flags that set one key each: parameter, flag, key.
_SINGLE = (
    ("admin", "--admin", "admin.listen"),
    ("state_dir", "--state-dir", "store.dir"),
    ("log_format", "--log-format", "log.format"),
    ("log_level", "--log-level", "log.level"),
)
_OPTIONS = (
    click.option("--config", metavar="FILE", help="Settings as YAML (or DNSGUARD_CONFIG)."),
    click.option(
        "--listen", metavar="ADDR:PORT", multiple=True,
        help="Answer queries here, over UDP and TCP (repeatable). [127.0.0.1:5353]",
    ),
    click.option(
        "--upstream", metavar="URL", multiple=True,
        help="Forward to this server: 10.96.0.10, [fd00::a]:53, tcp://…, tls://host:853#name "
        "(repeatable). [the system's resolv.conf, minus ourselves]",
    ),
    click.option(
        "--zone", metavar="NAME=URL[,URL…]", multiple=True,
        help="Forward one zone to servers of its own (repeatable).",
    ),
    click.option(
        "--admin", metavar="ADDR:PORT|off",
        help="Health and metrics over HTTP, read-only. [127.0.0.1:9153]",
    ),
    click.option(
        "--state-dir", metavar="DIR",
        help="Where last-known-good answers outlive a restart. [$STATE_DIRECTORY, else "
        "$XDG_STATE_HOME/dnsguard, else ~/.local/state/dnsguard]",
    ),
    click.option("--no-state", is_flag=True, help="Keep answers in memory only."),
    click.option(
        "--takeover", is_flag=True,
        help="Share the address with a running server that has this flag too, and replace it.",
    ),
    click.option(
        "--set", "assignments", metavar="KEY=VALUE", multiple=True,
        help="Any setting, such as stale.max_age=1d (repeatable).",
    ),
    click.option("--log-format", metavar="text|json", help="Log lines on stderr. [text]"),
    click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error. [info]"),
)  # fmt: skip


def serve_options(command: Command) -> Command:
    """Decorate a click command; it gets every option as a keyword, for `load_settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def flags(options: Mapping[str, Any]) -> tuple[Given, ...]:
    """What click parsed, as settings of the highest layer."""
    given = [Given("listen", text, _flag("--listen")) for text in options["listen"]]
    given += [Given(ROOT_UPSTREAMS, text, _flag("--upstream")) for text in options["upstream"]]
    for text in options["zone"]:
        zone, found, urls = text.partition("=")
        given.append(Given(f"zones.{zone}.upstreams", urls if found else None, _flag("--zone")))
    for name, flag, key in _SINGLE:
        if options[name] is not None:
            given.append(Given(key, options[name], _flag(flag)))
    if options["no_state"]:
        given.append(Given("store.dir", OFF, _flag("--no-state")))
    if options["takeover"]:
        given.append(Given("takeover", "on", _flag("--takeover")))
    for text in options["assignments"]:
        key, found, value = text.partition("=")
        given.append(Given(key.strip(), value if found else None, _flag("--set")))
    return tuple(given)


def load_settings(options: Mapping[str, Any]) -> Settings:
    """Settings from options, environment, file and defaults; raises ConfigError."""
    file = None if options["config"] is None else Path(options["config"])
    return load(flags(options), os.environ, file)


def _flag(name: str) -> Origin:
    return Origin("flag", name)
