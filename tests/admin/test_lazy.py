"""What an idle process has not imported: what is asked for by a scraper, a browser, an operator."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dnsguard.admin.routes import Metrics
from tests.admin.test_routes import Readiness, admin
from tests.net.running import on_a_loop, scene

IDLE = "import dnsguard.cli.serve, dnsguard.server, dnsguard.store.keeper, dnsguard.admin.routes"
LATER = (
    "prometheus_client", "dnsguard.admin.metrics", "dnsguard.admin.page", "dnsguard.core.drill",
    "dnsguard.core.shadow", "dnsguard.admin.merged", "http.server", "urllib.request", "rich",
    "dnslib", "redis", "aiohttp",
)  # fmt: skip


def test_what_nobody_has_asked_for_takes_no_memory() -> None:
    code = f"import sys; {IDLE}; print([name for name in {LATER!r} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found == "[]\n"


@on_a_loop
async def test_the_first_scrape_alone_imports_the_exporter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Metrics] = []
    before = Metrics.load

    async def load(self: Metrics) -> None:
        made.append(self)
        await before(self)

    monkeypatch.setattr(Metrics, "load", load)
    async with scene() as stage, admin(stage, Readiness()) as calls:
        for _ in range(2):
            reply = await calls.get("/metrics")
            assert reply.status == 200
            assert b"dnsguard_build_info" in reply.read()
    assert len(made) == 1, "imported once"
