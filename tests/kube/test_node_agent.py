"""The watcher's parts against the real thing: sockets that answer or do not, and other watchers.

Interfaces and rules are in `test_node.py`, in namespaces of their own; here nothing of the machine
is changed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable

import pytest
from dnslib import RR, DNSRecord

from dnsguard.kube import node_link
from dnsguard.kube.node_agent import Agent, Times
from dnsguard.kube.node_check import PINNED, check, judge, mine, question
from dnsguard.kube.node_company import Company, others
from dnsguard.kube.node_plan import Plan, plan
from dnsguard.kube.node_watch import Finding
from tests.net.running import HOST, on_a_loop, proxy, until
from tests.net.upstream import Upstream

_places = itertools.count()


def place() -> str:
    """A name for watchers that no other test has."""
    return f"\0dnsguard-test-{os.getpid()}-{next(_places)}-"


def reply(query: bytes, address: str = "192.0.2.1", rcode: int = 0) -> bytes:
    found = DNSRecord.parse(query).reply()
    found.add_answer(*RR.fromZone(f"{PINNED} 30 A {address}"))
    found.header.rcode = rcode
    packed: bytes = found.pack()
    return packed


def test_a_reply_is_judged() -> None:
    query, other = question("192.0.2.1"), question("192.0.2.1")
    good = reply(query)
    assert judge(query, good, "192.0.2.1") is Finding.ANSWERED
    assert judge(query, reply(query, "192.0.2.7"), "192.0.2.1") is Finding.WRONG
    assert judge(query, reply(query, rcode=2), "192.0.2.1") is Finding.WRONG
    if other[:2] != query[:2]:
        assert judge(other, good, "192.0.2.1") is Finding.SILENT
    assert judge(query, query, "192.0.2.1") is Finding.SILENT
    assert judge(query, good[:11], "192.0.2.1") is Finding.SILENT


@on_a_loop
async def test_a_real_resolver_answers_for_itself_while_its_upstream_is_dead() -> None:
    async with Upstream() as upstream, proxy([upstream.url], f"pins.{PINNED}={HOST}") as running:
        upstream.stop()
        assert await check([HOST], running.port) is Finding.ANSWERED
        await running.stop(0.0)
        assert await check([HOST], running.port) is Finding.REFUSED


@on_a_loop
async def test_who_shares_an_address_is_told_from_an_older_one() -> None:
    async with Upstream() as upstream:
        pins = (f"pins.{PINNED}={HOST}", f"pins.new.dnsguard.invalid={HOST}")
        async with proxy([upstream.url], *pins) as running:
            assert await mine(HOST, "new.dnsguard.invalid", running.port)
            assert not await mine(HOST, "old.dnsguard.invalid", running.port)


@on_a_loop
async def test_a_newcomer_waits_for_its_own_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered until then is the older one's work, which would go with it."""
    watching = Watching([YES, YES, YES], monkeypatch)
    known = [False, False, True]

    async def own() -> bool:
        return known.pop(0)

    watching.agent._mine = own
    await watching.run()
    assert watching.rules.done[:3] == ["prepare", "install True", "lapse"]
    assert known == []


@on_a_loop
async def test_one_that_lacks_the_pin_is_another() -> None:
    async with Upstream() as upstream, proxy([upstream.url]) as running:
        assert await check([HOST], running.port) is Finding.WRONG


@on_a_loop
async def test_silence_over_one_transport_is_silence() -> None:
    """A TCP side that hangs while UDP answers: kubernetes/dns#745."""
    async with Upstream() as upstream, proxy([upstream.url], f"pins.{PINNED}={HOST}") as running:
        held: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: held.append(writer), HOST, 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()

        class Relay(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: object) -> None:
                self.transport.sendto(reply(data, HOST), addr)  # type: ignore[attr-defined]

        relay, _ = await loop.create_datagram_endpoint(Relay, local_addr=(HOST, port))
        assert await check([HOST], running.port) is Finding.ANSWERED
        assert await check([HOST], port) is Finding.SILENT
        relay.close()
        server.close()
        for writer in held:
            writer.transport.abort()


@on_a_loop
async def test_the_newest_watcher_acts_and_the_last_clears_up() -> None:
    name = place()
    old, new = Company(name), Company(name)
    assert (old.join(), old.alone, others(name)) == (0, True, 1)
    assert (new.join(), new.alone, new.succeeded) == (1, False, False)
    await until(lambda: old.succeeded)
    assert not old.alone
    new.leave()  # as when it is killed: the kernel closes what it had
    await until(lambda: old.alone)
    old.leave()
    assert others(name) == 0


