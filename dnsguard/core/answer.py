"""What an upstream's reply means, and how long it may live (RFC 2181, 2308, 8767, 9520).

A reply that matched its question is read once, in place. Out comes an `Answer`: is it data, proof
of absence, or something that answers nothing; its life in seconds; where its TTLs lie; and its
octets without OPT, which is hop by hop (RFC 6891 section 6.2.1), and without records of the answer
section that have nothing to do with the question. Nothing is kept here, and nothing but the
question asked is ever answered from what comes out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Set
from enum import IntEnum
from struct import Struct, error as StructError

from dnsguard.core.chain import follow, strays, without
from dnsguard.core.wire import (
    AD,
    C_ANY,
    HEADER_OCTETS,
    LABEL_MAX,
    NOERROR,
    NXDOMAIN,
    RECORD,
    T_ANY,
    T_CNAME,
    T_OPT,
    T_SOA,
    U16,
    U32,
    read_name,
    skip_name,
)
from dnsguard.errors import WireError

NAMES_MAX = 128  # spellings of names read in one message: pointers make long names of few octets
SOA_TAIL = 20  # serial, refresh, retry, expire, minimum: what follows the two names
OFFSETS_SHARED_MAX = 4096

_ONE_AND_OPT = b"\0\1\0\1\0\0\0\1"  # counts: one question, one answer, one additional record
_OPT_START = b"\0\0\x29"  # the root, type OPT
_OPT_OCTETS = 11  # an OPT record without options
_TTL_LENGTH = Struct("!IH")
_FOREIGN = b"\xff"  # stands for the owner of a record of another class; no name
_NONE: frozenset[int] = frozenset()
_shared: dict[tuple[int, ...], tuple[int, ...]] = {}


class Kind(IntEnum):
    """What a reply says about its question."""

    POSITIVE = 0  # there is data of the type asked
    NODATA = 1  # the name is there, the type is not (RFC 2308 section 2.2)
    NXDOMAIN = 2  # the name is not there (RFC 2308 section 2.1)
    UNPROVEN = 3  # an empty or missing answer without SOA: may be passed on, is never kept
    LAME = 4  # a referral, a CNAME to nowhere; without offsets, a contradiction: answers nothing


class Answer:
    """The meaning of one reply. `ttl` is in seconds; `wire` has no OPT; `offsets` are of TTLs."""

    __slots__ = ("ad", "additional", "kind", "offsets", "rcode", "ttl", "wire")

    kind: Kind
    rcode: int
    ttl: int
    wire: bytes
    offsets: tuple[int, ...]
    additional: int
    ad: bool


def read_answer(
    wire: bytes, question: bytes, qtype: int, max_ttl: int, max_negative_ttl: int
) -> Answer:
    """Read a reply whose header and question are known to match.

    `question` is the question's octets in lower case (name, type, class). The answer's TTLs, and
    that of a negative answer's SOA, are cut to the maxima. Records that are not on the chain from
    the question are left out. Raises `WireError` if the sections do not hold what their counts say.
    """
    limits = (max_ttl, max_negative_ttl)
    answer, left_out = _read(wire, question, qtype, limits)
    if left_out:
        wire = without(wire, HEADER_OCTETS + len(question), left_out)
        answer, _ = _read(wire, question, qtype, limits)
        if answer.kind >= Kind.UNPROVEN and not answer.rcode and wire[6:8] == b"\0\0":
            return _contradiction(
                answer, wire, question
            )  # an answer to another question, and to none here
    return answer


def _read(
    wire: bytes, question: bytes, qtype: int, limits: tuple[int, int]
) -> tuple[Answer, Set[int]]:
    """Read a reply as it is; with it come the records of its answer that are not of the chain."""
    max_ttl = limits[0]
    answer = Answer()
    flags = wire[2] << 8 | wire[3]
    answer.rcode = flags & 0xF
    answer.ad = bool(flags & AD)
    position = HEADER_OCTETS + len(question)
    if wire[4:HEADER_OCTETS] == _ONE_AND_OPT and _read_one(answer, wire, position, max_ttl):
        return answer, _NONE
    ancount = wire[6] << 8 | wire[7]
    qclass = question[-2] << 8 | question[-1]
    offsets: list[int] = []
    lowest = max_ttl
    uneven = apart = False
    cnames: dict[bytes, bytes] = {}
    owners: set[bytes] = set()
    names: dict[bytes, bytes] = {}
    rrset_ttls: list[tuple[bytes, int, int, int]] = []
    try:
        for index in range(ancount):
            if wire[position] == 0xC0 and wire[position + 1] == HEADER_OCTETS:
                owner = b""  # stands for the name asked
                position += 2
            else:
                start, position = position, skip_name(wire, position)
                owner = _read_once(wire, start, position, names, offsets)
                if owner == question[:-4]:
                    owner = b""
            rtype, rclass, ttl, length = RECORD.unpack_from(wire, position)
            offsets.append(position + 4)
            if ttl != lowest:
                # A TTL with the top bit set is very long, not zero (RFC 8767 section 4).
                uneven = uneven or index > 0 or ttl > max_ttl
                if ttl < lowest:
                    lowest = ttl
            if rclass != qclass and qclass != C_ANY:
                owner = _FOREIGN  # data of another class answers nothing
            apart = apart or owner != b""
            rrset_ttls.append((owner, rtype, ttl, position + 4))
            position += RECORD.size
            if rtype == T_OPT:
                raise WireError("an OPT record outside of the additional section")
            if owner is not _FOREIGN and (rtype == qtype or qtype == T_ANY):
                owners.add(owner)
            elif owner is not _FOREIGN and rtype == T_CNAME:
                target = _read_target(wire, position, length, names, offsets)
                if cnames.setdefault(owner, target) != target:
                    return _contradiction(answer, wire, question), _NONE
            position += length
        soa_ttl, position = _read_rest(wire, position, answer, offsets, limits, names)
    except (IndexError, StructError):
        raise WireError("a section is shorter than its count says") from None
    if position != len(wire) and position >= 0:
        raise WireError("octets after the last record")
    reached = b"" in owners
    if apart or cnames:
        chain = follow(cnames, owners, question[:-4])
        if not chain:
            return _contradiction(answer, wire, question), _NONE
        reached = chain[-1] in owners
        left_out = strays([record[:2] for record in rrset_ttls], chain, question[:-4])
        if left_out:
            return answer, left_out
    if uneven:
        answer.wire = _level(answer.wire, rrset_ttls, max_ttl)
    return _judge(answer, reached, bool(cnames), lowest, soa_ttl, offsets), _NONE


def _read_one(answer: Answer, wire: bytes, start: int, max_ttl: int) -> bool:
    """Read the most common of replies: one record of the type asked, at the name asked, and OPT.

    Return False, with nothing said, for any other: the long way finds out what it is.
    """
    size = len(wire)
    if size < start + 12 + _OPT_OCTETS:
        return False
    # Owner (a pointer to the name asked), type and class as asked; OPT right behind the RDATA.
    if wire[start : start + 6] != b"\xc0\x0c" + wire[start - 4 : start]:
        return False
    ttl, length = _TTL_LENGTH.unpack_from(wire, start + 6)
    opt = start + 12 + length
    if wire[opt : opt + 3] != _OPT_START or wire[opt + 5 : opt + 7] != b"\0\0":
        return False
    options = size - opt - _OPT_OCTETS
    if options < 0 or options != wire[opt + 9] << 8 | wire[opt + 10]:
        return False
    if ttl > max_ttl or answer.rcode:
        return False
    answer.kind = Kind.POSITIVE
    answer.ttl = ttl
    answer.additional = 0
    answer.wire = wire[:10] + b"\0\0" + wire[12:opt]
    offsets = (start + 6,)
    answer.offsets = _shared.get(offsets) or _share(offsets)
    return True


def _read_once(
    wire: bytes, start: int, end: int, names: dict[bytes, bytes], offsets: list[int]
) -> bytes:
    """Return the name that stands from `start` to `end`; `names` are those read before."""
    spelling = wire[start:end]
    name = names.get(spelling)
    if name is None:
        name = names[spelling] = read_name(wire, start)
        _keep_clear(wire, start, offsets)
        if len(names) > NAMES_MAX:
            raise WireError(f"more than {NAMES_MAX} different names in the answer")
    return name


def _keep_clear(wire: bytes, position: int, offsets: list[int]) -> None:
    """Raise `WireError` if the name at `position` has octets of a TTL in it.

    No honest pointer leads there, and the name would be another once the TTL is counted down.
    """
    while True:
        label = wire[position]
        end = position + 2 if label > LABEL_MAX else position + label + 1
        found = bisect_left(offsets, position - 3)  # a TTL has four octets
        if found < len(offsets) and offsets[found] < end:
            raise WireError("a name that lies in a TTL")
        if not label:
            return
        position = (label & 0x3F) << 8 | wire[position + 1] if label > LABEL_MAX else end


def _read_target(
    wire: bytes, start: int, length: int, names: dict[bytes, bytes], offsets: list[int]
) -> bytes:
    """Return the name that a CNAME's RDATA of `length` octets holds."""
    end = skip_name(wire, start)
    if end != start + length:
        raise WireError("a CNAME record holds something else than one name")
    return _read_once(wire, start, end, names, offsets)


