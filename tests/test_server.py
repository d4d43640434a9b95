"""One dnsguard process from its start to its end, as an operator and a kubelet see it.

The process is a real one, its upstream and its clients are the test's. What it says on stderr
counts: for people it is the only sign of what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dnsguard import __version__, server as module
from dnsguard.net import accept
from dnsguard.server import CannotListen, bind_all, tune_collector
from tests.admin.test_http import calling
from tests.net.asking import ask, datagrams, stream
from tests.net.running import HOST, LOOPBACKS, ONCE, Serve, on_a_loop, serve, settings_for, start
from tests.net.upstream import HELD, Upstream, address_of

PATIENT = ("--set", "upstream.deadline=20s", "--set", ONCE)


def complaints(running: Serve) -> list[str]:
    """Lines that no clean life has."""
    return [line for line in running.lines if "Traceback" in line or " error " in line]


@on_a_loop
async def test_a_clean_life() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url) as running:
        ready = running.lines[-1]
        assert f"dnsguard {__version__} ready in " in ready
        assert f"listening on {HOST}:{running.port} (UDP, TCP)" in ready
        assert f"upstreams . -> {upstream.url}" in ready
        assert f"admin http://{HOST}:{running.admin}" in ready
        async with datagrams(running.port) as udp, stream(running.port) as tcp:
            for client in (udp, tcp):
                assert (await client.resolve("www.test")).addresses == [address_of("www.test")]
        async with calling(running.admin) as calls:
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await calls.get(path)).status == 200
            running.signal(signal.SIGTERM)  # with a connection of Prometheus still open
            assert await running.ended() == 0
        assert running.lines[-1].endswith(" info stopped")
        assert not complaints(running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@on_a_loop
async def test_the_end_waits_for_the_queries_under_way(number: signal.Signals) -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url, *PATIENT) as running:
        async with (
            datagrams(running.port) as udp,
            stream(running.port) as tcp,
            calling(running.admin) as calls,
        ):
            upstream.behave(HELD)
            udp.send(ask("one.test"))
            tcp.send(ask("two.test"))
            await upstream.until(2)
            assert (await calls.get("/readyz")).status == 200
            running.signal(number)
            await running.said("stopping: answering what is under way")
            unready = await calls.get("/readyz")
            assert (unready.status, unready.read()) == (503, b"not ready: stopping\n")
            assert (await calls.get("/livez")).status == 200
            upstream.release()
            for client in (udp, tcp):
                (reply,) = await client.hear(1)
                assert reply.addresses == [address_of(reply.question)]
            assert await running.ended() == 0
        assert not complaints(running)


@on_a_loop
async def test_the_end_does_not_wait_for_ever() -> None:
    short = ("--set", "upstream.deadline=300ms")
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *short) as running,
        datagrams(running.port) as client,
    ):
        upstream.behave("silent")
        client.send(ask("www.test"))
        await upstream.until(1)
        running.signal(signal.SIGTERM)
        assert (await client.hear(1))[0].rcode == "SERVFAIL"
        assert await running.ended() == 0


@on_a_loop
async def test_a_second_signal_ends_it_at_once() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url, *PATIENT) as running:
        upstream.behave("silent")
        async with datagrams(running.port) as client:
            client.send(ask("www.test"))
            await upstream.until(1)
            running.signal(signal.SIGTERM)
            await running.said("stopping")
            running.signal(signal.SIGTERM)
            assert await running.ended() == 1
        assert not complaints(running)


# -- new settings --------------------------------------------------------------------------------


@on_a_loop
async def test_new_settings_are_taken_and_wrong_ones_are_not(tmp_path: Path) -> None:
    file = tmp_path / "dnsguard.yaml"
    async with Upstream() as old, Upstream() as new:
        file.write_text(f"zones: {{'.': {{upstreams: ['{old.url}']}}}}\n")
        async with serve("--config", str(file)) as running, datagrams(running.port) as client:
            await client.resolve("www.test")

            file.write_text("upstream: {deadline: soon}\nstale: {max_aeg: 1d}\n")
            running.signal(signal.SIGHUP)
            mistake = await running.said("settings not taken, the old ones stay: ", times=2)
            assert "error settings not taken" in mistake
            told = "\n".join(running.lines)
            assert "upstream.deadline" in told
            assert "'soon'" in told
            assert "the nearest is stale.max_age" in told
            assert (await client.resolve("two.test")).rcode == "NOERROR"
            assert [seen.name for seen in old.seen] == ["www.test", "two.test"]

            file.write_text(
                f"zones: {{'.': {{upstreams: ['{new.url}']}}}}\naccess: {{allow: [127.0.0.0/29]}}\n"
            )
            running.signal(signal.SIGHUP)
            await running.said("info settings taken")
            assert (await client.resolve("www.test")).rcode == "NOERROR"
            assert (await client.resolve("three.test")).rcode == "NOERROR"
            assert [seen.name for seen in new.seen] == ["three.test"]
            assert len(old.seen) == 2
            async with datagrams(running.port, "127.0.0.9") as stranger:
                assert (await stranger.resolve("www.test")).rcode == "REFUSED"

            # A log level that silences the confirmation: the old upstream is asked again instead.
            file.write_text(
                f"zones: {{'.': {{upstreams: ['{old.url}']}}}}\nlog: {{level: error}}\n"
            )
            running.signal(signal.SIGHUP)
            for number in itertools.count():
                await client.resolve(f"n{number}.test")
                if old.asked(f"n{number}.test"):
                    break
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
            assert len([line for line in running.lines if "settings taken" in line]) == 1


@on_a_loop
async def test_what_changes_at_a_restart_only_is_said(tmp_path: Path) -> None:
    file = tmp_path / "dnsguard.yaml"
    zones = "zones: {'.': {upstreams: [192.0.2.53]}}\n"
    file.write_text(f"{zones}listen: ['{HOST}:0']\nadmin: {{listen: off}}\n")
    running = await start("--config", str(file))
    assert "; admin off; control " in await running.said(" ready ")
    file.write_text(f"{zones}listen: ['{HOST}:0']\nadmin: {{listen: '{HOST}:0'}}\n")
    running.signal(signal.SIGHUP)
    await running.said("warning listen and admin addresses change at a restart only")
    await running.said("info settings taken")
    file.unlink()
    running.signal(signal.SIGHUP)
    await running.said("error settings not taken, the old ones stay")
    running.signal(signal.SIGTERM)
    assert await running.ended() == 0


@on_a_loop
async def test_everything_it_says_in_json_is_json() -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, "--log-format", "json") as running,
        datagrams(running.port) as client,
    ):
        upstream.stop()
        assert (await client.resolve("www.test")).rcode == "SERVFAIL"
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
        lines = [json.loads(line) for line in running.lines]
        assert {"message", "upstream_down", "outage"} == {line["event"] for line in lines}


@on_a_loop
async def test_who_does_not_read_what_it_says_stops_nothing() -> None:
    port = free_port()
    async with Upstream() as upstream, unread("--upstream", upstream.url, port=port) as process:
        async with datagrams(port) as client:
            asking = asyncio.create_task(client.hear(1))
            while not asking.done():  # nobody says when it is ready
                assert process.returncode is None
                client.send(ask("www.test"))
                await asyncio.wait([asking], timeout=0.1)
            assert asking.result()[0].addresses == [address_of("www.test")]
        process.terminate()
        assert await process.wait() == 0


@on_a_loop
async def test_who_does_not_read_why_it_ends_does_not_keep_it_from_ending() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with unread("--upstream", "192.0.2.53", port=port) as process:
            assert await process.wait() == 1
    async with unread("--set", "cache.max_bytes=many", port=port) as process:
        assert await process.wait() == 2


@contextlib.asynccontextmanager
async def unread(*words: str, port: int) -> AsyncIterator[Process]:
    """Have a server run whose stderr is a pipe that is full before it begins."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write, b"x" * 4096):
            pass
    os.set_blocking(write, True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dnsguard", "serve", "--admin", "off", *words,
        "--listen", f"{HOST}:{port}", "--set", "store.dir=off", stderr=write,
    )  # fmt: skip
    os.close(write)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(read)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, 0))
        port: int = udp.getsockname()[1]
        return port


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@on_a_loop
async def test_an_address_that_is_taken_is_said_and_is_the_end(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((HOST, 0))
        place = f"{HOST}:{taken.getsockname()[1]}"
        running = await start("--listen", place, "--admin", "off", "--upstream", "192.0.2.53")
        assert await running.ended() == 1
    (line,) = running.lines
    assert line == (
        f"dnsguard: cannot listen on {place}: Address already in use. "
        "Choose another address with --listen ADDR:PORT"
    )


@on_a_loop
async def test_a_second_instance_is_told_and_the_first_goes_on() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url) as running:
        place = f"{HOST}:{running.port}"
        second = await start("--listen", place, "--admin", "off", "--upstream", upstream.url)
        assert await second.ended() == 1
        assert f"cannot listen on {place}: Address already in use" in second.lines[-1]
        admin = f"{HOST}:{running.admin}"
        third = await start("--listen", f"{HOST}:0", "--admin", admin, "--upstream", upstream.url)
        assert await third.ended() == 1
        assert f"admin address {admin}" in third.lines[-1]
        assert "--admin off" in third.lines[-1]
        async with datagrams(running.port) as client:
            assert (await client.resolve("www.test")).addresses == [address_of("www.test")]


