"""Whole replies, read by core and by two independent codecs: all three must tell the same story.

The story is told a second time here, in plain words over dnspython's objects: who owns what, where
the CNAMEs lead, which TTL is the lowest (RFC 1034 section 3.6.2, RFC 2181, RFC 2308).
"""

from __future__ import annotations

from typing import Any

import dns.message
import dns.name
import dns.rdatatype
import dnslib
from hypothesis import example, given, strategies as st

from dnsguard.core.answer import Answer, Kind
from dnsguard.core.wire import RECORD, U32
from tests.core.build import answer_wire, meaning, query, soa

NAMES = ["www.example.", "WWW.Example.", "web.example.", "n1.example.net.", "n2.example.net.", "."]
DATA = {
    "A": ["192.0.2.1", "192.0.2.2"],
    "AAAA": ["2001:db8::1"],
    "TXT": ['"a b" c', '""'],
    "MX": ["10 mail.example."],
    "SRV": ["0 5 5060 web.example."],
    "NS": ["ns.example."],
    "PTR": ["www.example."],
    "CNAME": NAMES[2:],
    "DNAME": ["example.net."],
    "HTTPS": ['1 . alpn="h2,h3" ipv4hint="192.0.2.1"', "0 web.example."],
    "CAA": ['0 issue "ca.example"'],
    "RRSIG": ["A 13 2 60 20300101000000 20200101000000 1 example. AAAA"],
    "NSEC": ["b.example. A RRSIG NSEC"],
    "TYPE65400": [r"\# 5 c00c41ff00"],
}
TTLS = st.sampled_from([0, 1, 30, 60, 86400, 86401, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
LINES = st.sampled_from(list(DATA)).flatmap(
    lambda rtype: st.builds(
        lambda owner, ttl, rdata: f"{owner} {ttl} IN {rtype} {rdata}",
        st.sampled_from(NAMES),
        TTLS,
        st.sampled_from(DATA[rtype]),
    )
)
ANSWERS = st.lists(LINES, max_size=7)
AUTHORITIES = st.lists(
    st.sampled_from(["example. 900 IN NS ns.example.", "b.example. 50 IN NSEC c.example. A"])
    | st.builds(soa, st.just("example."), TTLS, TTLS),
    max_size=3,
)
MAX_TTL, MAX_NEGATIVE = 86400, 300


class Chain:
    """Where the CNAMEs of an answer lead from the question, and what is beside the way."""

    def __init__(self, message: dns.message.Message) -> None:
        question = message.question[0]
        records = message.answer
        targets: dict[Any, Any] = {}
        if question.rdtype not in (dns.rdatatype.CNAME, dns.rdatatype.ANY):
            targets = {r.name: r[0].target for r in records if r.rdtype == dns.rdatatype.CNAME}
        owners = {r.name for r in records if question.rdtype in (r.rdtype, dns.rdatatype.ANY)}
        name, names = question.name, []
        while name not in names:
            names.append(name)
            if name in owners or name not in targets:
                break
            name = targets[name]
        else:
            names = []
        self.circle = not names
        self.reached = bool(names) and names[-1] in owners
        dnames = {
            r.name for r in records if r.rdtype == dns.rdatatype.DNAME
            and any(name != r.name and name.is_subdomain(r.name) for name in names)
        }  # fmt: skip
        self.kept = [
            r for r in records if r.name in names
            or (r.name in dnames and r.rdtype in (dns.rdatatype.DNAME, dns.rdatatype.RRSIG))
        ]  # fmt: skip
        self.linked = any(r.rdtype == dns.rdatatype.CNAME for r in self.kept) and bool(targets)


def story(wire: bytes) -> tuple[Kind, int, list[int]]:
    """Kind, life and TTLs of a reply, as the codecs and the RFCs tell them.

    TTLs are dnslib's, since dnspython reads one with the top bit set as zero.
    """
    message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    raw: Any = dnslib.DNSRecord.parse(wire)
    rrsets: dict[tuple[Any, int], int] = {}
    chain = Chain(message)
    for record, plain in zip(message.answer, raw.rr, strict=True):
        if record not in chain.kept:
            continue
        key = (record.name, record.rdtype)
        rrsets[key] = min(rrsets.get(key, MAX_TTL), plain.ttl)
    found = [rrsets[record.name, record.rdtype] for record in chain.kept]
    shortest = min(found, default=MAX_TTL)
    life = -1
    rest: dict[tuple[Any, int], int] = {}
    beside = [r for r in message.additional if r.rdtype != dns.rdatatype.OPT]
    others = [r for r in raw.ar if r.rtype != dnslib.QTYPE.OPT]
    for record, plain in zip([*message.authority, *beside], [*raw.auth, *others], strict=True):
        ttl = plain.ttl
        if record.rdtype == dns.rdatatype.SOA and life < 0:
            life = ttl = min(ttl, record[0].minimum, MAX_NEGATIVE)
        key = (record.name, record.rdtype)
        rest[key] = min(rest.get(key, MAX_TTL), ttl)
    found += [rest[record.name, record.rdtype] for record in message.authority]
    if message.rcode() == 0 and chain.reached:
        return Kind.POSITIVE, shortest, found
    if life >= 0:
        kind = Kind.NXDOMAIN if message.rcode() else Kind.NODATA
        return kind, min(shortest, life) if chain.linked else life, found
    if message.rcode() == 0 and message.answer and not chain.kept:
        return Kind.LAME, 0, []
    if message.rcode() == 0 and (chain.linked or message.authority):
        return Kind.LAME, shortest, found
    return Kind.UNPROVEN, 0, found


def ttls(found: Answer) -> list[int]:
    return [U32.unpack_from(found.wire, offset)[0] for offset in found.offsets]


def contradicts(wire: bytes, qtype: str) -> bool:
    """True if a name has two different CNAMEs, or they lead in a circle."""
    targets: dict[Any, Any] = {}
    message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    return Chain(message).circle or (qtype not in ("CNAME", "ANY") and any(
        targets.setdefault(record.name, record[0].target) != record[0].target
        for record in message.answer
        if record.rdtype == dns.rdatatype.CNAME
    ))  # fmt: skip


@given(
    qtype=st.sampled_from(["A", "AAAA", "CNAME", "TXT", "HTTPS", "TYPE65400", "ANY"]),
    answer=ANSWERS,
    authority=AUTHORITIES,
    rcode=st.sampled_from([0, 3]),
    edns=st.sampled_from([None, 1232]),
    glue=st.booleans(),
    by_dnslib=st.booleans(),
)
def test_core_and_the_codecs_tell_the_same_story(
    qtype: str, answer: list[str], authority: list[str], rcode: int, edns: int | None, glue: bool,
    by_dnslib: bool,
) -> None:  # fmt: skip
    asked = query("www.Example.", qtype)
    wire = answer_wire(
        asked, "\n".join(answer), rcode, authority="\n".join(authority),
        additional="ns.example. 9 IN A 192.0.2.53" if glue else "", edns=edns,
    )  # fmt: skip
    if by_dnslib:  # it compresses in its own way
        wire = bytes(dnslib.DNSRecord.parse(wire).pack())
    found = meaning(asked, wire, max_ttl=MAX_TTL, max_negative_ttl=MAX_NEGATIVE)
    if contradicts(wire, qtype):
        assert (found.kind, found.offsets) == (Kind.LAME, ())
        return
    kind, life, expected = story(wire)
    assert found.kind is kind
    if kind is Kind.LAME and not found.offsets:
        assert expected == []
        return
    assert ttls(found)[: len(expected)] == expected
    assert len(found.offsets) == len(expected) + glue
    if kind is not Kind.LAME:
        assert found.ttl == life
    same_records(wire, found.wire)


def same_records(before: bytes, after: bytes) -> None:
    """All records of the chain and beside it are still there, with their owners and RDATA."""
    old = dns.message.from_wire(before, one_rr_per_rrset=True)
    new = dns.message.from_wire(after, one_rr_per_rrset=True)
    assert new.edns == -1
    assert new.question == old.question
    kept = [old.question, Chain(old).kept, *old.sections[2:]]
    for mine, theirs in zip(new.sections, kept, strict=True):
        assert [(r.name, r.rdtype, r[:]) for r in mine] == [
            (r.name, r.rdtype, r[:]) for r in theirs
        ]


@given(rdata=st.binary(max_size=40), rtype=st.integers(256, 65535), rclass=st.integers(1, 65279))
@example(b"\xc0\x0c\x3f\xff", 65, 1)
@example(b"", 65400, 1)
@example(b"", 65400, 0x0201)
def test_unknown_rdata_is_left_alone(rdata: bytes, rtype: int, rclass: int) -> None:
    """RFC 3597 section 3: octet for octet, even where they look like a name or a pointer."""
    name = f"TYPE{rtype}"
    asked = query("www.example.", name, rdclass=f"CLASS{rclass}")
    record = b"\xc0\x0c" + RECORD.pack(rtype, rclass, 60, len(rdata)) + rdata
    wire = asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12:] + record
    found = meaning(asked, wire)
    assert found.kind is Kind.POSITIVE
    assert found.wire == wire
