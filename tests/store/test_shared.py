"""The store that a fleet shares: what comes of it with a real server, and of a server gone wrong.

With a `redis-server` (Debian's package of that name) these run as `make shared`; what needs none
runs with all others.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from dnsguard.errors import StoreError
from dnsguard.store.rows import Row
from dnsguard.store.shared import kind_of, stored_at
from tests.net.asking import datagrams
from tests.net.running import HOST, on_a_loop, serve
from tests.net.upstream import Upstream, address_of
from tests.store.fleet import DAY, NAMES, arguments, know, metric, teach
from tests.store.redis_server import fleet, free_port
from tests.store.test_serve import numbers

with_redis = pytest.mark.shared


@with_redis
@on_a_loop
async def test_a_node_that_starts_empty_in_an_outage_answers_what_the_fleet_knew(
    tmp_path: Path,
) -> None:
    async with Upstream() as upstream, fleet(tmp_path) as server:
        await teach(upstream, server, server.url)
        expiries = [server.client.pttl(key) for key in server.client.scan_iter()]
        assert all(2.9 * DAY * 1000 < left <= 3.1 * DAY * 1000 for left in expiries)
        upstream.stop()
        async with serve(*arguments(upstream, server.url)) as node:
            await node.said(f"started with {len(NAMES)} answers of others")
            await know(node, NAMES)
            async with datagrams(node.port) as client:
                assert (await client.resolve("never.test")).rcode == "SERVFAIL"
            assert (await numbers(node))["shared_taken_total"] == len(NAMES)


@with_redis
@on_a_loop
async def test_what_others_learn_later_is_found_when_it_is_needed(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        fleet(tmp_path) as server,
        serve(*arguments(upstream, server.url)) as node,
    ):
        await metric(node, "up", 1)
        async with datagrams(node.port) as client:
            await client.resolve("mine.test")
        await server.holds(1)
        await teach(upstream, server, server.url)
        found = await numbers(node)
        assert found['shared_reads_total{result="missed"}'] == 0  # misses never go there
        upstream.stop()
        await know(node, NAMES)
        found = await numbers(node)
        assert found['shared_reads_total{result="found"}'] >= len(NAMES) - 5


@with_redis
@on_a_loop
async def test_a_server_that_is_killed_or_stands_still_costs_no_answer(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        fleet(tmp_path) as server,
        serve(*arguments(upstream, server.url)) as node,
        datagrams(node.port) as client,
    ):
        await metric(node, "up", 1)
        server.freeze()
        for name in NAMES:
            assert (await client.resolve(name)).addresses == [address_of(name)]
        await node.said("answers are not shared until it works")
        server.kill()
        assert (await client.resolve("more.test")).addresses == [address_of("more.test")]
        assert (await numbers(node))["shared_up"] == 0
        await asyncio.to_thread(server.start)
        await node.said("answers again")
        await server.holds(len(NAMES))  # what waited meanwhile
        assert len([line for line in node.lines if " warning shared store" in line]) <= 2


@with_redis
@on_a_loop
async def test_a_server_that_stood_still_for_long_is_used_again(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        fleet(tmp_path) as server,
        serve(*arguments(upstream, server.url)) as node,
        datagrams(node.port) as client,
    ):
        await metric(node, "up", 1)
        server.freeze()
        for name in NAMES:
            assert (await client.resolve(name)).addresses == [address_of(name)]
        # Once as it is written to, and at least once as it is looked for again.
        await metric(node, 'errors_total{kind="timeout"}', 2)
        server.thaw()
        await node.said("answers again")
        await server.holds(len(NAMES))


@with_redis
@on_a_loop
async def test_values_that_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    async with Upstream() as upstream, fleet(tmp_path) as server:
        await teach(upstream, server, server.url)
        keys = sorted(server.client.keys())
        server.client.set(keys[0], b"garbage")
        server.client.set(keys[1], server.client.get(keys[2]))  # the answer to another question
        server.client.set(keys[3], server.client.get(keys[3])[:-1])
        server.client.delete(keys[4])
        server.client.lpush(keys[4], b"a list")
        server.client.set(keys[5], b"x" * 500_000)
        server.client.set(b"dnsguard:" + b"\xff" * 300, b"a key that is none")
        server.client.set(b"other:key", b"of another cluster")
        upstream.stop()
        async with serve(*arguments(upstream, server.url)) as node:
            await node.said(f"started with {len(NAMES) - 5} answers of others")
            async with datagrams(node.port) as client:
                replies = [await client.resolve(name) for name in NAMES]
            good = [r for r in replies if r.rcode == "NOERROR"]
            assert all(r.addresses == [address_of(r.question[:-1])] for r in good)
            assert len(good) == len(NAMES) - 5
            assert {r.rcode for r in replies} == {"NOERROR", "SERVFAIL"}
            assert (await numbers(node))["shared_up"] == 1
            assert not [line for line in node.lines if "Traceback" in line]


@with_redis
@on_a_loop
async def test_a_wrong_password_is_said_and_a_right_one_is_not_shown(tmp_path: Path) -> None:
    async with Upstream() as upstream, fleet(tmp_path, "--requirepass", "secret") as server:
        wrong = server.url.replace("//", "//:guess@")
        async with serve(*arguments(upstream, wrong)) as node, datagrams(node.port) as client:
            line = await node.said("answers are not shared until it works")
            assert "guess" not in line
            assert (await client.resolve("www.test")).rcode == "NOERROR"
            assert (await numbers(node))['shared_errors_total{kind="refused"}'] >= 1
        right = server.url.replace("//", "//:secret@")
        async with serve(*arguments(upstream, right)) as node:
            await metric(node, "up", 1)
            assert not [text for text in node.lines if "secret" in text]


@with_redis
@on_a_loop
async def test_the_fleets_answers_outlive_a_lost_node_and_its_disk(tmp_path: Path) -> None:
    async with Upstream() as upstream, fleet(tmp_path) as server:
        lost = ("--state-dir", str(tmp_path / "lost"))
        async with (
            serve(*arguments(upstream, server.url, *lost)) as node,
            datagrams(node.port) as client,
        ):
            await metric(node, "up", 1)
            for name in NAMES:
                await client.resolve(name)
            await server.holds(len(NAMES))
            node.signal(signal.SIGKILL)
            await node.ended()
        upstream.stop()
        fresh = ("--state-dir", str(tmp_path / "fresh"))
        async with serve(*arguments(upstream, server.url, *fresh)) as node:
            await node.said(f"started with {len(NAMES)} answers of others")
            await know(node, NAMES)
            while (await numbers(node))["rows"] < len(NAMES):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)


# -- without a server ---------------------------------------------------------------------------


def row(stored: float, dies: float) -> Row:
    return Row(b"", b"", False, b"", 0, b"", 0.0, stored, dies)


@pytest.mark.parametrize(
    ("stored", "dies", "left", "age"),
    [
        (900.0, 1900.0, 900.0, 100.0),
        (900.0, 1900.0, 500.0, 500.0),  # the server knows of less
        (2000.0, 3000.0, 600.0, 400.0),  # a clock that was ahead makes nothing younger
        (900.0, 1900.0, 0.0, 1000.0),  # no expiry there: nobody knows, so it is dead
    ],
)
def test_no_clock_makes_a_life_longer(stored: float, dies: float, left: float, age: float) -> None:
    assert 50.0 - stored_at(row(stored, dies), left, wall=1000.0, now=50.0) == age


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "unreachable"),
        (StoreError("", "missing"), "missing"),
        (ValueError("NOAUTH Authentication required."), "refused"),
        (ValueError(), "error"),
    ],
)
def test_each_failure_has_its_word(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_nobody_there_is_one_line_and_no_answer_less(tmp_path: Path) -> None:
    @on_a_loop
    async def story() -> None:
        nobody = free_port()
        async with (
            Upstream() as upstream,
            serve(*arguments(upstream, f"redis://{HOST}:{nobody}")) as node,
            datagrams(node.port) as client,
        ):
            await node.said("answers are not shared until it works")
            assert (await client.resolve("www.test")).rcode == "NOERROR"
            upstream.stop()
            assert (await client.resolve("never.test")).rcode == "SERVFAIL"
            assert (await numbers(node))["shared_up"] == 0

    story(loop="uvloop")
