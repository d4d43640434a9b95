"""The process above the workers: it starts them, starts them again, and passes on what it is told.

It holds no answer and no state of a zone, so that nothing a client or an upstream sends can reach
it. A worker that dies is replaced at once, and after a pause that doubles if it dies again and
again; one whose loop stands still is killed. Signals: SIGTERM and SIGINT end all of them in order,
SIGHUP has the settings read, once and here. Should this process be killed, the workers see it and
end too: a half of a server that nobody watches is worse than none.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from dnsguard import __version__, logs, offspring
from dnsguard.config import Address, Settings
from dnsguard.errors import ConfigError, DnsguardError
from dnsguard.logs import logger
from dnsguard.workers.front import Front
from dnsguard.workers.line import (
    Beat,
    Failed,
    Line,
    Message,
    Orders,
    Serving,
    describe,
    packed,
    pair,
)

START_SECONDS = 30.0  # for the first worker to serve
SAME_PORT_TRIES = 16  # chances to find a port that is free for UDP and TCP, when any will do
STUCK_SECONDS = 10.0  # without a beat: a loop that stands still serves nobody
PAUSE_FIRST, PAUSE_MAX = 0.5, 30.0  # between deaths of one worker, from its second one on
STEADY_SECONDS = 60.0  # of life after which a death counts as the first again
STOP_SECONDS = 10.0  # beyond `upstream.deadline`, for a worker to end in order
WATCH_SECONDS = 1.0
WORKER = ("-P", "-m", "dnsguard.cli.worker")


class CannotStart(DnsguardError):
    """The workers cannot be started."""


class Worker:
    """One of them: the process that has this number now, and those before it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.line: Line | None = None
        self.serving = False
        self.began = self.heard = 0.0
        self.pause = 0.0
        self.restarts = 0

    @property
    def alive(self) -> bool:
        """True while there is a process."""
        return self.process is not None

    def __str__(self) -> str:
        process = self.process
        return f"worker {self.number}" + (f" (process {process.pid})" if process else "")


