"""`dnsguard serve` as a command: its exit codes, what it says of mistakes, and its event loop."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest
import uvloop

from dnsguard.cli.serve import loop_factory
from tests.net.asking import datagrams
from tests.net.running import HOST, on_a_loop, serve, start
from tests.net.upstream import Upstream, address_of

WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from dnsguard.cli.main import main; main()"
)


async def said_by(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code and all that was said of a `serve` that cannot start."""
    running = await start(*arguments, environ=environ)
    return await running.ended(), "\n".join(running.lines)


@on_a_loop
async def test_every_mistake_is_listed_and_the_exit_code_is_two() -> None:
    arguments = ("--upstream", "nonsense upstream", "--set", "stale.max_age=soon", "--set", "nokey")
    code, said = await said_by(*arguments, environ={"DNSGUARD_LOG__LEVEL": "loud"})
    assert code == 2
    assert said.startswith("dnsguard: 4 mistakes in the settings:\n")
    for part in ("nonsense upstream", "stale.max_age", "nokey", "DNSGUARD_LOG__LEVEL"):
        assert part in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [("--nosuchflag",), ("surplus",), ("--listen",)])
@on_a_loop
async def test_bad_usage_is_explained_and_the_exit_code_is_two(arguments: tuple[str, ...]) -> None:
    code, said = await said_by(*arguments)
    assert code == 2
    assert "Error: " in said
    assert "Traceback" not in said


@on_a_loop
async def test_a_missing_file_is_a_mistake_too(tmp_path: object) -> None:
    code, said = await said_by("--config", f"{tmp_path}/nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in said


@on_a_loop
async def test_the_environment_is_obeyed_and_flags_beat_it() -> None:
    async with Upstream() as upstream:
        environ = {"DNSGUARD_LOG__FORMAT": "json", "DNSGUARD_LISTEN": "127.0.0.1:1"}
        async with serve("--upstream", upstream.url, environ=environ) as running:
            assert running.lines[-1].startswith('{"time":')
            assert running.port > 1


@on_a_loop
async def test_without_the_faster_loop_it_serves_all_the_same() -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, program=("-c", WITHOUT_UVLOOP)) as running,
        datagrams(running.port) as client,
    ):
        for _ in range(3):
            assert (await client.resolve("www.test")).addresses == [address_of("www.test")]
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0
        assert "Traceback" not in "\n".join(running.lines)


def test_the_faster_loop_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop_factory() is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None  # asyncio's own


@on_a_loop
async def test_help_names_every_option_and_starts_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dnsguard", "serve", "--help", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    options = ("--config", "--listen", "--upstream", "--zone", "--admin", "--set", "--log-format")
    assert all(option in out.decode() for option in options)
    assert HOST in out.decode()
