"""Exported answers as zone-file text (RFC 1035 section 5, RFC 3597 section 5), and back.

Each answer stands under a comment that says to which question it is and when it came, so that what
is read again is as old as it was. Records without such a comment, as people write them by hand, are
an answer for each name and type, as of now. A record whose words would be read as another one, or
not at all, is written in the form of RFC 3597. Denials have no form in a zone file: they are
written as comments, for people. Reading is strict: a line that is not understood is told with its
number.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from struct import error as StructError
from typing import Any

import dnslib

from dnsguard import message_text
from dnsguard.core.chain import without
from dnsguard.core.wire import (
    HEADER_OCTETS,
    KEY_DO,
    KEY_TAILS,
    T_ANY,
    labels_before,
    name_octets,
    name_text,
    skip_name,
)
from dnsguard.errors import ControlError, WireError

# ;; web.shop.svc.cluster.local. IN A +do stored 1764317661.125
_HEAD = re.compile(r";; (\S+) IN (\S+)( \+do)?( \+cd)? stored ([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_OPAQUE = re.compile(r"\\#\s+([0-9]{1,5})((?:\s+[0-9a-fA-F]+)*)")  # RFC 3597 section 5
_TTL_MAX = 0x7FFFFFFF
_AFTER_NAME = 4  # octets of a question behind its name: type and class


def zone_text(row: dict[str, Any]) -> str:
    """Return one exported row (see `admin.cache_verbs`) as lines of a zone file."""
    key = bytes.fromhex(row["key"])
    wire = binascii.a2b_base64(row["wire"])
    qtype = message_text.type_name(int.from_bytes(key[-5:-3], "big"))
    flags = f"{' +do' if key[-1] & KEY_DO else ''}{' +cd' if key[-1] & ~KEY_DO else ''}"
    head = f";; {name_text(key)} IN {qtype}{flags} stored {row['stored']:.3f}"
    try:
        records = _answer(wire)
        word = "no such name" if wire[3] & 0xF else "no such record" if not records else ""
        if any(record.rclass != "IN" for record in records):
            word = "a record of another class"
    except WireError as wrong:
        word = str(wrong)
    if word:
        return f"; {name_text(key)} IN {qtype}: {word}\n"
    return "\n".join([head, *map(_line, records)]) + "\n"


def _answer(wire: bytes) -> list[message_text.Record]:
    """Return the answer section; the names in its RDATA are written out, as they are elsewhere."""
    start = skip_name(wire, HEADER_OCTETS) + _AFTER_NAME
    return message_text.read(without(wire, start, frozenset())).sections["answer"]


def _line(record: message_text.Record) -> str:
    """Return the record as a line that is read as the same octets again."""
    head = f"{record.name} {record.ttl} {record.rclass} {record.rtype}"
    line = f"{head} {record.data}"
    try:
        (same,) = _answer(_message(b"\0", T_ANY, [_record(line, 0)[1]]))
        if same.octets == record.octets:
            return line
    except (ControlError, WireError, StructError):
        pass
    return f"{head} {message_text.opaque(record.octets)}"


def rows_of(lines: Iterable[str], now: float) -> Iterator[dict[str, Any]]:
    """Yield rows to import from the text of a zone file; `now` is the wall clock, in seconds.

    Raises `ControlError` for a line that is not understood.
    """
    head: tuple[bytes, float] | None = None
    records: list[dnslib.RR] = []
    loose: dict[tuple[bytes, int], list[dnslib.RR]] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        found = _HEAD.fullmatch(text)
        if found is not None or not text:
            if head is not None and records:
                yield _row(*head, records)
            head, records = None, []
            if found is not None:
                head = _key(found, number), float(found[5])
        elif not text.startswith(";"):
            owner, record = _record(text, number)
            if head is not None:
                records.append(record)
            else:
                loose.setdefault((owner, record.rtype), []).append(record)
    if head is not None and records:
        yield _row(*head, records)
    for (name, rtype), some in loose.items():
        yield _row(name + rtype.to_bytes(2, "big") + b"\0\1\0", now, some)


def _key(found: re.Match[str], number: int) -> bytes:
    try:
        tail = (KEY_DO if found[3] else 0) | (2 if found[4] else 0)
        qtype = message_text.type_number(found[2])
        return name_octets(found[1]) + qtype.to_bytes(2, "big") + b"\0\1" + KEY_TAILS[tail]
    except (WireError, ValueError) as wrong:
        raise ControlError(f"line {number}: {wrong}") from None


def _record(text: str, number: int) -> tuple[bytes, dnslib.RR]:
    """Read one line: owner, TTL, class, type, data. Return its owner in wire form beside it."""
    parts = text.split(None, 4)
    try:
        if len(parts) != 5 or parts[2].upper() != "IN" or not parts[1].isdecimal():
            raise ValueError("a record is: name TTL IN type data")
        ttl = int(parts[1])
        if ttl > _TTL_MAX:
            raise ValueError(f"a TTL is at most {_TTL_MAX}")
        owner = name_octets(parts[0])
        rtype = message_text.type_number(parts[3])
        opaque = _OPAQUE.fullmatch(parts[4])
        if opaque is not None:
            data = bytes.fromhex("".join(opaque[2].split()))
            if len(data) != int(opaque[1]):
                raise ValueError(f"{opaque[1]} octets are announced, {len(data)} are there")
            return owner, dnslib.RR(_label(owner), rtype, 1, ttl, dnslib.RD(data))
        (record,) = dnslib.RR.fromZone(f". {ttl} IN {parts[3]} {parts[4]}")
        record.rname = _label(owner)
    except WireError as wrong:
        raise ControlError(f"line {number}: {wrong}") from None
    except Exception as wrong:  # dnslib raises whatever its parser trips over
        raise ControlError(f"line {number}: {text!r} is no record: {wrong}") from None
    return owner, record


def _row(key: bytes, stored: float, records: list[dnslib.RR]) -> dict[str, Any]:
    packed = _message(key[:-5], int.from_bytes(key[-5:-3], "big"), records)
    wire = binascii.b2a_base64(packed, newline=False).decode()
    return {"name": name_text(key), "key": key.hex(), "stored": stored, "wire": wire}


def _message(name: bytes, qtype: int, records: list[dnslib.RR]) -> bytes:
    header = dnslib.DNSHeader(id=0, qr=1, rd=1, ra=1)
    question = dnslib.DNSQuestion(_label(name), qtype)
    return bytes(dnslib.DNSRecord(header, q=question, rr=records).pack())


def _label(name: bytes) -> dnslib.DNSLabel:
    """By its labels: what dnslib reads out of a text, it reads by the rules of IDNA."""
    return dnslib.DNSLabel(labels_before(name, b"\0"))