def _contradiction(answer: Answer, wire: bytes, question: bytes) -> Answer:
    """Return the answer that a message makes which contradicts itself: none.

    Two CNAMEs at one name do (RFC 2181 section 10.1), a circle of them, an answer to something
    else.
    """
    answer.kind = Kind.LAME
    answer.wire = wire[:6] + bytes(6) + wire[HEADER_OCTETS : HEADER_OCTETS + len(question)]
    answer.ttl = answer.additional = 0
    answer.offsets = ()
    return answer


def _share(offsets: tuple[int, ...]) -> tuple[int, ...]:
    """Return one object for equal offsets: most replies are shaped like one seen before."""
    if len(_shared) < OFFSETS_SHARED_MAX:
        return _shared.setdefault(offsets, offsets)
    return _shared.get(offsets, offsets)


def _read_rest(
    wire: bytes, position: int, answer: Answer, offsets: list[int], limits: tuple[int, int],
    names: dict[bytes, bytes],
) -> tuple[int, int]:  # fmt: skip
    """Read authority and additional; fill in what is kept; return (SOA life or -1, end).

    Everything from OPT on is left out: OPT is ours to add, and the additional section is optional.
    An end of -1 says that the octets after OPT were not read. `limits` are the maxima of any TTL
    and of a negative answer's.
    """
    max_ttl, max_negative_ttl = limits
    nscount = wire[8] << 8 | wire[9]
    arcount = wire[10] << 8 | wire[11]
    soa_ttl = -1
    records: list[tuple[int, int, int, int]] = []  # owner's place, type, TTL, the TTL's place
    for _ in range(nscount):
        owner, position = position, skip_name(wire, position)
        rtype, _, ttl, length = RECORD.unpack_from(wire, position)
        offsets.append(position + 4)
        position += RECORD.size + length
        if position > len(wire):
            raise WireError("a record runs past the end")
        if rtype == T_SOA and soa_ttl < 0:
            if length < SOA_TAIL + 2:
                raise WireError("an SOA record is too short")
            # RFC 2308 section 5: the SOA goes out with the negative answer's own life.
            soa_ttl = min(ttl, U32.unpack_from(wire, position - 4)[0], max_negative_ttl)
            if ttl != soa_ttl:
                at = offsets[-1]
                wire = wire[:at] + U32.pack(soa_ttl) + wire[at + 4 :]
                ttl = soa_ttl
        elif rtype == T_OPT:
            raise WireError("an OPT record outside of the additional section")
        records.append((owner, rtype, ttl, offsets[-1]))
    answer.additional = arcount
    end = -1
    for index in range(arcount):
        owner, position = position, skip_name(wire, position)
        rtype, _, ttl, length = RECORD.unpack_from(wire, position)
        if rtype == T_OPT:
            answer.rcode |= ttl >> 20 & 0xFF0
            answer.additional = index
            end = position + RECORD.size + length
            if end > len(wire):
                raise WireError("the OPT record runs past the end")
            end = end if index == arcount - 1 else -1
            wire, position = wire[:owner], owner
            break
        offsets.append(position + 4)
        records.append((owner, rtype, ttl, offsets[-1]))
        position += RECORD.size + length
    else:
        end = position
    if position > len(wire):
        raise WireError("a record runs past the end")
    answer.wire = _level_rest(wire, records, max_ttl, names) if records else wire
    return soa_ttl, end


