"""What we accept against what dnspython and dnslib accept: where we differ there must be a reason.

We are the stricter one where an RFC says so (one question, nothing behind the last record, one OPT
record at the root) and the laxer one where it is not our business (RDATA passes unread, RFC 3597).
"""

from __future__ import annotations

from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dnslib

from dnsguard.core.answer import Kind, read_answer
from dnsguard.core.wire import Malformed, read_query
from dnsguard.errors import WireError

QUESTION = b"\3www\7example\0\0\1\0\1"
DNSLIB_ERRORS = (dnslib.DNSError, ValueError, IndexError, KeyError, TypeError)


def _dnspython(data: bytes) -> dns.message.Message | None:
    try:
        return dns.message.from_wire(data, one_rr_per_rrset=True, ignore_trailing=False)
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return None


def _dnslib(data: bytes) -> Any:
    try:
        return dnslib.DNSRecord.parse(data)
    except DNSLIB_ERRORS:
        return None


def queries(data: bytes) -> None:
    """A client's message that we read is the same message to both of them, and to us to neither."""
    theirs = _dnspython(data)
    try:
        ours = read_query(data, None, 0.0, stream=True)
    except Malformed as why:
        if theirs is None or theirs.flags & dns.flags.QR:
            return
        if theirs.opcode() == dns.opcode.QUERY and len(theirs.question) == 1:
            # What is left that they take and we do not, each for a reason of its own.
            strict = theirs.answer or theirs.authority or theirs.tsig or theirs.edns > 0
            twice = data[4:10] != b"\0\1\0\0\0\0"
            pointed = b"\xc0" in data[12:] or b"\x40" in data[12:]
            optioned = b"\0\x29" in data[12:] or b"\0\xfa" in data[12:]
            assert strict or twice or pointed or optioned, f"refused: {why}"
        return
    if theirs is not None and theirs.question:
        (question,) = theirs.question
        assert question.name.to_wire() == ours.question[:-4]
        assert int(question.rdtype) == ours.qtype
        assert (theirs.edns >= 0) == ours.edns
        assert bool(theirs.ednsflags & dns.flags.DO) == ours.do
    plain = _dnslib(data)
    if plain is not None and plain.questions:
        assert plain.q.qtype == ours.qtype
        assert plain.header.id.to_bytes(2, "big") == ours.id


def answers(data: bytes) -> None:
    """A reply that we understand holds the records that they see in it, and no data that is not."""
    wire = b"\0\0\x81\x80\0\1" + data[:6].ljust(6, b"\0") + QUESTION + data[6:]
    try:
        ours = read_answer(wire, QUESTION, 1, 86400, 300)
    except WireError:
        return
    theirs = _dnspython(wire)
    if theirs is None or ours.kind not in (Kind.POSITIVE, Kind.NODATA, Kind.NXDOMAIN):
        return
    name = theirs.question[0].name
    held = {(r.name, r.rdtype) for r in theirs.answer if r.rdclass == dns.rdataclass.IN}
    chained = (name, dns.rdatatype.CNAME) in held
    if ours.kind is Kind.POSITIVE:
        assert chained or (name, dns.rdatatype.A) in held, "data that nobody else sees"
    else:
        assert any(r.rdtype == dns.rdatatype.SOA for r in theirs.authority), "denied without proof"
        assert (name, dns.rdatatype.A) not in held
    chain = _chain(theirs)
    wanted = [(r.name, r.rdtype, r[0]) for r in theirs.answer if _belongs(r, chain)]
    kept = bytearray(ours.wire)
    if len(wanted) == len(theirs.answer):
        # With the TTLs as they came. A pointer into the octets of one, which only an upstream
        # writes that harms its own answer, leads to another name once it has been counted down;
        # where names are read, such an answer is refused, but those beside it and in RDATA are not.
        for offset in ours.offsets:
            kept[offset : offset + 4] = wire[offset : offset + 4]
    again = _dnspython(bytes(kept))
    assert again is not None, "what is kept cannot be read"
    assert [(r.name, r.rdtype, r[0]) for r in again.answer] == wanted


def _chain(message: dns.message.Message) -> list[dns.name.Name]:
    """The names from the one asked on, along the CNAMEs, up to an address."""
    found = [message.question[0].name]
    here = [r for r in message.answer if r.rdclass == dns.rdataclass.IN]
    targets = {r.name: r[0].target for r in here if r.rdtype == dns.rdatatype.CNAME}
    ends = {r.name for r in here if r.rdtype == dns.rdatatype.A}
    while found[-1] not in ends and found[-1] in targets:
        found.append(targets[found[-1]])
    return found


def _belongs(record: dns.rrset.RRset, chain: list[dns.name.Name]) -> bool:
    """Whether a record is of the chain, or the DNAME that a link of it was made from."""
    if record.rdclass != dns.rdataclass.IN:
        return False
    dname = record.rdtype in (dns.rdatatype.DNAME, dns.rdatatype.RRSIG)
    return record.name in chain or (dname and any(n.is_subdomain(record.name) for n in chain))
