"""Replies to clients, built from remembered octets (RFC 1035, 6891, 8767, 8914).

The question goes out as it came in, byte for byte; id, flags and TTLs are patched in a copy of the
stored octets; OPT is our own, and only there if the client sent one. A reply that does not fit is
cut to an empty one with TC, be it fresh, stale or just fetched (RFC 2181 section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from dnsguard.core.entry import Entry
from dnsguard.core.wire import (
    AD,
    CD,
    COUNTS,
    DO_BIT,
    HEADER_OCTETS,
    KEY_DO,
    NOERROR,
    NXDOMAIN,
    OPT_FIXED,
    OPTION,
    QR,
    RA,
    RD,
    RECORD,
    T_OPT,
    T_SOA,
    TC,
    U16,
    U32,
    UDP_MAX,
    Malformed,
    Query,
    name_octets,
)

EDE_STALE, EDE_STALE_NXDOMAIN, EDE_UNREACHABLE, EDE_NETWORK = 3, 19, 22, 23
EDE_FORGED, EDE_SYNTHESIZED = 4, 29
EDE_OPTION, KEEPALIVE_OPTION = 15, 11
EDE_NAMES = {
    EDE_STALE: "Stale Answer",
    EDE_STALE_NXDOMAIN: "Stale NXDOMAIN Answer",
    EDE_UNREACHABLE: "No Reachable Authority",
    EDE_NETWORK: "Network Error",
    EDE_FORGED: "Forged Answer",
    EDE_SYNTHESIZED: "Synthesized",
}


def _opt(do: bool, options: bytes = b"", extended_rcode: int = 0) -> bytes:
    flags = DO_BIT if do else 0
    fixed = OPT_FIXED.pack(T_OPT, UDP_MAX, extended_rcode, 0, flags, len(options))
    return b"\0" + fixed + options


_OPT_PLAIN, _OPT_DO = _opt(False), _opt(True)


def _ede(code: int, text: str) -> bytes:
    raw = text.encode()
    return OPTION.pack(EDE_OPTION, len(raw) + 2) + U16.pack(code) + raw


def keepalive(seconds: float) -> bytes:
    """Return the option that says how long a quiet connection lives (RFC 7828 section 3.1)."""
    tenths = max(0, min(round(seconds * 10), 0xFFFF))
    return OPTION.pack(KEEPALIVE_OPTION, U16.size) + U16.pack(tenths)


def fresh(entry: Entry, query: Query, now: float) -> bytes:
    """Return the reply to `query` from an entry that has not expired, TTLs counted down."""
    wire = entry.wire
    question = query.question
    start = HEADER_OCTETS + len(question)
    flags = QR | RA | (query.flags & (RD | CD)) | entry.rcode & 0xF
    if entry.ad and query.wants_ad:
        flags |= AD
    age = int(now - entry.stored)
    if age <= 0 and not query.edns and wire[HEADER_OCTETS:start] == question:
        # What was just fetched: its octets as they are, behind another id and other flags.
        out = query.id + flags.to_bytes(2, "big") + wire[4:]
        return out if len(out) <= query.limit else truncated(query, entry.rcode)
    body = wire[start:] if age <= 0 else _aged(wire, entry.offsets, age)[start:]
    if query.edns:
        opt = _OPT_DO if query.key[-1] & KEY_DO else _OPT_PLAIN
        if query.extra:
            opt = _opt(query.do, query.extra)
        out = b"".join((
            query.id, flags.to_bytes(2, "big"), wire[4:10],
            (entry.additional + 1).to_bytes(2, "big"), question, body, opt,
        ))  # fmt: skip
    else:
        out = b"".join((query.id, flags.to_bytes(2, "big"), wire[4:12], question, body))
    return out if len(out) <= query.limit else truncated(query, entry.rcode)


def _aged(wire: bytes, offsets: tuple[int, ...], age: int) -> bytearray:
    """Return a copy of `wire` with every TTL less by `age` seconds, but not below zero."""
    out = bytearray(wire)
    for offset in offsets:
        U32.pack_into(out, offset, max(0, U32.unpack_from(wire, offset)[0] - age))
    return out


def stale(entry: Entry, query: Query, reason: str, now: float) -> bytes:
    """Return the reply to `query` from an expired entry, marked as stale (RFC 8767, RFC 8914).

    AD is never set: what was validated once may have been revoked since. `reason` is the word
    that metrics use for why the answer is stale; with the answer's age past its TTL at `now` it is
    the text of the extended error.
    """
    out = bytearray(entry.wire)
    question = query.question
    flags = QR | RA | (query.flags & (RD | CD)) | entry.rcode & 0xF
    out[0:4] = query.id + U16.pack(flags)
    out[12 : 12 + len(question)] = question
    most = entry.zone.stale.answer_ttl
    for offset in entry.offsets:
        if U32.unpack_from(out, offset)[0] > most:
            U32.pack_into(out, offset, most)
    if query.edns:
        code = EDE_STALE_NXDOMAIN if entry.rcode == NXDOMAIN else EDE_STALE
        do = bool(query.key[-1] & KEY_DO)
        why = _ede(code, f"{reason}, {span(now - entry.expires)} past its TTL")
        opt = _opt(do, query.extra + why)
        # An explanation never pushes an answer over its limit: first its text goes, then it goes.
        if len(out) + len(opt) > query.limit:
            opt = _opt(do, query.extra + _ede(code, ""))
        if len(out) + len(opt) > query.limit:
            opt = _opt(do, query.extra)
        out[10:12] = U16.pack(entry.additional + 1)
        out += opt
    return bytes(out) if len(out) <= query.limit else truncated(query, entry.rcode)


def span(seconds: float) -> str:
    """Return a length of time as people say it, rounded down: `12 s`, `3 min`, `2 h`, `5 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"


def truncated(query: Query, rcode: int = 0) -> bytes:
    """Return an empty reply that tells the client to ask again over TCP."""
    return _empty(query, rcode & 0xF, TC, b"")


def failure(query: Query, rcode: int, code: int | None = None, text: str = "") -> bytes:
    """Return a reply without data: `rcode`, and why in an extended error if the client has EDNS."""
    if code is None:
        return _empty(query, rcode, 0, b"")
    out = _empty(query, rcode, 0, _ede(code, text))
    return out if len(out) <= query.limit else _empty(query, rcode, 0, _ede(code, ""))


def _empty(query: Query, rcode: int, extra_flags: int, options: bytes) -> bytes:
    flags = QR | RA | (query.flags & (RD | CD)) | extra_flags | rcode
    if not query.edns:
        return query.id + U16.pack(flags) + b"\0\1\0\0\0\0\0\0" + query.question
    opt = _opt(query.do, query.extra + options)
    return query.id + U16.pack(flags) + b"\0\1\0\0\0\0\0\1" + query.question + opt


# An answer that is made up carries an SOA that says so, for clients without EDNS to see as well.
SYNTHESIZED_TTL = 5  # seconds: short, because it may be wrong from the moment of recovery on
_SOA_TIMES = Struct("!5I").pack(1, 7200, 1800, 86400, SYNTHESIZED_TTL)
_SYNTHESIZED = name_octets("synthesized.dnsguard.invalid") + name_octets("nobody.invalid")
_PINNED = name_octets("pinned.dnsguard.invalid") + name_octets("nobody.invalid")
PINNED = "pinned by the operator"


def synthesized(query: Query, rcode: int, apex: int, text: str) -> bytes:
    """Return a negative answer that nobody gave; `apex` is where its zone starts in the name."""
    return _made(query, rcode, [], _soa(_SYNTHESIZED, apex), EDE_SYNTHESIZED, text)


def pinned(query: Query, addresses: Sequence[bytes], ttl: int) -> bytes:
    """Return an answer of these addresses, or that there are none of the type asked for."""
    qtype = query.key[-5] << 8 | query.key[-4]
    records = [_HERE + RECORD.pack(qtype, 1, ttl, len(address)) + address for address in addresses]
    authority = b"" if records else _soa(_PINNED, 0)
    return _made(query, NOERROR, records, authority, EDE_FORGED, PINNED)


_HERE = b"\xc0\x0c"  # the name asked, compressed


def _soa(names: bytes, apex: int) -> bytes:
    data = names + _SOA_TIMES
    owner = U16.pack(0xC000 | HEADER_OCTETS + apex)
    return owner + RECORD.pack(T_SOA, 1, SYNTHESIZED_TTL, len(data)) + data


def _made(
    query: Query, rcode: int, answer: Sequence[bytes], authority: bytes, code: int, text: str
) -> bytes:
    """Return a reply of our own making, which says so to clients that understand it."""
    flags = QR | RA | (query.flags & (RD | CD)) | rcode
    opt = _opt(bool(query.key[-1] & KEY_DO), _ede(code, text)) if query.edns else b""
    counts = COUNTS.pack(1, len(answer), 1 if authority else 0, 1 if opt else 0)
    head = query.id + U16.pack(flags) + counts + query.question
    out = b"".join((head, *answer, authority, opt))
    return out if len(out) <= query.limit else truncated(query, rcode)


def malformed(data: bytes, why: Malformed) -> bytes:
    """Return the reply to a message of at least twelve octets that cannot be answered from data.

    Same id and opcode, RD and CD kept, the question if one could be read (RFC 1035 section 4.1.1).
    """
    assert why.rcode is not None
    flags = (data[2] << 8 | data[3]) & (0x7800 | RD | CD)
    flags |= QR | RA | why.rcode & 0xF
    head = data[:2] + U16.pack(flags) + (b"\0\1" if why.question else b"\0\0") + b"\0\0\0\0"
    if not why.edns:
        return head + b"\0\0" + why.question
    return head + b"\0\1" + why.question + _opt(False, extended_rcode=why.rcode >> 4)
