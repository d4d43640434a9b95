"""Turns a DNS message into text for people and for scripts, and never gives up on one.

Sections are cut here, record by record; dnslib puts each record's data into words. What dnslib
cannot read is shown in the generic form of RFC 3597 section 5, and what cannot even be cut into
records as a line of hex. Extended errors are named as in RFC 8914 and its registry. Knows no
sockets: bytes come in, text goes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import error as StructError
from typing import Any

from dnsguard.core import wire
from dnsguard.errors import WireError

EDE_OPTION = 15
EDE_STALE = frozenset({3, 19})
EDE_NAMES = (
    "Other Error", "Unsupported DNSKEY Algorithm", "Unsupported DS Digest Type", "Stale Answer",
    "Forged Answer", "DNSSEC Indeterminate", "DNSSEC Bogus", "Signature Expired",
    "Signature Not Yet Valid", "DNSKEY Missing", "RRSIGs Missing", "No Zone Key Bit Set",
    "NSEC Missing", "Cached Error", "Not Ready", "Blocked", "Censored", "Filtered", "Prohibited",
    "Stale NXDOMAIN Answer", "Not Authoritative", "Not Supported", "No Reachable Authority",
    "Network Error", "Invalid Data", "Signature Expired before Valid", "Too Early",
    "Unsupported NSEC3 Iterations Value", "Unable to conform to policy", "Synthesized",
    "Invalid Query Type",
)  # fmt: skip
OPTION_NAMES = {3: "NSID", 8: "CLIENT-SUBNET", 9: "EXPIRE", 10: "COOKIE", 11: "TCP-KEEPALIVE",
                12: "PADDING", 15: "EDE"}  # fmt: skip
OPCODE_NAMES = {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE", 6: "DSO"}
CLASS_NAMES = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
FLAG_NAMES = (
    (wire.QR, "qr"), (wire.AA, "aa"), (wire.TC, "tc"), (wire.RD, "rd"), (wire.RA, "ra"),
    (0x0040, "z"), (wire.AD, "ad"), (wire.CD, "cd"),
)  # fmt: skip
SECTIONS = ("answer", "authority", "additional")


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record, ready to print; `octets` is its RDATA as it stands in the message."""

    name: str
    ttl: int
    rclass: str
    rtype: str
    data: str
    octets: bytes

    def __str__(self) -> str:
        return f"{self.name:<31} {self.ttl:<7} {self.rclass:<4} {self.rtype:<7} {self.data}"


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """One Extended DNS Error (RFC 8914)."""

    code: int
    text: str

    @property
    def name(self) -> str:
        return EDE_NAMES[self.code] if self.code < len(EDE_NAMES) else "unknown code"

    def __str__(self) -> str:
        return f"{self.code} ({self.name})" + (f': "{self.text}"' if self.text else "")


@dataclass(slots=True)
class Edns:
    """What the OPT record says (RFC 6891)."""

    version: int
    udp_size: int
    do: bool
    errors: list[ExtendedError] = field(default_factory=list)
    options: list[tuple[int, bytes]] = field(default_factory=list)  # all but the errors


@dataclass(slots=True)
class Message:
    """A message cut into parts; `unread` holds the octets in which no records could be found."""

    wire: bytes
    id: int
    flags: list[str]
    opcode: str
    rcode: str
    counts: tuple[int, int, int, int]
    questions: list[tuple[str, str, str]] = field(default_factory=list)
    sections: dict[str, list[Record]] = field(default_factory=lambda: {s: [] for s in SECTIONS})
    edns: Edns | None = None
    unread: bytes = b""

    @property
    def stale(self) -> bool:
        """True if the server says that this answer is past its TTL."""
        return self.edns is not None and any(e.code in EDE_STALE for e in self.edns.errors)


def type_name(number: int) -> str:
    from dnslib import QTYPE

    return str(QTYPE.forward.get(number, f"TYPE{number}"))


def type_number(text: str) -> int:
    """`AAAA`, `TYPE65`, `65` in any case. Raises ValueError that says what would be right."""
    from dnslib import QTYPE

    upper = text.upper()
    number = upper.removeprefix("TYPE")
    if upper in QTYPE.reverse:
        return int(QTYPE.reverse[upper])
    if number.isascii() and number.isdecimal() and len(number) < 6 and 0 < int(number) < 65536:
        return int(number)
    raise ValueError(f"{text!r} is not a record type: write A, AAAA, SRV, … or TYPE65")


def known_types() -> list[int]:
    """Every type that has a name here."""
    from dnslib import QTYPE

    return sorted(QTYPE.forward)


def visible(text: str) -> str:
    """Escape what could move a terminal's cursor: the text comes from a stranger."""
    return "".join(c if c.isprintable() else f"\\{ord(c):03d}" for c in text)


def read(data: bytes) -> Message:
    """Cut a message of at least 12 octets into parts; what cannot be cut ends up in `unread`."""
    flags = int.from_bytes(data[2:4], "big")
    opcode = (flags & wire.OPCODE) >> 11
    message = Message(
        wire=data,
        id=int.from_bytes(data[:2], "big"),
        flags=[name for bit, name in FLAG_NAMES if flags & bit],
        opcode=OPCODE_NAMES.get(opcode, f"OPCODE{opcode}"),
        rcode="",
        counts=wire.COUNTS.unpack_from(data, 4),
    )
    rcode, position = flags & wire.RCODE, wire.HEADER_OCTETS
    try:
        for _ in range(message.counts[0]):
            name, end = _name(data, position), wire.skip_name(data, position)
            qtype, qclass = wire.OPTION.unpack_from(data, end)
            message.questions.append((name, class_name(qclass), type_name(qtype)))
            position = end + wire.OPTION.size
        for section, count in zip(SECTIONS, message.counts[1:], strict=True):
            for _ in range(count):
                start, (rtype, rclass, ttl, end) = position, _bounds(data, position)
                if rtype == wire.T_OPT and section == "additional":
                    message.edns = _edns(rclass, ttl, data[_data_start(data, start) : end])
                    rcode |= ttl >> 24 << 4
                else:
                    message.sections[section].append(_record(data, start, end))
                position = end
    except (WireError, StructError):
        pass  # what follows `position` is shown as it is
    message.unread = data[position:]
    message.rcode = wire.RCODE_NAMES.get(rcode, f"RCODE{rcode}")
    return message