class Supervisor:
    """The parent of `settings.workers` workers. `load` reads the settings, at SIGHUP."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        resolvers: Sequence[str],
    ) -> None:
        self._settings = settings
        self._load = load
        self._resolvers = tuple(resolvers)
        self.workers = [Worker(number) for number in range(1, settings.workers + 1)]
        self.meeting = ""  # the directory where the workers find each other
        self._began = monotonic()
        self._signals = 0
        self._stopping = False
        self._failure = ""
        self._changed = asyncio.Event()
        self._watched = monotonic()
        self._front: Front | None = None

    async def run(self) -> int:
        """Run until a signal says stop; return the exit code. Raises if nothing can be started."""
        log = logs.start(self._settings.log_format, self._settings.log_level)
        try:
            self._settings = claim(self._settings)
            self.meeting = make_meeting()
            self._front = front = Front(self.meeting, len(self.workers), self._serving, self._alive)
            self._watch_signals()
            for worker in self.workers:
                self._start(worker)
            await self._first()
            self._say_ready(*await front.open(self._settings))
            self._watch()
            while not self._stopping:
                self._changed.clear()
                await self._changed.wait()
            return await self._end()
        finally:
            if self._front is not None:
                await self._front.close()
            for worker in self.workers:
                if worker.process is not None:
                    worker.process.kill()
                    worker.process.wait()
            if self.meeting:
                shutil.rmtree(self.meeting, ignore_errors=True)
            log.stop()

    def _serving(self) -> Sequence[int]:
        """Return the number of each worker that serves."""
        return [worker.number for worker in self.workers if worker.serving]

    def _alive(self) -> Sequence[int]:
        """Return the number of each worker that exists, serving or not yet."""
        return [worker.number for worker in self.workers if worker.alive]

    # -- starting ---------------------------------------------------------------------------

    def _start(self, worker: Worker) -> None:
        ours, theirs = pair()
        orders = Orders(worker.number, self.meeting, self._settings, self._resolvers)
        ours.send(packed(orders))
        try:
            worker.process = subprocess.Popen(
                [sys.executable, *WORKER, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
                env=offspring.environment(),
                process_group=0,  # a Ctrl-C is for us, who pass it on once
            )  # fmt: skip
        except OSError as error:
            ours.close()
            logger.error("worker %d cannot be started: %s", worker.number, error.strerror)
            self._later(worker)
            return
        finally:
            theirs.close()
        worker.serving = False
        worker.began = worker.heard = monotonic()
        worker.line = Line(ours, lambda message: self._told(worker, message), _nothing)

    async def _first(self) -> None:
        """Wait until every worker serves; raises if one says why it cannot, or none does."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not all(worker.serving for worker in self.workers):
                    self._changed.clear()
                    await self._changed.wait()
                    if self._failure:
                        raise CannotStart(self._failure)
                    if self._stopping:
                        return
        except TimeoutError:
            slow = [w for w in self.workers if not w.serving]
            if len(slow) == len(self.workers):
                text = f"no worker serves after {START_SECONDS:.0f} s; the log says why"
                raise CannotStart(text) from None
            names = ", ".join(str(worker) for worker in slow)
            logger.error("%s does not serve yet; the others do", names)

    def _say_ready(self, admin: str, control: str) -> None:
        settings = self._settings
        if self._stopping:
            return
        zones = "; ".join(
            f"{zone.name} -> {', '.join(str(u) for u in zone.upstreams)}"
            for zone in settings.policy.zones
        )
        logger.info(
            "dnsguard %s ready in %.0f ms: %d workers listening on %s (UDP, TCP); upstreams %s; "
            "admin %s; control %s", __version__, (monotonic() - self._began) * 1000,
            len(self.workers), ", ".join(map(str, settings.listen)), zones, admin, control,
        )  # fmt: skip

    # -- while they run ---------------------------------------------------------------------

    def _told(self, worker: Worker, message: Message) -> None:
        worker.heard = monotonic()
        if isinstance(message, Serving):
            worker.serving = True
            if worker.restarts:
                took = (worker.heard - worker.began) * 1000
                text = f"{worker} serves in place of the former after {took:.0f} ms"
                logger.warning("%s", text)
                self._tell("warning", "worker_back", text)
            self._changed.set()
        elif isinstance(message, Failed):
            if not worker.restarts:
                self._failure = message.text
            else:
                logger.error("%s cannot start: %s", worker, message.text)
        elif not isinstance(message, Beat):
            logger.error("%s says what no worker says", worker)

    def _tell(self, level: str, event: str, text: str) -> None:
        if self._front is not None:
            self._front.note(level, event, text)

    def _reap(self) -> None:
        """See who has ended."""
        for worker in self.workers:
            process = worker.process
            if process is None or process.poll() is None:
                continue
            text = f"{worker} {describe(process.returncode)}"
            if worker.line is not None:
                worker.line.readable()
                worker.line.close()
            worker.process, worker.line, worker.serving = None, None, False
            if self._front is not None:
                self._front.ended(worker.number)
            if self._stopping or self._failure:
                if process.returncode not in (0, -signal.SIGTERM):
                    logger.error("%s", text)
                    self._failure = self._failure or text
                self._changed.set()
                continue
            worker.restarts += 1
            if monotonic() - worker.began >= STEADY_SECONDS:
                worker.pause = 0.0
            others = sum(1 for other in self.workers if other.serving)
            text += f"; another starts {f'in {worker.pause:g} s' if worker.pause else 'at once'}, "
            text += f"{others} of {len(self.workers)} serve meanwhile"
            logger.error("%s", text)
            self._tell("error", "worker_ended", text)
            self._later(worker)

    def _later(self, worker: Worker) -> None:
        """Start a worker again after its pause."""
        pause = worker.pause
        worker.pause = min(max(pause * 2, PAUSE_FIRST), PAUSE_MAX)
        loop = asyncio.get_running_loop()
        loop.call_later(pause, self._again, worker)

    def _again(self, worker: Worker) -> None:
        if not self._stopping and not worker.alive:
            self._start(worker)

    def _watch(self) -> None:
        """Kill a worker whose loop stands still; who was away for long oneself accuses nobody."""
        now = monotonic()
        away = now - self._watched > 2 * WATCH_SECONDS
        self._watched = now
        for worker in self.workers:
            if away:
                worker.heard = now
            elif worker.process is not None and now - worker.heard > STUCK_SECONDS:
                logger.error("%s has stood still for %.0f s: killed", worker, STUCK_SECONDS)
                worker.heard = now
                worker.process.kill()
        asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch)

    # -- signals and the end ----------------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def _stop(self) -> None:
        self._signals += 1
        if self._signals > 1:
            for worker in self.workers:
                if worker.process is not None:
                    worker.process.kill()
            raise SystemExit(1)
        self._stopping = True
        self._changed.set()

    def _reload(self) -> None:
        """Read the settings and hand them on, or keep the old ones and say why."""
        try:
            settings = self._load()
        except ConfigError as error:
            for mistake in error.mistakes:
                logger.error("settings not taken, the old ones stay: %s", mistake)
            return
        except DnsguardError as error:
            logger.error("settings not taken, the old ones stay: %s", error)
            return
        if settings.workers != len(self.workers):
            logger.warning("the number of workers changes at a restart only")
        # The ports that were free at the start are the ones that we have.
        settings = replace(
            settings, listen=self._settings.listen, admin=self._settings.admin,
            store=self._settings.store, workers=self._settings.workers,
        )  # fmt: skip
        self._settings = settings
        logger.setLevel(settings.log_level.upper())
        for worker in self.workers:
            if worker.line is not None:
                worker.line.say(settings)
        logger.info("settings handed to %d workers", sum(w.alive for w in self.workers))

    async def _end(self) -> int:
        """Have every worker end in order; kill what does not."""
        logger.info("stopping: %d workers answer what is under way", len(self.workers))
        for worker in self.workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGTERM)
        policy = self._settings.policy
        drain = policy.ask.deadline + policy.limits.tcp_idle + STOP_SECONDS
        try:
            async with asyncio.timeout(drain):
                while any(worker.alive for worker in self.workers):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            logger.error("not ended after %.0f s: killed", drain)
            self._failure = "killed"
        logger.info("stopped")
        return 1 if self._failure else 0


