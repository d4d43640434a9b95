"""`dnsguard status` against a running instance, as an operator and as a script read it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner, Result

from dnsguard.cli.status import NAMES_SHOWN, command, readiness_lines
from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, arguments)


@on_a_loop
async def test_the_state_for_people_and_for_scripts(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        await client.resolve("www.test")
        there = f"--state-dir={tmp_path}"
        text = (await run(there)).output.splitlines()
        assert text[0].startswith("OK  All well; ")
        heads = [line.split(" ")[0] for line in text[2:]]
        assert heads == ["zone", "upstream", "answers", "what", "cache", "store"]
        assert text[4] == "answers   1 upstream"
        foreseen = (await run("--what-if", there)).output
        assert foreseen.startswith(
            "If the upstream died now: 1 of 1 question asked within the hour"
        )
        upstream.stop()
        await client.resolve("never.test")
        found = json.loads((await run("--what-if", "--json", there)).output)
        assert found["names"] == [{"name": "never.test.", "type": "A", "why": "never_answered"}]
        foreseen = (await run("--what-if", there)).output
        assert "  1 would not: no upstream has ever answered it" in foreseen
        assert "  never.test.  A      no upstream has ever answered it" in foreseen
        text = (await run(there)).output.splitlines()
        assert text[0].startswith("OUTAGE  All names (zone .): outage for ")
        assert any("s ago  zone .: outage; serving last-known-good" in line for line in text)
        whole = json.loads((await run("--json", there)).output)
        assert whole["pid"] == running.process.pid
        assert whole["zones"][0]["state"] == "outage"


def test_many_names_are_cut_and_that_is_said() -> None:
    names = [{"name": f"n{n}.", "type": "A", "why": "ttl_0"} for n in range(NAMES_SHOWN + 3)]
    ready = {"words": "…", "lost": {"ttl_0": {"count": 23, "words": "why"}}, "names": names}
    assert list(readiness_lines(ready))[-1] == "  and 3 more; --json has up to 100"
