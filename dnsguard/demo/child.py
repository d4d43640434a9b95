"""How the demo's processes talk: JSON lines on stdout, plain words on stdin, the end at its end.

A child ends when its stdin closes, so it cannot outlive the demo, however that came to its end.
It stands in a session of its own: Ctrl-C reaches the demo alone, which then stops its children in
order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from dnsguard import offspring
from dnsguard.errors import DnsguardError

TAIL_LINES_MAX = 30  # of a child's complaints, kept to be shown should it die
STOP_SECONDS = 2.0  # a demo's last queries are not worth a longer wait


class ChildDied(DnsguardError):
    """A process that the demo needs has ended, or never became ready."""


def say(message: dict[str, Any]) -> None:
    """In a child: one line to the demo."""
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


async def obey(order: Callable[[str], None]) -> None:
    """In a child: hand each line of stdin to `order` until the demo closes it.

    From here on an error that nobody catches ends the process: numbers from a broken part are worse
    than none.
    """

    def fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        os._exit(1)

    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(fail)
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            order(line.decode().strip())
    finally:
        pipe.close()


class Child:
    """One process of the demo, seen from the demo."""

    def __init__(self, title: str, process: asyncio.subprocess.Process) -> None:
        self.title = title
        self._process = process
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._readers: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        title: str,
        command: Sequence[str],
        on_line: Callable[[str], None],
        *,
        stderr: bool = False,
    ) -> Child:
        """Start `command`; each line of its stdout (or stderr, if so asked) goes to `on_line`.

        What it writes to stderr is kept either way, to be shown should it die.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL if stderr else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=offspring.environment(settings=False),
            start_new_session=True,
        )
        child = cls(title, process)
        child._read(process.stdout, on_line)
        child._read(process.stderr, child._tail.append, *([on_line] if stderr else []))
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: str) -> None:
        """Write one line to the child's stdin; a child that is gone does not hear it."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(order.encode() + b"\n")

    async def ended(self) -> ChildDied:
        """Wait for the child's end and say how it came."""
        code = await self._process.wait()
        await asyncio.gather(*self._readers)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = "".join(f"\n  {line}" for line in self._tail)
        return ChildDied(f"{self.title} {how}." + (f" Its last words:{last}" if last else ""))

    def hang_up(self) -> None:
        """Close the child's stdin, as the end of the demo does."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Ask it to end, wait a while, then make it; returns when it is gone."""
        process = self._process
        if process.returncode is None:
            # One that someone froze with SIGSTOP hears SIGTERM only once it runs.
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            self.hang_up()
            try:
                await asyncio.wait_for(process.wait(), patience)
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await process.wait()
        await asyncio.gather(*self._readers)

    def _signal(self, number: signal.Signals) -> None:
        """Not by `send_signal`, which would reap the child before asyncio's watcher does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def _read(self, stream: asyncio.StreamReader | None, *receivers: Callable[[str], None]) -> None:
        if stream is not None:
            self._readers.append(asyncio.create_task(_lines(stream, receivers)))


async def _lines(stream: asyncio.StreamReader, receivers: Sequence[Callable[[str], None]]) -> None:
    while line := await stream.readline():
        text = line.decode(errors="replace").rstrip()
        for receive in receivers:
            receive(text)
