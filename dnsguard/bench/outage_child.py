"""How the processes of a replay talk: one JSON line each, in on stdin, out on stdout.

A child ends when its stdin closes, so it cannot outlive who started it. It stands in a session of
its own, so that Ctrl-C reaches the command alone, which then ends its children in order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from dnsguard import offspring
from dnsguard.errors import DnsguardError

LINE_MAX = 1 << 26  # octets: a plan with many names, or a second's worth of look-ups
STOP_SECONDS = 5.0

Word = dict[str, Any]


class ChildDied(DnsguardError):
    """A process that a replay needs has ended before it was told to."""


def say(word: Word) -> None:
    """In a child: one line to whoever started it."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


async def orders() -> AsyncIterator[Word]:
    """In a child: what it is told, until nobody is there any more."""
    reader = asyncio.StreamReader(limit=LINE_MAX)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            yield msgspec.json.decode(line)
    finally:
        pipe.close()


class Child:
    """One process of a replay, seen from the command."""

    def __init__(self, title: str, process: asyncio.subprocess.Process) -> None:
        self.title = title
        self._process = process

    @classmethod
    async def start(cls, title: str, module: str) -> Child:
        """Start a module of this package as a process; what it complains of goes to our stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=offspring.environment(),
            start_new_session=True,
            limit=LINE_MAX,
        )  # fmt: skip
        return cls(title, process)

    def tell(self, word: Word) -> None:
        pipe = self._process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(msgspec.json.encode(word) + b"\n")

    async def words(self) -> AsyncIterator[Word]:
        """What it says, until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            yield msgspec.json.decode(line)

    async def word(self, key: str) -> Word:
        """Wait for the next word that has this key. Raises ChildDied."""
        async for word in self.words():
            if key in word:
                return word
        raise await self.died()

    async def died(self) -> ChildDied:
        """Wait for its end, and say how it came."""
        return ChildDied(f"{self.title} ended with exit code {await self._process.wait()}.")

    async def stop(self) -> None:
        """Close its stdin, wait for its end, and make it end if it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
