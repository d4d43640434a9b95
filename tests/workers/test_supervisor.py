"""`dnsguard serve --set workers=2`, as an operator has it: killed, stopped, misled, told to end.

Processes are real and are killed for real; what is waited for is what they say in the log.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from dnsguard.errors import DnsguardError
from dnsguard.workers.supervisor import claim, make_meeting
from tests.net.asking import Datagrams, datagrams, stream
from tests.net.running import HOST, Serve, on_a_loop, serve, start
from tests.net.upstream import Upstream, address_of
from tests.settings_from import flag, loaded
from tests.store.test_serve import http, on_disk

TWO = ("--set", "workers=2", "--set", "store.flush_interval=100ms")
NAMES = [f"n{number}.test" for number in range(30)]


def children(parent: int) -> list[int]:
    """The processes of the workers, by number."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(int(pid) for pid in found)


def meeting_places() -> list[str]:
    """Where the first workers of all servers on this machine can be reached."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return [line.split()[-1] for line in lines if "worker-1.http" in line]


def there(path: str) -> bool:
    return Path(path).exists()


async def gone(pids: Sequence[int]) -> None:
    """Wait until these processes are no more."""
    while any(there(f"/proc/{pid}") for pid in pids):  # noqa: ASYNC110 - nobody says when
        await asyncio.sleep(0.01)


async def samples(running: Serve) -> dict[str, float]:
    _, body = await http(running, "/metrics")
    pairs = re.findall(r"^(dnsguard_\S+) (\S+)$", body, re.MULTILINE)
    return {name: float(value) for name, value in pairs}


async def right(client: Datagrams, name: str) -> bool:
    reply = await client.resolve(name)
    return (reply.rcode, reply.addresses) == ("NOERROR", [address_of(name)])


@on_a_loop
async def test_both_answer_and_the_admin_address_speaks_for_both() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url, *TWO) as running:
        assert "2 workers listening on" in running.lines[-1]
        asked = 0
        for _ in range(12):  # each from a port of its own, so that both get some
            async with datagrams(running.port) as client, stream(running.port) as connected:
                assert await right(client, "www.test")
                assert (await connected.resolve("www.test")).addresses == [address_of("www.test")]
                asked += 1
        assert await http(running, "/livez") == (200, "alive: 2 of 2 workers\n")
        assert await http(running, "/readyz") == (200, "ready: 2 of 2 workers\n")
        found = await samples(running)
        assert found['dnsguard_queries_total{transport="udp"}'] == asked
        assert found['dnsguard_queries_total{transport="tcp"}'] == asked
        assert found['dnsguard_workers{state="serving"}'] == 2
        status, explained = await http(running, "/api/v1/explain?name=www.test")
        assert status == 200
        assert "www.test" in explained
        workers = children(running.process.pid)
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
        assert running.lines[-1].endswith("stopped")
        await gone(workers)


@on_a_loop
async def test_a_worker_that_is_killed_is_replaced_and_no_name_is_lost(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, "--state-dir", str(tmp_path)) as running,
        datagrams(running.port) as client,
    ):
        for name in NAMES:
            assert await right(client, name)
        await on_disk(running, len(NAMES))
        before = (await samples(running))['dnsguard_queries_total{transport="udp"}']
        upstream.stop()
        for count in (1, 2, 3):  # so that each of the two is killed, and one that was started again
            victim = children(running.process.pid)[0]
            os.kill(victim, signal.SIGKILL)
            await running.said("serves in place of the former", count)
        for name in NAMES:
            async with datagrams(running.port) as other:
                assert await right(other, name)
        found = await samples(running)
        assert found["dnsguard_worker_restarts_total"] == 3
        assert found['dnsguard_queries_total{transport="udp"}'] >= before
        assert found["dnsguard_store_up"] == 1
        await running.said("was killed by SIGKILL; another starts at once")


@on_a_loop
async def test_workers_end_with_a_supervisor_that_is_killed() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url, *TWO) as running:
        workers = children(running.process.pid)
        assert len(workers) == 2
        places = meeting_places()
        running.signal(signal.SIGKILL)
        await running.ended()
        await gone(workers)
        assert places
        assert not [place for place in places if there(place)]


@on_a_loop
async def test_what_cannot_be_had_is_said_once_and_ends_it() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url, *TWO) as running:
        taken = ("--listen", f"{HOST}:{running.port}", "--admin", "off", "--upstream", upstream.url)
        for more in (TWO, ()):
            other = await start(*taken, *more)
            assert await other.ended() == 1
            (line,) = other.lines
            assert "Address already in use" in line
        other = await start(
            "--listen", f"{HOST}:0", "--admin", f"{HOST}:{running.admin}",
            "--upstream", upstream.url, *TWO,
        )  # fmt: skip
        assert await other.ended() == 1
        assert f"admin address {HOST}:{running.admin}" in other.lines[-1]
        nowhere = ("--listen", "192.0.2.1:0", "--admin", "off", "--takeover", *TWO)
        other = await start(*nowhere, "--upstream", upstream.url)
        assert await other.ended() == 1
        assert "cannot listen on 192.0.2.1:0" in other.lines[-1]
        assert "--takeover" not in other.lines[-1]


@on_a_loop
async def test_settings_are_read_once_and_obeyed_by_all(tmp_path: Path) -> None:
    file = tmp_path / "dnsguard.yaml"
    file.write_text("workers: 2\nlog.format: json\n")
    environ = {"DNSGUARD_CONFIG": str(file)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ) as running,
    ):
        file.write_text("workers: 2\nstale.max_age: soon\n")
        running.signal(signal.SIGHUP)
        await running.said("settings not taken, the old ones stay")
        file.write_text("workers: 3\naccess.allow: [192.0.2.0/24]\n")
        running.signal(signal.SIGHUP)
        await running.said("the number of workers changes at a restart only")
        await running.said("settings taken", 2)
        assert '"worker":1' in await running.said('"worker":1')
        for _ in range(8):
            async with datagrams(running.port) as client:
                assert (await client.resolve("www.test")).rcode == "REFUSED"
        os.kill(children(running.process.pid)[0], signal.SIGKILL)
        await running.said("serves in place of the former")
        for _ in range(8):
            async with datagrams(running.port) as client:
                assert (await client.resolve("www.test")).rcode == "REFUSED"


@on_a_loop
async def test_a_second_signal_ends_it_at_once() -> None:
    async with Upstream() as upstream, serve("--upstream", upstream.url, *TWO) as running:
        workers = children(running.process.pid)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)  # they will not end in order
        running.signal(signal.SIGTERM)
        await running.said("stopping: 2 workers")
        running.signal(signal.SIGTERM)
        assert await running.ended() == 1
        await gone(workers)


STANDS_STILL = (
    "from dnsguard.workers import supervisor; supervisor.STUCK_SECONDS = 2.5; "
    "from dnsguard.cli.main import main; main()"
)


@on_a_loop
async def test_a_worker_that_stands_still_is_killed() -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, program=("-c", STANDS_STILL)) as running,
    ):
        victim = children(running.process.pid)[0]
        os.kill(victim, signal.SIGSTOP)
        await running.said("has stood still")
        await running.said("serves in place of the former")
        assert victim not in children(running.process.pid)
        assert (await http(running, "/readyz"))[0] == 200


# -- by themselves ------------------------------------------------------------------------------


def test_a_port_that_is_to_be_shared_is_free_for_both_transports() -> None:
    settings = claim(loaded(flag("listen", "127.0.0.1:0"), flag("workers", "2")))
    assert settings.listen[0].port > 0
    shared = loaded(flag("listen", "127.0.0.1:53"), flag("takeover", "on"))
    assert claim(shared) is shared


def test_without_a_place_to_meet_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(prefix: str, dir: str) -> str:  # noqa: A002
        raise PermissionError

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    with pytest.raises(DnsguardError, match="set workers to 1"):
        make_meeting()


def test_a_worker_by_itself_without_its_parent_does_nothing() -> None:
    async def story() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dnsguard.cli.worker", "0", "1"
        )
        return await process.wait()

    assert asyncio.run(story()) == 1
