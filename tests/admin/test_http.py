"""The admin's HTTP, octet by octet: kubelets, Prometheus, strangers, and what they get.

Requests are written by hand and replies read by the standard library's own client, so that both
sides are judged by something else than what is tested (RFC 9112).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest

from dnsguard.admin import http as module
from dnsguard.admin.http import HttpServer, Reply, Request
from tests.net.running import HOST, on_both_loops, until

ROUTES = {
    "/text": lambda request: Reply.text(HTTPStatus.OK, "some text"),
    "/echo": lambda request: Reply.text(
        HTTPStatus.OK, f"{dict(request.parameters)} {request.headers.get('accept')}"
    ),
    "/much": lambda request: Reply(HTTPStatus.OK, b"x" * 5_000_000, "application/octet-stream"),
    "/none": lambda request: Reply(HTTPStatus.SERVICE_UNAVAILABLE, b""),
}


class Caller:
    """One connection; `get` is a whole exchange."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)

    async def reply(self, head_only: bool = False) -> http.client.HTTPResponse:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = b"" if head_only else await self.reader.readexactly(length)
        response = http.client.HTTPResponse(Recorded(head + body))  # type: ignore[arg-type]
        response.begin()
        return response

    async def get(self, path: str, method: str = "GET", *headers: str) -> http.client.HTTPResponse:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
        self.say("\r\n".join([*lines, "", ""]))
        return await self.reply(method == "HEAD")

    async def closed(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True


class Recorded:
    """What `http.client` takes for a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._octets)


@contextlib.asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def caller() -> AsyncIterator[Caller]:
    server = HttpServer(ROUTES)
    port = await server.listen(HOST, 0)
    try:
        async with calling(port) as calls:
            yield calls
    finally:
        await server.close()


@on_both_loops
async def test_get_and_head_are_answered() -> None:
    async with caller() as calls:
        reply = await calls.get("/text")
        assert (reply.status, reply.read()) == (200, b"some text\n")
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Connection"] == "keep-alive"
        head = await calls.get("/text", "HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, "10")
        reply = await calls.get("/none")
        assert (reply.status, reply.read()) == (503, b"")


@on_both_loops
async def test_parameters_and_headers_reach_the_route() -> None:
    async with caller() as calls:
        reply = await calls.get("/echo?name=www.test&name=b&type=A", "GET", "ACCEPT:  text/plain ")
        assert reply.read() == b"{'name': ['www.test', 'b'], 'type': ['A']} text/plain\n"


@pytest.mark.parametrize("close", ["Connection: close", "connection: CLOSE"])
@pytest.mark.parametrize("path", ["/text", "/nowhere", "/much"])
@on_both_loops
async def test_who_asks_for_it_is_closed_after_the_whole_reply(close: str, path: str) -> None:
    """As a kubelet does with every probe."""
    async with caller() as calls:
        reply = await calls.get(path, "GET", close)
        assert reply.headers["Connection"] == "close"
        assert len(reply.read()) == int(reply.headers["Content-Length"])
        assert await calls.closed()


@on_both_loops
async def test_http_1_0_is_closed_after_the_reply() -> None:
    async with caller() as calls:
        calls.say("GET /text HTTP/1.0\r\n\r\n")
        assert (await calls.reply()).read() == b"some text\n"
        assert await calls.closed()


@on_both_loops
async def test_requests_may_be_pipelined() -> None:
    async with caller() as calls:
        calls.say("GET /text HTTP/1.1\r\n\r\n" * 20)
        for _ in range(20):
            assert (await calls.reply()).read() == b"some text\n"


@on_both_loops
async def test_requests_may_come_an_octet_at_a_time() -> None:
    async with caller() as calls:
        for char in "GET /text HTTP/1.1\r\nHost: x\r\n\r\n":
            calls.say(char)
            await asyncio.sleep(0)
        assert (await calls.reply()).status == 200


@on_both_loops
async def test_a_reply_larger_than_any_buffer_arrives_whole() -> None:
    async with caller() as calls:
        assert len((await calls.get("/much")).read()) == 5_000_000
        assert (await calls.get("/text")).status == 200


@on_both_loops
async def test_an_unknown_path_is_told_the_known_ones() -> None:
    async with caller() as calls:
        for path in ("/nowhere", "/", "/text/", "//text", "*", "http://x/nowhere"):
            reply = await calls.get(path)
            assert reply.status == 404
            assert b"/echo /much /none /text" in reply.read()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])
@on_both_loops
async def test_nothing_can_be_changed(method: str) -> None:
    async with caller() as calls:
        reply = await calls.get("/text", method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
        reply = await calls.get("/text", method, "Content-Length: 5")
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
        assert await calls.closed()  # for the body would be read as the next request


BROKEN = {
    "no version": (b"GET /text\r\n\r\n", 400),
    "four words": (b"GET /text and HTTP/1.1\r\n\r\n", 400),
    "another protocol": (b"GET /text SPDY/1\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 400),
    "an empty line": (b"\r\n\r\n", 400),
    "octets": (b"\xff\xfe\x00\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "a path that is none": (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
    "a body": (b"GET /text HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a body in chunks": (b"GET /text HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a body without a length": (b"GET /text HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
    "a negative body": (b"GET /text HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    "a large body": (b"GET /text HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
    "a boundless body": (b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
    "a long path": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
    "many headers": (b"GET /text HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
    "no end": (b"x" * 20_000, 431),
}


@pytest.mark.parametrize("case", BROKEN)
@on_both_loops
async def test_a_broken_request_gets_its_status_and_is_closed(case: str) -> None:
    wire, status = BROKEN[case]
    async with caller() as calls:
        calls.say(wire)
        reply = await calls.reply()
        assert (reply.status, reply.headers["Connection"]) == (status, "close")
        assert reply.read()
        assert await calls.closed()


@on_both_loops
async def test_half_a_request_is_told_so() -> None:
    async with caller() as calls:
        calls.say("GET /text HTTP/1.1\r\nHost")
        calls.writer.write_eof()
        assert (await calls.reply()).status == 400
        assert await calls.closed()


@on_both_loops
async def test_who_says_nothing_and_leaves_gets_nothing() -> None:
    async with caller() as calls:
        calls.writer.write_eof()
        assert await calls.closed()


@pytest.mark.parametrize("begun", ["", "GET /te", "GET /text HTTP/1.1\r\n\r\nGET /"])
@on_both_loops
async def test_who_is_too_slow_is_closed(begun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.05)
    async with caller() as calls:
        calls.say(begun)
        if "\r\n\r\n" in begun:
            await calls.reply()
        assert await calls.closed()


@on_both_loops
async def test_who_does_not_read_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLY_SECONDS", 0.05)
    server = HttpServer(ROUTES)
    port = await server.listen(HOST, 0)
    async with calling(port) as calls:
        calls.writer.transport.pause_reading()  # type: ignore[attr-defined]
        calls.say("GET /much HTTP/1.1\r\n\r\n" * 4)
        await until(lambda: len(server._open) == 1)
        await until(lambda: len(server._open) == 0)
    await server.close()


@on_both_loops
async def test_a_connection_lives_for_so_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUESTS_A_CONNECTION_MAX", 3)
    async with caller() as calls:
        for _ in range(3):
            assert (await calls.get("/text")).status == 200
        assert await calls.closed()


@on_both_loops
async def test_beyond_the_most_connections_who_has_asked_nothing_for_longest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who holds connections open, asking nothing or not reading, keeps no kubelet out."""
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 3)
    server = HttpServer(ROUTES)
    port = await server.listen(HOST, 0)
    async with calling(port) as first, calling(port) as second, calling(port) as third:
        for calls in (first, second, third):
            assert (await calls.get("/text")).status == 200
        assert (await first.get("/text")).status == 200  # now the second has been quiet for longest
        third.say("GET /much HTTP/1.1\r\n\r\n")  # and does not read it
        own = third.writer.get_extra_info("sockname")
        await until(lambda: [*server._open][-1].get_extra_info("peername") == own)
        async with calling(port) as fourth:
            assert (await fourth.get("/livez")).status == 404
            assert await second.closed()
            async with calling(port) as fifth:
                assert (await fifth.get("/text")).status == 200
            assert await first.closed()
            assert (await fourth.get("/text")).status == 200
    await until(lambda: not server._open)
    await server.close()


@on_both_loops
async def test_a_route_that_fails_costs_one_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Request) -> Reply:
        raise RuntimeError("a planted defect")

    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    server = HttpServer({**ROUTES, "/broken": broken})
    port = await server.listen(HOST, 0)
    async with calling(port) as calls:
        assert (await calls.get("/broken")).status == 500
        assert await calls.closed()
    async with calling(port) as calls:
        assert (await calls.get("/text")).status == 200
    await server.close()
    assert "planted" in str(errors), "nobody was told"


@on_both_loops
async def test_the_end_drops_every_connection() -> None:
    server = HttpServer(ROUTES)
    port = await server.listen(HOST, 0)
    async with calling(port) as idle, calling(port) as busy:
        await idle.get("/text")
        busy.writer.transport.pause_reading()  # type: ignore[attr-defined]
        busy.say("GET /much HTTP/1.1\r\n\r\n")
        await until(lambda: len(server._open) == 2)
        await server.close()
        assert await idle.closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
