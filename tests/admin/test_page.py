"""The page over HTTP: whole without a script, asking for nothing outside, fed by a stream."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from dnsguard import clock
from dnsguard.admin import news
from dnsguard.admin.page.charts import bars, span_of, sparkline
from dnsguard.admin.page.sections import badge, sections
from dnsguard.admin.status import Reading, status
from dnsguard.admin.watching import Watch
from dnsguard.core.actions import Notice
from tests.admin.test_http import Caller, calling
from tests.admin.test_routes import Readiness, admin
from tests.net.running import SECONDS_MAX, Scene, later, on_a_loop, on_both_loops, scene

VOID = {"meta", "link", "br", "path", "polyline"}


class Reader(HTMLParser):
    """Reads a document, sees that it is well nested, and notes what it asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "href", "action", "srcset"):
                self.asked.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def state_of(stage: Scene, **options: Any) -> dict[str, Any]:
    engine = stage.proxy.driver.engine
    watch = Watch(engine)
    for _ in range(3):
        watch.history.sample(engine, clock.now())
    watch.census.take(clock.now())
    watch.note(Notice("warning", "test", "<script>alert(1)</script>"))
    return status(Reading(engine, watch, stage.proxy.driver.numbers, **options), clock.now())


@on_both_loops
async def test_the_page_is_whole_and_asks_for_nothing_outside() -> None:
    async with scene() as stage, admin(stage, Readiness()) as calls:
        await stage.udp.resolve("www.test")
        reply = await calls.get("/")
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        text = reply.read().decode()
        found = Reader(text)
        assert all(url.startswith(("/", "#", "data:,")) for url in found.asked)
        assert len(found.ids) == len(set(found.ids))
        assert {"zones", "upstreams", "answers", "readiness", "events"} <= set(found.ids)
        assert "style" not in found.attributes
        assert not [name for name in found.attributes if name.startswith("on")]
        policy = reply.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert (await calls.get("/api/v1/status")).headers["Content-Security-Policy"] == (
            "default-src 'none'"
        )


@on_a_loop
async def test_an_outage_is_said_in_words_and_shapes_and_nothing_is_taken_for_markup() -> None:
    async with scene() as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        stage.upstream.stop()
        later(2.0)
        await stage.udp.resolve("www.test")
        await stage.udp.resolve("never.test")
        parts = sections(state_of(stage))
        for text in parts.values():
            Reader(text)
        assert parts["title"].startswith("■ OUTAGE")
        assert "zone .: outage" in parts["said"]
        assert re.search(r"\d", parts["said"].replace("127.0.0.1", "").split(";")[0]) is None
        assert badge("outage") in parts["zones"]
        assert "never.test." in parts["readiness"]
        assert "&lt;script&gt;" in parts["events"]
        assert "<script" not in parts["events"]
        private = sections(state_of(stage, names=False))
        assert not [text for text in private.values() if "never.test" in text]


async def piece(caller: Caller) -> dict[str, str]:
    """The next event of a stream."""
    data = await caller.reader.readuntil(b"\n\n")
    found: dict[str, str] = json.loads(data.rpartition(b"data: ")[2])
    return found


async def watching(caller: Caller) -> bytes:
    caller.say("GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    return await caller.reader.readuntil(b"\r\n\r\n")


@on_both_loops
async def test_news_come_as_they_happen_and_only_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(news, "NEWS_SECONDS", 0.01)
    async with scene() as stage, admin(stage, Readiness()) as calls:
        head = await watching(calls)
        assert b"text/event-stream" in head
        assert b"Content-Length" not in head
        shown = await piece(calls)
        assert "no zones" not in shown["zones"]
        assert "normal" in shown["zones"]
        stage.upstream.stop()
        await stage.udp.resolve("www.test")
        sections, pieces, after = len(shown), [], 0
        while after < 3:
            new = await piece(calls)
            assert not [name for name, text in new.items() if shown.get(name) == text]
            shown.update(new)
            pieces.append(new)
            after += "outage" in shown["zones"]
        assert shown["said"].startswith("zone .: outage")
        assert min(len(new) for new in pieces) < sections


@on_a_loop
async def test_streams_are_few_and_end_with_those_who_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(news, "STREAMS_MAX", 1)
    monkeypatch.setattr(news, "NEWS_SECONDS", 0.01)
    async with scene() as stage, admin(stage, Readiness()) as calls:
        port = calls.writer.get_extra_info("peername")[1]
        async with calling(port) as other:
            assert b" 200 " in await watching(other)
            await piece(other)
            refused = await calls.get("/api/v1/events")
            assert refused.status == 503
            assert b"1 others watch already" in refused.read()
        async with asyncio.timeout(SECONDS_MAX):
            while True:  # until it is noticed that the other is gone
                async with calling(port) as third:
                    if b" 200 " in await watching(third):
                        break


@on_a_loop
async def test_who_does_not_read_the_news_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "NEWS_SECONDS", 0.0)
    monkeypatch.setattr("dnsguard.admin.http.REPLY_SECONDS", 0.05)
    much = "y" * 300_000

    async def sections(_: news.News) -> dict[str, str]:
        return {"x": f"{much}{clock.now()}"}

    monkeypatch.setattr(news.News, "_sections", sections)
    async with scene() as stage, admin(stage, Readiness()) as calls:
        await watching(calls)
        calls.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(200):
            await stage.udp.resolve(f"{number}.test")  # queries are answered all the while
        calls.reader._transport.resume_reading()  # type: ignore[attr-defined]
        read = 0
        while octets := await calls.reader.read(1 << 20):
            read += len(octets)
        assert read > 300_000


def test_drawings_are_bounded_and_have_words() -> None:
    Reader(sparkline([0.001, None, 0.002, 0.003], "a <round> trip"))
    assert "a &lt;round&gt; trip" in sparkline([1.0, 2.0], "a <round> trip")
    assert "polyline" not in sparkline([None, None], "dead")
    drawn = bars({"hit": [1] * 1000, "stale": [0] * 1000}, 5.0, "answers")
    Reader(drawn)
    assert drawn.count("M") <= 130
    assert "fill-stale" not in drawn
    Reader(bars({"hit": []}, 5.0, "nothing"))
    assert [span_of(seconds) for seconds in (40, 600)] == ["40 s", "10 min"]
