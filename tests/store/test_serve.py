"""The whole of it, as an operator has it: `dnsguard serve`, killed, started again in an outage."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.net.asking import Datagrams, datagrams
from tests.net.running import HOST, Serve, on_a_loop, serve
from tests.net.upstream import Upstream, address_of

NAMES = [f"n{number}.test" for number in range(40)]
DIRECTORY = f"{HOST}_0"


async def http(running: Serve, path: str) -> tuple[int, str]:
    """GET a path of the admin address."""
    reader, writer = await asyncio.open_connection(HOST, running.admin)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def numbers(running: Serve) -> dict[str, float]:
    """What the metrics say of the store."""
    _, body = await http(running, "/metrics")
    found = re.findall(r"^dnsguard_store_(\S+) (\S+)$", body, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def on_disk(running: Serve, rows: int) -> None:
    while (await numbers(running))["rows"] < rows:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)


def arguments(upstream: Upstream, root: Path, *more: str) -> Sequence[str]:
    return ("--upstream", upstream.url, "--state-dir", str(root), *more)


async def is_stale(client: Datagrams, name: str) -> bool:
    """Ask; True if the answer is right and says that it is stale."""
    reply = await client.resolve(name)
    return (reply.rcode, reply.addresses, reply.ede) == ("NOERROR", [address_of(name)], [3])


@on_a_loop
async def test_a_kill_in_the_middle_of_an_outage_costs_no_answer(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        quick = arguments(upstream, tmp_path, "--set", "store.flush_interval=100ms")
        async with serve(*quick) as first, datagrams(first.port) as client:
            for name in NAMES:
                assert (await client.resolve(name)).addresses == [address_of(name)]
            assert (await client.resolve("n1.test", "AAAA")).rcode == "NOERROR"
            await on_disk(first, len(NAMES) + 1)
            first.signal(signal.SIGKILL)
            assert await first.ended() == -signal.SIGKILL
        upstream.stop()
        for _ in range(2):  # and once more: what was taken back is still there
            async with serve(*quick) as again, datagrams(again.port) as client:
                assert (await http(again, "/readyz"))[0] == 200
                assert (await numbers(again))["loaded"] == len(NAMES) + 1
                for name in NAMES:
                    assert await is_stale(client, name)
                none = await client.resolve("n1.test", "AAAA")
                assert (none.rcode, none.addresses, none.ede) == ("NOERROR", [], [3])
                assert (await client.resolve("never-asked.test")).rcode == "SERVFAIL"
                again.signal(signal.SIGKILL)
                await again.ended()


@on_a_loop
async def test_an_orderly_end_writes_what_no_flush_has_written(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        slow = arguments(upstream, tmp_path, "--set", "store.flush_interval=1m")
        async with serve(*slow) as first, datagrams(first.port) as client:
            for name in NAMES:
                await client.resolve(name)
            first.signal(signal.SIGTERM)
            assert await first.ended() == 0
        upstream.stop()
        async with serve(*slow) as again, datagrams(again.port) as client:
            for name in NAMES:
                assert await is_stale(client, name)


@on_a_loop
async def test_what_came_back_is_asked_for_again_where_it_can_be(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        async with serve(*arguments(upstream, tmp_path)) as first, datagrams(first.port) as client:
            await client.resolve("n1.test")
            first.signal(signal.SIGTERM)
            await first.ended()
        asked = len(upstream.asked("n1.test"))
        async with serve(*arguments(upstream, tmp_path)) as again, datagrams(again.port) as client:
            assert (await client.resolve("n1.test")).ede == []
            assert len(upstream.asked("n1.test")) == asked + 1


@on_a_loop
async def test_without_state_nothing_is_left(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        serve(*arguments(upstream, tmp_path / "state", "--no-state")) as running,
        datagrams(running.port) as client,
    ):
        assert (await client.resolve("n1.test")).rcode == "NOERROR"
        assert await numbers(running) == {}
        assert not (tmp_path / "state").exists()


@on_a_loop
async def test_a_place_that_cannot_be_had_costs_a_warning_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to(tmp_path)
    async with (
        Upstream() as upstream,
        serve(*arguments(upstream, tmp_path / "state")) as running,
        datagrams(running.port) as client,
    ):
        assert (await client.resolve("n1.test")).rcode == "NOERROR"
        assert (await http(running, "/readyz"))[0] == 200
        found = await numbers(running)
        while found['errors_total{kind="unsafe"}'] < 2:
            await asyncio.sleep(0.05)
            found = await numbers(running)
        assert found["up"] == 0
        warnings = [line for line in running.lines if " warning " in line]
        assert len(warnings) == 1
        assert "symbolic link" in warnings[0]
        assert not (tmp_path / DIRECTORY).exists()


@on_a_loop
async def test_other_settings_of_the_store_are_taken_at_a_restart_only(tmp_path: Path) -> None:
    file = tmp_path / "dnsguard.yaml"
    file.write_text("store.flush_interval: 1s\n")
    where = {"DNSGUARD_STORE__DIR": str(tmp_path / "state"), "DNSGUARD_CONFIG": str(file)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=where) as running,
    ):
        assert (tmp_path / "state" / DIRECTORY).exists()
        file.write_text("store.flush_interval: 2s\n")
        running.signal(signal.SIGHUP)
        await running.said("store settings change at a restart only")
        await running.said("settings taken")
