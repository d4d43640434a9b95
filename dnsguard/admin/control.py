"""The control socket: what changes a running instance, for its own user and for root.

One JSON object a line each way. A request is `{"verb": …, …}` with the verb's arguments beside it;
its replies are any number of `{"item": …}` and then `{"done": …}` or `{"error": "a sentence"}`.
Whoever connects is asked for by the kernel's word (SO_PEERCRED, see unix(7)). Lines are bounded, a
peer that does not read is dropped, and a verb that has much to say says it piece by piece, so that
queries for names never wait for any of it. What the verbs do stands in `verbs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dnsguard.errors import ControlError

LINE_OCTETS_MAX = 256 * 1024  # a request; what is imported comes as many of them
CONNECTIONS_MAX = 16
REQUEST_SECONDS = 60.0  # for the next request: a person may be thinking
REPLY_SECONDS = 10.0  # for a reply to be read
NUMBER_MAX = 1e15  # in seconds longer than the world is old; JSON has larger ones, and infinity
TEXT_MAX = 1024  # characters of one text: longer than any name
ITEMS_AT_ONCE = 64  # before others get their turn
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid; see unix(7)

Facts = Mapping[str, Any]


class Last(dict[str, Any]):
    """What a verb that yields items says when there are no more."""


class Arguments:
    """A request's arguments, each taken by its type; `end` refuses what is left over."""

    def __init__(self, verb: str, given: Mapping[str, Any]) -> None:
        self._verb = verb
        self._given = dict(given)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; without a default it must be there."""
        value = self._take(name, default)
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise self._wrong(name, f"a text of up to {TEXT_MAX} characters")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number, which is neither infinite nor too large for arithmetic."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number")
        if not -NUMBER_MAX <= value <= NUMBER_MAX:  # what is not a number at all is not either
            raise self._wrong(name, f"a number of at most {NUMBER_MAX:g}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false; false if it is not there."""
        value = self._take(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def end(self) -> None:
        """Refuse arguments that nobody has taken: they would be believed to have an effect."""
        for name in self._given:
            raise ControlError(f"{self._verb} knows no argument {name!r}")

    def rest(self) -> dict[str, Any]:
        """Return all that nobody has taken, to be judged by someone else."""
        return dict(self._given)

    def _take(self, name: str, default: Any) -> Any:
        if name not in self._given and default is None:
            raise ControlError(f"{self._verb} needs the argument {name!r}")
        return self._given.pop(name, default)

    def _wrong(self, name: str, expected: str) -> ControlError:
        return ControlError(f"{self._verb}: the argument {name!r} must be {expected}")


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that a running instance can be told.

    `run` returns the facts that answer it, now or once they are there, or yields items. An
    `attended` verb lasts only as long as whoever asked for it stays connected.
    """

    run: Callable[[Arguments], Facts | Awaitable[Facts] | AsyncGenerator[Facts, None]]
    attended: bool = False


class ControlServer:
    """Serves a table of verbs on one Unix socket, to `user` (by default our own) and to root."""

    def __init__(self, verbs: Mapping[str, Verb], user: int | None = None) -> None:
        self._verbs = verbs
        self._user = os.geteuid() if user is None else user
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a socket that is bound; it belongs to the server now."""
        self._server = await asyncio.start_unix_server(
            self._connected, sock=sock, limit=LINE_OCTETS_MAX
        )

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            refused = self._refusal(peer_user(writer))
            if refused:
                await _say(writer, {"error": refused})
            else:
                await self._converse(reader, writer)
            await _part(writer)
        except (OSError, TimeoutError):
            pass  # the other side went away, or does not read
        except asyncio.CancelledError:
            pass  # `close` wants it gone, and it is
        finally:
            writer.transport.abort()

    def _refusal(self, user: int) -> str:
        if user not in (0, self._user):
            return f"this instance takes orders from user {self._user} and root; you are {user}"
        if len(self._tasks) > CONNECTIONS_MAX:
            return f"{CONNECTIONS_MAX} others are connected already; try again"
        return ""

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.ensure_future(_line(reader))
        try:
            while True:
                async with asyncio.timeout(REQUEST_SECONDS):
                    request = await line
                if not request:
                    return
                line = asyncio.ensure_future(_line(reader))
                await self._obey(request, line, writer)
        except ControlError as error:
            await _say(writer, {"error": str(error)})  # and no more: who knows where lines begin
        finally:
            line.cancel()
            with contextlib.suppress(asyncio.CancelledError, ControlError, OSError):
                await line

    async def _obey(
        self, request: bytes, after: asyncio.Future[bytes], writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request; `after` is the wait for what the peer sends next."""
        try:
            verb, arguments = self._read(request)
            if not verb.attended:
                await _answer(verb, arguments, writer)
                return
            answering = asyncio.ensure_future(_answer(verb, arguments, writer))
            try:
                await asyncio.wait((answering, after), return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    await answering
            finally:
                await _cancelled(answering)  # whoever asked for it is gone, or wants it to end
        except ControlError as error:
            await _say(writer, {"error": str(error)})
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a control request failed: a defect", "exception": error}
            )
            await _say(writer, {"error": "failed; the log says how"})

    def _read(self, request: bytes) -> tuple[Verb, Arguments]:
        try:
            given = json.loads(request)
        except (ValueError, RecursionError):
            raise ControlError("not a line of JSON") from None
        if not isinstance(given, dict) or not isinstance(name := given.pop("verb", None), str):
            raise ControlError('not a request: {"verb": …} is one')
        if name not in self._verbs:
            known = ", ".join(sorted(self._verbs))
            raise ControlError(f"no such verb: {name[:TEXT_MAX]!r}; there are: {known}")
        return self._verbs[name], Arguments(name, given)


def peer_user(writer: asyncio.StreamWriter) -> int:
    """Return the user id of the process at the other end, by the kernel's word."""
    sock = writer.get_extra_info("socket")
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(found)[1]
    return user


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line with its end, or nothing at the end of them all."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as short:
        return short.partial
    except asyncio.LimitOverrunError:
        raise ControlError(f"a line of more than {LINE_OCTETS_MAX} octets") from None


async def _answer(verb: Verb, arguments: Arguments, writer: asyncio.StreamWriter) -> None:
    found = verb.run(arguments)
    if not isinstance(found, AsyncGenerator):
        facts = found if isinstance(found, Mapping) else await found
        await _say(writer, {"done": facts})
        return
    count, last = 0, Last()
    try:
        async for item in found:
            if isinstance(item, Last):
                last = item
                continue
            await _say(writer, {"item": item})
            count += 1
            if count % ITEMS_AT_ONCE == 0:
                await asyncio.sleep(0)
    finally:
        await found.aclose()
    await _say(writer, {"done": last})


async def _say(writer: asyncio.StreamWriter, reply: Facts) -> None:
    writer.write(json.dumps(reply, separators=(",", ":")).encode() + b"\n")
    async with asyncio.timeout(REPLY_SECONDS):
        await writer.drain()


async def _part(writer: asyncio.StreamWriter) -> None:
    """Let the peer read the last reply."""
    if not writer.transport.is_closing():
        writer.transport.set_write_buffer_limits(0)  # from here on, drained means all of it
        async with asyncio.timeout(REPLY_SECONDS):
            await writer.drain()


async def _cancelled(task: asyncio.Future[None]) -> None:
    """Have a task end before its time, if it has not ended yet."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()
