"""EDNS between us and an upstream: what an ask says, and what is read out of a reply.

Each server has its `Dress`: the octets around a question, made once, so that an ask is still two
concatenations. In it goes a cookie of that server's own (RFC 7873; RFC 9018 section 3: never one
that another server has seen), over a stream the wish to know how long it may stay open (RFC 7828),
and over TLS enough padding that lengths tell nothing (RFC 8467 section 4.1).
"""

from __future__ import annotations

from struct import error as StructError

from dnsguard.core.wire import (
    DO_BIT,
    HEADER_OCTETS,
    KEY_DO,
    OPT_FIXED,
    OPTION,
    RECORD,
    T_OPT,
    U16,
    UDP_MAX,
    skip_name,
)
from dnsguard.errors import WireError

COOKIE, KEEPALIVE, PADDING = 10, 11, 12
CLIENT_OCTETS = 8  # of a cookie; the server's part has 8 to 32 more (RFC 7873 section 4)
COOKIE_MIN, COOKIE_MAX = 16, 40
COOKIE_SECONDS = 86400.0  # a client cookie's life: a day (RFC 7873 section 7.1)
BLOCK = 128  # RFC 8467 section 4.1: queries are padded to multiples of this
ASK_ID = 2  # octets of an id, which the sender puts in front of an ask

# Header of an ask after its id: RD and AD (RFC 6840 section 5.7), CD as the key says; one question.
HEADS = (b"\x01\x20\0\1\0\0\0\0", b"\x01\x30\0\1\0\0\0\0")
_OPT_START = b"\0\0\x29"  # the root, type OPT
_ASK_KEEPALIVE = OPTION.pack(KEEPALIVE, 0)


def opt(do: int, options: bytes) -> bytes:
    """Return an OPT record that says what we can take, with these options."""
    fixed = OPT_FIXED.pack(T_OPT, UDP_MAX, 0, 0, DO_BIT if do else 0, len(options))
    return b"\0" + fixed + options


class Dress:
    """What stands around a question on its way to one server.

    `client` is our half of the cookie (empty: we send none), `server` the other half (empty: it
    has never given one). `datagram` is (before, after) by the last octet of a question's key.
    """

    __slots__ = ("client", "datagram", "server", "until")

    def __init__(self, client: bytes, now: float) -> None:
        self.client = client
        self.until = now + COOKIE_SECONDS
        self.learn(b"")

    def learn(self, server: bytes) -> None:
        """Show this half of a cookie from now on."""
        self.server = server
        self.datagram = tuple(
            (HEADS[tail >> 1] + b"\0\1", opt(tail & KEY_DO, self._cookie())) for tail in range(4)
        )

    def _cookie(self) -> bytes:
        if not self.client:
            return b""
        return OPTION.pack(COOKIE, CLIENT_OCTETS + len(self.server)) + self.client + self.server

    def stream(self, question: bytes, tail: int, private: bool) -> bytes:
        """Return an ask over a stream, after its id; `private` is one over TLS."""
        options = self._cookie() + _ASK_KEEPALIVE
        head = HEADS[tail >> 1] + b"\0\1" + question
        if private:
            bare = ASK_ID + len(head) + len(opt(0, options)) + OPTION.size
            room = -bare % BLOCK
            options += OPTION.pack(PADDING, room) + bytes(room)
        return head + opt(tail & KEY_DO, options)

    def accepts(self, data: bytes, start: int) -> bool | None:
        """Look at the cookie in a reply whose sections begin at `start`.

        True: there is nothing against it, and a new server's half has been learned. None: a server
        that gives cookies gave none here. False: a cookie that is not ours, so it is forged.
        """
        if not self.client:
            return True
        if self.client not in data and b"\0\x0a\0" not in data:  # the usual case, at a glance
            return None if self.server else True
        found = option(data, start, COOKIE)
        if found is None or found == b"":
            return None if self.server else True
        if found[:CLIENT_OCTETS] != self.client:
            return False
        if len(found) == CLIENT_OCTETS:
            return True  # it gives back what it does not know, as CoreDNS does; ours all the same
        if not COOKIE_MIN <= len(found) <= COOKIE_MAX:
            return False
        if found[CLIENT_OCTETS:] != self.server:
            self.learn(found[CLIENT_OCTETS:])
        return True


def find_opt(data: bytes, start: int) -> int:
    """Return where the OPT record's size field lies in a reply, or 0 if it has none.

    `start` is where its sections begin. What is no message has none either.
    """
    at = len(data) - OPT_FIXED.size - 1
    if at >= start and data[at : at + 3] == _OPT_START and data[-2:] == b"\0\0":
        return at + 3
    try:
        position = start
        for _ in range(sum(U16.unpack_from(data, at)[0] for at in (6, 8, 10))):
            root = data[position] == 0
            position = skip_name(data, position)
            rtype, _, _, length = RECORD.unpack_from(data, position)
            if rtype == T_OPT and root:
                return position + 2
            position += RECORD.size + length
    except (WireError, StructError, IndexError):
        pass
    return 0


def option(data: bytes, start: int, code: int) -> bytes | None:
    """Return the first option of this code in a reply's OPT record, or None."""
    at = find_opt(data, start)
    if not at:
        return None
    position = at + 8
    end = min(position + U16.unpack_from(data, at + 6)[0], len(data))
    while position + OPTION.size <= end:
        found, length = OPTION.unpack_from(data, position)
        position += OPTION.size
        if found == code:
            return data[position : position + length] if position + length <= end else None
        position += length
    return None


def extended_rcode(data: bytes, start: int) -> int:
    """Return a reply's whole rcode: four bits of its header, eight of its OPT record."""
    at = find_opt(data, start)
    return data[3] & 0xF | (data[at + 2] << 4 if at else 0)


def idle_time(message: bytes) -> float | None:
    """Return how long the server lets a quiet connection live, in seconds, if it says so."""
    if b"\0\x0b\0\2" not in message or len(message) < HEADER_OCTETS:
        return None
    try:
        start = skip_name(message, HEADER_OCTETS) + 4
    except WireError:
        return None
    found = option(message, start, KEEPALIVE)
    return U16.unpack(found)[0] / 10 if found is not None and len(found) == U16.size else None
