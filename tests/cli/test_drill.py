"""`dnsguard drill` on a running instance: its report, and every way in which it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from dnsguard.cli import explain, status
from dnsguard.cli.drill import NAMES_SHOWN, command, lines
from dnsguard.cli.instance import reach
from dnsguard.errors import ControlError
from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream, address_of

ALL = ("--fraction=100%", "--abort-above=100%")
SHORT = "--set=cache.max_ttl=1s"
REPORT: dict[str, Any] = {
    "words": "all names as if every upstream were silent", "aborted": False, "lasted": 300.0,
    "ended": "its time is over", "lookups": 0, "names": 0, "answered": 0, "failed": 0, "broken": 0,
    "sources": {}, "longest_wait": 0.0, "events": [], "to_fix": [], "unnamed": 0,
}  # fmt: skip


async def run(*arguments: str, what: click.Command = command) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, what, arguments)


async def begin(*arguments: str) -> asyncio.subprocess.Process:
    """The command in a process of its own, which can be ended as one ends commands."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dnsguard", "drill", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


def ask(directory: Path, verb: str, **arguments: Any) -> dict[str, Any]:
    """What a script that speaks to the socket itself is told."""
    with reach(None, str(directory)) as instance:
        return instance.ask(verb, **arguments)


@on_a_loop
async def test_a_drill_from_its_beginning_to_its_report(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    there = f"--state-dir={tmp_path}"
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, SHORT, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        await client.resolve("www.test")
        asked = len(upstream.seen)
        drill = await begin(".", "--kind=failing", "--for=3s", *ALL, "--json", there)
        await running.said("drill: all names as if every upstream were failing, for 3 s at most")
        while not (reply := await client.resolve("www.test")).ede:
            pass  # until its second of freshness is over
        assert (reply.addresses, reply.ede) == ([address_of("www.test")], [3])
        assert (await client.resolve("new.test")).rcode == "SERVFAIL"
        shown = (await run(there, what=status.command)).output
        assert shown.startswith("LOOK  A drill: all names as if every upstream were failing; 1 of ")
        assert "drill     all names as if every upstream were failing: " in shown
        why = (await run("new.test", there, what=explain.command)).output
        assert "drill" in why
        assert "answers with failures" in why or "nothing is remembered" in why
        with pytest.raises(ControlError, match="a drill runs already: all names as if"):
            await asyncio.to_thread(ask, tmp_path, "drill", zone=".", lasts=1.0)
        report = json.loads((await drill.communicate())[0])
        assert drill.returncode == 0
        assert report["ended"] == "its time is over"
        assert report["failed"] == 1
        assert report["lookups"] == report["answered"] + 1
        assert [(one["name"], one["why"]) for one in report["to_fix"]] == [
            ("new.test.", "never_answered")
        ]
        await running.said("drill: over after")
        assert {seen.name for seen in upstream.seen[asked:]} <= {"www.test"}, "to see if it lives"
        assert (await client.resolve("new.test")).addresses == [address_of("new.test")]
        assert len([line for line in running.lines if "warning" in line]) == 2, "begun, and over"


@on_a_loop
async def test_ctrl_c_ends_it_with_a_report_and_a_lost_connection_without(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    there = f"--state-dir={tmp_path}"
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        process = await begin("test", "--for=1h", *ALL, there)
        await running.said("drill: all names in test as if")
        waiting = asyncio.create_task(client.resolve("new.test"))
        await asyncio.sleep(0)
        process.send_signal(signal.SIGINT)
        output = (await process.communicate())[0].decode()
        assert process.returncode == 1
        assert output.startswith("ENDED EARLY: all names in test as if every upstream were silent")
        assert "whoever asked for it has ended it" in output
        assert (await waiting).addresses == [address_of("new.test")], "asked for real after all"
        process = await begin("test", "--for=1h", *ALL, there)
        await running.said("drill: all names in test as if", 2)
        process.kill()
        await process.wait()
        await running.said("whoever asked for it has ended it or is gone", 2)


@on_a_loop
async def test_too_many_failures_end_it(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        there = f"--state-dir={tmp_path}"
        drill = await begin(".", "--kind=wrong", "--fraction=1", there)
        await running.said("drill: all names as if every upstream were wrong, for 5 min at most")
        for number in range(20):
            assert (await client.resolve(f"new{number}.test")).rcode == "NXDOMAIN"
        output = (await drill.communicate())[0].decode()
        assert drill.returncode == 1
        assert "20 of 20 look-ups failed, more than 5%" in output
        assert "a wrong upstream would have clients believe that it does not exist" in output


@on_a_loop
async def test_what_makes_no_drill_is_refused_with_what_would(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    plan = {"zone": ".", "lasts": 5.0}

    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ),
    ):
        for wrong, text in (
            (plan | {"zone": "a..b"}, "zone 'a..b'"),
            (plan | {"kind": "slow"}, "write one of silent, failing, wrong"),
            (plan | {"lasts": 0}, "lasts: more than 0 and at most 14400 seconds"),
            (plan | {"lasts": 1e9}, "lasts: more than 0"),
            (plan | {"fraction": 0}, "fraction: more than 0 and at most 1"),
            (plan | {"abort_above": 2}, "abort_above: between 0 and 1"),
            ({"zone": "."}, "drill needs the argument 'lasts'"),
            (plan | {"force": True}, "drill knows no argument 'force'"),
        ):
            with pytest.raises(ControlError, match=text.replace("(", ".")):
                await asyncio.to_thread(ask, tmp_path, "drill", **wrong)
        with pytest.raises(ControlError, match="there was no drill"):
            await asyncio.to_thread(ask, tmp_path, "drill.report")


@pytest.mark.parametrize(
    "wrong", [(".", "--for=5"), ("a b",), (".", "--fraction=110%"), (".", "--abort-above=some")]
)
def test_slips_of_the_finger_are_told_before_anything_is_asked(wrong: tuple[str, ...]) -> None:
    found = CliRunner().invoke(command, wrong)
    assert found.exit_code == 2
    assert "Error: Invalid value" in found.output


def test_a_drill_that_nobody_noticed_has_shown_nothing() -> None:
    assert list(lines(REPORT))[-1].startswith("Nobody asked for any of these names meanwhile")


def test_a_report_has_the_names_to_fix_and_says_what_it_leaves_out() -> None:
    names = [
        {"name": f"n{n}.test.", "type": "A", "times": n + 1, "words": "why"}
        for n in range(NAMES_SHOWN + 3)
    ]
    report = REPORT | {
        "lookups": 1000, "answered": 900, "failed": 90, "broken": 10, "names": 50,
        "sources": {"hit": 10, "stale": 890}, "longest_wait": 0.4, "to_fix": names, "unnamed": 7,
        "events": [{"at": 1.25, "text": "zone .: outage"}],
    }  # fmt: skip
    text = list(lines(report))
    assert "look-ups  1,000 for 50 names (890 stale, 10 hit)" in text
    assert "failed    90 (9.0%)" in text
    assert "broken    10 failed that fail without a drill as well" in text
    assert "longest   400 ms until an answer" in text
    assert "     1.2 s  zone .: outage" in text
    assert "  n0.test.   A      once       why" in text
    assert text[-1].startswith("  and 3 more, which --json has; 7 failed look-ups")
