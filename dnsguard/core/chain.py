"""The chain of CNAMEs from the name asked, and answers without whatever is not on it.

Of an answer section only the chain that starts at the question answers it (RFC 1034 section 4.3.2).
Records of other names may say anything; whoever is behind us must not take them for data (RFC 2181
section 5.4.1), so they are left out. What follows a record may be compressed by its octets: it
cannot be cut out, and the message is written anew. Only such messages cost that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from struct import error as StructError

from dnsguard.core.wire import (
    HEADER_OCTETS,
    RECORD,
    STREAM_MAX,
    T_CNAME,
    T_SOA,
    U16,
    skip_name,
    spelled_name,
)
from dnsguard.errors import WireError

CHAIN_MAX = 16  # links of a CNAME chain; longer ones are loops or mistakes
SPELLINGS_MAX = 256  # names read to write one message anew: pointers make long ones of few octets
_ASKED = b"\xc0\x0c"  # a pointer to the question's name
_POINTER, _POINTER_MAX = 0xC000, 0x3FFF  # two bits that say so, and fourteen to point with
_T_NAPTR, _T_DNAME, _T_RRSIG = 35, 39, 46
_STRINGS_OF_NAPTR = 3  # between its numbers and its name (RFC 3403 section 4.1)
# Types in whose RDATA names may be compressed (RFC 1035 section 3.3, RFC 3597 section 4): how many
# octets stand before the names, and how many names there are. What follows them is copied.
_NAMES_IN: dict[int, tuple[int, int]] = {
    2: (0, 1), 3: (0, 1), 4: (0, 1), T_CNAME: (0, 1), T_SOA: (0, 2), 7: (0, 1), 8: (0, 1),
    9: (0, 1), 12: (0, 1), 14: (0, 2), 15: (2, 1), 17: (0, 2), 18: (2, 1), 21: (2, 1), 24: (18, 1),
    26: (2, 2), 30: (0, 1), 33: (6, 1), _T_NAPTR: (4, 1), 36: (2, 1), _T_DNAME: (0, 1),
}  # fmt: skip


def follow(cnames: Mapping[bytes, bytes], owners: Set[bytes], name: bytes) -> list[bytes]:
    """Return the names of the chain, from the one asked on, which is `name` and stands here as b"".

    The chain ends at the first of `owners`, which have data of the type asked, or where no CNAME
    leads further. It is empty if that is a circle or too long.
    """
    chain = [b""]
    current = None if b"" in owners else cnames.get(b"")
    while current is not None:
        if current == name or current in chain or len(chain) > CHAIN_MAX:
            return []
        chain.append(current)
        current = None if current in owners else cnames.get(current)
    return chain


def strays(records: Sequence[tuple[bytes, int]], chain: Sequence[bytes], name: bytes) -> set[int]:
    """Return which of the records, each an owner and a type, do not belong to the chain.

    A DNAME above a name of the chain does, as that name's CNAME was made from it (RFC 6672 section
    3.1), and so does a signature at its place.
    """
    found = {index for index, (owner, _) in enumerate(records) if owner not in chain}
    dnames = {records[index][0] for index in found if records[index][1] == _T_DNAME}
    if dnames:
        above = {part for link in chain for part in _above(link or name)} & dnames
        found -= {i for i in found if records[i][0] in above and records[i][1] in _SIGNED_DNAME}
    return found


_SIGNED_DNAME = (_T_DNAME, _T_RRSIG)


def _above(name: bytes) -> list[bytes]:
    """Return the names above one, in wire form, up to the root."""
    found = []
    position = 0
    while label := name[position]:
        position += label + 1
        found.append(name[position:])
    return found


def without(wire: bytes, start: int, left_out: Set[int]) -> bytes:
    """Return a message without these records of its answer section, which begins at `start`.

    Owners are compressed where a whole one was there before; no other name is. Raises `WireError`
    if the sections do not hold what their counts say, or for more names than are honest.
    """
    out = bytearray(wire[:start])
    spellings: dict[bytes, bytes] = {}
    places = {spelled_name(wire, HEADER_OCTETS): HEADER_OCTETS}
    counts = [wire[at] << 8 | wire[at + 1] for at in (6, 8, 10)]
    position = start
    try:
        for index in range(sum(counts)):
            owner_at, position = position, skip_name(wire, position)
            rtype, rclass, ttl, length = RECORD.unpack_from(wire, position)
            position += RECORD.size
            end = position + length
            if index in left_out:
                pass
            elif wire[owner_at : position - RECORD.size] == _ASKED and rtype not in _NAMES_IN:
                out += wire[owner_at:end]  # no name in it but the one asked, which stays in place
            else:
                owner = _spelled(wire, owner_at, spellings)
                rdata = _rdata(wire, position, end, rtype, spellings)
                place = places.setdefault(owner, len(out))
                shared = place < len(out) and place <= _POINTER_MAX and len(owner) > 2
                out += U16.pack(_POINTER | place) if shared else owner
                out += RECORD.pack(rtype, rclass, ttl, len(rdata)) + rdata
            position = end
    except StructError:
        raise WireError("a section is shorter than its count says") from None
    if position != len(wire):
        raise WireError("octets after the last record, or a record past the end")
    if len(out) > STREAM_MAX:
        raise WireError("too long once its names are written out")
    U16.pack_into(out, 6, counts[0] - len(left_out))
    return bytes(out)


def _spelled(wire: bytes, position: int, spellings: dict[bytes, bytes]) -> bytes:
    """Return the name at `position`, uncompressed; `spellings` are those that were read before."""
    spelling = wire[position : skip_name(wire, position)]
    name = spellings.get(spelling)
    if name is None:
        if len(spellings) >= SPELLINGS_MAX:
            raise WireError(f"more than {SPELLINGS_MAX} different names in the message")
        name = spellings[spelling] = spelled_name(wire, position)
    return name


def names_in(wire: bytes, position: int, end: int, rtype: int) -> Sequence[int]:
    """Return where the names stand in RDATA from `position` to `end`, which follow one another.

    None for types in which no name may be compressed, whose octets nobody needs to look at. Raises
    `WireError` if the names run past the end.
    """
    layout = _NAMES_IN.get(rtype)
    if layout is None or position == end:
        return ()
    before, count = layout
    position += before
    found = []
    try:
        if rtype == _T_NAPTR:
            for _ in range(_STRINGS_OF_NAPTR):
                position += wire[position] + 1
        for _ in range(count):
            found.append(position)
            position = skip_name(wire, position)
    except IndexError:
        position = len(wire) + 1
    if position > end:
        raise WireError("a name runs past the end of its RDATA")
    return found


def _rdata(
    wire: bytes, position: int, end: int, rtype: int, spellings: dict[bytes, bytes]
) -> bytes:
    """Return RDATA from `position` to `end` with the names in it uncompressed."""
    places = names_in(wire, position, end, rtype)
    if not places:
        return wire[position:end]
    names = [_spelled(wire, place, spellings) for place in places]
    rest = skip_name(wire, places[-1])
    return b"".join((wire[position : places[0]], *names, wire[rest:end]))
