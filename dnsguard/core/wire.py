"""DNS messages as they lie on the wire, read in place (RFC 1035 section 4, RFC 6891).

A query becomes a `Query`: where its question ends, what its client can take, and the key under
which an answer may be shared. A name is walked, never decoded into text. Nothing here recurses;
every walk has an end that the input cannot move. What an upstream's reply means is `answer`'s
business.
"""

from __future__ import annotations

from struct import Struct, error as StructError

from dnsguard.errors import WireError

HEADER_OCTETS = 12
NAME_MAX = 255  # RFC 1035 section 2.3.4
LABEL_MAX = 63
POINTER_HOPS_MAX = 127  # a legal name has at most 127 labels, so more hops cannot be honest
UDP_PLAIN = 512  # RFC 1035 section 4.2.1
UDP_MAX = 1232  # the DNS flag day 2020 value: fits an IPv6 minimum MTU without fragments (RFC 9715)
STREAM_MAX = 65535

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE, RCODE = 0x7800, 0x000F

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
BADVERS, BADCOOKIE = 16, 23  # RFC 6891, RFC 7873: their upper bits stand in OPT
RCODE_NAMES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED",
    6: "YXDOMAIN", 7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 16: "BADVERS",
    23: "BADCOOKIE",
}  # fmt: skip

T_CNAME, T_SOA, T_OPT, T_TSIG, T_IXFR, T_AXFR, T_ANY = 5, 6, 41, 250, 251, 252, 255
C_ANY = 255

DO_BIT = 0x8000
RECORD = Struct("!HHIH")  # type, class, TTL, RDLENGTH: what follows an owner name
OPT_FIXED = Struct("!HHBBHH")  # type, size, extended rcode, version, flags, RDLENGTH
COUNTS = Struct("!HHHH")
U16 = Struct("!H")
U32 = Struct("!I")
OPTION = Struct("!HH")
WANTS_KEEPALIVE = b"\0\x0b\0\0"  # the option as a client sends it (RFC 7828 section 3.2.1)

_ONE_QUESTION = b"\0\1\0\0\0\0\0\0"  # the counts of most queries

# What DO and CD add to a key: answers with and without signatures, and answers that skipped
# validation, are never shared (RFC 4035 section 3.2, RFC 6840; CVE-2024-0874 of a peer).
KEY_TAILS = (b"\0", b"\1", b"\2", b"\3")
KEY_DO, KEY_CD = 1, 2


class Malformed(WireError):
    """A client's message that gets no answer from data; `rcode` is what it gets instead.

    `rcode` None means silence (RFC 1035: what is not a query is not answered). `question` is the
    question to echo where one could be read, else empty. `edns` says that the client sent OPT.
    """

    def __init__(
        self, why: str, rcode: int | None, question: bytes = b"", edns: bool = False
    ) -> None:
        super().__init__(why)
        self.rcode = rcode
        self.question = question
        self.edns = edns


class Query:
    """One client's question and what its reply must respect.

    `id` and `question` are the client's own octets, echoed byte for byte. `limit` is the largest
    reply in octets. `key` is (lowered name, type, class, DO, CD) in one string of octets.
    `client` is opaque: whoever passed it in knows where the reply goes. `at` is when it came.
    `extra` is what the OPT record of the reply has to say besides why an answer is stale.
    """

    __slots__ = (
        "at", "client", "edns", "extra", "flags", "id", "key", "limit", "options", "qtype",
        "question", "stream",
    )  # fmt: skip

    id: bytes
    flags: int
    question: bytes
    key: bytes
    qtype: int
    limit: int
    edns: bool
    extra: bytes
    options: bool
    stream: bool
    client: object
    at: float

    @property
    def do(self) -> bool:
        """True if the client wants DNSSEC records (RFC 3225)."""
        return bool(self.key[-1] & KEY_DO)

    @property
    def wants_ad(self) -> bool:
        """True if the client understands the AD bit (RFC 6840 section 5.7)."""
        return bool(self.flags & AD) or self.do


