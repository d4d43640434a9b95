"""The control socket as whoever connects sees it: requests, replies, bounds, and who is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dnsguard.admin import control
from dnsguard.admin.control import Arguments, ControlServer, Facts, Verb
from dnsguard.errors import ControlError
from tests.admin.stranger import USER, as_stranger
from tests.net.running import on_both_loops, until

AT_MOST = "a number of at most 1e+15"


class Verbs:
    """A verb of each kind; `watched` counts those who attend the endless one."""

    def __init__(self) -> None:
        self.watched = 0
        self.table = {
            "add": Verb(self._add),
            "count": Verb(self._count),
            "watch": Verb(self._watch, attended=True),
            "refuse": Verb(self._refuse),
            "flood": Verb(self._flood),
        }

    def _add(self, arguments: Arguments) -> Facts:
        total = arguments.number("one") + arguments.number("other", 0)
        word, words = arguments.text("word", ""), arguments.texts("words")
        loud = arguments.flag("loud")
        arguments.end()
        return {"total": total, "words": [word, *words], "loud": loud}

    async def _count(self, arguments: Arguments) -> AsyncGenerator[Facts, None]:
        for n in range(int(arguments.number("to"))):
            yield {"n": n}

    async def _watch(self, _: Arguments) -> AsyncGenerator[Facts, None]:
        self.watched += 1
        try:
            yield {"watched": True}
            await asyncio.Event().wait()
        finally:
            self.watched -= 1

    async def _refuse(self, _: Arguments) -> AsyncGenerator[Facts, None]:
        yield {"so": "far"}
        raise ControlError("no further")

    async def _flood(self, _: Arguments) -> AsyncGenerator[Facts, None]:
        self.watched += 1
        try:
            while True:
                yield {"much": "x" * 10000}
        finally:
            self.watched -= 1


class Peer:
    """Someone connected; `open` is false once the server has hung up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, verb: str, **arguments: Any) -> list[dict[str, Any]]:
        return await self.say(json.dumps({"verb": verb, **arguments}).encode() + b"\n")

    async def say(self, line: bytes) -> list[dict[str, Any]]:
        """Send a line; return the replies up to the last one."""
        self.writer.write(line)
        replies: list[dict[str, Any]] = []
        while not replies or "item" in replies[-1]:
            replies.append(await self.next())
        return replies

    async def next(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.reader.readline())
        return found

    async def hung_up(self) -> bool:
        return await self.reader.read() == b""


@contextlib.asynccontextmanager
async def serving(
    place: Path, verbs: Verbs, user: int | None = None
) -> AsyncIterator[ControlServer]:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    sock.bind(str(place / "s"))
    server = ControlServer(verbs.table, user)
    await server.listen(sock)
    yield server
    await server.close()


@contextlib.asynccontextmanager
async def peer(place: Path) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_unix_connection(str(place / "s"))
    yield Peer(reader, writer)
    writer.transport.abort()


@on_both_loops
async def test_requests_are_answered_one_after_the_other(tmp_path: Path) -> None:
    async with serving(tmp_path, Verbs()), peer(tmp_path) as one:
        (reply,) = await one.ask("add", one=1, other=2.5, words=["a"], loud=True)
        assert reply == {"done": {"total": 3.5, "words": ["", "a"], "loud": True}}
        replies = await one.ask("count", to=200)
        assert replies == [*({"item": {"n": n}} for n in range(200)), {"done": {}}]
        assert await one.ask("count", to=0) == [{"done": {}}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"so what\n", "not a line of JSON"),
        (b"[" * 100_000 + b"\n", "not a line of JSON"),
        (b'"text"\n', "not a request"),
        (b"{}\n", "not a request"),
        (b'{"verb": 7}\n', "not a request"),
        (
            b'{"verb": "sing"}\n',
            "no such verb: 'sing'; there are: add, count, flood, refuse, watch",
        ),
        (b'{"verb": "add"}\n', "add needs the argument 'one'"),
        (b'{"verb": "add", "one": "1"}\n', "add: the argument 'one' must be a number"),
        (b'{"verb": "add", "one": true}\n', "add: the argument 'one' must be a number"),
        (b'{"verb": "add", "one": NaN}\n', f"add: the argument 'one' must be {AT_MOST}"),
        (b'{"verb": "add", "one": -1e400}\n', f"add: the argument 'one' must be {AT_MOST}"),
        (
            b'{"verb": "add", "one": 1' + b"0" * 400 + b"}\n",
            f"add: the argument 'one' must be {AT_MOST}",
        ),
        (b'{"verb": "add", "one": 1, "word": 1}\n', "'word' must be a text of up to"),
        (b'{"verb": "add", "one": 1, "word": "%s"}\n' % (b"x" * 2000), "'word' must be a text"),
        (b'{"verb": "add", "one": 1, "words": [1]}\n', "'words' must be a list of texts"),
        (b'{"verb": "add", "one": 1, "loud": 1}\n', "'loud' must be true or false"),
        (b'{"verb": "add", "one": 1, "two": 1}\n', "add knows no argument 'two'"),
        (b'{"verb": "refuse"}\n', "no further"),
    ],
)
@on_both_loops
async def test_what_is_wrong_is_said_and_the_next_request_is_read(
    tmp_path: Path, line: bytes, why: str
) -> None:
    async with serving(tmp_path, Verbs()), peer(tmp_path) as one:
        assert why in (await one.say(line))[-1]["error"]
        assert (await one.ask("add", one=1))[0]["done"]["total"] == 1


