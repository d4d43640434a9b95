"""Answers made into answers to another name, read by dnspython."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, strategies as st

from dnsguard.core.graft import grafted
from dnsguard.core.wire import name_octets
from tests.core.build import RDATA

LONG = "api.example.com.shop.svc.cluster.local."
QUESTION = name_octets(LONG) + b"\0\1\0\1"


def rrsets(lines: Sequence[str]) -> list[dns.rrset.RRset]:
    made = []
    for line in lines:
        name, ttl, rclass, rtype, data = line.split(" ", 4)
        made.append(dns.rrset.from_text(name, int(ttl), rclass, rtype, data))
    return made


def reply(name: str, answer: Sequence[str], authority: Sequence[str] = ()) -> bytes:
    """A reply as a server compresses it."""
    made = dns.message.make_response(dns.message.make_query(name, "A", use_edns=0))
    made.answer, made.authority = rrsets(answer), rrsets(authority)
    made.flags |= dns.flags.AD
    return made.to_wire(max_size=65535)


def records(message: dns.message.Message) -> list[str]:
    return [rrset.to_text() for rrset in (*message.answer, *message.authority)]


def test_alias_in_front_and_every_name_where_it_was() -> None:
    wire = reply(
        "api.example.com.",
        ["api.example.com. 60 IN CNAME lb.example.com.", "lb.example.com. 20 IN A 192.0.2.1"],
        ["example.com. 90 IN NS ns1.example.com.", "example.com. 9 IN MX 5 mail.lb.example.com."],
    )
    out = grafted(wire, QUESTION)
    assert out is not None
    found = dns.message.from_wire(out)
    before = dns.message.from_wire(wire)
    assert found.question[0].name == dns.name.from_text(LONG)
    assert records(found) == [f"{LONG} 20 IN CNAME api.example.com.", *records(before)]
    assert found.edns == 0
    assert not found.flags & dns.flags.AD
    assert found.id == before.id


def test_no_data_keeps_its_soa() -> None:
    soa = "example.com. 30 IN SOA ns1.example.com. root.example.com. 1 2 3 4 5"
    out = grafted(reply("api.example.com.", [], [soa]), QUESTION)
    assert out is not None
    assert records(dns.message.from_wire(out)) == [f"{LONG} 30 IN CNAME api.example.com.", soa]


def test_a_reply_of_nothing_is_an_alias_that_dies_at_once() -> None:
    out = grafted(reply("api.example.com.", []), QUESTION)
    assert out is not None
    assert records(dns.message.from_wire(out)) == [f"{LONG} 0 IN CNAME api.example.com."]


def test_octets_that_look_like_pointers_are_none() -> None:
    """A label may end in 0xC0, and RDATA of a type that is never compressed may hold anything."""
    wire = reply("a\\192.example.", ['a\\192.example. 5 IN TXT "\\192\\012"'])
    out = grafted(wire, QUESTION)
    assert out is not None
    found = dns.message.from_wire(out)
    assert records(found)[1:] == records(dns.message.from_wire(wire))


@pytest.mark.parametrize("rtype", RDATA)
def test_names_in_data_of_every_type_lead_where_they_led(rtype: str) -> None:
    first = "a.example. 5 IN NS ns.victim.example."  # what dnspython compresses the next one by
    wire = reply("a.example.", [first, f"b.example. 5 IN {rtype} {RDATA[rtype]}"])
    out = grafted(wire, QUESTION)
    assert out is not None
    assert records(dns.message.from_wire(out))[1:] == records(dns.message.from_wire(wire))


def handmade(*data: tuple[int, bytes]) -> bytes:
    """A reply to `a.example.` of these records, each a type and its data."""
    head = b"\0\7\x81\x80\0\1" + len(data).to_bytes(2, "big") + bytes(4)
    records = [
        b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 5, len(octets)) + octets
        for rtype, octets in data
    ]
    return head + name_octets("a.example.") + b"\0\1\0\1" + b"".join(records)


A, NS, SOA, MX, SRV, NAPTR = 1, 2, 6, 15, 33, 35
FIRST = 12 + 11 + 4 + 12  # where the data of the first record stands
LIES = {
    "a name that runs past the data": (NS, b"\3n"),
    "one that runs into what follows": (NS, b"\1"),
    "a preference and no name": (MX, b"\0\1"),
    "no second name": (SOA, b"\1n\0"),
    "strings past the end": (NAPTR, b"\0\1\0\1\xff"),
    "strings up to the end": (NAPTR, b"\0\1\0\1\0\0\0"),
    "a reserved label": (SRV, bytes(6) + b"\x80"),
    "a pointer into the type asked": (NS, b"\xc0\x17"),
    "a pointer into the header": (NS, b"\xc0\4"),
    "a pointer to itself": (NS, b"\xc0" + bytes((FIRST,))),
    "a pointer that goes round": (NS, b"\1n\xc0" + bytes((FIRST,))),
    "a pointer ahead": (NS, b"\xc0\xff"),
}


@pytest.mark.parametrize(("rtype", "octets"), LIES.values(), ids=list(LIES))
def test_data_that_does_not_hold_its_names_is_told(rtype: int, octets: bytes) -> None:
    """Who reads an answer looks into the data of CNAMEs only; all else comes here as it came."""
    assert grafted(handmade((rtype, octets)), QUESTION) is None
    assert grafted(handmade((rtype, octets), (A, b"\xc0\0\2\1")), QUESTION) is None


def test_a_pointer_into_other_data_is_told() -> None:
    """Octets of an address may look like the end of a name, which nothing here would move."""
    wire = handmade((A, b"\xc0\x0c\0\0"), (NS, b"\xc0" + bytes((FIRST,))))
    assert grafted(wire, QUESTION) is None


def test_pointers_to_pointers_move_too() -> None:
    wire = handmade((NS, b"\1n\xc0\x0c"), (NS, b"\xc0" + bytes((FIRST + 2,))), (NS, b""))
    out = grafted(wire, QUESTION)
    assert out is not None
    places = [out.index(name) for name in (b"\1a\7example\0", b"\1n\xc0")]
    assert out.endswith(
        b"\1n\xc0%c" % places[0]
        + b"\xc0%c" % places[0] + struct.pack("!HHIH", NS, 1, 5, 2) + b"\xc0%c" % (places[1] + 2)
        + b"\xc0%c" % places[0] + struct.pack("!HHIH", NS, 1, 5, 0)
    )  # fmt: skip


def test_a_pointer_that_would_lead_too_far_is_told() -> None:
    many = [f"n{n}.example. 5 IN A 192.0.2.1" for n in range(800)]
    wire = reply("a.example.", many)
    far = wire + b"\xff\xf0\0\1\0\1\0\0\0\5\0\4\1\2\3\4"
    far = far[:6] + (801).to_bytes(2, "big") + far[8:]
    assert grafted(wire, QUESTION) is not None
    assert grafted(far, QUESTION) is None


labels = st.text("ab\xc0\xff", min_size=1, max_size=9)
names = st.lists(labels, min_size=1, max_size=4).map(
    lambda parts: dns.name.Name([part.encode("latin-1") for part in parts] + [b""])
)


@given(asked=names, targets=st.lists(names, max_size=6), other=names)
def test_whatever_a_server_compresses_reads_the_same(
    asked: dns.name.Name, targets: list[dns.name.Name], other: dns.name.Name
) -> None:
    made = dns.message.make_response(dns.message.make_query(asked, "A"))
    made.answer = [
        dns.rrset.from_text(owner, 60, "IN", "CNAME", target.to_text())
        for owner, target in zip([asked, *targets], targets, strict=False)
    ]
    wire = made.to_wire()
    alias = other.to_wire()
    assert alias is not None
    out = grafted(wire, alias + b"\0\1\0\1")
    assert out is not None
    found, before = (
        dns.message.from_wire(out, one_rr_per_rrset=True),
        dns.message.from_wire(wire, one_rr_per_rrset=True),
    )
    assert records(found)[1:] == records(before)
    assert found.question[0].name == other
