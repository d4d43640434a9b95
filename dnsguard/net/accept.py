"""The TCP side towards clients (RFC 7766): pipelined, answered in any order, bounded in all things.

The whole messages of one read are answered from finished replies or handed to the engine, so many
at a time that others get their turn, and what can be said at once leaves in one write. A client may
close its half and still gets its answers; a client that dribbles, idles, or does not read what it
asked for loses its connection, so that slots come back. UDP does not notice any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import defaultdict, deque
from collections.abc import Callable
from typing import cast

from dnsguard.core.engine import Engine
from dnsguard.core.framing import FrameReader, frame
from dnsguard.core.wire import HEADER_OCTETS, QR, REFUSED
from dnsguard.net.addresses import STRANGER, TOO_OFTEN, Access, Rates, family_of, refusal
from dnsguard.net.steer import to_the_younger

AT_ONCE = 256  # queries of one connection in one turn: a read may hold 10,000, and UDP would wait
PENDING_MAX = 128  # queries of one connection under way before it is not read any further
UNREAD_OCTETS_MAX = 1024 * 1024  # replies that a client has asked for and does not read
SHARE_OF_ONE_CLIENT = 4  # one address may hold this fraction (1/4) of all connections
BACKLOG = 512
HANDSHAKE_SECONDS = 0.2  # for what has begun to be a connection to become one


def bind_tcp(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """Return a listening TCP socket. Raises OSError."""
    sock = socket.socket(family_of(host), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Client(asyncio.Protocol):
    """One connection from a client."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._engine = acceptor.engine
        self._frames = FrameReader()
        self._out: list[bytes] = []
        self.waiting: list[tuple[bytes, bytes]] = []  # replies of the engine
        self._left: deque[bytes] = deque()  # whole messages of a read that wait for their turn
        self._turn = False  # whether they are to be taken in a later one
        self._paused = False
        self._ended = False
        self.pending = 0
        self.quiet_since = 0.0
        self.partial_since = 0.0
        self.peer: tuple[str, int] = ("", 0)
        self.raw = b""  # the peer's address
        self.stranger = False  # whose queries are refused, one read of them, and no more
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no assertion: the faster loop's transports are not registered as such.
        transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.quiet_since = self._acceptor.clock()
        if peer is None or not self._acceptor.take(self, peer[:2]):
            transport.abort()
            return
        self.peer = peer[:2]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            return
        now = self._acceptor.clock()
        messages = self._frames.feed(data)
        if messages:
            self.quiet_since = now
        self.partial_since = now if self._frames.partial and messages else self.partial_since
        if not self._frames.partial:
            self.partial_since = 0.0
        elif not self.partial_since:
            self.partial_since = now
        if self._left or len(messages) > AT_ONCE:
            self._left += messages
            messages = self._next()
        self._take(messages, now)

    def _next(self) -> list[bytes]:
        left = self._left
        return [left.popleft() for _ in range(min(len(left), AT_ONCE))]

    def _go_on(self) -> None:
        """Take more of what has been read, now that others have had their turn."""
        self._turn = False
        if self.transport is not None and not self.transport.is_closing():
            self._take(self._next(), self._acceptor.clock())

    def _take(self, messages: list[bytes], now: float) -> None:
        """Answer some queries, and see how it goes on."""
        acceptor = self._acceptor
        engine = self._engine
        get = engine.streams.table.get
        guarded = self.stranger or acceptor.rates.per_second > 0
        hits = 0
        for message in messages:
            if guarded and not self._may_ask(message, now):
                continue
            packet = get(message[2:])
            if packet is not None and now < packet.until:
                packet.hits += 1
                hits += 1
                self._out.append(frame(message[:2] + packet.rest))
            else:
                # What is no query gets no reply, and must not keep the connection open for one.
                if len(message) >= HEADER_OCTETS and not message[2] & QR >> 8:
                    self.pending += 1
                engine.client(message, (self, b""), now, stream=True)
        engine.counters.queries["tcp"] += len(messages)
        if self._out:
            self._write()
        if hits:
            engine.counters.latency.observe(acceptor.clock() - now, hits)
        if self.stranger and messages and self.transport is not None:
            self.transport.close()
        acceptor.done()
        self._pace()

    def _pace(self) -> None:
        """Go on with what has been read or is to be read, or wait for replies to leave first."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self.pending > PENDING_MAX or self._left:
            if not self._paused:
                self._paused = True
                transport.pause_reading()
            if self.pending <= PENDING_MAX and not self._turn:
                self._turn = True
                asyncio.get_running_loop().call_soon(self._go_on)
        elif self._paused and self.pending <= PENDING_MAX // 2:
            self._paused = False
            transport.resume_reading()
        if self._ended and self.pending <= 0 and not self._left:
            transport.close()

    def _may_ask(self, message: bytes, now: float) -> bool:
        """Tell whether a query may be answered; if not, refuse it."""
        if not self.stranger and self._acceptor.rates.allows(self.raw, now):
            return True
        why = STRANGER if self.stranger else TOO_OFTEN
        wire = refusal(message, why, now, stream=True)
        if wire is not None:
            self._engine.counters.answers["failure", REFUSED] += 1
            self._out.append(frame(wire))
        return False

    def eof_received(self) -> bool:
        """The client will send nothing more; stay until it has all its answers."""
        self._ended = True
        return self.pending > 0 or bool(self._left)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._left.clear()
        self._acceptor.drop(self)

    def flush(self) -> None:
        """Write what is in `waiting`; go on reading if there is room again."""
        self.pending -= len(self.waiting)
        self._out += [frame(wire) for _, wire in self.waiting]
        self.waiting.clear()
        self._write()
        self._pace()

    def _write(self) -> None:
        if self.transport is None or self.transport.is_closing():
            self._out.clear()
            return
        self.transport.write(b"".join(self._out))
        self._out.clear()
        if self.transport.get_write_buffer_size() > UNREAD_OCTETS_MAX:
            self.transport.abort()


class Acceptor:
    """All connections from clients, within `limits.tcp_connections` and `limits.tcp_idle`."""

    def __init__(
        self,
        engine: Engine,
        access: Access,
        rates: Rates,
        clock: Callable[[], float],
        done: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.rates = rates
        self.clock = clock
        self.done = done
        self._access = access
        self._clients: set[Client] = set()
        self._of_address: defaultdict[str, int] = defaultdict(int)
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []  # the same listeners, for `stop`
        self._empty = asyncio.Event()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._clients)

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on a listening socket from now on."""
        loop = asyncio.get_running_loop()
        self._sockets.append(sock.dup())
        self._servers.append(
            await loop.create_server(lambda: Client(self), sock=sock, backlog=BACKLOG)
        )

    def admit(self, access: Access) -> None:
        """Answer only the clients that `access` allows from now on."""
        self._access = access
        for client in self._clients:
            client.stranger = not access.allows(client.raw)

    def take(self, client: Client, peer: tuple[str, int]) -> bool:
        """Find a slot for a new connection; False if it must go."""
        most = self.engine.policy.limits.tcp_connections
        client.raw = ipaddress.ip_address(peer[0].partition("%")[0]).packed
        client.stranger = not self._access.allows(client.raw)
        full = len(self._clients) >= most
        if (
            self._of_address.get(peer[0], 0) >= max(most // SHARE_OF_ONE_CLIENT, 1)
            or (full and client.stranger)
            or (full and not self._make_room())
        ):
            self.refused += 1
            return False
        self._clients.add(client)
        self._of_address[peer[0]] += 1
        return True

    def _make_room(self) -> bool:
        """Close the connection that has been quiet for longest and waits for nothing."""
        idle = min(
            (c for c in self._clients if not c.pending), key=lambda c: c.quiet_since, default=None
        )
        if idle is None or idle.transport is None:
            return False
        idle.transport.abort()
        self.drop(idle)
        return True

    def drop(self, client: Client) -> None:
        """Forget a connection."""
        if client in self._clients:
            self._clients.discard(client)
            self._of_address[client.peer[0]] -= 1
            if not self._of_address[client.peer[0]]:
                del self._of_address[client.peer[0]]
            if not self._clients:
                self._empty.set()

    def sweep(self, now: float) -> None:
        """Close connections that have been quiet, or in the middle of a message, for too long."""
        idle = self.engine.policy.limits.tcp_idle
        for client in list(self._clients):
            dribbles = client.partial_since and now - client.partial_since > idle
            quiet = not client.pending and now - client.quiet_since > idle
            transport = client.transport
            if transport is None or not (dribbles or quiet):
                continue
            if dribbles or transport.is_closing():  # closed once, but what it asked for is not read
                transport.abort()
            else:
                transport.close()

    async def stop(self, linger: float = 0.0, ours: int = 1) -> None:
        """Accept nothing more; connections that are there may stay for `linger` seconds.

        Those that the kernel has accepted for us are taken too: it would reset them otherwise.
        Where others listen as well, new ones go to them first; `ours` of the listeners end with us.
        """
        loop = asyncio.get_running_loop()
        steered = [to_the_younger(sock, ours) for sock in self._sockets]
        if any(steered):
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            with sock, contextlib.suppress(OSError):  # the last of them: there are no more
                while True:
                    taken, _ = sock.accept()
                    taken.setblocking(False)
                    await loop.connect_accepted_socket(lambda: Client(self), taken)
        self._sockets.clear()
        self._empty.clear()
        if linger > 0 and self._clients:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger):
                    await self._empty.wait()

    def close(self) -> None:
        """Close every connection once what was written to it has left."""
        for client in list(self._clients):
            if client.transport is not None:
                client.transport.close()