@on_both_loops
async def test_a_line_without_end_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path, Verbs()), peer(tmp_path) as one:
        with contextlib.suppress(OSError):
            one.writer.write(b"x" * (2 * control.LINE_OCTETS_MAX))
            await one.writer.drain()
        reply = await one.next()
        assert reply == {"error": f"a line of more than {control.LINE_OCTETS_MAX} octets"}


@on_both_loops
async def test_an_attended_verb_ends_with_its_peer(tmp_path: Path) -> None:
    verbs = Verbs()
    async with serving(tmp_path, verbs):
        async with peer(tmp_path) as one:
            one.writer.write(b'{"verb": "watch"}\n')
            assert await one.next() == {"item": {"watched": True}}
            assert verbs.watched == 1
        await until(lambda: verbs.watched == 0)
        async with peer(tmp_path) as one:
            one.writer.write(b'{"verb": "watch"}\n')
            assert await one.next() == {"item": {"watched": True}}
            assert (await one.ask("add", one=1))[0]["done"]["total"] == 1  # and so it has ended
            assert verbs.watched == 0


@on_both_loops
async def test_the_end_of_the_server_ends_everything(tmp_path: Path) -> None:
    verbs = Verbs()
    async with serving(tmp_path, verbs), peer(tmp_path) as idle, peer(tmp_path) as one:
        one.writer.write(b'{"verb": "watch"}\n')
        await one.next()
        assert (await idle.ask("add", one=1))[0]["done"]["total"] == 1
    assert verbs.watched == 0


@on_both_loops
async def test_a_peer_that_does_not_read_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REPLY_SECONDS", 0.05)
    verbs = Verbs()
    async with serving(tmp_path, verbs):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(tmp_path / "s"))
        with sock:
            sock.sendall(b'{"verb": "flood"}\n')
            await until(lambda: verbs.watched == 1)
            await until(lambda: verbs.watched == 0)
            async with peer(tmp_path) as one:
                assert (await one.ask("add", one=1))[0]["done"]["total"] == 1


@on_both_loops
async def test_a_peer_that_says_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_SECONDS", 0.05)
    async with serving(tmp_path, Verbs()), peer(tmp_path) as one:
        assert await one.hung_up()


@on_both_loops
async def test_only_so_many_are_heard_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, Verbs()), contextlib.AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(peer(tmp_path)) for _ in range(control.CONNECTIONS_MAX)
        ]
        for one in peers:
            assert (await one.ask("add", one=1))[0]["done"]["total"] == 1
        async with peer(tmp_path) as late:
            assert "others are connected already" in (await late.next())["error"]
            assert await late.hung_up()


@on_both_loops
async def test_another_user_is_refused(tmp_path: Path) -> None:
    ours = os.geteuid()
    served = 1 if ours else 0
    path = tmp_path / "s"

    def connect() -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            return sock.makefile().read()

    async with serving(tmp_path, Verbs(), user=served):
        for place in (tmp_path, *tmp_path.parents[:2]):
            place.chmod(0o755)
        path.chmod(0o666)  # as a mistake could: the kernel's word still counts
        said = await asyncio.to_thread(as_stranger, connect)
    expected = f"this instance takes orders from user {served} and root; you are {USER}"
    assert json.loads(said) == {"error": expected}


def test_a_defect_is_told_to_the_log_and_the_peer(tmp_path: Path) -> None:
    async def broken(_: Arguments) -> AsyncGenerator[Facts, None]:
        yield {"so": "far"}
        raise KeyError("a defect")

    verbs = Verbs()
    verbs.table["break"] = Verb(broken)
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with serving(tmp_path, verbs), peer(tmp_path) as one:
            replies = await one.ask("break")
            assert replies[-1] == {"error": "failed; the log says how"}
            assert (await one.ask("add", one=1))[0]["done"]["total"] == 1

    asyncio.run(main())
    assert [type(report["exception"]) for report in reports] == [KeyError]
