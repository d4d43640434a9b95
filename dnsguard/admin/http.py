"""Read-only HTTP for kubelets and Prometheus: GET and HEAD, small requests, short lives.

Nothing that arrives here changes anything. A request that is too large, too slow or not understood
gets its status code and loses the connection; queries for names are answered by other means and
are not slowed by any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

HEAD_OCTETS_MAX = 8192
REQUEST_SECONDS = 5.0
REPLY_SECONDS = 10.0
LINGER_SECONDS = 1.0  # for the last reply to be read: see `_part`
STREAM_OCTETS_MAX = 128 * 1024  # unread by one that is sent news; two pages
CONNECTIONS_MAX = 64  # beyond it the one that has asked nothing for longest makes room: see below
REQUESTS_A_CONNECTION_MAX = 100
SERVER_HEADERS = (
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
)
NOTHING = "default-src 'none'"  # the content security policy of what is no page


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    path: str
    parameters: Mapping[str, list[str]]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said in return. `pieces` are said after the body, one by one, until they end."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    policy: str = NOTHING
    pieces: AsyncGenerator[bytes, None] | None = None

    @classmethod
    def text(cls, status: HTTPStatus, text: str) -> Reply:
        """A line of text."""
        return cls(status, text.encode() + b"\n")


Route = Callable[[Request], Reply | Awaitable[Reply]]


class _Refused(Exception):
    """The request cannot be served; the connection ends with this reply."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.reply = Reply.text(status, text)


class HttpServer:
    """Serves `routes`, path by path, on one listening socket."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = dict(routes)
        # Open connections, in the order of their latest request. Who holds many of them open must
        # not keep a kubelet out, which would start a process again that is well.
        self._open: dict[asyncio.StreamWriter, None] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int, reuse_port: bool = False) -> int:
        """Start; return the port. Raises OSError if the address cannot be had."""
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=HEAD_OCTETS_MAX, reuse_port=reuse_port or None
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def listen_at(self, path: str) -> None:
        """Start on a Unix socket. Raises OSError if it cannot be made."""
        self._server = await asyncio.start_unix_server(self._connected, path, limit=HEAD_OCTETS_MAX)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if len(self._open) >= CONNECTIONS_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            await self._converse(reader, writer)
            await self._part(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the other side went away or was too slow
        except asyncio.CancelledError:
            pass  # `close` wants it gone, and it is; Python 3.11 would complain about more
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    @staticmethod
    async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the other side read the last reply (RFC 9112 section 9.6).

        To close at once would throw away what has not left yet; and what it still sends, with
        nobody there to read it, would make its system throw away what it has not read.
        """
        if writer.transport.is_closing():
            return
        writer.transport.set_write_buffer_limits(0)  # from here on, drained means all of it
        async with asyncio.timeout(REPLY_SECONDS):
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(HEAD_OCTETS_MAX):
                pass

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(REQUESTS_A_CONNECTION_MAX):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await self._head(reader)
                if not head or writer not in self._open:
                    return
                del self._open[writer]
                self._open[writer] = None
                method, request, close = _parse(head)
                reply = await self._route(method, request)
            except _Refused as refused:
                method, reply, close = "GET", refused.reply, True
            except (OSError, TimeoutError):
                raise
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "an admin page failed: a defect", "exception": error}
                )
                failed = Reply.text(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; the log says how")
                method, reply, close = "GET", failed, True
            close = close or reply.pieces is not None
            writer.write(_render(reply, method == "HEAD", close))
            async with asyncio.timeout(REPLY_SECONDS):
                await writer.drain()
            if reply.pieces is not None and method != "HEAD":
                await _say_on(reply.pieces, reader, writer)
            if close:
                return

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as short:
            if short.partial.strip():
                raise _Refused(HTTPStatus.BAD_REQUEST, "the request ends too soon") from None
            return b""
        except asyncio.LimitOverrunError:
            raise _Refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the request's head is over {HEAD_OCTETS_MAX} octets",
            ) from None

    async def _route(self, method: str, request: Request) -> Reply:
        route = self._routes.get(request.path)
        if route is None:
            known = " ".join(sorted(self._routes))
            return Reply.text(HTTPStatus.NOT_FOUND, f"no such path; there are: {known}")
        if method not in ("GET", "HEAD"):
            return Reply.text(
                HTTPStatus.METHOD_NOT_ALLOWED, "this address is read-only: GET or HEAD"
            )
        reply = route(request)
        return reply if isinstance(reply, Reply) else await reply


async def _say_on(
    pieces: AsyncGenerator[bytes, None],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Say piece after piece until the other side is gone, or does not read what it is sent."""
    writer.transport.set_write_buffer_limits(STREAM_OCTETS_MAX)
    try:
        async for piece in pieces:
            writer.write(piece)
            async with asyncio.timeout(REPLY_SECONDS):
                await writer.drain()
            if reader.at_eof():
                return
    finally:
        await pieces.aclose()


def _parse(head: bytes) -> tuple[str, Request, bool]:
    """Return (method, request, close afterwards)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if length != "0" or "transfer-encoding" in headers:
        # Nothing here takes a body; one that is there would be read as the next request.
        digits = length.lstrip("0") if length.isdecimal() else ""
        too_large = len(digits) > 9 or int(digits or "0") > HEAD_OCTETS_MAX
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST
        if words[0] not in ("GET", "HEAD"):
            status = HTTPStatus.METHOD_NOT_ALLOWED
        raise _Refused(status, "a request without a body, please: this address is read-only")
    close = words[2] == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
    with contextlib.suppress(ValueError):
        url = urlsplit(words[1])
        return words[0], Request(url.path, parse_qs(url.query), headers), close
    raise _Refused(HTTPStatus.BAD_REQUEST, "the request's path cannot be read")


def _render(reply: Reply, head_only: bool, close: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if reply.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    length = f"Content-Length: {len(reply.body)}\r\n" if reply.pieces is None else ""
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"{length}{SERVER_HEADERS}{allow}"
        f"Content-Security-Policy: {reply.policy}\r\n"
        f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else reply.body)
