"""Messages by their fields: where each begins and ends, and mutations that change one of them.

Whoever mutates octets seldom gets past the first check. Here a message keeps its structure but for
one field, which gets a value that is on an edge, that another field has, or that does not belong:
the header's flags and counts, labels and pointers, types, classes, TTLs and lengths of records, and
the options of EDNS.
"""

from __future__ import annotations

import random
from typing import NamedTuple

HEADER = 12
T_OPT = 41
NUMBERS = (0, 1, 2, 11, 12, 13, 63, 64, 127, 128, 254, 255, 256, 511, 512, 1232, 0x7FFF, 0x8000,
           0xC000, 0xC00C, 0xFFFF)  # fmt: skip
TYPES = (0, 1, 2, 5, 6, 12, 15, 28, 33, 39, 41, 46, 65, 250, 251, 252, 255, 65535)
COUNTS = (4, 6, 8, 10)


class Field(NamedTuple):
    """One field of a message."""

    kind: str
    start: int
    end: int


def fields(wire: bytes) -> list[Field]:
    """Return the fields of a well-formed message, in order; of a broken one those up to there."""
    found = [Field("flags", 2, 4), *(Field("count", at, at + 2) for at in COUNTS)]
    counts = [int.from_bytes(wire[at : at + 2], "big") for at in COUNTS]
    at = HEADER
    try:
        for _ in range(counts[0]):
            at = _name(wire, at, found)
            found += [Field("type", at, at + 2), Field("class", at + 2, at + 4)]
            at += 4
        for _ in range(sum(counts[1:])):
            at = _record(wire, at, found)
    except IndexError:
        pass
    return [field for field in found if field.end <= len(wire)]


def _name(wire: bytes, at: int, found: list[Field]) -> int:
    while length := wire[at]:
        if length >= 0xC0:
            found.append(Field("pointer", at, at + 2))
            return at + 2
        found += [Field("length", at, at + 1), Field("label", at + 1, at + 1 + length)]
        at += 1 + length
    found.append(Field("root", at, at + 1))
    return at + 1


def _record(wire: bytes, at: int, found: list[Field]) -> int:
    start = at
    at = _name(wire, at, found)
    length = wire[at + 8] << 8 | wire[at + 9]
    found += [
        Field("type", at, at + 2), Field("class", at + 2, at + 4), Field("ttl", at + 4, at + 8),
        Field("size", at + 8, at + 10), Field("rdata", at + 10, at + 10 + length),
        Field("record", start, at + 10 + length),
    ]  # fmt: skip
    end = at + 10 + length
    if wire[at] << 8 | wire[at + 1] == T_OPT:
        option = at + 10
        while option + 4 <= end:
            size = wire[option + 2] << 8 | wire[option + 3]
            found += [Field("code", option, option + 2), Field("size", option + 2, option + 4),
                      Field("option", option, option + 4 + size)]  # fmt: skip
            option += 4 + size
    return end


def mutate(wire: bytes, chance: random.Random) -> bytes:
    """Change one field of a message, or two; its id stays."""
    for _ in range(chance.choice((1, 1, 1, 2))):
        wire = _change(wire, chance.choice(fields(wire)), chance)
    return wire


def _change(wire: bytes, field: Field, chance: random.Random) -> bytes:
    kind, start, end = field
    old = wire[start:end]
    size = end - start
    if kind in ("count", "size", "code", "pointer"):
        number = int.from_bytes(old, "big")
        values = (*NUMBERS, number + 1, number - 1, len(wire), 0xC000 | start, 0xC000 | start + 2)
        new = (chance.choice(values) & 0xFFFF).to_bytes(2, "big")
    elif kind in ("type", "class"):
        new = chance.choice(TYPES).to_bytes(2, "big")
    elif kind == "length":
        new = bytes((chance.choice((0, 1, old[0] - 1, old[0] + 1, 63, 64, 128, 192, 255)) & 255,))
    elif kind == "flags":
        new = (int.from_bytes(old, "big") ^ 1 << chance.randrange(16)).to_bytes(2, "big")
    elif kind == "ttl":
        new = chance.choice(
            (b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 4)
        )
    elif kind in ("record", "option"):  # gone, twice, or something else in its place
        others = [f for f in fields(wire) if f.kind == kind]
        other = chance.choice(others)
        new = chance.choice((b"", old * 2, old * 30, wire[other.start : other.end]))
    elif kind == "root":
        new = chance.choice((b"", b"\0\0", b"\xc0\x0c", b"\1", b"\x3f" + b"z" * 63 + b"\0"))
    else:  # what stands in labels and RDATA
        new = chance.choice((
            b"", old + b"\0", old[:-1], chance.randbytes(size), old.swapcase(), b"\xc0\x0c" * 3,
            bytes(size), b"\xff" * size,
        ))  # fmt: skip
    return wire[:start] + new + wire[end:]
