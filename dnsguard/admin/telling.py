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


async def tell(
    directory: str, verb: str, arguments: Mapping[str, Any], patience: float
) -> AsyncGenerator[tuple[str, Mapping[str, Any]], None]:
    """Yield each ("item", facts) and then ("done", facts); `patience` is the seconds for each.

    Raises `ControlError` with the words of who refuses, and `Silent` of who does not answer.
    """
    path = os.path.join(directory, NAME)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # by its descriptor, as a socket's address holds 107 octets
            short = f"/proc/self/fd/{fd}/{NAME}"
            async with asyncio.timeout(patience):
                reader, writer = await asyncio.open_unix_connection(short, limit=REPLY_OCTETS_MAX)
        finally:
            os.close(fd)
    except (OSError, TimeoutError):
        raise Silent(f"{path}: nobody answers") from None
    try:
        writer.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        kind = ""
        while kind != "done":
            async with asyncio.timeout(patience):
                reply = json.loads(await reader.readuntil(b"\n"))
            if "error" in reply:
                raise ControlError(reply["error"])
            kind = "item" if "item" in reply else "done"
            yield kind, reply[kind]
    except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError):
        raise Silent(f"{path}: no answer, or half of one") from None
    finally:
        writer.transport.abort()
