"""What the admin address answers, path by path.

Liveness and readiness speak of this process alone: an upstream that is dead is what dnsguard is
for, and must not make a kubelet restart it or take it out of service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnsguard import clock, message_text
from dnsguard.admin import facts
from dnsguard.admin.http import Reply, Request, Route
from dnsguard.admin.news import News
from dnsguard.admin.status import Reading, status
from dnsguard.errors import WireError

if TYPE_CHECKING:
    from dnsguard.admin.metrics import Exporter


class _Wrong(Exception):
    """A parameter that cannot be used; the text says what would be right."""


class Metrics:
    """The path `/metrics` of one engine. What it takes is a tenth of an idle process's memory.

    So that is imported when it is first asked for, and by a thread: queries go on meanwhile.
    """

    def __init__(self, reading: Reading, coredns: str = "") -> None:
        """`coredns` is that of `Exporter`."""
        self._reading, self._coredns = reading, coredns
        self._exporter: Exporter | None = None

    def __call__(self, request: Request) -> Reply | Awaitable[Reply]:
        """Answer a scraper."""
        return self._reply(request) if self._exporter is not None else self._first(request)

    async def _first(self, request: Request) -> Reply:
        await self.load()
        return self._reply(request)

    async def load(self) -> None:
        """Import what it takes."""
        with ThreadPoolExecutor(1) as thread:
            loop = asyncio.get_running_loop()
            module = await loop.run_in_executor(thread, import_module, "dnsguard.admin.metrics")
        if self._exporter is None:
            self._exporter = module.Exporter(self._reading, self._coredns)

    def _reply(self, request: Request) -> Reply:
        assert self._exporter is not None
        body, content_type = self._exporter.render(request.headers.get("accept", ""))
        return Reply(HTTPStatus.OK, body, content_type)


def routes(metrics: Route, reading: Reading, ready: Callable[[], str]) -> Mapping[str, Route]:
    """Return the routes. `ready` returns what is still missing, or nothing."""
    engine = reading.engine

    def livez(_: Request) -> Reply:
        return Reply.text(HTTPStatus.OK, "alive")

    def readyz(_: Request) -> Reply:
        missing = ready()
        if missing:
            return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {missing}")
        return Reply.text(HTTPStatus.OK, "ready")

    def cache(name: str, qtype: int | None) -> dict[str, Any]:
        return facts.cache_facts(engine, name, qtype, clock.now())

    def explain(name: str, qtype: int | None) -> dict[str, Any]:
        return facts.explain_facts(engine, name, 1 if qtype is None else qtype, clock.now())

    def state(request: Request) -> Reply:
        for known in request.parameters:
            return _json(HTTPStatus.BAD_REQUEST, {"error": f"no such parameter: {known!r}"})
        return _json(HTTPStatus.OK, status(reading, clock.now()))

    async def look() -> dict[str, Any]:
        return status(reading, clock.now())

    news = News(look)

    return {
        "/": news.page,
        "/api/v1/events": news.events,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": metrics,
        "/api/v1/status": state,
        "/api/v1/cache": _of_a_name(cache),
        "/api/v1/explain": _of_a_name(explain),
    }


def _of_a_name(tell: Callable[[str, int | None], dict[str, Any]]) -> Route:
    """Return a route that takes the parameters `name` and `type`, and answers in JSON."""

    def route(request: Request) -> Reply:
        try:
            name, qtype = _name_and_type(request.parameters)
            body = tell(name, qtype)
        except (_Wrong, WireError) as wrong:
            return _json(HTTPStatus.BAD_REQUEST, {"error": str(wrong)})
        return _json(HTTPStatus.OK, body)

    return route


def _name_and_type(parameters: Mapping[str, list[str]]) -> tuple[str, int | None]:
    for known in parameters:
        if known not in ("name", "type"):
            raise _Wrong(f"no such parameter: {known!r}; there are: name, type")
    for known, values in parameters.items():
        if len(values) > 1:
            raise _Wrong(f"the parameter {known!r} stands there {len(values)} times; once, please")
    if "name" not in parameters:
        raise _Wrong("the parameter 'name' is missing: write ?name=web.default.svc.cluster.local")
    (name,) = parameters["name"]
    if "type" not in parameters:
        return name, None
    try:
        return name, message_text.type_number(parameters["type"][0])
    except ValueError as wrong:
        raise _Wrong(str(wrong)) from None


def _json(status: HTTPStatus, body: Mapping[str, Any]) -> Reply:
    text = json.dumps(body, ensure_ascii=False, indent=1)
    return Reply(status, text.encode() + b"\n", "application/json")
