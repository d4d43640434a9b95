"""`dnsguard explain` against a running instance, as an operator reads it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner, Result

from dnsguard.cli.explain import WIDTH_MIN, command, lines
from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream, address_of


def run(*arguments: str, columns: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(command, arguments)


@on_a_loop
async def test_an_answer_is_explained_for_people_and_for_scripts(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        await client.resolve("www.test")
        there = f"--state-dir={tmp_path}"
        found = await in_thread("www.test", there)
        assert found.exit_code == 0
        text = found.output.splitlines()
        assert text[0] == "www.test. A"
        assert text[1] == "  answer    fresh"
        assert [line[:12].strip() for line in text[1:] if line[2:3].strip()] == [
            "answer", "why", "age", "last said", "dies", "upstreams", "records",
        ]  # fmt: skip
        assert text[-1] == f"  records   www.test. 60 IN A {address_of('www.test')}"
        asked = json.loads((await in_thread("www.test", "AAAA", "--json", there)).output)
        assert (asked["type"], asked["source"], asked["entry"]) == ("AAAA", "nothing", None)
        for wrong, why in (("a..b", "is not a domain name"), ("www.test", "")):
            refused = await in_thread(wrong, "NONE" if not why else "A", there)
            assert refused.exit_code == 1
            assert (why or "'NONE' is not a record type: write A, AAAA") in str(refused.exception)
        assert len(upstream.seen) == 1  # to explain asks nobody


async def in_thread(*arguments: str) -> Result:
    """The command waits for its answer, and the upstream of this test must go on meanwhile."""
    return await asyncio.to_thread(run, *arguments)


def test_narrow_terminals_get_narrow_columns() -> None:
    words = {"why": "because " * 40, "something new": "that a later version says"}
    found = {"name": "www.test.", "type": "A", "words": words, "entry": None}
    text = lines(found, WIDTH_MIN)
    assert max(map(len, text)) <= WIDTH_MIN
    assert text[-1].endswith("version says")
