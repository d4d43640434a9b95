"""`dnsguard node` where it changes nothing: what it prints, and what it says to mistakes.

What it does to a node is in `tests/kube/test_node.py`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dnsguard.cli import node
from dnsguard.cli.main import commands
from dnsguard.cli.options import load_settings
from dnsguard.errors import DnsguardError

PLACE = ("--service-address", "10.96.0.10", "--upstream", "10.96.33.44")


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["node", *arguments])


def test_setup_shows_what_it_would_do() -> None:
    shown = ran("setup", "--dry-run", *PLACE)
    assert shown.exit_code == 0
    assert "table ip dnsguard {" in shown.output
    assert "ip daddr set 10.96.33.44" in shown.output
    shown = ran("setup", "--dry-run", "--rules", "iptables", *PLACE)
    lines = shown.output.splitlines()
    assert all(line.startswith("iptables -w 5 -t ") for line in lines)
    assert "DNAT" not in shown.output  # the upstream is a Service, which iptables cannot follow
    assert ran("setup", "--dry-run", "--rules", "none", *PLACE).output == "# no rules\n"


@pytest.mark.skipif(shutil.which("nft") is None, reason="NOT TESTED: install nftables")
def test_what_is_shown_is_what_nft_understands() -> None:
    for more in ((), ("--address", "fd00::10", "--upstream", "fd00::b", "--address", "none")):
        text = ran("setup", "--dry-run", *PLACE, *more).output
        command = ["unshare", "--net", "nft", "--check", "-f", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "not permitted" in done.stderr.lower(), done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("setup", "--address", "none"), "there is nothing to listen at"),
        (
            ("setup", "--service-address", "10.96.0.10", "--upstream", "10.96.0.10"),
            "would come back",
        ),
        (("setup", "--upstream", "http://x"), "--upstream: http://x"),
        (("run", "--listen", "127.0.0.1:53", *PLACE), "listens at port 53"),
        (("run", "--set", "stale.max_ages=1d", *PLACE), "stale.max_age"),
        (("ready",), "--own NAME"),
        (("ready", "--address", "127.0.0.2", "--own", "x.invalid"), "127.0.0.2"),
        (("watch", "--node-admin", "here", *PLACE, "--rules", "none"), "127.0.0.1:53"),
    ],
)
def test_mistakes_are_said(arguments: tuple[str, ...], said: str) -> None:
    done = ran(*arguments)
    assert done.exit_code != 0
    text = f"{done.output} {done.exception or ''}"
    assert said in text or (isinstance(done.exception, DnsguardError) and said in text), text


def options(*arguments: str) -> dict[str, Any]:
    run: Any = node.run
    found: dict[str, Any] = run.make_context("run", [*arguments]).params
    return found


def test_the_resolver_gets_what_the_watcher_will_ask_for() -> None:
    given = options(*PLACE, "--set", "stale.max_age=1d", "--state-dir", "/tmp/x", "--zone",
                    "a.example=10.0.0.1", "--log-format", "json")  # fmt: skip
    settings = load_settings(given)
    plan = node._plan(given, [("10.96.33.44", 53)])
    words = node._serve_arguments(given, plan, settings, "mine.dnsguard.invalid")
    read = load_settings(commands.get_command(None, "serve").make_context("serve", words).params)  # type: ignore[arg-type, union-attr]
    assert [str(address) for address in read.listen] == ["169.254.20.10:53", "10.96.0.10:53"]
    assert (read.takeover, read.workers, read.log_format) == (True, 2, "json")
    assert dict(read.policy.pins)["alive.dnsguard.invalid"] == ("169.254.20.10", "10.96.0.10")
    assert read.store.dir == "/tmp/x"
    given = options(*PLACE, "--set", "workers=3")
    words = node._serve_arguments(given, plan, load_settings(given), "mine.dnsguard.invalid")
    assert [word for word in words if word.startswith("workers=")] == ["workers=3"]


def test_the_command_line_says_in_a_sentence_what_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dnsguard", "node", "setup", "--address", "169.254.1.1", "--address",
         "169.254.1.2"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"dnsguard: more than one IPv4 --address: .*\n", done.stderr)