def make_meeting() -> str:
    """Return a new directory, ours alone, where workers find each other.

    Tried are the places that exist for this; in a container whose file system is read-only that is
    often the shared memory alone.
    """
    for place in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/dev/shm"):
        if place:
            with contextlib.suppress(OSError):
                return tempfile.mkdtemp(prefix="dnsguard-", dir=place)
    raise CannotStart(
        "the workers need a directory where they find each other, and neither $XDG_RUNTIME_DIR, "
        "$TMPDIR, /tmp nor /dev/shm can be written; or set workers to 1"
    )


def claim(settings: Settings) -> Settings:
    """Return the settings with the ports that are to be shared; raises if someone has one of them.

    Workers share an address with whoever runs as the same user and wants to. That a second server
    does so by mistake is seen here, where the address is asked for alone for a moment.
    """
    if settings.takeover:
        return settings
    listen = []
    for address in settings.listen:
        try:
            listen.append(address._replace(port=_free(address)))
        except OSError as error:
            text = f"cannot listen on {address}: {error.strerror}. Choose another address with"
            text += " --listen ADDR:PORT"
            if error.errno == errno.EADDRINUSE:
                text += ", or take the place of the server there with --takeover"
            raise CannotStart(text) from None
    return replace(settings, listen=tuple(listen))


def _free(address: Address) -> int:
    """Return the port, or one that is free for UDP and TCP where any will do."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    for _ in range(SAME_PORT_TRIES):
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family) as tcp:
            if family == socket.AF_INET6:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((address.host, address.port))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind((address.host, port))
                tcp.listen(1)
            except OSError:
                if address.port:
                    raise
                continue
            return port
    raise OSError(errno.EADDRINUSE, "no port is free for UDP and TCP")


def _nothing() -> None:
    """What to do at the end of a line: the end of the process says more."""
