"""Runs the resolver of `dnsguard node run` as a child: begins it, again and again, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from dnsguard import offspring

PROGRAM = ("-P", "-m", "dnsguard.cli.resolver")
PAUSE_FIRST, PAUSE_MAX = 0.5, 30.0  # between its deaths, doubling
STEADY_SECONDS = 60.0  # of life after which a death counts as the first again
END_SECONDS = 45.0  # more than the longest `upstream.deadline` and the workers' own patience


class Resolver:
    """The child; `ended` is told each time that it has ended by itself, with the exit code."""

    def __init__(self, arguments: Sequence[str], ended: Callable[[int], None]) -> None:
        self._arguments = tuple(arguments)
        self._ended = ended
        self._stop = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Have it run until `stop`; a death is followed by a pause that grows."""
        pause = 0.0
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            began = loop.time()
            self._process = process = await self._start()
            code = await process.wait()
            if self._stop.is_set():
                break
            self._ended(code)
            if loop.time() - began >= STEADY_SECONDS:
                pause = 0.0
            await asyncio.sleep(pause)
            pause = min(max(pause * 2, PAUSE_FIRST), PAUSE_MAX)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *PROGRAM, str(os.getpid()), *self._arguments,
            stdin=asyncio.subprocess.DEVNULL, env=offspring.environment(),
            process_group=0,  # a Ctrl-C is for the parent, which passes it on once
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self) -> None:
        """End it in order, or at once when that takes too long."""
        self._stop.set()
        self.signal(signal.SIGTERM)
        if self._process is not None:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self.signal(signal.SIGKILL)
                await self._process.wait()
