"""The one admin address of several workers: what is asked here is asked of all of them.

Each worker answers for itself on a Unix socket in the meeting place. Alive is who has a worker that
serves: to replace one that does not is the supervisor's work and not a kubelet's. Ready is who has
one, and none that serves and is not ready.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from dnsguard.admin.asking import ask
from dnsguard.admin.http import HttpServer, Reply, Request, Route
from dnsguard.config import Settings
from dnsguard.errors import DnsguardError
from dnsguard.workers.line import meeting_name

if TYPE_CHECKING:
    from dnsguard.admin.merged import Merged


ABOUT_NAMES = ("/api/v1/cache", "/api/v1/explain", "/api/v1/status")


class CannotShow(DnsguardError):
    """The admin address cannot be had."""


class Front:
    """Speaks for all workers; `serving` gives the number of each that serves."""

    def __init__(self, meeting: str, wanted: int, serving: Callable[[], Sequence[int]]) -> None:
        self._meeting = meeting
        self._wanted = wanted
        self._serving = serving
        self._server: HttpServer | None = None
        self._merged: Merged | None = None
        self.restarts = 0

    async def open(self, settings: Settings) -> str:
        """Begin, if the settings want it; return where, for the log."""
        address = settings.admin
        if address is None:
            return "off"
        routes: dict[str, Route] = {
            "/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics,
        }  # fmt: skip
        routes |= dict.fromkeys(ABOUT_NAMES, self._one)
        self._server = HttpServer(routes)
        try:
            port = await self._server.listen(address.host, address.port, settings.takeover)
        except OSError as error:
            raise CannotShow(
                f"admin address {address}: {error.strerror}. "
                "Choose another with --admin ADDR:PORT, or --admin off"
            ) from None
        return f"http://{address._replace(port=port)}"

    async def close(self) -> None:
        """Answer nothing more."""
        if self._server is not None:
            await self._server.close()

    def ended(self, number: int) -> None:
        """A worker is gone, and another takes its number."""
        self.restarts += 1
        if self._merged is not None:
            self._merged.ended(number)

    async def _ask(self, target: str) -> dict[int, Reply]:
        """Return the replies of all workers that serve and answer."""
        numbers = self._serving()
        paths = [os.path.join(self._meeting, meeting_name(number)) for number in numbers]
        replies = await asyncio.gather(*(ask(path, target) for path in paths))
        return {number: reply for number, reply in zip(numbers, replies, strict=True) if reply}

    def _livez(self, _: Request) -> Reply:
        count = len(self._serving())
        status = HTTPStatus.OK if count else HTTPStatus.SERVICE_UNAVAILABLE
        return Reply.text(
            status, f"{'alive' if count else 'dead'}: {count} of {self._wanted} workers"
        )

    async def _readyz(self, _: Request) -> Reply:
        replies = await self._ask("/readyz")
        for number, reply in sorted(replies.items()):
            if reply.status is not HTTPStatus.OK:
                text = reply.body.decode("utf-8", "replace").strip()
                return Reply.text(reply.status, f"worker {number}: {text}")
        if not replies:
            return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: no worker answers")
        return Reply.text(HTTPStatus.OK, f"ready: {len(replies)} of {self._wanted} workers")

    async def _one(self, request: Request) -> Reply:
        """Pass on a question about a name: what one of them has learned all know."""
        words = urlencode(request.parameters, doseq=True)
        replies = await self._ask(f"{request.path}?{words}")
        if not replies:
            return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers")
        return replies[min(replies)]

    async def _metrics(self, request: Request) -> Reply:
        if self._merged is None:
            # Imported here, as it is the larger part of this process and may never be wanted.
            from dnsguard.admin.merged import Merged

            self._merged = Merged()
        replies = await self._ask("/metrics")
        merged = self._merged
        merged.wanted, merged.serving = self._wanted, len(self._serving())
        merged.restarts = self.restarts
        merged.take({number: reply.body.decode() for number, reply in replies.items()})
        body, content_type = merged.render(request.headers.get("accept", ""))
        return Reply(HTTPStatus.OK, body, content_type)
