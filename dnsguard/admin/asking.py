"""One question to the admin address of a process on this machine, by its Unix socket."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from dnsguard.admin.http import Reply

ASK_SECONDS = 1.0  # it answers in milliseconds, or its loop stands still
REPLY_OCTETS_MAX = 64 << 20


async def ask(path: str, target: str) -> Reply | None:
    """GET `target`; None if the process does not answer."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path, limit=REPLY_OCTETS_MAX)
            try:
                writer.write(f"GET {target} HTTP/1.0\r\n\r\n".encode("latin-1"))
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                body = await reader.read(-1)
            finally:
                writer.transport.abort()
        first, *lines = head.split("\r\n")
        status = HTTPStatus(int(first.split(" ")[1]))
    except (OSError, EOFError, TimeoutError, ValueError, IndexError):
        return None
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Reply(status, body, headers.get("content-type", "text/plain; charset=utf-8"))
