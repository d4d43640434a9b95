"""Records beside the chain are left out, and what is left says the same as before.

How a message is compressed must not matter, nor what stands behind the records that go: dnspython
reads both, before and after.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import pytest
from hypothesis import given, strategies as st

from dnsguard.core.answer import Kind
from dnsguard.core.chain import CHAIN_MAX, SPELLINGS_MAX, follow, strays, without
from dnsguard.core.wire import HEADER_OCTETS
from dnsguard.errors import WireError
from tests.core.build import RDATA, answer_wire, meaning, query

ASKED = query("www.example.")
START = len(query("www.example.", edns=None))
A = "www.example. 60 IN A 192.0.2.1"
STRAY = "victim.example. 60 IN A 192.0.2.6"


# -- the chain ------------------------------------------------------------------------------------


def test_a_chain_begins_at_the_question_and_ends_at_data() -> None:
    links = {b"": b"\1a\0", b"\1a\0": b"\1b\0", b"\1b\0": b"\1c\0"}
    assert follow({}, set(), b"\0") == [b""]
    assert follow(links, {b""}, b"\0") == [b""]
    assert follow(links, {b"\1b\0"}, b"\0") == [b"", b"\1a\0", b"\1b\0"]
    assert follow(links, {b"\1x\0"}, b"\0") == [b"", b"\1a\0", b"\1b\0", b"\1c\0"]


def test_a_chain_has_a_longest() -> None:
    names = [b"", *(b"\1%c\0" % number for number in range(65, 65 + CHAIN_MAX + 1))]
    links = dict(pairwise(names))
    assert follow(links, {names[CHAIN_MAX]}, b"\0") == names[: CHAIN_MAX + 1]
    assert follow(links, {names[-1]}, b"\0") == []


@pytest.mark.parametrize("end", [b"\3www\0", b"\1a\0", b"\1b\0"])
def test_a_circle_is_none(end: bytes) -> None:
    assert follow({b"": b"\1a\0", b"\1a\0": b"\1b\0", b"\1b\0": end}, set(), b"\3www\0") == []


def test_a_dname_above_the_chain_belongs_to_it_and_so_does_its_signature() -> None:
    www, above, other = b"\3www\1d\0", b"\1d\0", b"\1e\0"
    records = [(b"", 5), (above, 39), (above, 46), (above, 1), (other, 39), (other, 46), (b"\0", 1)]
    assert strays(records, [b""], www) == {3, 4, 5, 6}
    assert strays([(above, 46)], [b""], www) == {0}
    assert strays([(b"\0", 39)], [b"", b"\1x\0"], www) == set()
    assert strays([(b"\3w\1d\0", 39), (b"\1d\0", 39)], [b""], b"\5x\3w\1d\0\0"[:7] + b"\0") == {
        0,
        1,
    }


# -- messages without what is beside it ----------------------------------------------------------

KEPT = [
    ("before", f"{STRAY}\n{A}", A),
    ("behind", f"{A}\n{STRAY}", A),
    ("between", f"{A}\n{STRAY}\nwww.example. 60 IN A 192.0.2.2",
     f"{A}\nwww.example. 60 IN A 192.0.2.2"),
    ("of another class", f"www.example. 60 CH TXT x\n{A}", A),
    ("a link that nothing leads to", f"ftp.example. 60 IN CNAME web.example.\n{A}", A),
    ("data behind a gap", "www.example. 60 IN CNAME n1.example.\nn2.example. 60 IN A 192.0.2.1",
     "www.example. 60 IN CNAME n1.example."),
    ("past the end of the chain",
     f"www.example. 60 IN CNAME a.example.\na.example. 9 IN A 192.0.2.1\n{STRAY}",
     "www.example. 60 IN CNAME a.example.\na.example. 9 IN A 192.0.2.1"),
    ("a DNAME elsewhere", f"example.net. 60 IN DNAME example.org.\n{A}", A),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kept"), [r[1:] for r in KEPT], ids=[r[0] for r in KEPT])
def test_records_beside_the_chain_are_left_out(given: str, kept: str) -> None:
    found = meaning(ASKED, answer_wire(ASKED, given, authority="example. 9 IN NS ns.example."))
    wanted = dns.message.from_wire(
        answer_wire(ASKED, kept, authority="example. 9 IN NS ns.example.")
    )
    got = dns.message.from_wire(found.wire)
    assert [r.to_text() for r in got.answer] == [r.to_text() for r in wanted.answer]
    assert [r.to_text() for r in got.authority] == [r.to_text() for r in wanted.authority]
    assert found.offsets


def test_a_message_that_holds_its_chain_is_not_touched() -> None:
    lines = ["example. 60 IN DNAME example.net.", "www.example. 60 IN CNAME www.example.net.",
             "www.example.net. 60 IN A 192.0.2.1"]  # fmt: skip
    wire = answer_wire(ASKED, "\n".join(lines), edns=None)
    assert meaning(ASKED, wire).wire == wire


def test_the_lives_of_what_is_left_out_do_not_matter() -> None:
    found = meaning(ASKED, answer_wire(ASKED, f"{A}\nvictim.example. 1 IN A 192.0.2.6"))
    assert (found.kind, found.ttl, len(found.offsets)) == (Kind.POSITIVE, 60, 1)


def test_an_opt_and_its_rcode_are_still_read() -> None:
    wire = answer_wire(ASKED, f"{A}\n{STRAY}", additional="ns.example. 9 IN A 192.0.2.53")
    found = meaning(ASKED, wire)
    assert found.additional == 1
    assert dns.message.from_wire(found.wire).edns == -1


@given(
    beside=st.lists(st.sampled_from(list(RDATA)), max_size=5),
    authority=st.lists(st.sampled_from(list(RDATA)), max_size=4),
    at=st.integers(0, 5),
    edns=st.sampled_from([None, 1232]),
)
def test_what_is_compressed_by_a_record_that_goes_still_says_the_same(
    beside: list[str], authority: list[str], at: int, edns: int | None
) -> None:
    """dnspython compresses every name that it may, by the octets of the first that is like it."""
    others = [f"www.example. 60 IN {rtype} {RDATA[rtype]}" for rtype in beside]
    lines = [STRAY, *others, f"{A}"]
    lines.insert(min(at, len(lines)), "ns.victim.example. 60 IN A 192.0.2.7")
    wire = answer_wire(
        ASKED, "\n".join(lines), edns=edns,
        authority="\n".join(f"victim.example. 60 IN {rtype} {RDATA[rtype]}" for rtype in authority),
    )  # fmt: skip
    before = dns.message.from_wire(wire, one_rr_per_rrset=True)
    gone = {i for i, record in enumerate(before.answer) if record.name != before.question[0].name}
    assert gone
    after = dns.message.from_wire(without(wire, START, gone), one_rr_per_rrset=True)
    kept = [record for i, record in enumerate(before.answer) if i not in gone]
    assert [r.to_text() for r in after.answer] == [r.to_text() for r in kept]
    assert [r.to_text() for r in after.authority] == [r.to_text() for r in before.authority]
    assert after.edns == before.edns


@given(rdata=st.binary(max_size=30), rtype=st.sampled_from([1, 2, 6, 14, 15, 24, 33, 35, 65400]))
def test_whatever_rdata_holds_it_is_read_or_refused(rdata: bytes, rtype: int) -> None:
    """Nothing but what names it may hold is looked at, and the rest passes as it came."""
    record = b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 60, len(rdata)) + rdata
    stray = b"\1x\0" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\xc0\0\2\1"
    wire = ASKED[:2] + b"\x81\x80\0\1\0\2\0\0\0\0" + ASKED[HEADER_OCTETS:START] + stray + record
    try:
        left = without(wire, START, {0})
    except WireError:
        assert rtype not in (1, 65400)
        return
    assert left[START : START + 12] == record[:10] + left[START + 10 : START + 12]
    if rtype in (1, 65400):
        assert left[START:] == record


BROKEN: list[tuple[str, Any]] = [
    ("a record that is not there", lambda wire: wire[:6] + b"\0\3" + wire[8:]),
    ("a record cut short", lambda wire: wire[:6] + b"\0\3" + wire[8:] + b"\0\0\1"),
    ("an octet too many", lambda wire: wire + b"\0"),
    ("RDATA past the end", lambda wire: wire[:-1]),
    (
        "a name longer than its RDATA",
        lambda wire: wire[:-16] + b"\xc0\x0c\0\2\0\1\0\0\0\x3c\0\2" + b"\2ab\0",
    ),
]


@pytest.mark.parametrize("damage", [r[1] for r in BROKEN], ids=[r[0] for r in BROKEN])
def test_what_cannot_be_written_anew(damage: Any) -> None:
    wire = answer_wire(ASKED, f"{STRAY}\n{A}", edns=None)
    with pytest.raises(WireError):
        without(damage(wire), START, {0})


def records(count: int, rtype: int, rdata: Any) -> bytes:
    """A reply of a stray record and many of the name asked."""
    fixed = struct.pack("!HHI", rtype, 1, 60)
    body = b"\1x\0" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(4)
    for number in range(count):
        octets = rdata(number)
        body += b"\xc0\x0c" + fixed + len(octets).to_bytes(2, "big") + octets
    head = ASKED[:2] + b"\x81\x80\0\1" + (count + 1).to_bytes(2, "big") + bytes(4)
    return head + ASKED[HEADER_OCTETS:START] + body


def test_names_have_a_bound_in_number() -> None:
    wire = records(SPELLINGS_MAX, 2, lambda number: b"\4%04d\0" % number)
    with pytest.raises(WireError, match="different names"):
        without(wire, START, {0})
    wire = records(SPELLINGS_MAX - 1, 2, lambda number: b"\4%04d\0" % number)
    assert len(without(wire, START, {0})) == len(wire) - 17


def test_names_have_a_bound_in_length() -> None:
    """A pointer of two octets makes a name of 200, thousands of times."""
    long = b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\0"
    first = START + 17 + 12
    wire = records(1000, 2, lambda number: b"\xc0" + bytes((first,)) if number else long)
    with pytest.raises(WireError, match="too long"):
        without(wire, START, {0})


def test_a_name_too_far_for_a_pointer_is_written_out() -> None:
    fixed = struct.pack("!HHIH", 65400, 1, 60, 17000) + bytes(17000)
    far = b"\3far\0" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(4)
    head = ASKED[:2] + b"\x81\x80\0\1\0\4\0\0\0\0" + ASKED[HEADER_OCTETS:START]
    wire = head + b"\1x\0" + far[5:] + b"\xc0\x0c" + fixed + far + far
    assert (
        without(wire, START, {0}) == head[:6] + b"\0\3" + head[8:] + b"\xc0\x0c" + fixed + far * 2
    )
