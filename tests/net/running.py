"""One way to run the real thing in a test: on loopback, on either event loop, or as a process.

`on_both_loops` runs an asynchronous test on asyncio's own loop and on the one that `serve` uses,
and fails it for any error that nobody caught; `later` and `stand_still` rule such a test's clock,
so that none waits for a TTL to end, or hopes that it does not. `proxy` is a driver on the test's
own loop, `scene` adds an upstream and clients; `serve` is `python -m dnsguard serve` as an operator
starts it.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import inspect
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import uvloop

from dnsguard import clock
from dnsguard.config import Address, Given, Settings
from dnsguard.core.actions import Notice
from dnsguard.net.addresses import Access
from dnsguard.net.driver import Driver
from dnsguard.server import bind_all
from tests.net.asking import Datagrams, Stream, datagrams, stream
from tests.net.upstream import Upstream
from tests.settings_from import SET, loaded

HOST = "127.0.0.1"
SIX = "::1"
ONCE = "upstream.attempts=1"  # where a test counts questions, or holds answers back
SECONDS_MAX = 30.0  # a safety net: no test comes near it
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
Test = Callable[..., Coroutine[Any, Any, None]]


def _loopbacks() -> list[str]:
    """Both loopback addresses, where the machine has both."""
    try:
        socket.create_server((SIX, 0), family=socket.AF_INET6).close()
    except OSError:
        return [HOST]
    return [HOST, SIX]


LOOPBACKS = _loopbacks()


class Jumping:
    """The boot-time clock, and how far a test has moved it."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self.begin()

    def begin(self) -> None:
        self.ahead = 0.0
        self.stopped_at = float("inf")

    def stop(self) -> None:
        self.stopped_at = self._real()

    def __call__(self) -> float:
        return min(self._real(), self.stopped_at) + self.ahead


_now = Jumping(clock.now)


def later(seconds: float) -> None:
    """Let this much time have passed for all drivers; timers that were set before do not notice."""
    _now.ahead += seconds


def stand_still() -> None:
    """From now on time passes for no driver unless `later` lets it."""
    _now.stop()


def run(main: Coroutine[Any, Any, None], loop: str, seconds: float = SECONDS_MAX) -> None:
    """Run `main` to its end; an error in a callback or a lost task is a failure too."""
    errors: list[dict[str, Any]] = []

    async def watched() -> None:
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(seconds):
            await main

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", _now)
        _now.begin()
        runner.run(watched())
    assert not errors, errors


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds that nobody says when it does."""
    while not condition():  # noqa: ASYNC110 - what is tested has no events for its tests
        await asyncio.sleep(0)


def _on(loops: Sequence[str], test: Test, seconds: float = SECONDS_MAX) -> Callable[..., None]:
    signature = inspect.signature(test)
    extra = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)

    @functools.wraps(test)
    def on_loop(*, loop: str, **fixtures: Any) -> None:
        run(test(**fixtures), loop, seconds)

    parameters = [*signature.parameters.values(), extra]
    on_loop.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("loop", loops)(on_loop)
    return marked


def on_both_loops(test: Test) -> Callable[..., None]:
    """Run an asynchronous test on each of the two loops."""
    return _on(list(LOOPS), test)


def on_a_loop(test: Test) -> Callable[..., None]:
    """Run an asynchronous test on the loop of `serve`: where the other would add nothing."""
    return _on(["uvloop"], test)


def on_a_loop_for(seconds: float) -> Callable[[Test], Callable[..., None]]:
    """The same for a test of many processes, which a busy machine may need longer for."""
    return lambda test: _on(["uvloop"], test, seconds)


def settings_for(
    upstreams: Sequence[str], assignments: Sequence[str] = (), listen: Sequence[str] = (HOST,)
) -> Settings:
    """Settings as `serve` would read them: listening on any port, asking `upstreams`."""
    given = [Given("listen", str(Address(host, 0)), SET) for host in listen]
    given += [Given("zones...upstreams", url, SET) for url in upstreams]
    given.append(Given("admin.listen", str(Address(HOST, 0)), SET))
    for text in assignments:
        key, _, value = text.partition("=")
        given.append(Given(key, value, SET))
    return loaded(*given)


def access(networks: str) -> Access:
    """Who may ask, as `access.allow` says it."""
    return Access(settings_for(["192.0.2.53"], [f"access.allow={networks}"]).access)


class Proxy:
    """A driver that runs on the test's own loop."""

    def __init__(self, driver: Driver, ports: Sequence[int], notices: list[Notice]) -> None:
        self.driver = driver
        self.ports = ports
        self.port = ports[0]
        self.notices = notices
        self.stopped = False

    async def stop(self, drain: float) -> None:
        """Stop it before the test ends."""
        self.stopped = True
        await self.driver.stop(drain)

    @property
    def url(self) -> str:
        return f"{HOST}:{self.port}"


