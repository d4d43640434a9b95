"""Exported answers as zone-file text (RFC 1035 section 5, RFC 3597 section 5), and back.

Each answer stands under a comment that says to which question it is and when it came, so that what
is read again is as old as it was. Records without such a comment, as people write them by hand, are
an answer for each name and type, as of now. Denials have no form in a zone file: they are written
as comments, for people. Reading is strict: a line that is not understood is told with its number.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any

import dnslib

from dnsguard import message_text
from dnsguard.core.wire import KEY_DO, KEY_TAILS, labels_before, name_octets, name_text
from dnsguard.errors import ControlError, WireError

# ;; web.shop.svc.cluster.local. IN A +do stored 1764317661.125
_HEAD = re.compile(r";; (\S+) IN (\S+)( \+do)?( \+cd)? stored ([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_OPAQUE = re.compile(r"\\#\s+([0-9]{1,5})((?:\s+[0-9a-fA-F]+)*)")  # RFC 3597 section 5
_TTL_MAX = 0x7FFFFFFF


def zone_text(row: dict[str, Any]) -> str:
    """Return one exported row (see `admin.cache_verbs`) as lines of a zone file."""
    key = bytes.fromhex(row["key"])
    wire = binascii.a2b_base64(row["wire"])
    message = message_text.read(wire)
    qtype = message_text.type_name(int.from_bytes(key[-5:-3], "big"))
    flags = f"{' +do' if key[-1] & KEY_DO else ''}{' +cd' if key[-1] & ~KEY_DO else ''}"
    head = f";; {name_text(key)} IN {qtype}{flags} stored {row['stored']:.3f}"
    records = message.sections["answer"]
    if wire[3] & 0xF or not records:
        word = "no such name" if wire[3] & 0xF else "no such record"
        return f"; {name_text(key)} IN {qtype}: {word}\n"
    return "\n".join([head, *(" ".join(str(record).split()) for record in records)]) + "\n"


def rows_of(lines: Iterable[str], now: float) -> Iterator[dict[str, Any]]:
    """Yield rows to import from the text of a zone file; `now` is the wall clock, in seconds.

    Raises `ControlError` for a line that is not understood.
    """
    head: tuple[bytes, float] | None = None
    records: list[dnslib.RR] = []
    loose: dict[tuple[str, int], list[dnslib.RR]] = {}
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
            record = _record(text, number)
            if head is not None:
                records.append(record)
            else:
                loose.setdefault((str(record.rname).lower(), record.rtype), []).append(record)
    if head is not None and records:
        yield _row(*head, records)
    for (name, rtype), some in loose.items():
        yield _row(name_octets(name) + rtype.to_bytes(2, "big") + b"\0\1\0", now, some)


def _key(found: re.Match[str], number: int) -> bytes:
    try:
        tail = (KEY_DO if found[3] else 0) | (2 if found[4] else 0)
        qtype = message_text.type_number(found[2])
        return name_octets(found[1]) + qtype.to_bytes(2, "big") + b"\0\1" + KEY_TAILS[tail]
    except (WireError, ValueError) as wrong:
        raise ControlError(f"line {number}: {wrong}") from None


def _record(text: str, number: int) -> dnslib.RR:
    """Read one line: owner, TTL, class, type, data."""
    parts = text.split(None, 4)
    try:
        if len(parts) < 5 or parts[2].upper() != "IN" or not parts[1].isdecimal():
            raise ValueError("a record is: name TTL IN type data")
        ttl = int(parts[1])
        if ttl > _TTL_MAX:
            raise ValueError(f"a TTL is at most {_TTL_MAX}")
        name_octets(parts[0])
        rtype = message_text.type_number(parts[3])
        opaque = _OPAQUE.fullmatch(parts[4])
        if opaque is not None:
            data = bytes.fromhex("".join(opaque[2].split()))
            if len(data) != int(opaque[1]):
                raise ValueError(f"{opaque[1]} octets are announced, {len(data)} are there")
            return dnslib.RR(parts[0], rtype, 1, ttl, dnslib.RD(data))
        (record,) = dnslib.RR.fromZone(text)
    except WireError as wrong:
        raise ControlError(f"line {number}: {wrong}") from None
    except Exception as wrong:  # dnslib raises whatever its parser trips over
        raise ControlError(f"line {number}: {text!r} is no record: {wrong}") from None
    return record


def _row(key: bytes, stored: float, records: list[dnslib.RR]) -> dict[str, Any]:
    qtype = int.from_bytes(key[-5:-3], "big")
    # By its labels: what dnslib reads out of a text, it reads by the rules of IDNA.
    question = dnslib.DNSQuestion(dnslib.DNSLabel(labels_before(key[:-5], b"\0")), qtype)
    message = dnslib.DNSRecord(dnslib.DNSHeader(id=0, qr=1, rd=1, ra=1), q=question, rr=records)
    wire = binascii.b2a_base64(message.pack(), newline=False).decode()
    return {"name": name_text(key), "key": key.hex(), "stored": stored, "wire": wire}
