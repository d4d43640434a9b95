"""`dnsguard cache` on a running instance: looking, keeping a copy of it, purging."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnsguard.cli import cache
from tests.net.asking import Datagrams, datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream, address_of

NAMES = ("www.test", "web-0.shop.test", "web-1.shop.test")


@asynccontextmanager
async def instance(place: Path, upstream: Upstream) -> AsyncIterator[tuple[str, Datagrams]]:
    """A running instance, by the option that names it, and a client of it."""
    environ = {"DNSGUARD_STORE__DIR": str(place)}
    async with (
        serve("--upstream", upstream.url, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        yield f"--state-dir={place}", client


async def run(*arguments: str, stdin: str = "") -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cache.command, arguments, stdin)


@on_a_loop
async def test_looking_at_what_is_remembered(tmp_path: Path) -> None:
    async with Upstream() as upstream, instance(tmp_path, upstream) as (there, client):
        for name in NAMES:
            await client.resolve(name)
        lines = (await run("list", there)).output.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith("www.test. A positive fresh, 0 s old, dies in 3 d, asked ")
        for wanted, count in (
            (("--name=WEB-*.test.",), 2), (("--zone=shop.test",), 2), (("--zone=op.test",), 0),
            (("--kind=positive",), 3), (("--kind=nodata",), 0), (("--stale",), 0),
            (("--name=web-0.*", "--zone=test"), 1),
        ):  # fmt: skip
            found = (await run("list", "--json", *wanted, there)).output.splitlines()
            assert len([json.loads(line) for line in found]) == count, wanted
        shown = await run("show", "www.test", there)
        assert f"  www.test. 60 IN A {address_of('www.test')}" in shown.output.splitlines()
        missing = await run("show", "x.test", there)
        assert (missing.exit_code, missing.stderr) == (1, "nothing is remembered under x.test\n")
        wrong = await run("list", "--zone=a..b", there)
        assert "is not a domain name" in str(wrong.exception)
        assert len(upstream.seen) == 3


@on_a_loop
async def test_a_copy_outlives_its_instance_and_helps_another(tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    async with Upstream() as upstream:
        async with instance(tmp_path / "one", upstream) as (there, client):
            for name in NAMES:
                await client.resolve(name)
            done = await run("export", copy, there)
            assert (done.exit_code, done.stderr) == (0, "3 answers\n")
        upstream.stop()
        async with instance(tmp_path / "two", upstream) as (there, client):
            done = await run("import", copy, there)
            assert done.output == (
                "3 answers taken, 0 of no use any more, 0 lines not understood\n"
            )
            for name in NAMES:
                reply = await client.resolve(name)
                assert (reply.addresses, reply.ede) == ([address_of(name)], [3])
            again = await run("import", copy, there)
            assert again.output.startswith("0 answers taken, 3 of no use any more, 0 ")


@on_a_loop
async def test_what_is_no_copy_is_refused_line_by_line(tmp_path: Path) -> None:
    async with Upstream() as upstream, instance(tmp_path, upstream) as (there, client):
        await client.resolve("www.test")
        (good,) = (await run("export", there)).stdout.splitlines()
        row = json.loads(good)
        bad = [
            "no JSON", "[]", "{}", "x" * 300_000, json.dumps(row | {"key": "xyz"}),
            json.dumps(row | {"wire": "@"}), json.dumps(row | {"stored": "soon"}),
            json.dumps(row | {"stored": 10**400}), json.dumps(row | {"stored": 1e400}),
            json.dumps(row | {"stored": float("nan")}),
            json.dumps(row | {"key": "00"}), json.dumps(row | {"wire": row["wire"][:40]}),
        ]  # fmt: skip
        assert (await run("purge", "--all", there)).output == "1 answers forgotten\n"
        done = await run("import", there, stdin="\n".join([*bad, "", good]) + "\n")
        assert done.exit_code == 1
        assert done.output == (
            f"1 answers taken, 0 of no use any more, {len(bad)} lines not understood\n"
        )


@on_a_loop
async def test_what_is_purged_is_gone_through_a_restart_too(tmp_path: Path) -> None:
    async with Upstream() as upstream, instance(tmp_path, upstream) as (there, client):
        for name in NAMES:
            await client.resolve(name)
        nothing = await run("purge", there)
        assert nothing.exit_code == 1
        assert "purge what? Name it, its zone or its kind" in str(nothing.exception)
        assert (await run("purge", "--stale-only", there)).output == "0 answers forgotten\n"
        done = await run("purge", "--zone=shop.test", there)
        assert done.output == "2 answers forgotten\n"
        assert len((await run("list", there)).output.splitlines()) == 1
        await client.resolve("web-0.shop.test")
        assert len(upstream.asked("web-0.shop.test")) == 2


@pytest.mark.parametrize("arguments", [("list", "--kind=some"), ("purge", "--stael"), ("sing",)])
def test_bad_usage_is_told_at_once(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cache.command, arguments).exit_code == 2
