"""An answer to one name made into the answer to another, by a CNAME in front of it.

The records move by as many octets as the CNAME and the other question take, so every compression
pointer among them moves too (RFC 1035 section 4.1.4). Only names in RDATA of the types that may be
compressed are looked at (RFC 3597 section 4); all other octets are left as they came.
"""

from __future__ import annotations

from dnsguard.core.chain import names_in
from dnsguard.core.wire import (
    AD,
    HEADER_OCTETS,
    LABEL_MAX,
    RECORD,
    T_CNAME,
    T_OPT,
    U16,
    skip_name,
)
from dnsguard.errors import WireError

_POINTER, _OFFSET = 0xC000, 0x3FFF
_HERE = b"\xc0\x0c"  # the name asked, compressed


def grafted(wire: bytes, question: bytes) -> bytes | None:
    """Return the reply `wire` as one to `question`, which becomes an alias of the name in it.

    The records of `wire` must be as many as its counts say, as those of every reply of the engine
    are, and it must neither be empty of a question nor cut. The alias lives as long as the
    shortest-lived record of the answer, or of the authority section where there is no answer; AD is
    taken away, because nobody signed the alias. None if a pointer would lead beyond the 16,383
    octets that it can, if one leads to anything but a name before it (its octets may be others
    here), or if a record does not hold the names that its type has: nobody has looked there before.
    """
    name_end = skip_name(wire, HEADER_OCTETS)
    name = wire[HEADER_OCTETS:name_end]
    start = name_end + 4
    data_at = HEADER_OCTETS + len(question) + len(_HERE) + RECORD.size
    out = bytearray(wire[start:])
    moved = data_at + len(name) - start
    answers, authority = U16.unpack_from(wire, 6)[0], U16.unpack_from(wire, 8)[0]
    records = answers + authority + U16.unpack_from(wire, 10)[0]
    ttls = []
    places: set[int] = set()  # of the labels and pointers of names so far, which move as a whole

    def move(position: int) -> bool:
        """Have the pointer that ends the name at `position` lead where its target is now."""
        parts = [position]
        while 0 < (label := wire[position]) <= LABEL_MAX:
            position += label + 1
            parts.append(position)
        if label:  # else it ends with its own zero octet
            target = U16.unpack_from(wire, position)[0] & _OFFSET
            if target not in places:
                return False
            target += data_at - HEADER_OCTETS if target < name_end else moved
            if target > _OFFSET:
                return False
            U16.pack_into(out, position - start, _POINTER | target)
        places.update(parts)
        return True

    move(HEADER_OCTETS)
    position = start
    for number in range(records):
        names = [position]
        position = skip_name(wire, position)
        rtype, _, ttl, length = RECORD.unpack_from(wire, position)
        position += RECORD.size
        try:
            names += names_in(wire, position, position + length, rtype)
        except WireError:
            return None
        if number < (answers or authority) and rtype != T_OPT:
            ttls.append(ttl)
        if not all(map(move, names)):
            return None
        position += length
    alias = _HERE + RECORD.pack(T_CNAME, 1, min(ttls, default=0), len(name)) + name
    head = bytearray(wire[:HEADER_OCTETS])
    head[3] &= ~AD & 0xFF
    U16.pack_into(head, 6, answers + 1)
    return bytes(head) + question + alias + bytes(out)
