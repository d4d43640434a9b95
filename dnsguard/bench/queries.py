"""Queries laid out in memory once, so that sending one is a matter of pointers.

A row is one query, with the length that a stream wants in front of it. Rows are asked in turn and
then again from the first. They lie at even distances: so one copy gives a batch of rows their ids,
and one more gives them a first label that was never asked before, where that is wanted. The kernel
gets pointers to rows for datagrams, and joined rows for a stream. Queries are RFC 1035 section 4.1
with RD set, as a stub sends them.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Sequence

from dnsguard.bench.names import BadNames, Names
from dnsguard.core import wire
from dnsguard.core.framing import LENGTH_OCTETS, frame
from dnsguard.core.wire import HEADER_OCTETS, NAME_MAX

# Few names are repeated to so many rows, lest batches end at the last row all the time.
ROWS_MIN = 4096
MEMORY_MAX = 1 << 30  # of all rows; above it a smaller machine would swap and measure its disk
ALIGNED = 8
_ID_OCTETS = 2
_OPT = b"\0" + wire.OPT_FIXED.pack(wire.T_OPT, wire.UDP_MAX, 0, 0, 0, 0)


def query(question: bytes, edns: bool) -> bytes:
    """Return a query with the id 0 for a question in wire form, with OPT (RFC 6891) if `edns`."""
    counts = wire.COUNTS.pack(1, 0, 0, int(edns))
    head = bytes(_ID_OCTETS) + wire.U16.pack(wire.RD) + counts
    return head + question + (_OPT if edns else b"")


def numbers(values: Sequence[int]) -> memoryview:
    """Return values as memory that may be copied into an array of pointers and lengths."""
    return memoryview(array("Q", values)).cast("B").cast("P")


class Rows:
    """Rows in memory; `lead` octets come before each, so that what is patched is aligned.

    Row r lies at `places[r]` and is `sizes[r]` octets long, in the words of `mmsg.Outgoing`.
    """

    def __init__(self, queries: Sequence[bytes], order: Sequence[int], lead: int = 0) -> None:
        self.rows = len(order)
        longest = max(map(len, queries)) + LENGTH_OCTETS + lead
        self._stride = -(-longest // ALIGNED) * ALIGNED
        if self._stride * self.rows > MEMORY_MAX:
            raise BadNames("These are more names than fit into 1 GiB of memory.")
        memory = array("B", bytes(self._stride * self.rows))
        self._memory = memoryview(memory)
        frames = [frame(one) for one in queries]
        start = lead
        for turn in order:
            framed = frames[turn]
            self._memory[start : start + len(framed)] = framed
            start += self._stride
        sizes = [len(one) for one in queries]
        first, end = memory.buffer_info()[0] + lead + LENGTH_OCTETS, self._stride * self.rows
        self.places = numbers(range(first, first + end, self._stride))
        self.sizes = numbers([sizes[turn] for turn in order])
        self._ids = self._memory.cast("H")[(lead + LENGTH_OCTETS) // 2 :: self._stride // 2]
        self._lead = lead

    def dress(self, row: int, ids: memoryview) -> None:
        """Give the rows from `row` on these ids, and make them fit to be asked once more."""
        self._ids[row : row + len(ids)] = ids

    def stream(self, row: int, count: int) -> bytes:
        """Return `count` rows from `row` on as a stream has them."""
        memory, stride = self._memory, self._stride
        start = row * stride + self._lead
        starts = range(start, start + count * stride, stride)
        sizes = self.sizes[row : row + count].tolist()
        return b"".join(
            [memory[a : a + LENGTH_OCTETS + n] for a, n in zip(starts, sizes, strict=True)]
        )


class UniqueRows(Rows):
    """Rows whose first label was never asked before: a tag, the number of the round, the row.

    The eight digits of the round are one machine word of memory.
    """

    ROWS = 4096  # three hexadecimal digits, which never change
    _TAG_DIGITS = 5  # random, as the number of the first round: two runs never ask the same
    _ROUNDS = 1 << 32

    def __init__(self, question: bytes, edns: bool) -> None:
        tag = secrets.token_hex(self._TAG_DIGITS)[: self._TAG_DIGITS]
        labels = [f"{tag}{0:08x}{row:03x}".encode() for row in range(self.ROWS)]
        octets = len(labels[0])
        if 1 + octets + len(question) - 4 > NAME_MAX:
            raise BadNames("The suffix is too long to have another label in front of it.")
        queries = [query(bytes((octets,)) + label + question, edns) for label in labels]
        at = LENGTH_OCTETS + HEADER_OCTETS + 1 + self._TAG_DIGITS
        lead = -at % ALIGNED
        super().__init__(queries, range(self.ROWS), lead)
        words = self._memory.cast("Q")
        self._digits = words[(lead + at) // ALIGNED :: self._stride // ALIGNED]
        self._round = secrets.randbelow(self._ROUNDS)
        self._begin_round()

    def _begin_round(self) -> None:
        self._round = (self._round + 1) % self._ROUNDS
        self._now = memoryview(bytearray(b"%08x" % self._round * self.ROWS)).cast("Q")

    def dress(self, row: int, ids: memoryview) -> None:
        """Give the rows from `row` on these ids, and names that are new."""
        if row == 0:
            self._begin_round()
        super().dress(row, ids)
        self._digits[row : row + len(ids)] = self._now[: len(ids)]


def lay_out(names: Names, edns: bool) -> Rows:
    """Return the rows for `names`, with an OPT record (RFC 6891) where `edns` is set."""
    if names.unique:
        return UniqueRows(names.questions[0], edns)
    order = names.order
    if len(order) < ROWS_MIN:
        order = [*order] * -(-ROWS_MIN // len(order))
    return Rows([query(one, edns) for one in names.questions], order)
