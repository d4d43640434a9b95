"""`dnsguard doubt` against a running instance whose upstream denies what it knew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner, Result

from dnsguard.cli.doubt import command, lines
from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream, address_of

NAMES = [f"n{n}.{space}.test" for space in ("one", "two") for n in range(3)]


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, arguments)


@on_a_loop
async def test_an_operator_sees_a_doubt_and_decides(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    settings = ("--set=guard.canaries=n0.one.test", "--set=cache.max_ttl=1s")
    there = f"--state-dir={tmp_path}"
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *settings, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        for name in NAMES:
            assert (await client.resolve(name)).addresses == [address_of(name)]
        assert (await run(there)).output == "zone .: normal\n"
        nothing = await run("--accept", there)
        assert nothing.exit_code == 1
        assert "nothing is in doubt" in str(nothing.exception)
        unknown = await run("corp", there)
        assert "there is no zone corp; there are ." in str(unknown.exception)
        upstream.behave("denied")
        while not (reply := await client.resolve(NAMES[0])).ede:
            pass  # until its second of freshness is over
        assert reply.addresses == [address_of(NAMES[0])]
        shown = json.loads((await run("--json", there)).output)
        assert (shown["zones"][0]["state"], shown["zones"][0]["denied"]) == ("doubt", 1)
        assert "1 name is denied and served from what was last known" in (await run(there)).output
        held = (await run(".", "--reject", there)).output
        assert held == "zone .: 1 name is held for another guard.max_hold\n"
        accepted = (await run("--accept", there)).output
        assert accepted == "zone .: 1 name is believed gone\n"
        assert (await client.resolve(NAMES[0])).rcode == "NXDOMAIN"
        wrong = "maybe"
        assert "write one of accept, reject" in str((await run_verb(tmp_path, wrong)).exception)


async def run_verb(directory: Path, decision: str) -> Result:
    """What a script that speaks to the socket itself may get wrong."""
    import click

    from dnsguard.cli.instance import reach

    @click.command()
    def ask() -> None:
        with reach(None, str(directory)) as instance:
            instance.ask("doubt", decision=decision)

    return await asyncio.to_thread(CliRunner().invoke, ask, ())


def test_names_are_counted_in_words() -> None:
    zone = {"name": "corp", "state": "outage", "since": 130.0, "denied": 0}
    assert lines({"zones": [zone]}, "") == ["zone corp: outage for 2 min"]
    decided = [{"zone": ".", "names": 12}]
    assert lines({"decided": decided}, "accept") == ["zone .: 12 names are believed gone"]
