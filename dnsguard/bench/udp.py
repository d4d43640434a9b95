"""Queries over UDP: a batch of datagrams a system call, from several source ports.

Nothing is made for a single query: what leaves is pointers to an id and a row, and what comes is
read as columns (all ids, all flags) of the memory that the kernel wrote. Sockets are connected, so
the kernel drops what comes from elsewhere. Knows no pace; the generator says when.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from array import array
from collections.abc import Callable, Sequence

from dnsguard.bench.meter import Meter
from dnsguard.bench.queries import Rows
from dnsguard.bench.window import IDS, Window
from dnsguard.core.wire import HEADER_OCTETS
from dnsguard.net.addresses import family_of
from dnsguard.net.mmsg import Incoming, Outgoing

REPLY_OCTETS = 4096  # more than any server sends to who announces at most 1232
SOCKET_BUFFER = 4 * 1024 * 1024  # a burst of some 5,000 answers while the generator is elsewhere
_SO_RCVBUFFORCE = 33  # beyond net.core.rmem_max, for those who may
_SO_MEMINFO, _MEMINFO_OCTETS, _MEMINFO_DROPS = 55, 36, 8
_WORD = 2  # octets of an id and of the flags
# Ids are written and read in the processor's own order: nobody else interprets them.
_IDS = memoryview(array("H", range(IDS)))


class Buffers:
    """The memory that all sockets of a generator share."""

    def __init__(self) -> None:
        self.incoming = Incoming(REPLY_OCTETS, False)
        self.outgoing = Outgoing(0)
        incoming = self.incoming
        words = memoryview(incoming.octets_of).cast("B").cast("H")
        self.ids = words[0 :: REPLY_OCTETS // _WORD]
        self.flags = words[1 :: REPLY_OCTETS // _WORD]
        self.lengths = incoming.sizes


class Datagrams:
    """One socket, which is one source port."""

    FLAGS = sys.byteorder

    def __init__(
        self,
        host: str,
        port: int,
        window: Window,
        queries: Rows,
        buffers: Buffers,
        clock: Callable[[], int],
    ) -> None:
        self.window = window
        self.blocked = False
        self.refused = 0
        self.reconnects = 0
        self._queries = queries
        self._clock = clock
        self._buffers = buffers
        self._words = buffers.outgoing.words
        self._sock = socket.socket(family_of(host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER)
            self._sock.connect((host, port))
        except OSError:
            self._sock.close()
            raise
        self.fd = self._sock.fileno()

    def room(self) -> int:
        """Return how many queries may be sent at once."""
        return 0 if self.blocked else self.window.room()

    def send(self, row: int, dues: Sequence[int]) -> int:
        """Send as many queries as there are dues, from `row` on; return how many left."""
        count, words, queries = len(dues), self._words, self._queries
        end, last, first = 2 * count, row + count, self.window.next_id()
        queries.dress(row, _IDS[first : first + count])
        words[0:end:2] = queries.places[row:last]
        words[1:end:2] = queries.sizes[row:last]
        sent = self._buffers.outgoing.send(self.fd, 0, count)
        if sent == -errno.ECONNREFUSED:
            # What ICMP told of an earlier query; it is not this batch's fault.
            self.refused += 1
            sent = self._buffers.outgoing.send(self.fd, 0, count)
        if sent <= 0:
            if sent not in (-errno.EAGAIN, -errno.ENOBUFS, -errno.ECONNREFUSED):
                raise OSError(-sent, errno.errorcode.get(-sent, "no query can be sent"))
            self.blocked = sent == -errno.EAGAIN
            return 0
        self.window.add(dues if sent == count else dues[:sent])
        return sent

    def receive(self, meter: Meter) -> int:
        """Read up to a batch of answers and count them; return how many came."""
        buffers = self._buffers
        try:
            count = buffers.incoming.receive(self.fd)
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise
            self.refused += 1
            return 0
        if not count:
            return 0
        now = self._clock()
        ids, flags = buffers.ids[:count].tolist(), buffers.flags[:count].tolist()
        sizes = buffers.lengths[:count].tolist()
        if min(sizes) < HEADER_OCTETS:
            # No DNS message: what lies in its place is an earlier one.
            whole = [at for at, size in enumerate(sizes) if size >= HEADER_OCTETS]
            ids, flags = [ids[at] for at in whole], [flags[at] for at in whole]
        meter.octets += sum(sizes)
        meter.take(self.window, ids, flags, now)
        return count

    def unblock(self) -> None:
        """The kernel takes datagrams again."""
        self.blocked = False

    def dropped(self) -> int:
        """Return how many answers found no room in this socket."""
        with contextlib.suppress(OSError):
            info = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_OCTETS)
            return int(memoryview(info).cast("I")[_MEMINFO_DROPS])
        return 0

    def close(self) -> None:
        """Close the socket; answers on their way are lost."""
        self._sock.close()
