"""The admin's paths on a running driver: alive and ready speak of this process alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dnsguard.admin.http import HttpServer
from dnsguard.admin.routes import Metrics, routes
from dnsguard.admin.status import Reading
from dnsguard.admin.watching import Watch
from tests.admin.test_http import Caller, calling
from tests.net.running import HOST, Scene, later, on_both_loops, scene
from tests.net.upstream import address_of


class Readiness:
    """What is still missing."""

    missing = ""


@contextlib.asynccontextmanager
async def admin(stage: Scene, readiness: Readiness, names: bool = True) -> AsyncIterator[Caller]:
    driver = stage.proxy.driver
    reading = Reading(driver.engine, Watch(driver.engine), driver.numbers, names=names)
    server = HttpServer(routes(Metrics(reading), reading, lambda: readiness.missing))
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


@on_both_loops
async def test_what_is_remembered_under_a_name() -> None:
    async with scene() as stage, admin(stage, Readiness()) as calls:
        await stage.udp.resolve("www.test")
        reply = await calls.get("/api/v1/cache?name=WWW.test")
        assert reply.headers["Content-Type"] == "application/json"
        found = json.loads(reply.read())
        assert found["name"] == "www.test."
        (entry,) = found["entries"]
        assert (entry["type"], entry["kind"], entry["verdict"]) == ("A", "positive", "fresh")
        assert entry["failed"] is None
        assert address_of("www.test") in entry["records"][0]
        for missing in ("/api/v1/cache?name=www.test&type=AAAA", "/api/v1/cache?name=x.test"):
            assert json.loads((await calls.get(missing)).read())["entries"] == []
        assert len(stage.upstream.seen) == 1


@on_both_loops
async def test_why_a_name_is_answered_as_it_is() -> None:
    async with scene("upstream.deadline=20s") as stage, admin(stage, Readiness()) as calls:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.stop()
        later(2.0)
        assert (await stage.udp.resolve("www.test")).ede == [3]
        found = json.loads((await calls.get("/api/v1/explain?name=www.test&type=a")).read())
        assert (found["name"], found["type"], found["source"]) == ("www.test.", "A", "stale")
        assert found["zone"]["state"] == "outage"
        assert found["entry"]["failed"]["reason"] == "unreachable"
        assert "zone . has been in outage for" in found["words"]["why"]
        nothing = json.loads((await calls.get("/api/v1/explain?name=x.test")).read())
        assert (nothing["source"], nothing["entry"]) == ("nothing", None)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "the parameter 'name' is missing: write ?name="),
        ("?name=a..b", "a label of none or over 63 octets"),
        ("?name=a.test&type=NONE", "'NONE' is not a record type: write A, AAAA, SRV"),
        ("?name=a.test&type=0", "'0' is not a record type"),
        ("?name=a.test&type=65536", "'65536' is not a record type"),
        ("?name=a.test&name=b.test", "'name' stands there 2 times; once, please"),
        ("?name=a.test&typ=A", "no such parameter: 'typ'; there are: name, type"),
    ],
)
@on_both_loops
async def test_bad_parameters_are_told_what_would_be_right(query: str, why: str) -> None:
    async with scene() as stage, admin(stage, Readiness()) as calls:
        for path in ("/api/v1/cache", "/api/v1/explain"):
            reply = await calls.get(path + query)
            assert reply.status == 400
            assert why in json.loads(reply.read())["error"]
            assert (await calls.get(path + query, "POST")).status == 405
        assert (await calls.get("/api/v1/else" + query)).status == 404


@on_both_loops
async def test_the_whole_state_and_no_parameters() -> None:
    async with scene() as stage, admin(stage, Readiness(), names=False) as calls:
        await stage.udp.resolve("www.test")
        reply = await calls.get("/api/v1/status")
        assert reply.headers["Content-Type"] == "application/json"
        found = json.loads(reply.read())
        assert found["answers"]["total"]["upstream"] == 1
        assert found["hot"] is None
        wrong = await calls.get("/api/v1/status?name=www.test")
        assert (wrong.status, json.loads(wrong.read())) == (
            400, {"error": "no such parameter: 'name'"},
        )  # fmt: skip
