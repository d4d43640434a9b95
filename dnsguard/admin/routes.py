"""What the admin address answers, path by path.

Liveness and readiness speak of this process alone: an upstream that is dead is what dnsguard is
for, and must not make a kubelet restart it or take it out of service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from dnsguard.admin.http import Reply, Request, Route
from dnsguard.admin.metrics import Exporter


def routes(exporter: Exporter, ready: Callable[[], str]) -> Mapping[str, Route]:
    """Return the routes. `ready` returns what is still missing, or nothing."""

    def livez(_: Request) -> Reply:
        return Reply.text(HTTPStatus.OK, "alive")

    def readyz(_: Request) -> Reply:
        missing = ready()
        if missing:
            return Reply.text(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {missing}")
        return Reply.text(HTTPStatus.OK, "ready")

    def metrics(request: Request) -> Reply:
        body, content_type = exporter.render(request.headers.get("accept", ""))
        return Reply(HTTPStatus.OK, body, content_type)

    return {"/livez": livez, "/readyz": readyz, "/metrics": metrics}
