"""The life of one server: parts built and started in order, signals, new settings, a clean end.

It knows every part and decides nothing about names. Started: sockets bound, upstream names
resolved, listeners reading, admin address open, one log line that says `ready`. Ended by SIGTERM
or SIGINT: no new queries, the open ones answered, exit 0; a second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from dnsguard import __version__, clock, logs, message_text
from dnsguard.admin.http import HttpServer
from dnsguard.admin.pin_verbs import pins_beside
from dnsguard.admin.status import Reading
from dnsguard.admin.verbs import verbs
from dnsguard.admin.watching import Watch
from dnsguard.config import Settings
from dnsguard.control_place import Control, control_places, open_control
from dnsguard.core.actions import Notice
from dnsguard.core.engine import Engine
from dnsguard.errors import ConfigError, DnsguardError, StoreError
from dnsguard.logs import logger
from dnsguard.net.accept import bind_tcp
from dnsguard.net.addresses import Access
from dnsguard.net.bootstrap import resolve_upstreams
from dnsguard.net.driver import Driver
from dnsguard.net.listen import bind_udp
from dnsguard.net.sampling import Sample
from dnsguard.store.place import Place, directory_name, make_root
from dnsguard.workers.line import Post, control_name, meeting_name

if TYPE_CHECKING:
    from dnsguard.store.keeper import Keeper

SAME_PORT_TRIES = 16  # chances to find a port that is free for UDP and TCP, when any will do
# Young objects before a collection. Nothing on the way of a query makes cycles, so collections
# find next to nothing; the oldest generation, which is the cache, is never worth a walk.
GC_YOUNG, GC_MIDDLE, GC_OLD = 50_000, 50, 100_000


class CannotListen(DnsguardError):
    """An address that we were told to listen on cannot be had."""


class Server:
    """One dnsguard process. `load` reads the settings: at start, and again at SIGHUP."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        resolvers: Sequence[str],
        post: Post | None = None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._resolvers = tuple(resolvers)
        self._post = post  # one of several workers has one
        self._driver: Driver | None = None
        self._keeper: Keeper | None = None
        self._watch: Watch | None = None
        self._stopping = asyncio.Event()
        self._signals = 0
        self._began = clock.now()
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until a signal says stop. Raises DnsguardError if it cannot start."""
        settings = self._settings
        post = self._post
        log = logs.start(settings.log_format, settings.log_level, post.number if post else 0)
        try:
            pairs = bind_all(settings, settings.takeover or post is not None)
            policy = await resolve_upstreams(settings.policy, self._resolvers, logger.warning)
            driver = Driver(policy, Access(settings.access), self._report)
            self._driver = driver
            self._watch = watch = Watch(driver.engine)
            meeting = post.meeting if post else ""
            self._keeper = keeper = open_store(settings, driver, self._report, meeting)
            await driver.start([udp for udp, _ in pairs], [tcp for _, tcp in pairs])
            admin, admin_at = await self._open_admin(driver)
            self._watch_signals()
            driver.sample(settings.log_queries, self._say_query)
            if keeper is not None:
                await keeper.loaded()
            control = await self._open_control(driver, pairs)
            watch.start()
            tune_collector()
            if post is not None:
                post.begin(self._begin_reload, self._left_alone)
                post.serving()
            else:
                self._say_ready(pairs, admin_at, control)
            await self._stopping.wait()
            if post is None:
                logger.info("stopping: answering what is under way")
            watch.stop()
            if control is not None:
                await control.close()
            if admin is not None and settings.takeover:
                await admin.close()  # from here on its address is the other server's
            linger = settings.policy.limits.tcp_idle if settings.takeover else 0.0
            await driver.stop(settings.policy.ask.deadline, linger, settings.workers)
            if keeper is not None:
                await keeper.stop()
            if admin is not None:
                await admin.close()
            if post is None:
                logger.info("stopped")
        finally:
            log.stop()

    async def _open_admin(self, driver: Driver) -> tuple[HttpServer | None, str]:
        address, post = self._settings.admin, self._post
        if address is None:
            return None, "off"
        from dnsguard.admin.routes import Metrics, routes

        reading = self._reading(driver, self._settings.hot_names)
        coredns = f"dns://{self._settings.listen[0]}" if self._settings.coredns_names else ""
        server = HttpServer(routes(Metrics(reading, coredns), reading, self._missing))
        if post is not None:  # the supervisor has the address, and asks us
            await server.listen_at(os.path.join(post.meeting, meeting_name(post.number)))
            return server, ""
        try:
            port = await server.listen(address.host, address.port, self._settings.takeover)
        except OSError as error:
            raise CannotListen(
                f"admin address {address}: {error.strerror}. "
                "Choose another with --admin ADDR:PORT, or --admin off"
            ) from None
        return server, f"http://{address._replace(port=port)}"

    def _reading(self, driver: Driver, names: bool) -> Reading:
        assert self._watch is not None
        counts = None if self._keeper is None else self._keeper.counts
        return Reading(driver.engine, self._watch, driver.numbers, counts, names)

    def _report(self, notice: Notice) -> None:
        """Write one notice to the log, and keep it for the page."""
        if self._watch is not None:
            self._watch.note(notice)
        report(notice)

    def _say_query(self, sample: Sample) -> None:
        say_query(sample, self._settings.log_query_names)

    async def _open_control(
        self, driver: Driver, pairs: Sequence[tuple[socket.socket, socket.socket]]
    ) -> Control | None:
        settings, post = self._settings, self._post
        places = control_places(settings, _shown(pairs[0][0]))
        if post is not None:  # the supervisor has the place, and passes on what it is told
            places = [(post.meeting, control_name(post.number))]
        keep_pins = await keeping_pins(settings, driver.engine)
        listening = [_shown(udp) for udp, _ in pairs]
        reading = self._reading(driver, True)
        table = verbs(driver.engine, listening, keep_pins, reading, driver.flush)
        control = await open_control(places, table, settings.takeover)
        if post is not None:
            beside = [os.path.join(post.meeting, control_name(n)) for n in post.others(settings)]
            await pins_beside(driver.engine, beside)
        return control

    def _missing(self) -> str:
        if self._stopping.is_set():
            return "stopping"
        if self._driver is None or not self._driver.listeners:
            return "listeners"
        if self._keeper is not None and not self._keeper.ready:
            return "the answers of an earlier run"
        return ""

    def _say_ready(
        self,
        pairs: Sequence[tuple[socket.socket, socket.socket]],
        admin: str,
        control: Control | None,
    ) -> None:
        listening = ", ".join(_shown(udp) for udp, _ in pairs)
        zones = "; ".join(
            f"{zone.name} -> {', '.join(str(u) for u in zone.upstreams)}"
            for zone in self._settings.policy.zones
        )
        took = (clock.now() - self._began) * 1000
        logger.info(
            "dnsguard %s ready in %.0f ms: listening on %s (UDP, TCP); upstreams %s; admin %s; "
            "control %s",
            __version__, took, listening, zones, admin, control.path if control else "off",
        )  # fmt: skip

    # -- signals ----------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)

    def _stop(self) -> None:
        self._signals += 1
        if self._signals > 1:
            raise SystemExit(1)
        self._stopping.set()

    def _left_alone(self) -> None:
        """The supervisor is gone, and nobody would start again what dies: end in order."""
        if not self._stopping.is_set():
            logger.error("the supervisor is gone: this worker ends too")
            self._stopping.set()

    def _begin_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        """Take new settings, or keep the old ones and say why."""
        assert self._driver is not None
        try:
            settings = self._load()
            policy = await resolve_upstreams(settings.policy, self._resolvers, logger.warning)
        except ConfigError as error:
            for mistake in error.mistakes:
                logger.error("settings not taken, the old ones stay: %s", mistake)
            return
        except DnsguardError as error:
            logger.error("settings not taken, the old ones stay: %s", error)
            return
        old = self._settings
        if (settings.listen, settings.admin) != (old.listen, old.admin):
            logger.warning("listen and admin addresses change at a restart only")
        if settings.hot_names != old.hot_names:
            logger.warning("admin.hot_names changes at a restart only")
        if settings.coredns_names != old.coredns_names:
            logger.warning("metrics.coredns_names changes at a restart only")
        if settings.store != self._settings.store:
            logger.warning("store.dir and the other store settings change at a restart only")
        self._settings = settings
        logger.setLevel(settings.log_level.upper())
        self._driver.reload(policy, Access(settings.access))
        self._driver.sample(settings.log_queries, self._say_query)
        logger.info("settings taken")


def bind_all(settings: Settings, shared: bool = False) -> list[tuple[socket.socket, socket.socket]]:
    """Return a (UDP, TCP) pair of sockets for each listen address; none if one cannot be had."""
    pairs: list[tuple[socket.socket, socket.socket]] = []
    for address in settings.listen:
        try:
            pairs.append(_bind_pair(address.host, address.port, shared))
        except OSError as error:
            for pair in pairs:
                for sock in pair:
                    sock.close()
            why = _advice(error, address.port)
            raise CannotListen(f"cannot listen on {address}: {why}") from None
    return pairs


def _bind_pair(host: str, port: int, shared: bool) -> tuple[socket.socket, socket.socket]:
    for attempt in range(SAME_PORT_TRIES):
        udp = bind_udp(host, port, shared)
        try:
            return udp, bind_tcp(host, udp.getsockname()[1], shared)
        except OSError:
            udp.close()
            if port or attempt + 1 == SAME_PORT_TRIES:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def open_store(
    settings: Settings, driver: Driver, notice: Callable[[Notice], None], meeting: str = ""
) -> Keeper | None:
    """Begin to keep answers beyond this process, unless the settings say not to.

    `meeting` is where the other workers of a server are found; a server that takes the place of
    another finds that in the directory of their state.
    """
    if settings.store.dir is None and not meeting and not settings.store.shared:
        return None
    from dnsguard.store.keeper import Keeper

    place = None
    places = [meeting] if meeting else []
    if settings.store.dir is not None:
        place = Place(settings.store.dir, directory_name(str(settings.listen[0])))
        if settings.takeover:
            places.append(place.directory)
    keeper = Keeper(place, settings.store, driver.engine, notice, places, driver.flush)
    driver.search = keeper.search
    keeper.start()
    return keeper


async def keeping_pins(settings: Settings, engine: Engine) -> Callable[[], Awaitable[str]]:
    """Take back the pins of an earlier run; return what writes down those of this one."""
    if settings.store.dir is None:

        async def nowhere() -> str:
            return "there is no state directory (store.dir is off)"

        return nowhere
    from dnsguard.store.pins_file import KeptPins

    place = Place(settings.store.dir, directory_name(str(settings.listen[0])))
    try:
        make_root(place.root)
    except (OSError, StoreError) as error:
        trouble = str(error)  # the store says so in the log

        async def refused() -> str:
            return trouble

        return refused
    kept = KeptPins(place.directory, engine)
    trouble = await kept.take_back()
    if trouble:
        logger.warning("pins of an earlier run are lost: %s", trouble)
    return kept.keep


def _advice(error: OSError, port: int) -> str:
    if isinstance(error, PermissionError):
        return (
            f"{error.strerror}. Ports below 1024 need a privilege: choose a higher one, or set "
            f"the sysctl net.ipv4.ip_unprivileged_port_start={port}"
        )
    return f"{error.strerror}. Choose another address with --listen ADDR:PORT"


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ipaddress.ip_address(host).version == 6 else f"{host}:{port}"


def tune_collector() -> None:
    """Spare the collector what is there for good, and the queries its long walks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)


def say_query(sample: Sample, names: bool) -> None:
    """Write one line of the query log, with the name that was asked for or without."""
    qtype = message_text.type_name(sample.qtype)
    shown = f"{sample.name} " if names else ""
    lost = f" ({sample.lost} others were not written)" if sample.lost else ""
    text = (
        f"query {sample.client} {sample.transport} {shown}{qtype} in zone {sample.zone}: "
        f"{sample.rcode}, {sample.source}, {sample.took * 1000:.2f} ms{lost}"
    )
    fields = {
        "client": sample.client, "transport": sample.transport, "type": qtype, "zone": sample.zone,
        "rcode": sample.rcode, "source": sample.source, "seconds": round(sample.took, 6),
        "lost": sample.lost,
    }  # fmt: skip
    if names:
        fields["name"] = sample.name
    logger.info("%s", text, extra={"event": logs.QUERY, "fields": fields})


def report(notice: Notice) -> None:
    """Write one notice of the engine to the log."""
    level = {"info": 20, "warning": 30, "error": 40}[notice.level]
    extra = {"event": notice.event, "fields": dict(notice.fields)}
    logger.log(level, "%s", notice.text, extra=extra)