def read_query(data: bytes, client: object, now: float, stream: bool = False) -> Query:
    """Read a client's message of at most 65535 octets that arrived at `now`.

    Raises `Malformed` with the rcode to answer, or with None where silence is right.
    """
    size = len(data)
    if size < HEADER_OCTETS:
        raise Malformed("shorter than a header", None)
    flags = data[2] << 8 | data[3]
    counts = data[4:HEADER_OCTETS]
    plain = counts == _ONE_QUESTION
    if flags & (QR | OPCODE) or not plain:
        if flags & QR:
            raise Malformed("a reply, not a query", None)
        if flags & OPCODE:
            raise Malformed("opcode other than QUERY", NOTIMP)
        if counts[:6] != _ONE_QUESTION[:6]:
            # RFC 9619: QDCOUNT above one is FORMERR; answers and authority have no place here.
            raise Malformed("section counts of a query are wrong", FORMERR)
    end = HEADER_OCTETS
    try:
        while label := data[end]:
            if label > LABEL_MAX:
                raise Malformed("a pointer or a reserved label in the question", FORMERR)
            end += label + 1
    except IndexError:
        raise Malformed("the name runs past the end", FORMERR) from None
    end += 1
    if end - HEADER_OCTETS > NAME_MAX or end + 4 > size:
        raise Malformed("the name is too long or the question is cut", FORMERR)
    question = data[HEADER_OCTETS : end + 4]

    query = Query()
    query.id = data[:2]
    query.flags = flags
    query.question = question
    query.client = client
    query.at = now
    query.stream = stream
    query.qtype = data[end] << 8 | data[end + 1]
    query.extra = b""
    tail = KEY_CD if flags & CD else 0
    if plain:
        if end + 4 != size:
            raise Malformed("octets after the question", FORMERR, question)
        query.edns = query.options = False
        query.limit = STREAM_MAX if stream else UDP_PLAIN
    else:
        opt = _read_opt(data, end + 4, counts[6] << 8 | counts[7], question)
        query.edns = opt is not None
        query.options = opt is None or opt[2]
        query.limit = STREAM_MAX if stream else UDP_PLAIN
        if opt is not None:
            if not stream:
                query.limit = min(max(opt[0], UDP_PLAIN), UDP_MAX)
            elif opt[3]:
                query.extra = WANTS_KEEPALIVE
            if opt[1]:
                tail |= KEY_DO
    # Only the name is lowered: a type such as HTTPS (65) is spelled with a capital letter too.
    query.key = question[:-4].lower() + question[-4:] + KEY_TAILS[tail]
    return query


def _read_opt(
    data: bytes, start: int, count: int, question: bytes
) -> tuple[int, bool, bool, bool] | None:
    """Read a query's additional section; return what its OPT says, if it has one.

    That is (size, DO, has options, asks how long a connection may be quiet).
    """
    found: tuple[int, bool, bool, bool] | None = None
    position, size = start, len(data)
    for _ in range(count):
        try:
            owner = position
            position = skip_name(data, position)
            rtype, rclass, ttl, length = RECORD.unpack_from(data, position)
        except (WireError, StructError):
            raise Malformed("the additional section is cut", FORMERR, question) from None
        position += RECORD.size + length
        if position > size:
            raise Malformed("a record runs past the end", FORMERR, question)
        if rtype == T_TSIG:
            # We cannot pass a signed message unmodified (RFC 5625 section 4.5), so we decline it.
            raise Malformed("TSIG is not supported", REFUSED, question, found is not None)
        if rtype != T_OPT:
            continue
        if found is not None or data[owner]:
            raise Malformed("two OPT records, or one that is not at the root", FORMERR, question)
        keepalive = check_options(data, position - length, position, question)
        if ttl >> 16 & 0xFF:
            raise Malformed("EDNS version above 0", BADVERS, question, True)
        found = (rclass, bool(ttl & DO_BIT), length > 0, keepalive)
    if position != size:
        raise Malformed("octets after the last record", FORMERR, question)
    return found


def check_options(data: bytes, start: int, end: int, question: bytes = b"") -> bool:
    """Walk the options of an OPT record; return whether edns-tcp-keepalive is among them.

    Raises `Malformed` if one runs past the record's end.
    """
    keepalive = False
    while start < end:
        if start + OPTION.size > end:
            raise Malformed("an EDNS option is cut", FORMERR, question, True)
        keepalive = keepalive or data[start : start + 2] == b"\0\x0b"
        start += OPTION.size + (data[start + 2] << 8 | data[start + 3])
    if start != end:
        raise Malformed("an EDNS option runs past the OPT record", FORMERR, question, True)
    return keepalive


