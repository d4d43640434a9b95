"""The UDP side towards upstreams, over real sockets: what it believes, and what it lets be seen.

A forged or broken datagram must neither be believed nor end the wait (RFC 5452 section 9.1), and
whoever wants to forge one must find fresh ports and ids with every question (sections 9.2, 10).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsguard.net import upstream as module
from tests.net.asking import ask, by_id, datagrams
from tests.net.running import HOST, on_a_loop, on_both_loops, proxy, scene
from tests.net.upstream import HELD, MANNERS, WRONG_PORT, Upstream, address_of

BAD = [
    "wrong id", "wrong question", "not a reply", "garbage", "header only", "empty header",
    "three octets", "cut short", "pointer loop", WRONG_PORT,
]  # fmt: skip
SHORT = "upstream.deadline=300ms"


@pytest.mark.parametrize("bad", BAD)
@on_a_loop
async def test_the_wait_goes_on_after_a_bad_datagram(bad: str) -> None:
    async with scene() as stage:
        stage.upstream.behave(bad, "ok")
        for _ in range(2):
            assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        assert len(stage.upstream.seen) == 1


@on_both_loops
async def test_the_wait_goes_on_after_all_bad_datagrams_together() -> None:
    async with scene() as stage:
        stage.upstream.behave(*BAD, "twice", *BAD)
        for _ in range(2):
            assert (await stage.udp.resolve("www.test")).addresses == [address_of("www.test")]
        assert len(stage.upstream.seen) == 1
        ignored = stage.proxy.driver.engine.counters.ignored
        assert {"id", "question", "not_a_reply", "garbage", "short"} <= set(ignored)


@pytest.mark.parametrize("bad", BAD)
@on_a_loop
async def test_bad_datagrams_alone_are_silence(bad: str) -> None:
    async with scene(SHORT) as stage:
        stage.upstream.behave(bad)
        cold = await stage.udp.resolve("cold.test")
        assert (cold.rcode, cold.addresses, cold.ede) == ("SERVFAIL", [], [22])
        assert len(stage.upstream.seen) <= 3


@pytest.mark.parametrize("bad", [*BAD, "silent", "servfail", "refused"])
@on_a_loop
async def test_a_bad_datagram_replaces_no_good_answer(bad: str) -> None:
    async with scene(SHORT, "stale.client_timeout=50ms") as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.behave(bad)
        await stage_of_expiry(stage.proxy.driver.engine.cache.index)
        stale = await stage.udp.resolve("www.test")
        assert (stale.addresses, stale.ede) == ([address_of("www.test")], [3])


async def stage_of_expiry(index: dict[bytes, object]) -> None:
    """Let what is remembered be past its TTL now, without waiting for it."""
    for entry in index.values():
        entry.expires -= 2.0  # type: ignore[attr-defined]
        entry.stored -= 2.0  # type: ignore[attr-defined]
        entry.spoil()  # type: ignore[attr-defined]