def _level_rest(
    wire: bytes, records: list[tuple[int, int, int, int]], max_ttl: int, names: dict[bytes, bytes]
) -> bytes:
    """Level the TTLs of authority and additional, as those of the answer are.

    Owners are read only where TTLs differ, and where one cannot be read, or there are too many to
    be honest, what is left is none of an RRset's: these sections answer nothing.
    """
    ttls = {ttl for _, _, ttl, _ in records}
    if len(ttls) == 1 and max_ttl >= min(ttls):
        return wire
    named = []
    for owner, rtype, ttl, offset in records:
        try:
            name = _read_once(wire, owner, offset - 4, names, [])
        except WireError:
            name = U32.pack(offset) + b"\xff"  # a name that no record has
        named.append((name, rtype, ttl, offset))
    return _level(wire, named, max_ttl)


def _level(wire: bytes, records: list[tuple[bytes, int, int, int]], max_ttl: int) -> bytes:
    """Give every RRset its lowest TTL (RFC 2181 section 5.2), and none above `max_ttl`."""
    lowest: dict[tuple[bytes, int], int] = {}
    for owner, rtype, ttl, _ in records:
        rrset = (owner, rtype)
        lowest[rrset] = min(lowest.get(rrset, max_ttl), ttl)
    out = bytearray(wire)
    for owner, rtype, _, offset in records:
        U32.pack_into(out, offset, lowest[owner, rtype])
    return bytes(out)


def _judge(
    answer: Answer, reached: bool, chained: bool, lowest: int, soa_ttl: int, offsets: list[int]
) -> Answer:
    """Name the kind of the answer and its life."""
    rcode = answer.rcode
    answer.ttl = lowest
    if rcode == NOERROR and reached:
        answer.kind = Kind.POSITIVE
    elif rcode not in (NOERROR, NXDOMAIN):
        answer.kind = Kind.LAME
    elif soa_ttl >= 0:
        answer.kind = Kind.NXDOMAIN if rcode == NXDOMAIN else Kind.NODATA
        answer.ttl = min(lowest, soa_ttl) if chained else soa_ttl
    elif rcode == NOERROR and (chained or answer.wire[8:10] != b"\0\0"):
        answer.kind = Kind.LAME  # a CNAME to nowhere, or a referral
    else:
        answer.kind = Kind.UNPROVEN
        answer.ttl = 0
    answer.offsets = _share(tuple(offsets))
    if answer.additional != (answer.wire[10] << 8 | answer.wire[11]):
        answer.wire = answer.wire[:10] + U16.pack(answer.additional) + answer.wire[12:]
    return answer
