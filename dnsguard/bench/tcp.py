"""Queries over TCP connections that stay open, pipelined (RFC 7766 section 6.2.1.1).

A batch is joined and written by one call; answers come in any order and are cut out of what one
read brought. A connection that the server closes is opened again, and what waited on it is lost.
Knows no pace; the generator says when.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from struct import Struct

from dnsguard.bench.meter import Meter, Order
from dnsguard.bench.queries import Rows
from dnsguard.bench.window import IDS, Window
from dnsguard.core.framing import LENGTH_OCTETS
from dnsguard.core.wire import HEADER_OCTETS, U16
from dnsguard.net.addresses import family_of

READ_OCTETS = 1 << 18
REOPEN_S = 0.2  # the whole generator waits while it connects
_FRONT = Struct("!HHH")  # the length, the id, the flags
_IDS = memoryview(b"".join(map(U16.pack, range(IDS)))).cast("H")  # as they go over the wire


class Connection:
    """One connection."""

    FLAGS: Order = "big"

    def __init__(
        self,
        host: str,
        port: int,
        window: Window,
        queries: Rows,
        timeout: float,
        clock: Callable[[], int],
    ) -> None:
        self.window = window
        self.blocked = False
        self.refused = 0
        self.reconnects = 0
        self._where = host, port
        self._queries = queries
        self._clock = clock
        self._timeout = timeout
        self._open(timeout)

    def _open(self, timeout: float) -> None:
        self._unsent = b""
        self._rest = b""
        self.fruitful = False  # a server that closes at once is not to be asked again at once
        self._sock = socket.socket(family_of(self._where[0]), socket.SOCK_STREAM)
        try:
            self._sock.settimeout(timeout)
            self._sock.connect(self._where)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.setblocking(False)
        except OSError:
            self._sock.close()
            raise
        self.fd = self._sock.fileno()
        self.blocked = False

    def room(self) -> int:
        """Return how many queries may be sent at once."""
        return 0 if self.blocked else self.window.room()

    def send(self, row: int, dues: Sequence[int]) -> int:
        """Send as many queries as there are dues, from `row` on; return how many left.

        What the kernel does not take now counts as sent: its octets are the next to go.
        """
        count, first = len(dues), self.window.next_id()
        self._queries.dress(row, _IDS[first : first + count])
        self.window.add(dues)
        self._write(self._queries.stream(row, count))
        return count

    def _write(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except (ConnectionError, TimeoutError):
            return  # reading will say so, and reading is where a connection ends
        self._unsent = data[sent:]
        self.blocked = bool(self._unsent)

    def unblock(self) -> None:
        """The kernel takes octets again."""
        self._write(self._unsent)

    def receive(self, meter: Meter) -> int:
        """Read and count answers; return how many came. Raises ConnectionError at the end."""
        try:
            data = self._sock.recv(READ_OCTETS)
        except BlockingIOError:
            return 0
        except TimeoutError as error:  # of the kernel's own: the other side is gone
            raise ConnectionResetError(str(error)) from None
        now = self._clock()
        if not data:
            raise ConnectionResetError("closed by the server")
        if self._rest:
            data = self._rest + data
        ids, flags = [], []
        front, at, size = _FRONT.unpack_from, 0, len(data)
        while size - at >= _FRONT.size:
            length, number, word = front(data, at)
            if length < HEADER_OCTETS:
                raise ConnectionAbortedError("the server sent something else than DNS messages")
            end = at + LENGTH_OCTETS + length
            if end > size:
                break
            ids.append(number)
            flags.append(word)
            at = end
        self._rest = data[at:]
        meter.octets += at - LENGTH_OCTETS * len(ids)
        count = len(ids)
        self.fruitful = self.fruitful or count > 0
        meter.take(self.window, ids, flags, now)
        return count

    def end(self) -> list[int]:
        """Close the connection; return the dues of the queries that are lost with it."""
        self._sock.close()
        self.fd = -1
        self.blocked = True
        return self.window.give_up()

    def reopen(self) -> bool:
        """Connect anew; return whether that went well. If not, there is no `room`."""
        try:
            self._open(min(self._timeout, REOPEN_S))
        except OSError:
            return False
        self.reconnects += 1
        return True

    def dropped(self) -> int:
        """Return how many answers found no room here: none, TCP waits."""
        return 0

    def close(self) -> None:
        """Close the connection; answers on their way are lost."""
        with contextlib.suppress(OSError):
            self._sock.close()
