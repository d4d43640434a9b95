"""The admin's paths on a running driver: alive and ready speak of this process alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from prometheus_client.parser import text_string_to_metric_families

from dnsguard.admin.http import HttpServer
from dnsguard.admin.metrics import Exporter
from dnsguard.admin.routes import routes
from tests.admin.test_http import Caller, calling
from tests.net.running import HOST, Scene, later, on_both_loops, scene


class Readiness:
    """What is still missing."""

    missing = ""


@contextlib.asynccontextmanager
async def admin(stage: Scene, readiness: Readiness) -> AsyncIterator[Caller]:
    driver = stage.proxy.driver
    exporter = Exporter(driver.engine, driver.numbers)
    server = HttpServer(routes(exporter, lambda: readiness.missing))
    port = await server.listen(HOST, 0)
    async with calling(port) as calls:
        yield calls
    await server.close()


@on_both_loops
async def test_alive_and_ready_while_the_upstream_is_dead() -> None:
    async with scene("upstream.deadline=20s") as stage, admin(stage, Readiness()) as calls:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.stop()
        later(2.0)
        assert (await stage.udp.resolve("www.test")).ede == [3]
        for path, text in (("/livez", b"alive\n"), ("/readyz", b"ready\n")):
            reply = await calls.get(path)
            assert (reply.status, reply.read()) == (200, text)
        assert (
            b'dnsguard_zone_state{state="outage",zone="."} 1.0'
            in (await calls.get("/metrics")).read()
        )


@on_both_loops
async def test_not_ready_says_what_is_missing_and_stays_alive() -> None:
    readiness = Readiness()
    async with scene() as stage, admin(stage, readiness) as calls:
        readiness.missing = "listeners"
        reply = await calls.get("/readyz")
        assert (reply.status, reply.read()) == (503, b"not ready: listeners\n")
        assert (await calls.get("/livez")).status == 200
        readiness.missing = ""
        assert (await calls.get("/readyz")).status == 200


@on_both_loops
async def test_metrics_come_in_the_format_that_was_asked_for() -> None:
    async with scene() as stage, admin(stage, Readiness()) as calls:
        plain = await calls.get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain; version=")
        names = {f.name for f in text_string_to_metric_families(plain.read().decode())}
        assert "dnsguard_queries" in names
        wanted = "Accept: application/openmetrics-text;version=1.0.0"
        modern = await calls.get("/metrics", "GET", wanted)
        assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
        assert modern.read().endswith(b"# EOF\n")
        head = await calls.get("/metrics", "HEAD")
        assert int(head.headers["Content-Length"]) > 1000
