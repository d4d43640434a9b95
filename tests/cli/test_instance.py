"""How a command finds the instance that is meant, and what it says when there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnsguard import __version__
from dnsguard.cli.instance import reach
from dnsguard.errors import ControlError
from tests.admin.stranger import USER, as_stranger
from tests.net.running import HOST, on_a_loop, serve
from tests.net.upstream import Upstream

REACH = """
import sys
from dnsguard.cli.instance import reach
from dnsguard.errors import ControlError
try:
    with reach(*[word or None for word in sys.argv[1:]]) as instance:
        print(instance.path, instance.ask("instance"))
except ControlError as error:
    print(error)
"""


def reached(control: str = "", state_dir: str = "", **environ: str) -> str:
    """What a process of its own finds, with this environment and no other."""
    found = subprocess.run(
        [sys.executable, "-c", REACH, control, state_dir],
        capture_output=True, text=True, check=True, timeout=60, env=environ,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert found.stderr == ""
    return found.stdout.strip()


@on_a_loop
async def test_the_one_instance_that_runs_is_found(tmp_path: Path) -> None:
    state, runtime = tmp_path / "state", tmp_path / "runtime"
    environ = {"DNSGUARD_STORE__DIR": str(state), "XDG_RUNTIME_DIR": str(runtime)}
    async with Upstream() as upstream, serve("--upstream", upstream.url, environ=environ) as one:
        ready = one.lines[-1]
        path = ready.rpartition("control ")[2]
        assert path == str(state / "127.0.0.1_0" / "control.sock")
        for found in (
            reached(path),
            reached("", str(state)),
            reached("", os.path.dirname(path)),
            reached(**environ),
            reached(XDG_STATE_HOME=str(tmp_path), DNSGUARD_STORE__DIR=str(state)),
        ):
            assert found.startswith(f"{path} ")
            assert f"'version': '{__version__}', 'pid': {one.process.pid}" in found
            assert f"'listening': ['{HOST}:{one.port}']" in found
    one_gone = reached(path)
    assert one_gone == f"{path}: no instance listens there (any more); is it running?"


@on_a_loop
async def test_without_a_state_directory_it_is_in_the_runtime_directory(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    async with Upstream() as upstream:
        async with serve("--upstream", upstream.url, environ=environ) as one:
            path = str(tmp_path / "dnsguard" / f"127.0.0.1_{one.port}" / "control.sock")
            assert one.lines[-1].endswith(f"control {path}")
            assert reached(DNSGUARD_STORE__DIR="off", **environ).startswith(path)
            async with serve("--upstream", upstream.url, environ=environ) as two:
                both = reached(DNSGUARD_STORE__DIR="off", **environ)
                assert both.startswith("2 instances are running; choose one: --control ")
                assert path in both
                assert two.lines[-1].rpartition("control ")[2] in both
                for each in (one, two):
                    each.signal(signal.SIGTERM)
                    assert await each.ended() == 0
        assert list((tmp_path / "dnsguard").iterdir()) == []


@on_a_loop
async def test_an_instance_without_a_place_for_it_serves_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "dnsguard").write_text("a file where a directory should be")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    async with Upstream() as upstream, serve("--upstream", upstream.url, environ=environ) as one:
        assert one.lines[-1].endswith("control off")
        (line,) = [line for line in one.lines if "no control socket" in line]
        assert " warning no control socket, so no command can reach this instance: " in line


def test_nobody_there(tmp_path: Path) -> None:
    state = tmp_path / "state"
    none = reached(DNSGUARD_STORE__DIR=str(state), XDG_RUNTIME_DIR=str(tmp_path))
    assert none.startswith(
        f"no instance is running that keeps its control socket in {state} or {tmp_path}/dnsguard. "
    )
    assert "--state-dir DIR" in none
    assert "--control PATH" in none
    assert str(state) in reached("", str(state))
    with pytest.raises(ControlError, match="Not a directory"):
        reach(state_dir=__file__)


def test_a_socket_that_is_not_ours(tmp_path: Path) -> None:
    place = tmp_path / "one"
    place.mkdir()
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    place.chmod(0o000)

    def refused() -> str:
        with pytest.raises(ControlError) as caught:
            reach(str(place / "control.sock"))
        return str(caught.value)

    said = as_stranger(refused)
    place.chmod(0o700)
    assert said.startswith(f"{place}/control.sock: permission denied. It is for the user that ")
    assert said.endswith(f"run this command as that user, and not as user {USER}")
