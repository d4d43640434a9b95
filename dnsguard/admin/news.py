"""The status page and the stream of its news, for a bounded number of those who watch.

A section is sent again when it has changed. All streams are fed from one rendering, made when one
of them wants it and not more often than every `NEWS_SECONDS`; while nobody watches, nothing is
rendered. The page itself is imported when it is first asked for: most instances are never looked
at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from dnsguard import clock
from dnsguard.admin.http import Reply, Request

if TYPE_CHECKING:
    from dnsguard.admin.page import Page

NEWS_SECONDS = 2.0
STREAMS_MAX = 8  # browsers left open for days; each is sent some 10 kB every two seconds


Look = Callable[[], Awaitable[Mapping[str, Any] | None]]


class News:
    """What is new on the page of one instance.

    `look` returns its state (see `status`), or None while nobody can tell.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._page: Page | None = None
        self._rendered: Mapping[str, str] = {}
        self._rendered_at = float("-inf")
        self._rendering = asyncio.Lock()
        self.streams = 0

    async def page(self, request: Request) -> Reply:
        """Answer with the whole page."""
        if self._page is None:
            from dnsguard.admin.page import Page

            self._page = Page()
        state = await self._look()
        if state is None:
            return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, "no worker answers")
        body = self._page.document(state)
        return Reply(HTTPStatus.OK, body, "text/html; charset=utf-8", self._page.policy)

    def events(self, request: Request) -> Reply:
        """Answer with a stream of server-sent events, unless too many watch already."""
        if self.streams >= STREAMS_MAX:
            text = f"{STREAMS_MAX} others watch already; the page itself can be had at any time"
            return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, text)
        return Reply(HTTPStatus.OK, b"", "text/event-stream", pieces=self._pieces())

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        self.streams += 1
        sent: Mapping[str, str] = {}
        try:
            while True:
                sections = await self._sections()
                new = {name: text for name, text in sections.items() if sent.get(name) != text}
                sent = sections
                yield b"data: " + json.dumps(new, separators=(",", ":")).encode() + b"\n\n"
                await asyncio.sleep(NEWS_SECONDS)
        finally:
            self.streams -= 1

    async def _sections(self) -> Mapping[str, str]:
        async with self._rendering:
            if clock.now() - self._rendered_at >= NEWS_SECONDS / 2:
                from dnsguard.admin.page import sections

                state = await self._look()
                if state is not None:
                    self._rendered = sections(state)
                self._rendered_at = clock.now()
            return self._rendered
