"""The one admin address and control socket of several workers: what is asked is asked of all.

Each worker answers for itself on Unix sockets in the meeting place. Alive is who has a worker that
serves: to replace one that does not is the supervisor's work and not a kubelet's. Ready is who has
one, and none that serves and is not ready. Whatever is said here says how many have said it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from dnsguard.admin.asking import ask
from dnsguard.admin.http import HttpServer, Reply, Request, Route
from dnsguard.admin.news import News
from dnsguard.config import Settings
from dnsguard.control_place import Control, control_places, open_control
from dnsguard.errors import DnsguardError
from dnsguard.workers.line import control_name, meeting_name

if TYPE_CHECKING:
    from dnsguard.admin.merged import Merged

ABOUT_NAMES = ("/api/v1/cache", "/api/v1/explain")
EVENTS_MAX = 20  # starts and ends of workers that are told on the page


class CannotShow(DnsguardError):
    """The admin address cannot be had."""


class Front:
    """Speaks for all workers; `serving` and `alive` give the numbers of those that do."""

    def __init__(
        self,
        meeting: str,
        wanted: int,
        serving: Callable[[], Sequence[int]],
        alive: Callable[[], Sequence[int]],
    ) -> None:
        self._meeting = meeting
        self._wanted = wanted
        self._serving = serving
        self._alive = alive
        self._server: HttpServer | None = None
        self._control: Control | None = None
        self._merged: Merged | None = None
        self._began = monotonic()
        self._events: deque[tuple[float, Mapping[str, str]]] = deque(maxlen=EVENTS_MAX)
        self.restarts = 0

    async def open(self, settings: Settings) -> tuple[str, str]:
        """Begin, as the settings want it; return where the two are, for the log."""
        admin = await self._open_admin(settings)
        from dnsguard.admin.merged_verbs import Group, merged_verbs

        group = Group(self._wanted, self._serving, self._alive, self._directory)
        verbs = merged_verbs(group, [str(address) for address in settings.listen], self._process)
        places = control_places(settings, str(settings.listen[0]))
        self._control = await open_control(places, verbs, settings.takeover)
        return admin, self._control.path if self._control else "off"

    def _directory(self, number: int) -> str:
        return os.path.join(self._meeting, control_name(number))

    async def _open_admin(self, settings: Settings) -> str:
        address = settings.admin
        if address is None:
            return "off"
        news = News(self._look)
        routes: dict[str, Route] = {
            "/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics,
            "/": news.page, "/api/v1/events": news.events, "/api/v1/status": self._status,
        }  # fmt: skip
        routes |= dict.fromkeys(ABOUT_NAMES, self._about_a_name)
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
        if self._control is not None:
            await self._control.close()
        if self._server is not None:
            await self._server.close()

    def ended(self, number: int) -> None:
        """A worker is gone, and another takes its number."""
        self.restarts += 1
        if self._merged is not None:
            self._merged.ended(number)

    def note(self, level: str, event: str, text: str) -> None:
        """Remember for the page that something happened to a worker."""
        said = {"level": level, "event": event, "text": text}
        self._events.append((monotonic(), said))

    def _process(self) -> dict[str, Any]:
        """Return what a status says of this process, which answers no names."""
        from dnsguard.admin.status import resident

        now = monotonic()
        return {
            "pid": os.getpid(),
            "uptime": round(now - self._began, 3),
            "process": {"resident_bytes": resident()},
            "events": [{"ago": round(now - at, 3), **said} for at, said in self._events],
        }

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

    async def _about_a_name(self, request: Request) -> Reply:
        """Answer a question about a name with what all of them know."""
        from dnsguard.admin.merged_status import MERGED

        words = urlencode(request.parameters, doseq=True)
        replies = await self._ask(f"{request.path}?{words}")
        good, workers = self._good(replies)
        if good:
            return _json(MERGED[request.path](good, workers))
        return self._nobody(replies)

    async def _status(self, request: Request) -> Reply:
        replies = await self._ask(f"/api/v1/status?{urlencode(request.parameters, doseq=True)}")
        state = self._together(replies)
        return _json(state) if state is not None else self._nobody(replies)

    async def _look(self) -> dict[str, Any] | None:
        return self._together(await self._ask("/api/v1/status"))

    def _together(self, replies: Mapping[int, Reply]) -> dict[str, Any] | None:
        from dnsguard.admin.merged_status import merged_status

        good, workers = self._good(replies)
        return merged_status(good, workers, self._process()) if good else None

    def _good(self, replies: Mapping[int, Reply]) -> tuple[dict[int, Any], dict[str, Any]]:
        """Return what those say that have an answer, and how many they are."""
        from dnsguard.admin.merged_status import workers_words

        good = {n: json.loads(r.body) for n, r in replies.items() if r.status is HTTPStatus.OK}
        serving = self._serving()
        missing = {
            n: "does not answer" if n in serving else "does not serve at present"
            for n in range(1, self._wanted + 1)
            if n not in good
        }
        return good, workers_words(len(good), self._wanted, missing)

    def _nobody(self, replies: Mapping[int, Reply]) -> Reply:
        """Pass on why nobody has an answer."""
        if replies:
            return replies[min(replies)]
        text = f"no worker answers: 0 of {self._wanted}"
        return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, text)

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


def _json(body: Mapping[str, Any]) -> Reply:
    text = json.dumps(body, ensure_ascii=False, indent=1)
    return Reply(HTTPStatus.OK, text.encode() + b"\n", "application/json")
