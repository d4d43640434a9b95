"""The sampled query log: who asked what and was told what, a share of it, bounded, and off."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from dnsguard import clock
from dnsguard.core.pins import Pin
from dnsguard.net.sampling import LINES_AT_ONCE, Sample
from tests.net.asking import datagrams
from tests.net.running import (
    Scene,
    later,
    on_a_loop,
    on_both_loops,
    scene,
    serve,
    stand_still,
    until,
)
from tests.net.upstream import Upstream


def of(samples: list[Sample]) -> list[tuple[str, str, str, str]]:
    return [(s.transport, s.name, s.rcode, s.source) for s in samples]


@on_both_loops
async def test_every_kind_of_answer_is_told_as_what_it_was() -> None:
    samples: list[Sample] = []
    async with scene("cache.max_ttl=5s") as stage:
        stage.proxy.driver.sample(1.0, samples.append)
        for client, transport in ((stage.udp, "udp"), (stage.tcp, "tcp")):
            name = f"{transport}.test"
            for _ in range(3):
                assert (await client.resolve(name)).rcode == "NOERROR"
            assert of(samples) == [
                (transport, f"{name}.", "NOERROR", source) for source in ("upstream", "hit", "hit")
            ]
            assert {sample.client for sample in samples} == {"127.0.0.1"}
            assert {(s.qtype, s.zone, s.lost) for s in samples} == {(1, ".", 0)}
            samples.clear()
        stage.proxy.driver.engine.pin(Pin("pin.test", ("10.0.0.1",), until=clock.now() + 60))
        await stage.udp.resolve("pin.test")
        stage.upstream.stop()
        later(6.0)
        await stage.udp.resolve("udp.test")
        await stage.udp.resolve("new.test")
        while not stage.proxy.driver.engine.zones.root.outage:
            await stage.udp.resolve("udp.test")  # until the probe has failed too
        del samples[3:]
        await stage.udp.resolve("a.b.c.d.e.svc.cluster.local")
        assert of(samples) == [
            ("udp", "pin.test.", "NOERROR", "pin"),
            ("udp", "udp.test.", "NOERROR", "stale"),
            ("udp", "new.test.", "SERVFAIL", "failure"),
            ("udp", "a.b.c.d.e.svc.cluster.local.", "NXDOMAIN", "synthesized"),
        ]
        await stage.udp.ask(b"\1\2\1\0\0\2" + bytes(6))
        assert len(samples) == 4, "what is no query has no name to tell"


@on_a_loop
async def test_a_share_is_picked_and_the_counts_stay_right() -> None:
    samples: list[Sample] = []
    async with scene() as stage:
        stand_still()
        engine = stage.proxy.driver.engine
        await stage.udp.resolve("www.test")
        stage.proxy.driver.sample(0.1, samples.append)
        for _ in range(400):
            await stage.udp.resolve("www.test")
        assert 10 <= len(samples) <= 90
        engine.fold(clock.now())
        assert sum(engine.counters.answers.values()) == 401
        assert engine.counters.queries["udp"] == 401


@on_a_loop
async def test_only_so_many_lines_are_written_and_the_others_are_counted() -> None:
    samples: list[Sample] = []
    async with scene() as stage:
        stand_still()
        stage.proxy.driver.sample(1.0, samples.append)
        for _ in range(int(LINES_AT_ONCE) + 50):
            await stage.udp.resolve("www.test")
        assert len(samples) == LINES_AT_ONCE
        later(0.25)
        for lost in (50, 0):
            await stage.udp.resolve("www.test")
            assert samples[-1].lost == lost
        await stage.udp.resolve("www.test")
        assert len(samples) == LINES_AT_ONCE + 2


async def _plain(stage: Scene) -> None:
    engine = stage.proxy.driver.engine
    assert engine.client == engine.take
    assert engine.tap is None
    assert type(engine.datagrams.table) is dict
    assert type(engine.streams.table) is dict


@on_a_loop
async def test_while_it_is_off_it_is_on_nobodys_way() -> None:
    samples: list[Sample] = []
    async with scene() as stage:
        await _plain(stage)
        stage.proxy.driver.sample(1.0, samples.append)
        await stage.udp.resolve("www.test")
        stage.proxy.driver.sample(0.5, samples.append)
        stage.proxy.driver.sample(0.0, samples.append)
        await _plain(stage)
        await stage.udp.resolve("www.test")
        assert len(samples) == 1


@on_a_loop
async def test_a_loop_is_seen_behind_it() -> None:
    async with scene() as stage:
        stage.proxy.driver.sample(1.0, lambda sample: None)
        stage.upstream.behave("silent")
        waiting = asyncio.create_task(stage.udp.resolve("www.test"))
        await until(lambda: bool(stage.upstream.seen))
        port = next(iter(stage.proxy.driver.ports._ports.values()))
        port.sock.connect(("127.0.0.1", stage.proxy.port))
        port.sock.send(stage.upstream.seen[-1].wire)
        assert (await waiting).rcode == "SERVFAIL"
        assert stage.proxy.driver.engine.counters.loops == 1


@on_a_loop
async def test_a_process_writes_lines_and_takes_the_settings_anew(tmp_path: Path) -> None:
    file = tmp_path / "dnsguard.yaml"
    file.write_text("log: {format: json, queries: 100%}\n", encoding="utf-8")
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, "--config", str(file)) as running,
        datagrams(running.port) as client,
    ):
        await client.resolve("secret.test")
        line = json.loads(await running.said('"query"'))
        assert line.pop("time")
        assert 0 <= line.pop("seconds") < 30
        assert " A in zone .: NOERROR, upstream, " in line.pop("message")
        assert line == {
            "level": "info", "event": "query", "client": "127.0.0.1", "transport": "udp",
            "type": "A", "zone": ".", "rcode": "NOERROR", "source": "upstream", "lost": 0,
            "name": "secret.test.",
        }  # fmt: skip
        file.write_text("log: {format: json, queries: 1, query_names: off}\n", encoding="utf-8")
        running.signal(signal.SIGHUP)
        await running.said("settings taken")
        await client.resolve("secret.test")
        assert "secret" not in await running.said('"query"', 2)
        file.write_text("log: {format: json}\n", encoding="utf-8")
        running.signal(signal.SIGHUP)
        await running.said("settings taken", 2)
        await client.resolve("secret.test")
        running.signal(signal.SIGHUP)
        await running.said("settings taken", 3)
        assert len([text for text in running.lines if '"query"' in text]) == 2