@on_a_loop
async def test_a_successor_is_alone_once_its_elder_has_gone() -> None:
    name = place()
    old, new = Company(name), Company(name)
    old.join()
    new.join()
    await until(lambda: old.succeeded)
    old.leave()
    await until(lambda: new.alone)
    assert (new.succeeded, others(name)) == (False, 1)
    new.leave()


@on_a_loop
async def test_places_end() -> None:
    name = place()
    watchers = [Company(name) for _ in range(9)]
    for watcher in watchers[:-1]:
        watcher.join()
    with pytest.raises(OSError, match="watchers run on this node"):
        watchers[-1].join()
    for watcher in watchers:
        watcher.leave()


class Recorded:
    """Rules that note what is asked of them, and fail or are gone when told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gone = self.changed = False

    async def prepare(self) -> None:
        self.done.append("prepare")

    async def install(self, alive: bool) -> None:
        self.done.append(f"install {alive}")
        self.gone = self.changed = False

    async def hold(self) -> bool:
        self.done.append("hold")
        return not self.gone

    async def lapse(self) -> None:
        self.done.append("lapse")

    async def altered(self) -> bool:
        return self.changed

    async def remove(self) -> bool:
        self.done.append("remove")
        return True


FAST = Times(check=0.0, hold=0.0, look=1e9, linger=0.0)


class Watching:
    """An agent whose findings are a list, and whose addresses are nobody's business."""

    def __init__(
        self, findings: list[Finding], patch: pytest.MonkeyPatch, times: Times = FAST
    ) -> None:
        self.rules, self.said, self.left = Recorded(), list[str](), list(findings)
        self.ensured = list[list[str]]([])

        async def ensure(_: Plan) -> list[str]:
            return self.ensured.pop() if self.ensured else []

        async def remove(_: Plan) -> list[str]:
            return ["interface dnsguard0"]

        patch.setattr(node_link, "ensure", ensure)
        patch.setattr(node_link, "remove", remove)
        name = place()
        self.stop = asyncio.Event()
        self.agent = Agent(
            plan(["169.254.20.10"], [], []), self.rules,
            lambda level, text: self.said.append(f"{level} {text}"), times=times, ask=self._ask,
            company=Company(name),
        )  # fmt: skip
        self.before: Callable[[], None] = lambda: None

    async def _ask(self) -> Finding:
        self.before()
        finding = self.left.pop(0)
        if not self.left:
            self.stop.set()
        return finding

    async def run(self, ended: Callable[[], Awaitable[None]] | None = None) -> None:
        async def nothing() -> None:
            self.rules.done.append("ended")

        await self.agent.prepare()
        await self.agent.run(self.stop)
        await self.agent.finish(ended or nothing)


YES, REFUSED = Finding.ANSWERED, Finding.REFUSED


@on_a_loop
async def test_what_is_done_follows_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watching([REFUSED, YES, YES, REFUSED, YES, YES], monkeypatch)
    await watching.run()
    assert watching.rules.done == [
        "prepare", "install True", "hold", "lapse", "install True", "lapse", "ended", "remove",
    ]  # fmt: skip
    (error,) = [line for line in watching.said if line.startswith("error")]
    assert "the resolver refuses questions" in error
    assert "go to cluster DNS until it answers" in error
    assert "has no fallback" in watching.said[0]
    text = watching.agent.metrics().decode()
    assert "dnsguard_node_let_go_total 1.0" in text
    assert 'dnsguard_node_checks_total{finding="refused"} 2.0' in text
    assert 'dnsguard_node_checks_total{finding="answered"} 4.0' in text
    assert "dnsguard_node_keeping 1.0" in text


@on_a_loop
async def test_rules_that_are_gone_come_back_and_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching = Watching([YES, YES, YES], monkeypatch)

    def flush() -> None:
        watching.rules.gone = len(watching.left) == 2  # `nft flush ruleset` before the second check

    watching.before = flush
    await watching.run()
    assert watching.rules.done[1:5] == ["install True", "hold", "install True", "hold"]
    assert 'dnsguard_node_mended_total{what="rules"} 1.0' in watching.agent.metrics().decode()


@on_a_loop
async def test_what_somebody_changed_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(check=0.0, hold=1e9, look=0.0, linger=0.0)
    watching = Watching([YES, YES], monkeypatch, times)
    watching.rules.changed = True
    watching.ensured = [["address 169.254.20.10"], [], []]
    await watching.run()
    assert watching.rules.done[:3] == ["prepare", "install True", "lapse"]
    assert any("put back: address" in line for line in watching.said)


@on_a_loop
async def test_a_resolver_that_ends_is_let_go_without_a_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching = Watching([YES, YES], monkeypatch)

    def end() -> None:
        if len(watching.left) == 2:
            watching.agent.resolver_ended()

    watching.before = end
    await watching.run()
    assert watching.rules.done[:3] == ["prepare", "install True", "lapse"]