def _name(data: bytes, position: int) -> str:
    return wire.name_text(wire.read_name(data, position))


def class_name(number: int) -> str:
    return CLASS_NAMES.get(number, f"CLASS{number}")


def _data_start(data: bytes, start: int) -> int:
    return wire.skip_name(data, start) + wire.RECORD.size


def _bounds(data: bytes, start: int) -> tuple[int, int, int, int]:
    """Type, class, TTL and end of the record at `start`."""
    rtype, rclass, ttl, length = wire.RECORD.unpack_from(data, wire.skip_name(data, start))
    end = _data_start(data, start) + length
    if end > len(data):
        raise WireError(f"record at octet {start} runs past the end")
    return rtype, rclass, ttl, end


def _record(data: bytes, start: int, end: int) -> Record:
    rtype, rclass, ttl, _ = _bounds(data, start)
    return Record(
        name=_name(data, start),
        ttl=ttl,
        rclass=class_name(rclass),
        rtype=type_name(rtype),
        data=_data_text(data, start, end),
        octets=data[_data_start(data, start) : end],
    )


def _data_text(data: bytes, start: int, end: int) -> str:
    """The record's data in words; RFC 3597's form where dnslib finds none."""
    from dnslib import RR
    from dnslib.label import DNSBuffer

    buffer = DNSBuffer(data)
    buffer.offset = start
    try:
        text = RR.parse(buffer).rdata.toZone()
        # A parser that took more or less than the record's own octets has misread it.
        if buffer.offset == end and isinstance(text, str):
            return visible(text)
    except Exception:  # dnslib raises a dozen kinds, RecursionError among them
        pass
    return opaque(data[_data_start(data, start) : end])


def opaque(octets: bytes) -> str:
    """RDATA in the form that every type has (RFC 3597 section 5)."""
    return f"\\# {len(octets)} {octets.hex()}".rstrip()


def _edns(rclass: int, ttl: int, options: bytes) -> Edns:
    edns = Edns(version=ttl >> 16 & 0xFF, udp_size=rclass, do=bool(ttl & wire.DO_BIT))
    position = 0
    while position + wire.OPTION.size <= len(options):
        code, length = wire.OPTION.unpack_from(options, position)
        position += wire.OPTION.size
        value = options[position : position + length]
        position += length
        if code == EDE_OPTION and len(value) >= 2:
            words = value[2:].decode("utf-8", "replace").rstrip("\0")
            edns.errors.append(ExtendedError(int.from_bytes(value[:2], "big"), visible(words)))
        else:
            edns.options.append((code, value))
    return edns


def lines(message: Message) -> list[str]:
    """The message the way dig prints it, line by line."""
    named = zip(("QUERY", "ANSWER", "AUTHORITY", "ADDITIONAL"), message.counts, strict=True)
    counts = ", ".join(f"{name}: {count}" for name, count in named)
    text = [
        f";; ->>HEADER<<- opcode: {message.opcode}, status: {message.rcode}, id: {message.id}",
        f";; flags: {' '.join(message.flags)}; {counts}",
    ]
    if (edns := message.edns) is not None:
        flags = " do" if edns.do else ""
        text += ["", ";; OPT PSEUDOSECTION:"]
        text.append(f"; EDNS: version: {edns.version}, flags:{flags}; udp: {edns.udp_size}")
        text += [f"; EDE: {error}" for error in edns.errors]
        text += [f"; {OPTION_NAMES.get(c, f'OPT={c}')}: {v.hex()}" for c, v in edns.options]
    if message.questions:
        text += ["", ";; QUESTION SECTION:"]
        text += [f";{name:<30} {'':<7} {rc:<4} {rt}" for name, rc, rt in message.questions]
    for section, records in message.sections.items():
        if records:
            text += ["", f";; {section.upper()} SECTION:", *map(str, records)]
    if message.unread:
        octets = message.unread
        text += ["", f";; {len(octets)} octets could not be read as records:", f"; {octets.hex()}"]
    return text


def as_dict(message: Message) -> dict[str, Any]:
    """The message for scripts; the names are those of `lines`."""

    def record(r: Record) -> dict[str, Any]:
        return {"name": r.name, "ttl": r.ttl, "class": r.rclass, "type": r.rtype, "data": r.data}

    edns = message.edns
    return {
        "id": message.id,
        "opcode": message.opcode,
        "rcode": message.rcode,
        "flags": message.flags,
        "question": [{"name": n, "class": c, "type": t} for n, c, t in message.questions],
        **{section: [record(r) for r in rs] for section, rs in message.sections.items()},
        "edns": edns
        and {
            "version": edns.version,
            "udp_size": edns.udp_size,
            "do": edns.do,
            "options": [{"code": c, "hex": v.hex()} for c, v in edns.options],
        },
        "ede": [{"code": e.code, "name": e.name, "text": e.text} for e in edns.errors]
        if edns
        else [],
        "stale": message.stale,
        "unread_hex": message.unread.hex(),
    }