@asynccontextmanager
async def proxy(
    upstreams: Sequence[str], *assignments: str, listen: Sequence[str] = (HOST,)
) -> AsyncIterator[Proxy]:
    """Run a driver in front of `upstreams`, with settings such as `stale.recheck=1s`."""
    settings = settings_for(upstreams, assignments, listen)
    async with proxy_on(bind_all(settings), settings) as running:
        yield running


@asynccontextmanager
async def proxy_on(pairs: Sequence[Any], settings: Settings) -> AsyncIterator[Proxy]:
    """Run a driver on sockets that are bound already."""
    notices: list[Notice] = []
    driver = Driver(settings.policy, Access(settings.access), notices.append)
    await driver.start([udp for udp, _ in pairs], [tcp for _, tcp in pairs])
    running = Proxy(driver, [udp.getsockname()[1] for udp, _ in pairs], notices)
    try:
        yield running
    finally:
        if not running.stopped:
            await driver.stop(0.0)


class Scene(NamedTuple):
    """What most tests need: an upstream, a driver in front of it, and a client of each kind."""

    upstream: Upstream
    proxy: Proxy
    udp: Datagrams
    tcp: Stream

    @property
    def clients(self) -> tuple[Datagrams, Stream]:
        return self.udp, self.tcp


@asynccontextmanager
async def scene(*assignments: str, scheme: str = "") -> AsyncIterator[Scene]:
    """Set the scene; `scheme` is how the upstream is asked, such as `tcp://`."""
    async with (
        Upstream() as upstream,
        proxy([scheme + upstream.url], *assignments) as running,
        datagrams(running.port) as udp,
        stream(running.port) as tcp,
    ):
        yield Scene(upstream, running, udp, tcp)


class Serve:
    """`dnsguard serve` in a process of its own. `lines` is what it has written to stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = self.admin = 0
        self._new_line = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode().rstrip("\n"))
            self._new_line.set()
        self._new_line.set()

    async def said(self, text: str, times: int = 1) -> str:
        """Wait for a line that holds `text`; fails if the process ends without it."""
        while True:
            found = [line for line in self.lines if text in line]
            if len(found) >= times:
                return found[times - 1]
            assert not self._reader.done(), f"it never said {text!r}: {self.lines}"
            self._new_line.clear()
            await self._new_line.wait()

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        code = await self.process.wait()
        await self._reader
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


DNSGUARD = ("-m", "dnsguard")


@functools.cache
def runtime_dir() -> str:
    """A directory for control sockets, gone with this run."""
    found = tempfile.mkdtemp(prefix="dnsguard-tests-")
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


async def start(
    *arguments: str, environ: dict[str, str] | None = None, program: Sequence[str] = DNSGUARD
) -> Serve:
    """Start `serve` with these arguments and no others; it knows nothing of earlier ones."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DNSGUARD_")}
    own = {"DNSGUARD_STORE__DIR": "off", "XDG_RUNTIME_DIR": runtime_dir()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, "serve", *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=clean | own | (environ or {}),
    )  # fmt: skip
    return Serve(process)


@asynccontextmanager
async def serve(
    *arguments: str, environ: dict[str, str] | None = None, program: Sequence[str] = DNSGUARD
) -> AsyncIterator[Serve]:
    """Run `serve` on any port until it is ready; it is gone at the end, one way or the other."""
    places = ("--listen", f"{HOST}:0", "--admin", f"{HOST}:0")
    running = await start(*places, *arguments, environ=environ, program=program)
    try:
        ready = await running.said(" ready ")
        listening = re.search(r"listening on \S+:(\d+)", ready)
        admin = re.search(r"admin http://\S+:(\d+)", ready)
        assert listening is not None
        running.port = int(listening[1])
        running.admin = int(admin[1]) if admin else 0
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
        await running.ended()
