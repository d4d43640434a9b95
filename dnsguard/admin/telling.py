"""One request to the control socket of a process on this machine, from an event loop.

A process whose loop stands still accepts a connection, as the kernel does that for it, and says
nothing: so every reply has its time. Knows no verb.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from dnsguard.admin.socket_file import NAME
from dnsguard.errors import ControlError

REPLY_OCTETS_MAX = 64 << 20


class Silent(ControlError):
    """Nobody answers there, or not in time, or not to the end."""


class Talk:
    """A connection to one control socket. Each reply must come within `patience` seconds."""

    def __init__(
        self, path: str, patience: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._path, self._patience = path, patience
        self._reader, self._writer = reader, writer

    @classmethod
    async def begin(cls, directory: str, patience: float) -> Talk:
        """Connect to the process whose socket is in `directory`; raises `Silent`."""
        path = os.path.join(directory, NAME)
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # by its descriptor, as a socket's address holds 107 octets
                short = f"/proc/self/fd/{fd}/{NAME}"
                async with asyncio.timeout(patience):
                    ends = await asyncio.open_unix_connection(short, limit=REPLY_OCTETS_MAX)
            finally:
                os.close(fd)
        except (OSError, TimeoutError):
            raise Silent(f"{path}: nobody answers") from None
        return cls(path, patience, *ends)

    def say(self, verb: str, arguments: Mapping[str, Any]) -> None:
        """Make a request, also while an answer is under way."""
        self._writer.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")

    async def hear(self) -> tuple[str, Mapping[str, Any]]:
        """Return the next reply: ("item", facts) or ("done", facts).

        Raises `ControlError` with the words of who refuses, and `Silent` of who does not answer.
        """
        try:
            async with asyncio.timeout(self._patience):
                reply = json.loads(await self._reader.readuntil(b"\n"))
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            raise Silent(f"{self._path}: no answer, or half of one") from None
        if "error" in reply:
            raise ControlError(reply["error"])
        kind = "item" if "item" in reply else "done"
        return kind, reply[kind]

    def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()


async def tell(
    directory: str, verb: str, arguments: Mapping[str, Any], patience: float
) -> AsyncGenerator[tuple[str, Mapping[str, Any]], None]:
    """Yield each ("item", facts) and then ("done", facts); `patience` is the seconds for each.

    Raises `ControlError` with the words of who refuses, and `Silent` of who does not answer.
    """
    talk = await Talk.begin(directory, patience)
    try:
        talk.say(verb, arguments)
        kind = ""
        while kind != "done":
            kind, facts = await talk.hear()
            yield kind, facts
    finally:
        talk.close()
