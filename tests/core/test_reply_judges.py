"""Replies to queries of every sort, from answers of every sort, as independent codecs read them.

Whatever was remembered and however it is asked for, a reply echoes the question octet for octet,
stays within its limit, keeps the records, and counts TTLs down and never up.
"""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dnslib
from hypothesis import given, strategies as st

from dnsguard.core import reply
from dnsguard.core.wire import Malformed, Query, read_query
from tests.core.build import CLIENT, answer_wire, entry, query, soa

RECORDS = [
    "www.example. 300 IN A 192.0.2.1",
    "WWW.EXAMPLE. 200 IN A 192.0.2.2",
    "www.example. 60 IN CNAME web.example.",
    "web.example. 5 IN A 192.0.2.3",
    "www.example. 90 IN TXT " + " ".join(['"' + "x" * 200 + '"'] * 3),
    "www.example. 4000000000 IN TYPE65400 \\# 3 c00c00",
]
AUTHORITY = ["example. 900 IN NS ns.example.", soa("example.", 60, 30)]
GLUE = "ns.example. 600 IN A 192.0.2.53"


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """www.example. in any case."""
    return "".join(draw(st.sampled_from((c.lower(), c.upper()))) for c in "www.example.")


QUERIES = st.builds(
    query,
    spelled(),
    edns=st.none() | st.sampled_from([0, 512, 700, 1232, 65535]),
    do=st.booleans(),
    cd=st.booleans(),
    ad=st.booleans(),
    rd=st.booleans(),
    id=st.integers(0, 65535),
)
REPLIES = st.builds(
    lambda records, authority, glue, rcode, edns, ad: answer_wire(
        query("www.example."), "\n".join(records), rcode, authority="\n".join(authority),
        additional=glue, edns=edns, ad=ad,
    ),
    st.lists(st.sampled_from(RECORDS), max_size=5).filter(lambda r: len(set(r) & {RECORDS[2]}) < 2),
    st.lists(st.sampled_from(AUTHORITY), max_size=2, unique=True),
    st.sampled_from(["", GLUE]),
    st.sampled_from([0, 3]),
    st.sampled_from([None, 1232]),
    st.booleans(),
)  # fmt: skip


def ttls(wire: bytes) -> list[int]:
    """TTLs of everything but OPT, as dnslib reads them."""
    message: Any = dnslib.DNSRecord.parse(wire)
    records = [*message.rr, *message.auth, *message.ar]
    return [record.ttl for record in records if record.rtype != 41]


def check(out: bytes, asked: bytes, kept: bytes, found: Query) -> None:
    """What holds of every reply with data, fresh or stale."""
    assert len(out) <= found.limit
    assert out[:2] == asked[:2]
    assert out[12 : 12 + len(found.question)] == asked[12 : 12 + len(found.question)]
    message = dns.message.from_wire(out, one_rr_per_rrset=True)
    original = dns.message.from_wire(kept, one_rr_per_rrset=True)
    assert (message.edns == 0) is found.edns
    assert message.rcode() == original.rcode()
    assert not message.flags & dns.flags.AA
    if message.flags & dns.flags.TC:
        assert not any(message.sections[1:])
        return
    for mine, theirs in zip(message.sections, original.sections, strict=True):
        assert [(r.name, r.rdtype, r[:]) for r in mine] == [
            (r.name, r.rdtype, r[:]) for r in theirs
        ]
    assert all(0 <= mine <= own for mine, own in zip(ttls(out), ttls(kept), strict=True))


@given(REPLIES, QUERIES, st.booleans(), st.floats(0, 400))
def test_fresh_replies(wire: bytes, asked: bytes, stream: bool, age: float) -> None:
    kept = entry(query("www.example."), wire, now=1000.0)
    found = read_query(asked, CLIENT, 0.0, stream)
    out = reply.fresh(kept, found, 1000.0 + age)
    check(out, asked, kept.wire, found)
    message = dns.message.from_wire(out)
    if not message.flags & dns.flags.TC:
        expected = [max(0, ttl - int(1000.0 + age - 1000.0)) for ttl in ttls(kept.wire)]
        assert ttls(out) == expected
        assert bool(message.flags & dns.flags.AD) is (kept.ad and (found.do or found.wants_ad))


@given(REPLIES, QUERIES, st.booleans(), st.floats(0, 1e6))
def test_stale_replies(wire: bytes, asked: bytes, stream: bool, late: float) -> None:
    kept = entry(query("www.example."), wire, now=1000.0)
    found = read_query(asked, CLIENT, 0.0, stream)
    out = reply.stale(kept, found, "outage", kept.expires + late)
    check(out, asked, kept.wire, found)
    message = dns.message.from_wire(out)
    assert not message.flags & dns.flags.AD
    if not message.flags & dns.flags.TC:
        assert ttls(out) == [min(ttl, 30) for ttl in ttls(kept.wire)]


@given(QUERIES, st.text(max_size=700), st.none() | st.integers(0, 24), st.sampled_from([2, 4, 5]))
def test_failures(asked: bytes, text: str, code: int | None, rcode: int) -> None:
    found = read_query(asked, CLIENT, 0.0)
    out = reply.failure(found, rcode, code, text)
    assert len(out) <= found.limit
    message = dns.message.from_wire(out)
    assert message.rcode() == rcode
    assert not any(message.sections[1:])
    assert (message.edns == 0) is found.edns
    assert len(message.options) == (found.edns and code is not None)


@given(st.binary(min_size=12, max_size=60), st.integers(0, 2))
def test_replies_to_what_is_no_query(data: bytes, counted: int) -> None:
    """Whoever sends rubbish gets a message back, or nothing; never more octets than fit."""
    data = data[:2] + bytes((data[2] & 0x7F,)) + data[3:5] + bytes((counted,)) + data[6:]
    try:
        read_query(data, CLIENT, 0.0)
    except Malformed as why:
        out = reply.malformed(data, why)
    else:
        return
    assert len(out) <= 512
    assert out[:2] == data[:2]
    assert out[2] >> 3 == data[2] >> 3 | 0x10  # same opcode, QR set
    judge: Any = dnslib.DNSRecord.parse(out)
    assert judge.header.qr == 1