@on_a_loop
async def test_every_address_is_listened_on() -> None:
    others = ["127.0.0.2", *LOOPBACKS[1:]]
    async with Upstream() as upstream:
        more = [text for host in others for text in ("--listen", shown(host, 0))]
        async with serve("--upstream", upstream.url, *more) as running:
            places = running.lines[-1].partition("listening on ")[2].partition(" (UDP")[0]
            found = [place.rpartition(":") for place in places.split(", ")]
            assert [host for host, _, _ in found] == [HOST, *(shown(host) for host in others)]
            for host, _, port in found:
                async with datagrams(int(port), host=host.strip("[]")) as client:
                    assert (await client.resolve("www.test")).rcode == "NOERROR"


def shown(host: str, port: int | None = None) -> str:
    text = f"[{host}]" if ":" in host else host
    return text if port is None else f"{text}:{port}"


def test_both_sockets_of_an_address_have_one_port() -> None:
    pairs = bind_all(settings_for(["192.0.2.53"], listen=[HOST, "127.0.0.2"]))
    ports = [(udp.getsockname(), tcp.getsockname()) for udp, tcp in pairs]
    for udp, tcp in pairs:
        udp.close()
        tcp.close()
    assert [udp for udp, _ in ports] == [tcp for _, tcp in ports]
    assert len(ports) == 2


def test_a_port_that_only_udp_can_have_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def bind_tcp(host: str, port: int, shared: bool) -> socket.socket:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(98, "Address already in use")
        return accept.bind_tcp(host, port)

    monkeypatch.setattr(module, "bind_tcp", bind_tcp)
    ((udp, tcp),) = bind_all(settings_for(["192.0.2.53"]))
    with udp, tcp:
        assert udp.getsockname() == tcp.getsockname()
    tries = -100
    with pytest.raises(CannotListen, match="in use"):
        bind_all(settings_for(["192.0.2.53"]))


def test_one_address_that_cannot_be_had_frees_the_others() -> None:
    settings = settings_for(["192.0.2.53"], listen=[HOST, "192.0.2.1"])
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0: .*--listen"):
        bind_all(settings)  # a socket left open would be a warning, and that an error


def test_a_privileged_port_is_explained() -> None:
    told = module._advice(PermissionError(13, "Permission denied"), 53)
    assert told.startswith("Permission denied. Ports below 1024 need a privilege")
    assert "net.ipv4.ip_unprivileged_port_start=53" in told


# -- the collector -----------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_collector_is_spared_what_is_there_for_good(collector: None) -> None:
    tune_collector()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == module.GC_YOUNG
