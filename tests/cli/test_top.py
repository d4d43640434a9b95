"""`dnsguard top` in a terminal of its own: it shows, follows the size, and quits cleanly."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from dnsguard.admin.watching import Watch
from dnsguard.cli.top import command, screen, spark
from dnsguard.errors import ControlError
from tests.admin.test_status import seen
from tests.net.asking import datagrams
from tests.net.running import SECONDS_MAX, later, on_a_loop, scene, serve
from tests.net.upstream import Upstream


class Terminal:
    """A pseudo terminal with `dnsguard top` in it. `text` is all that it has written so far."""

    def __init__(self, columns: int, rows: int, state: Path) -> None:
        self.fd, self._inner = pty.openpty()
        self.resize(columns, rows)
        self.text = ""
        self._state = state

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def begin(self) -> asyncio.subprocess.Process:
        inner = self._inner
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dnsguard", "top", f"--state-dir={self._state}",
            stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color", "LANG": "C.UTF-8"},
        )  # fmt: skip
        os.set_blocking(self.fd, False)
        return process

    async def shows(self, wanted: str) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while wanted not in self.text:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except BlockingIOError:
                    await asyncio.sleep(0.02)

    def press(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._inner)


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
@on_a_loop
async def test_it_shows_and_quits_cleanly(key: bytes, tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, environ=environ) as running,
        datagrams(running.port) as client,
    ):
        await client.resolve("www.test")
        terminal = Terminal(100, 30, tmp_path)
        process = await terminal.begin()
        await terminal.shows("All well")
        terminal.resize(60, 12)
        upstream.stop()
        await client.resolve("never.test")
        await terminal.shows("OUTAGE")
        if key == b"q":
            terminal.press(key)
        else:
            process.send_signal(2)
        assert await process.wait() == 0
        await terminal.shows("\x1b[?1049l")  # the screen from before is back
        assert "Traceback" not in terminal.text
        terminal.close()


@on_a_loop
async def test_an_instance_that_goes_is_said_to_be_gone_and_waited_for(tmp_path: Path) -> None:
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path)}
    terminal = Terminal(250, 30, tmp_path)
    async with Upstream() as upstream:
        async with serve("--upstream", upstream.url, environ=environ) as running:
            process = await terminal.begin()
            await terminal.shows("All well")
            running.signal(signal.SIGKILL)
            await terminal.shows("No connection to dnsguard: this is how it was")
        terminal.text = ""
        await terminal.shows("no instance listens there (any more)")
        terminal.text = ""
        async with serve("--upstream", upstream.url, environ=environ) as running:
            async with datagrams(running.port) as client:
                await client.resolve("www.test")
            await terminal.shows("1 of 1 question")
            terminal.press(b"q")
            assert await process.wait() == 0
    terminal.close()


def test_without_a_terminal_it_says_what_else_there_is() -> None:
    refused = CliRunner().invoke(command)
    assert isinstance(refused.exception, ControlError)
    assert "dnsguard status says the same once" in str(refused.exception)


@on_a_loop
async def test_it_fits_any_size() -> None:
    async with scene() as stage:
        watch = Watch(stage.proxy.driver.engine)
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.stop()
        later(2.0)
        await stage.udp.resolve("www.test")
        found = seen(stage, watch)
        for columns, rows in ((40, 12), (80, 24), (200, 60)):
            console = Console(file=io.StringIO(), width=columns, height=rows)
            console.print(screen(found, columns, rows))
            file = console.file
            assert isinstance(file, io.StringIO)
            lines = file.getvalue().splitlines()
            assert max(map(len, lines)) <= columns
            assert any("OUTAGE" in line for line in lines)


def test_sparks() -> None:
    assert spark([1.0, None, 8.0, 4.0], 3).plain == "!█▅"
    assert spark([], 5).plain == ""
