"""Queries laid out in memory once, so that sending one is a matter of pointers.

A row is one query without its id, which belongs to the socket that it leaves by. Rows are asked in
turn and then again from the first. For a batch of datagrams the kernel gets pointers to rows; for a
stream they are joined. Names that never come twice are rows whose first label is patched where it
lies, a batch at a time. Queries are RFC 1035 section 4.1 with RD set, as a stub sends them.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Sequence

from dnsguard.bench.names import BadNames, Names
from dnsguard.core import wire
from dnsguard.core.wire import HEADER_OCTETS, NAME_MAX
from dnsguard.net.mmsg import address

# Few names are repeated to so many rows, lest batches end at the last row all the time.
ROWS_MIN = 4096
ID_OCTETS = 2
_OPT = b"\0" + wire.OPT_FIXED.pack(wire.T_OPT, wire.UDP_MAX, 0, 0, 0, 0)
_HEADS = tuple(
    wire.U16.pack(wire.RD) + wire.COUNTS.pack(1, 0, 0, additional) for additional in (0, 1)
)


def _words(numbers: array[int]) -> memoryview:
    """Numbers as memory that may be copied into an array of pointers and lengths."""
    return memoryview(numbers).cast("B").cast("P")


class Queries:
    """Rows that stay as they are.

    `places` and `sizes` are where each row lies and how long it is, in the words of `Outgoing`;
    `rests` and `prefixes` are the same for a stream: the octets, and the length in front of them.
    """

    def __init__(self, names: Names, edns: bool) -> None:
        head, tail = _HEADS[edns], _OPT if edns else b""
        rests = [head + one + tail for one in names.questions]
        order: Sequence[int] = names.order
        if len(order) < ROWS_MIN:
            order = [*order] * -(-ROWS_MIN // len(order))
        self._lay([rests[turn] for turn in order], array("Q", map(address, rests)), order)

    def _lay(
        self,
        rests: Sequence[bytes | memoryview],
        places: Sequence[int],
        order: Sequence[int],
    ) -> None:
        self.rows = len(rests)
        self.rests = rests
        self.places = _words(array("Q", [places[turn] for turn in order]))
        self.sizes = _words(array("Q", map(len, rests)))
        frames = {
            size: wire.U16.pack(size + ID_OCTETS) for size in {len(one) for one in rests}
        }
        self.prefixes = [frames[len(one)] for one in rests]

    def freshen(self, row: int, count: int) -> None:
        """Make `count` rows from `row` on fit to be asked once more."""


class UniqueQueries(Queries):
    """Rows whose first label was never asked before: a tag of this run, a round and the row.

    The eight digits of the round are one machine word, so that a batch of rows gets them by one
    copy.
    """

    ROWS = 4096  # three hexadecimal digits, which never change

    def __init__(self, names: Names, edns: bool) -> None:
        tag = secrets.token_hex(3).encode()
        label = tag + b"%08x%03x"
        octets = len(label % (0, 0))
        head, tail = _HEADS[edns], _OPT if edns else b""
        (under,) = names.questions
        if 1 + octets + len(under) - 4 > NAME_MAX:
            raise BadNames("The suffix is too long to have another label in front of it.")
        size = len(head) + 1 + octets + len(under) + len(tail)
        # The round lies at a multiple of eight octets, and so do all rows.
        at_round = HEADER_OCTETS - ID_OCTETS + 1 + len(tag)
        lead = -at_round % 8
        self._stride = (lead + size + 7) // 8
        self._memory = array("B", bytes(8 * self._stride * self.ROWS))
        view = memoryview(self._memory)
        starts = [lead + 8 * self._stride * row for row in range(self.ROWS)]
        for row, start in enumerate(starts):
            name = bytes((octets,)) + label % (0, row)
            view[start : start + size] = head + name + under + tail
        base = self._memory.buffer_info()[0]
        self._lay(
            [view[start : start + size] for start in starts],
            [base + start for start in starts],
            range(self.ROWS),
        )
        self._rounds = view.cast("Q")[(lead + at_round) // 8 :: self._stride]
        self._round = 0
        self._digits = self._copies()

    def _copies(self) -> memoryview:
        return memoryview(bytearray(b"%08x" % self._round * self.ROWS)).cast("Q")

    def freshen(self, row: int, count: int) -> None:
        if row == 0:
            self._round += 1
            self._digits = self._copies()
        self._rounds[row : row + count] = self._digits[:count]


def lay_out(names: Names, edns: bool) -> Queries:
    """Return the rows for `names`, with an OPT record (RFC 6891) where `edns` is set."""
    return UniqueQueries(names, edns) if names.unique else Queries(names, edns)