def skip_name(data: bytes, position: int) -> int:
    """Return the position after the name at `position`, following no pointer.

    Raises `WireError` if the name runs past the end, is too long, or has a reserved label type.
    """
    start = position
    try:
        while label := data[position]:
            if label > LABEL_MAX:
                if label < 0xC0:
                    raise WireError(f"reserved label type at octet {position}")
                data[position + 1]  # the pointer's second octet must be there
                return position + 2
            position += label + 1
            if position - start >= NAME_MAX:  # the zero octet is still to come
                raise WireError(f"name over {NAME_MAX} octets at octet {start}")
    except IndexError:
        raise WireError(f"name runs past the end at octet {start}") from None
    return position + 1


def read_name(data: bytes, position: int) -> bytes:
    """Return the name at `position` in lower case, as `spelled_name` has it otherwise."""
    return spelled_name(data, position).lower()


def spelled_name(data: bytes, position: int) -> bytes:
    """Return the name at `position`, uncompressed, with its closing zero octet.

    Pointers must lead strictly backwards (RFC 9267 section 2), so a loop cannot be written.
    Raises `WireError` for anything that is not a name.
    """
    parts: list[bytes] = []
    total, hops, floor = 1, 0, position
    try:
        while label := data[position]:
            if label > LABEL_MAX:
                if label < 0xC0:
                    raise WireError(f"reserved label type at octet {position}")
                target = (label & 0x3F) << 8 | data[position + 1]
                hops += 1
                if target >= floor or target < HEADER_OCTETS or hops > POINTER_HOPS_MAX:
                    raise WireError(f"bad compression pointer at octet {position}")
                position = floor = target
                continue
            end = position + label + 1
            total += label + 1
            if total > NAME_MAX:
                raise WireError(f"name over {NAME_MAX} octets")
            parts.append(data[position:end])
            position = end
    except IndexError:
        raise WireError("name runs past the end") from None
    parts.append(b"\0")
    return b"".join(parts)


def spell(question: bytes, bits: int) -> bytes:
    """Return a question with the case of its name's letters drawn by lot (draft-vixie-dns0x20).

    `question` is (lowered name, type, class); `bits` has one random bit for each of its octets.
    """
    out = bytearray(question)
    for index in range(len(question) - 4):
        if 0x61 <= out[index] <= 0x7A and bits >> index & 1:
            out[index] -= 0x20
    return bytes(out)


def name_octets(text: str) -> bytes:
    """Return a presentation-form name as lowered wire octets; `.` is the root.

    Understands `\\.` and `\\DDD` (RFC 1035 section 5.1). Raises `WireError` for what is no name.
    """
    labels: list[bytearray] = [bytearray()]
    position, escaped = 0, text.rstrip() if text != "." else ""
    while position < len(escaped):
        char = escaped[position]
        position += 1
        if char == ".":
            labels.append(bytearray())
            continue
        if char == "\\":
            char = escaped[position : position + 1]
            if char.isdecimal():
                digits = escaped[position : position + 3]
                if len(digits) < 3 or not digits.isdecimal() or int(digits) > 255:
                    raise WireError(f"{text!r} is not a domain name: \\DDD is from 000 to 255")
                labels[-1].append(int(digits))
                position += 3
                continue
            position += 1
        if not char or not char.isascii():
            raise WireError(f"{text!r} is not a domain name: only ASCII, or \\DDD")
        labels[-1] += char.encode("ascii")
    if not labels[-1]:
        labels.pop()  # the dot at the end
    if any(not 0 < len(label) <= LABEL_MAX for label in labels):
        raise WireError(
            f"{text!r} is not a domain name: a label of none or over {LABEL_MAX} octets"
        )
    octets = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(octets) > NAME_MAX:
        raise WireError(f"{text!r} is not a domain name: over {NAME_MAX} octets")
    return octets.lower()


def labels_before(name: bytes, domain: bytes) -> list[bytes]:
    """Return the labels of a name in front of a domain, both in wire form; none for other names."""
    found, position, end = [], 0, len(name) - len(domain)
    while position < end:
        length = name[position]
        found.append(name[position + 1 : position + 1 + length])
        position += length + 1
    return found if position == end and name[end:] == domain else []


def name_text(octets: bytes) -> str:
    """Return wire octets as presentation form with a dot at the end (RFC 4343 section 2.1)."""
    parts, position = [], 0
    while position < len(octets) and (label := octets[position]):
        raw = octets[position + 1 : position + 1 + label]
        parts.append(
            "".join(
                f"\\{chr(c)}" if chr(c) in '."\\();@$' else chr(c) if 32 < c < 127 else f"\\{c:03d}"
                for c in raw
            )
        )
        position += label + 1
    return ".".join(parts) + "."
