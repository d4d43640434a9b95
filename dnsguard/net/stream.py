"""The TCP and TLS side towards upstreams: connections kept open for a while and pipelined.

One connection a server carries many asks at once; replies are matched by id, in whatever order
they come (RFC 7766 sections 6.2.1 and 7). A connection lives briefly, because one that is pinned
to a dead pod looks healthy for minutes. TLS is strict (RFC 7858, RFC 8310 section 5): the name on
the certificate must match, and there is no falling back to clear text.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from dnsguard.core.edns import idle_time
from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.framing import FrameReader, frame
from dnsguard.core.health import Event
from dnsguard.core.zones import Server

if TYPE_CHECKING:
    from ssl import SSLObject

    from dnsguard.net.tls import Context

CONNECT_SECONDS = 2.0  # half of a cold name's life: time for one more try
IDLE_SECONDS = 10.0  # as CoreDNS's forward does: longer than a burst, shorter than a rollout;
# a server that says less (RFC 7828) is taken at its word, so that its end is not found by asking
AGE_SECONDS = 60.0
# A connection that has been asked and has said nothing for so long is left alone: what it led to
# may be gone, and the kernel would send to it for a quarter of an hour (tcp(7), tcp_retries2).
MUTE_SECONDS = 1.0
PENDING_MAX = 1000  # asks on one connection; RFC 7766 sets no limit, an id has 65,536 values


class Connection(asyncio.Protocol):
    """One connection to one upstream. Asks made before it stands are written when it does."""

    def __init__(self, streams: Streams, server: Server, now: float) -> None:
        self._streams = streams
        self.server = server
        self.pending: dict[int, Ask] = {}
        self.opened = self.used = now
        self.idle = IDLE_SECONDS
        self.asked = float("inf")  # when it was asked first of what it has not answered since
        self.served = 0
        self.transport: asyncio.Transport | None = None
        self.tls: SSLObject | None = None
        self.task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._frames = FrameReader()

    def send(self, ask: Ask, now: float) -> None:
        """Write one ask, or keep it until the connection stands."""
        number = int.from_bytes(os.urandom(2), "big")
        while number in self.pending:
            number = int.from_bytes(os.urandom(2), "big")
        self.pending[number] = ask
        ask.id = number
        self.used = now
        self.asked = min(self.asked, now)
        wire = frame(number.to_bytes(2, "big") + ask.wire)
        if self.transport is None:
            self._early.append(wire)
        else:
            self.transport.write(wire)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no assertion: the faster loop's transports are not registered as such.
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        self.tls = transport.get_extra_info("ssl_object")  # a transport that is gone has none
        if self._early:
            transport.write(b"".join(self._early))
            self._early.clear()

    def data_received(self, data: bytes) -> None:
        now = self._streams.clock()
        self.asked = float("inf")
        engine = self._streams.engine
        for message in self._frames.feed(data):
            if len(message) < 2:
                engine.counters.ignored["short"] += 1
                continue
            ask = self.pending.get(message[0] << 8 | message[1])
            if ask is None:
                engine.counters.ignored["id"] += 1
            elif engine.answer(ask, message, now):
                del self.pending[ask.id]
                self.served += 1
                told = idle_time(message)
                if told is not None:
                    self.idle = min(told, IDLE_SECONDS)
        self._streams.done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.lost(self, exc)

    def close(self) -> None:
        """Close the connection, established or not."""
        if self.task is not None:
            self.task.cancel()
        if self.transport is not None:
            self.transport.abort()


class Streams:
    """All connections to upstreams over TCP and TLS; at most one that takes new asks a server."""

    def __init__(
        self, engine: Engine, clock: Callable[[], float], done: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.done = done
        self._current: dict[Server, Connection] = {}
        self._all: set[Connection] = set()
        self._tls: dict[Server, Context] = {}

    def __len__(self) -> int:
        return len(self._all)

    def send(self, server: Server, asks: list[Ask], now: float) -> None:
        """Send asks over the server's connection, opening one if there is none fit for them."""
        for ask in asks:
            connection = self._current.get(server)
            if (
                connection is None
                or len(connection.pending) >= PENDING_MAX
                or now - connection.opened > AGE_SECONDS
                or now - connection.used > connection.idle
                or now - connection.asked > MUTE_SECONDS
            ):
                connection = self._open(server, now)
            connection.send(ask, now)

    def _open(self, server: Server, now: float) -> Connection:
        connection = Connection(self, server, now)
        self._current[server] = connection
        self._all.add(connection)
        connection.task = asyncio.get_running_loop().create_task(self._connect(connection))
        return connection

    async def _connect(self, connection: Connection) -> None:
        upstream = connection.server.upstream
        tls = self._context(connection.server) if upstream.transport == "tls" else None
        name = (upstream.server_name or upstream.host) if tls else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(
                    lambda: connection, upstream.host, upstream.port, ssl=tls, server_hostname=name
                )
        except OSError as error:  # TimeoutError and SSLError are OSErrors too
            self.lost(connection, error)
        finally:
            connection.task = None

    def _context(self, server: Server) -> Context:
        found = self._tls.get(server)
        if found is None:
            from dnsguard.net.tls import context

            found = self._tls[server] = context()
        return found

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """A connection is gone: its asks go once more over a new one, or have failed."""
        if connection not in self._all:
            return
        self._discard(connection)
        now = self.clock()
        asks = [ask for ask in connection.pending.values() if not ask.flight.over]
        connection.pending.clear()
        if connection.served and asks:
            # It worked and was closed while we wrote: the server's idle limit, most likely, and
            # no evidence against it (RFC 7766 section 6.2.4).
            self.send(connection.server, asks, now)
            return
        refused = isinstance(error, ConnectionError)
        for ask in asks:
            self.engine.failed(ask, Event.REFUSED if refused else Event.UNREACHABLE, now)
        self.done()

    def sweep(self, now: float) -> None:
        """Close connections that nobody needs any more."""
        for connection in list(self._all):
            pending = connection.pending
            for number in [n for n, ask in pending.items() if ask.flight.over]:
                del pending[number]
            old = now - connection.opened > AGE_SECONDS
            old = old or self._current.get(connection.server) is not connection
            if not pending and (old or now - connection.used > connection.idle):
                self._forget(connection)

    def sent_by_us(self, name: tuple[str, int], ask: Ask) -> bool:
        """Tell whether a connection from `name` is the one that carries `ask`."""
        for connection in self._all:
            if connection.pending.get(ask.id) is ask and connection.transport is not None:
                own = connection.transport.get_extra_info("sockname")
                return bool(own and own[:2] == name)
        return False

    def _discard(self, connection: Connection) -> None:
        self._all.discard(connection)
        if self._current.get(connection.server) is connection:
            del self._current[connection.server]
        if connection.tls is not None:
            self._tls[connection.server].remember(connection.tls)

    def _forget(self, connection: Connection) -> None:
        self._discard(connection)
        connection.close()

    def close(self) -> None:
        """Close everything."""
        for connection in list(self._all):
            self._forget(connection)
