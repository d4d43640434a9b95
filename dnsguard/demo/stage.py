"""Starts the demo's processes, lets the timeline run, and clears the stage whatever happens.

Order: the port is tried, the cluster DNS starts, then the plain cache, then the real proxy, and
once that says ready the clients begin and with them the clock. A process that dies ends the demo
with its last words. What is drawn is a `Screen`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from dnsguard.config import Address
from dnsguard.demo.child import Child
from dnsguard.demo.clients import GIVE_UP_SECONDS
from dnsguard.demo.cluster import HOST, bind_pair
from dnsguard.demo.keys import Keys
from dnsguard.demo.show import Screen, Settings, Show
from dnsguard.demo.tally import GUARD, PLAIN, TARGETS, Outcome, Sample
from dnsguard.demo.timeline import Mode
from dnsguard.errors import DnsguardError

READY_SECONDS = 20.0  # a cold file cache on a busy machine, and then some
POLL_SECONDS = 0.02
FRAME_SECONDS = 0.125
HISTORY_SECONDS = 300  # what is remembered while the demo stays up
STAY_QPS_MAX = 50.0  # enough to see every change at once, little enough to leave running

MODE_KEYS = {"d": Mode.DEAD, "s": Mode.SERVFAIL, "b": Mode.HEALTHY}
QUIT_KEY = "q"


class StageError(DnsguardError):
    """The demo cannot be set up here; the message says why and what to do."""


def free_address(wanted: Address) -> Address:
    """`wanted`, with a port in place of 0; raises StageError if it cannot be listened on."""
    try:
        pair = bind_pair(*wanted)
    except OSError as error:
        why = {
            errno.EADDRINUSE: "is taken by another program (often an mDNS responder, or another "
            "dnsguard). Stop that one",
            errno.EACCES: "is not allowed: ports below 1024 belong to root. Become root",
            errno.EADDRNOTAVAIL: "is not an address of this machine. Use one of its own",
        }.get(error.errno or 0, f"cannot be listened on: {error.strerror}. Free it")
        raise StageError(
            f"{wanted} {why}, or choose another place:\n"
            "  dnsguard demo --listen 127.0.0.1:5354\n"
            "  make run ARGS='--listen 127.0.0.1:5354'"
        ) from None
    port = pair[0].getsockname()[1]
    for opened in pair:
        opened.close()
    return Address(wanted.host, port)


class Stage:
    """The processes and their orders. Use as an asynchronous context manager."""

    def __init__(self, settings: Settings, screen: Screen) -> None:
        self.show = Show(settings, settings.listen)
        self._screen = screen
        self._epoch = time.monotonic()
        self._children: list[Child] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._parts: dict[str, Child] = {}
        self._said: dict[str, dict[str, Any]] = {"cluster": {}, "plain": {}, "clients": {}}

    async def __aenter__(self) -> Stage:
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop every process and wait until it is gone."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in self._children))
        self._watchers.clear()
        self._children.clear()

    def check(self) -> None:
        """Raise ChildDied if a process is gone."""
        for watcher in self._watchers:
            if watcher.done():
                watcher.result()

    def set_mode(self, mode: Mode) -> None:
        """Let the cluster DNS die, fail or be well."""
        self._parts["cluster"].tell(mode)

    def set_rate(self, qps: float) -> None:
        self._parts["clients"].tell(f"rate {qps}")

    async def begin(self) -> None:
        """Let the clients begin, and the clock."""
        self._parts["clients"].tell("start")
        await self._until(lambda: self.show.started is not None, "the clients' first report")

    async def _open(self) -> None:
        show, settings, opening = self.show, self.show.settings, self._screen.opening
        show.listen = free_address(settings.listen)
        said = self._said
        opening("cluster DNS")
        asked = {"ttl": settings.ttl, "epoch": self._epoch, "doors": TARGETS}
        await self._start_part("cluster", asked, "ports")
        show.cluster_pid = self._parts["cluster"].pid
        opening("plain cache")
        await self._start_part("plain", {"upstream_port": said["cluster"]["ports"][PLAIN]}, "port")
        show.plain_port = said["plain"]["port"]
        opening("dnsguard serve")
        await self._start_proxy(Address(HOST, said["cluster"]["ports"][GUARD]))
        opening("clients")
        targets = {GUARD: tuple(show.listen), PLAIN: (HOST, show.plain_port)}
        asked = {"qps": settings.qps, "epoch": self._epoch, "ports": targets}
        await self._start_part("clients", asked, "clients")

    async def _start_part(self, name: str, settings: dict[str, Any], ready: str) -> None:
        """Start one of the demo's own processes and wait until it has said `ready`."""
        command = (sys.executable, "-m", f"dnsguard.demo.{name}", json.dumps(settings))
        title = f"The demo's {name} process"
        child = await self._add(title, command, lambda line: self._heard(name, json.loads(line)))
        self._parts[name] = child
        await self._until(lambda: ready in self._said[name], title)

    async def _start_proxy(self, upstream: Address) -> None:
        lines: list[str] = []

        def on_line(line: str) -> None:
            if "ready" in line:
                lines.append(line)

        command = self.show.settings.proxy(self.show.listen, upstream)
        await self._add("dnsguard serve", command, on_line, stderr=True)
        await self._until(lambda: bool(lines), "dnsguard serve")

    async def _add(
        self,
        title: str,
        command: Sequence[str],
        on_line: Callable[[str], None],
        *,
        stderr: bool = False,
    ) -> Child:
        child = await Child.start(title, command, on_line, stderr=stderr)
        self._children.append(child)
        self._watchers.append(asyncio.create_task(_watch(child)))
        return child

    async def _until(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise StageError(
                    f"{what} was not ready within {READY_SECONDS:g} s. "
                    "Is the machine very busy? Try again."
                )
            await asyncio.sleep(POLL_SECONDS)

    def _heard(self, name: str, message: dict[str, Any]) -> None:
        """A line from one of the demo's own processes."""
        show, tally = self.show, self.show.tally
        # From the processes' clock to the clients'; what came before those belongs to no second.
        offset = -math.inf if show.started is None else self._epoch - show.started
        match message:
            case {"asked": counts, "at": at}:
                show.reported = time.monotonic()
                tally.asked(at + offset, counts)
            case {"mode": mode, "at": at}:
                show.mode = Mode(mode)
                show.changes.append((show.mode, at + offset))
            case {"samples": samples, "sent": sent, "started": started}:
                show.started = started
                for second, count in sent:
                    tally.sent(second, count)
                tally.add(Sample(t, at, Outcome(o), took, age) for t, at, o, took, age in samples)
            case _:
                self._said[name] |= message


async def _watch(child: Child) -> None:
    raise await child.ended()


async def perform(settings: Settings, screen: Screen) -> int:
    """The whole demo; returns the exit code: 0 if dnsguard left no query without an answer."""
    try:
        with Keys() as keys:
            async with Stage(settings, screen) as stage:
                await stage.begin()
                await _play(stage, screen, keys)
                code = 1 if stage.show.lost else 0
                if not settings.once:
                    # To be interrupted is how it ends from here on, and no failure.
                    with contextlib.suppress(asyncio.CancelledError):
                        await _stay(stage, screen, keys)
                return code
    finally:
        screen.close()


async def _play(stage: Stage, screen: Screen, keys: Keys) -> None:
    """From the first phase to the summary."""
    show = stage.show
    plan = show.settings.timeline
    mode = show.mode
    patience = plan.total + GIVE_UP_SECONDS + 1.0
    while show.now < plan.total or (not show.tally.settled(plan.total) and show.now < patience):
        if mode is not (wanted := plan.at(show.now).mode):
            mode = wanted
            stage.set_mode(mode)
        stage.check()
        keys.pressed()  # none has a meaning yet, nor shall it have one later
        screen.frame(show)
        await asyncio.sleep(FRAME_SECONDS)
    screen.summary(show, show.summaries())


async def _stay(stage: Stage, screen: Screen, keys: Keys) -> None:
    """Go on until the key for it, or until this task is cancelled."""
    show = stage.show
    stage.set_rate(min(STAY_QPS_MAX, show.settings.qps))
    show.tally.forget(int(show.now) - HISTORY_SECONDS)
    screen.staying(show, keys.usable)
    while (key := keys.pressed()) != QUIT_KEY:
        if key in MODE_KEYS:
            stage.set_mode(MODE_KEYS[key])
        stage.check()
        show.tally.forget(int(show.now) - HISTORY_SECONDS)
        screen.idle(show)
        await asyncio.sleep(FRAME_SECONDS)
