"""`dnsguard pin` and `unpin` on a running instance, as an operator types them on a bad day."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dnsguard import clock
from dnsguard.cli import pin, unpin
from dnsguard.core.pins import ADDRESSES_MAX
from dnsguard.store import pins_file
from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream, address_of
from tests.settings_from import flag, mistakes_of


async def run(command: Any, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, arguments)


@on_a_loop
async def test_a_pin_wins_at_once_and_outlives_a_restart(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path), "DNSGUARD_PINS__FIXED__TEST": "10.9.0.1"}
    there = f"--state-dir={tmp_path}"
    async with Upstream() as upstream:
        async with (
            serve("--upstream", upstream.url, environ=environ) as running,
            datagrams(running.port) as client,
        ):
            assert (await client.resolve("www.test")).addresses == [address_of("www.test")]
            assert (await client.resolve("fixed.test")).addresses == ["10.9.0.1"]
            done = await run(pin.command, "www.test", "10.2.0.1", "10.2.0.1", "--for=30m", there)
            assert (done.exit_code, done.output) == (0, "www.test. 10.2.0.1  TTL 30, for 30m\n")
            reply = await client.resolve("www.test")
            assert (reply.addresses, reply.ede) == (["10.2.0.1"], [4])
            found = (await run(pin.command, there)).output.splitlines()
            assert found[0] == "fixed.test. 10.9.0.1  TTL 30, by the settings"
            assert found[1].startswith("www.test. 10.2.0.1  TTL 30, for ")
            file = tmp_path / "127.0.0.1_0" / pins_file.FILE
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            running.signal(signal.SIGKILL)
            await running.ended()
        async with (
            serve("--upstream", upstream.url, environ=environ) as running,
            datagrams(running.port) as client,
        ):
            assert (await client.resolve("www.test")).addresses == ["10.2.0.1"]
            done = await run(unpin.command, "WWW.test", there)
            assert done.output == "www.test. is not pinned any more\n"
            assert (await client.resolve("www.test")).addresses == [address_of("www.test")]
            for name, why in (
                ("www.test", "pinned"),
                ("fixed.test", "pinned by hand; the settings"),
            ):
                refused = await run(unpin.command, name, there)
                assert refused.exit_code == 1
                assert f"{name}. is not {why}" in str(refused.exception)
            assert json.loads(file.read_text()) == []


@on_a_loop
async def test_without_a_state_directory_it_says_what_that_costs(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    async with Upstream() as upstream, serve("--upstream", upstream.url, environ=environ):
        there = f"--state-dir={tmp_path / 'dnsguard'}"
        assert (await run(pin.command, there)).output == "nothing is pinned\n"
        done = await run(pin.command, "www.test", "fd00::1", there)
        assert done.exit_code == 0
        assert "It will not outlive a restart: there is no state directory" in done.stderr
        done = await run(unpin.command, "www.test", there)
        assert "A restart will bring it back" not in done.output.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("www.test",), "which addresses is www.test to have?"),
        (("www.test", "10.0.0.300"), "'10.0.0.300': an address, such as 10.1.2.3 or fd00::1"),
        (("www.test", "fe80::1%eth0"), "an address without a zone"),
        (("a..b", "10.0.0.1"), "'a..b': "),
        (("www.test", "10.0.0.1", "--for=long"), "'long': "),
        (("www.test", "10.0.0.1", "--ttl=-1"), "'-1': "),
    ],
)
def test_mistakes_are_told_before_anybody_is_asked(arguments: tuple[str, ...], why: str) -> None:
    done = CliRunner().invoke(pin.command, arguments)
    assert done.exit_code == 2
    assert why in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("pins.www.test", "10.0.0.300", "an address, such as 10.1.2.3 or fd00::1"),
        ("pins.www.test", "fe80::1%eth0", "an address without a zone"),
        ("pins.www.test", "10.0.0.1,10.0.0.1", "each item once"),
        ("pins.www.test", "", "a pinned name has at least one address"),
        ("pins.a..b", "10.0.0.1", "a domain name"),
    ],
)
def test_mistakes_in_the_settings_name_their_key(key: str, value: str, why: str) -> None:
    (mistake,) = mistakes_of(flag(key, value))
    assert mistake.path == f"{key} (flag --set)"
    assert why in mistake.expected


@on_a_loop
async def test_what_the_instance_does_not_take(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    async with Upstream() as upstream, serve("--upstream", upstream.url, environ=environ):
        there = f"--state-dir={tmp_path / 'dnsguard'}"
        many = [f"10.1.0.{n}" for n in range(ADDRESSES_MAX + 1)]
        for arguments, why in (
            (["www.test", *many], "a pin has from 1 to 64 addresses, not 65"),
            (["www.test", "10.0.0.1", "--for=31d"], "to pin for good, use `pins` in the settings"),
            (["www.test", "10.0.0.1", "--for=0s"], "a pin lasts up to 30d"),
            (["www.test", "10.0.0.1", "--ttl=2h"], "the TTL of a pin is from 0 s to 3600 s"),
        ):
            done = await run(pin.command, *arguments, there)
            assert done.exit_code == 1
            assert why in str(done.exception)


def test_a_file_that_is_none_or_that_a_clock_step_would_prolong(tmp_path: Path) -> None:
    clocks = clock.Clocks(b"", 1000.0, 50_000.0)
    file = tmp_path / pins_file.FILE
    assert pins_file.load(str(tmp_path), clocks) == []
    good = {
        "name": "a.test",
        "addresses": ["10.0.0.1"],
        "ttl": 30,
        "since": 49_900,
        "until": 50_100,
    }
    rows = [
        good, 7, {}, good | {"name": "a..b"}, good | {"addresses": ["x"]}, good | {"addresses": []},
        good | {"ttl": -1}, good | {"until": 50_000}, good | {"until": float("nan")},
        good | {"name": 7}, good | {"ttl": 1e400}, good | {"since": 10**400},
        good | {"until": 1e400}, good | {"since": -1e400}, good | {"since": float("nan")},
        good | {"name": "ahead.test", "since": 60_000, "until": 60_200},
    ]  # fmt: skip
    file.write_text(json.dumps(rows))
    found = pins_file.load(str(tmp_path), clocks)
    assert [(pin.name, pin.since, pin.until) for pin in found] == [
        ("a.test", 900.0, 1100.0), ("ahead.test", 1000.0, 1200.0),
    ]  # fmt: skip
    for text in ("{}", "[", "\0"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"not a list|Expecting"):
            pins_file.load(str(tmp_path), clocks)
    file.unlink()
    os.symlink("/etc/hostname", file)
    with pytest.raises(OSError, match="symbolic link"):
        pins_file.load(str(tmp_path), clocks)
