"""The control socket and the admin address of two workers: told to one is told to both.

Every step is taken as an operator takes it, by command, against real processes. Each client has a
port of its own, and the kernel gives it to one of the workers.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from dnsguard.cli.instance import reach
from dnsguard.cli.main import commands
from tests.net.asking import datagrams
from tests.net.running import Serve, on_a_loop, serve
from tests.net.upstream import Upstream, address_of
from tests.store.test_serve import http
from tests.workers.test_supervisor import TWO, children, right

CLIENTS = 12  # so many ports that both workers get some of them, but for one time in 2,000
PIN = "192.0.2.7"


async def run(place: Path, *arguments: str) -> Result:
    words = [*arguments, f"--state-dir={place}"]
    return await asyncio.to_thread(CliRunner().invoke, commands, words)


def ask(place: Path, verb: str) -> Any:
    with reach(state_dir=str(place)) as instance:
        return instance.ask(verb)


async def told(place: Path, *arguments: str) -> Any:
    result = await run(place, *arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


async def answers(running: Serve, name: str) -> set[tuple[str, ...]]:
    """What a name's answer is for each of many clients."""
    found = set()
    for _ in range(CLIENTS):
        async with datagrams(running.port) as client:
            reply = await client.resolve(name)
            found.add((reply.rcode, *reply.addresses))
    return found


@on_a_loop
async def test_a_pin_holds_in_all_workers_and_in_those_that_come_after(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, "--state-dir", str(tmp_path)) as running,
    ):
        assert "control.sock" in running.lines[-1]
        assert (await run(tmp_path, "pin", "www.test", PIN)).exit_code == 0
        assert await answers(running, "www.test") == {("NOERROR", PIN)}
        pinned = await run(tmp_path, "pin")
        assert pinned.output.count("www.test") == 1
        for count in (1, 2):
            os.kill(children(running.process.pid)[0], signal.SIGKILL)
            await running.said("serves in place of the former", count)
        assert await answers(running, "www.test") == {("NOERROR", PIN)}
        assert (await run(tmp_path, "unpin", "www.test")).exit_code == 0
        assert await answers(running, "www.test") == {("NOERROR", address_of("www.test"))}
        again = await run(tmp_path, "unpin", "www.test")
        assert "is not pinned" in str(again.exception)


@on_a_loop
async def test_the_cache_is_listed_once_and_purged_everywhere(tmp_path: Path) -> None:
    names = [f"n{number}.test" for number in range(8)]
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, "--state-dir", str(tmp_path)) as running,
    ):
        for name in names:
            async with datagrams(running.port) as client:
                assert await right(client, name)
        listed = (await run(tmp_path, "cache", "list")).output.splitlines()
        assert sorted(line.split()[0] for line in listed) == [f"{name}." for name in names]
        _, body = await http(running, "/api/v1/cache?name=n0.test")
        assert [entry["name"] for entry in json.loads(body)["entries"]] == ["n0.test."]
        copy = tmp_path / "copy"
        assert (await run(tmp_path, "cache", "export", str(copy))).exit_code == 0
        assert len(copy.read_text().splitlines()) == len(names)
        purged = await run(tmp_path, "cache", "purge", "--all")
        assert purged.output == f"{len(names)} answers forgotten\n"
        upstream.stop()
        assert await answers(running, "n0.test") == {("SERVFAIL",)}
        taken = await run(tmp_path, "cache", "import", str(copy))
        assert taken.exit_code == 0
        assert "0 lines not understood" in taken.output
        assert await answers(running, "n0.test") == {("NOERROR", address_of("n0.test"))}


@on_a_loop
async def test_status_and_explain_speak_for_both_and_the_page_too(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, "--state-dir", str(tmp_path)) as running,
    ):
        await answers(running, "www.test")
        state = await told(tmp_path, "status")
        assert sum(state["answers"]["total"].values()) == CLIENTS
        assert state["workers"]["words"] == "2 of 2 workers answered"
        assert state["pid"] == running.process.pid
        assert [zone["name"] for zone in state["zones"]] == ["."]
        _, body = await http(running, "/api/v1/status")
        assert json.loads(body)["answers"]["total"] == state["answers"]["total"]
        explained = await told(tmp_path, "explain", "www.test")
        assert explained["source"] == "fresh"
        assert explained["workers"]["answered"] == 2
        status, page = await http(running, "/")
        assert status == 200
        assert "<strong>All well" in page
        wrong = await run(tmp_path, "explain", "a..b")
        assert "is not a domain name" in str(wrong.exception)
        assert (await http(running, "/api/v1/explain?nam=x"))[0] == 400
        reader, writer = await asyncio.open_connection("127.0.0.1", running.admin)
        writer.write(b"GET /api/v1/events HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert "headline" in json.loads((await reader.readuntil(b"\n"))[len(b"data: ") :])
        writer.close()


@on_a_loop
async def test_who_stands_still_or_is_gone_is_named_and_not_waited_for(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, "--state-dir", str(tmp_path)) as running,
    ):
        victim = children(running.process.pid)[0]
        os.kill(victim, signal.SIGSTOP)
        _, body = await http(running, "/api/v1/status")
        state = json.loads(body)
        assert state["workers"]["missing"] == {"1": "does not answer"}
        assert state["headline"]["tone"] == "warn"
        assert "1 of 2 workers answered" in state["headline"]["text"]
        assert "1 of 2 workers answered" in (await http(running, "/"))[1]
        pinned = await run(tmp_path, "pin", "www.test", PIN)
        assert pinned.exit_code == 0
        assert "note: 1 of 2 workers answered: worker 1 does not answer" in pinned.stderr
        os.kill(victim, signal.SIGKILL)
        await running.said("serves in place of the former")
        assert await answers(running, "www.test") == {("NOERROR", PIN)}
        state = await told(tmp_path, "status")
        assert state["workers"]["answered"] == 2
        assert "worker_ended" in [event["event"] for event in state["events"]]


@on_a_loop
async def test_pins_without_a_disk(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, "--no-state", environ=environ) as running,
    ):
        place = tmp_path / "dnsguard"
        assert (await run(place, "pin", "www.test", PIN)).exit_code == 0
        for count in (1, 2):
            os.kill(children(running.process.pid)[0], signal.SIGKILL)
            await running.said("serves in place of the former", count)
        assert await answers(running, "www.test") == {("NOERROR", PIN)}
