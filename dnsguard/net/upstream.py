"""The UDP side towards upstreams: asks out in batches, each batch from ports of its own.

A socket is opened for the asks of one moment, carries at most a few, and is closed when they are
answered or given up. So ports and ids are fresh (RFC 5452 section 9.2), and a flow that the
network has gone blind to, as a stale conntrack entry makes it, is never used twice. Whether a
message answers an ask is the engine's decision; here only socket and id are matched.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable

from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.health import Event
from dnsguard.core.wire import HEADER_OCTETS
from dnsguard.core.zones import Server
from dnsguard.net.addresses import family_of, read_name
from dnsguard.net.mmsg import BATCH, Incoming, Outgoing, address

ASKS_A_PORT = BATCH  # a socket costs as much as a question: shared by so many it costs little
PORTS_MAX = 512  # open sockets; beyond that, asks ride on ports that are open already
REPLY_OCTETS = 4096  # RFC 5625 section 4.4.1 asks for 4096, whatever size we advertised
READY_MAX = 256
ENTROPY_OCTETS = 2048  # drawn from the kernel at once: 1024 ids

# Wrong ids that may come to a port, besides one for every answer that came twice, before they are
# held to be guesses: a few strays are a network's mistake, and so many guesses hit once in 10,000.
STRAYS_MAX = 4

_REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)


class Port:
    """One connected UDP socket and the asks that it carries, by id."""

    __slots__ = ("fd", "opened", "pending", "server", "sock", "strays", "used")

    def __init__(self, sock: socket.socket, server: Server, now: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.server = server
        self.pending: dict[int, Ask] = {}
        self.opened = now
        self.used = 0
        self.strays = 0  # messages with an id that nobody waits for


class Ports:
    """All sockets towards UDP upstreams.

    They share one epoll descriptor, `fd`, which is what the event loop watches: opening and
    closing a port then costs the loop nothing. `entropy` returns n random octets.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float],
        done: Callable[[], None],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._done = done
        self._entropy = entropy
        self._drawn = b""
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()
        self._ports: dict[int, Port] = {}
        self._in = Incoming(REPLY_OCTETS, False)
        self._out = Outgoing(0)

    def __len__(self) -> int:
        return len(self._ports)

    # -- sending ----------------------------------------------------------------------------

    def send(self, server: Server, asks: list[Ask], now: float) -> None:
        """Send asks for one server; what cannot be sent is reported to the engine as failed."""
        for start in range(0, len(asks), ASKS_A_PORT):
            chunk = asks[start : start + ASKS_A_PORT]
            port = self._open(server, now)
            if isinstance(port, OSError):
                self._fail(chunk, port.errno or 0, now)
            else:
                self._send_on(port, chunk, now)

    def _open(self, server: Server, now: float) -> Port | OSError:
        upstream = server.upstream
        if len(self._ports) < PORTS_MAX:
            try:
                sock = socket.socket(
                    family_of(upstream.host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
                )
            except OSError as error:  # out of descriptors: an open port is better than none
                return self._share(server) or error
            try:
                sock.connect((upstream.host, upstream.port))
                self._epoll.register(sock.fileno(), select.EPOLLIN)
            except OSError as error:
                sock.close()
                return error
            port = Port(sock, server, now)
            self._ports[port.fd] = port
            return port
        return self._share(server) or OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _share(self, server: Server) -> Port | None:
        """Return the least used open port of this server, or None."""
        ports = [port for port in self._ports.values() if port.server is server]
        return min(ports, key=lambda port: port.used, default=None)

    def _send_on(self, port: Port, asks: list[Ask], now: float) -> None:
        count = len(asks)
        drawn = self._draw(count)
        pending, words = port.pending, self._out.words
        port.used += count
        wires = []  # kept alive here until they are sent
        at = index = 0
        for ask in asks:
            number = drawn[index] << 8 | drawn[index + 1]
            while number in pending:
                number = int.from_bytes(self._draw(1), "big")
            pending[number] = ask
            ask.id = number
            wire = number.to_bytes(2, "big") + ask.wire
            wires.append(wire)
            words[at] = address(wire)
            words[at + 1] = len(wire)
            at += 2
            index += 2
        sent = 0
        while sent < count:
            result = self._out.send(port.fd, sent, count)
            if result > 0:
                sent += result
            elif result == -errno.EAGAIN:
                break  # no room in the kernel: as good as lost on the way, and retried as such
            else:
                ask = asks[sent]
                sent += 1
                pending.pop(ask.id, None)
                self._fail([ask], -result, now)
        if not pending:
            self._close(port)

    def _draw(self, count: int) -> bytes:
        """Return `count` fresh ids of two octets each; none is ever handed out twice."""
        if len(self._drawn) < 2 * count:
            self._drawn = self._entropy(ENTROPY_OCTETS)
        ids, self._drawn = self._drawn[: 2 * count], self._drawn[2 * count :]
        return ids

    def _fail(self, asks: list[Ask], code: int, now: float) -> None:
        event = Event.REFUSED if code in _REFUSED else Event.UNREACHABLE
        for ask in asks:
            self._engine.failed(ask, event, now)

    # -- receiving --------------------------------------------------------------------------

    def readable(self) -> None:
        """Read the replies that have come, on whatever ports."""
        now = self._clock()
        for fd, _ in self._epoll.poll(0, READY_MAX):
            port = self._ports.get(fd)
            if port is not None:
                self._read(port, now)
        self._done()

    def _read(self, port: Port, now: float) -> None:
        pending, incoming = port.pending, self._in
        octets, starts = incoming.octets_of, incoming.starts
        lengths, length_at = incoming.lengths, incoming.length_at
        answer, ignored = self._engine.answer, self._engine.counters.ignored
        count = BATCH
        while count == BATCH:
            try:
                count = incoming.receive(port.fd)
            except OSError as error:
                asks = list(pending.values())
                pending.clear()
                self._close(port)
                self._fail(asks, error.errno or 0, now)
                return
            for index in range(count):
                start = starts[index]
                data = octets[start : start + lengths[length_at[index]]]
                if len(data) < HEADER_OCTETS:
                    ignored["short"] += 1
                    continue
                number = data[0] << 8 | data[1]
                ask = pending.get(number)
                if ask is None:
                    ignored["id"] += 1
                    port.strays += 1
                elif answer(ask, data, now):
                    del pending[number]
        if port.strays > STRAYS_MAX + port.used - len(pending):
            self._distrust(port, now)
        elif not pending:
            self._close(port)

    def _distrust(self, port: Port, now: float) -> None:
        """Take no answer from this port any more: someone is guessing at its ids."""
        asks = list(port.pending.values())
        port.pending.clear()
        self._close(port)
        for ask in asks:
            self._engine.asking.forged(ask, now)

    # -- keeping house ----------------------------------------------------------------------

    def sweep(self, now: float, oldest: float) -> None:
        """Close ports whose asks are over, or that were opened before `oldest`."""
        for port in list(self._ports.values()):
            if port.opened < oldest or all(ask.flight.over for ask in port.pending.values()):
                self._close(port)

    def sent_by_us(self, name: bytes, ask: Ask) -> bool:
        """Tell whether a datagram from `name` came from the port that carries `ask`."""
        sender = read_name(name)
        for port in self._ports.values():
            if port.pending.get(ask.id) is ask:
                return bool(port.sock.getsockname()[:2] == sender)
        return False

    def _close(self, port: Port) -> None:
        if self._ports.pop(port.fd, None) is not None:
            port.sock.close()

    def close(self) -> None:
        """Close everything."""
        for port in list(self._ports.values()):
            self._close(port)
        self._epoll.close()
