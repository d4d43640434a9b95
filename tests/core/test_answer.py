"""What a reply means and how long it may live: the statements of RFC 2181, 2308, 6891 and 8767.

Every case is a message that dnspython wrote. `test_answer_judges` compares whole messages with
independent readers, `test_answer_broken` holds what is no message.
"""

from __future__ import annotations

from itertools import pairwise

import dns.edns
import dns.message
import pytest

from dnsguard.core import answer as answers
from dnsguard.core.answer import Answer, Kind
from dnsguard.core.chain import CHAIN_MAX
from dnsguard.core.wire import U32
from tests.core.build import answer_wire, meaning, query, soa

ASKED = query("www.example.", edns=1232)
PLAIN = query("www.example.")
NS = "example. 900 IN NS ns.example."
A = "www.example. 60 IN A 192.0.2.1"


def ttls(answer: Answer) -> list[int]:
    """The TTLs as they stand in the octets that are kept."""
    return [U32.unpack_from(answer.wire, offset)[0] for offset in answer.offsets]


def told(answer: str = "", rcode: int = 0, *, asked: bytes = ASKED, **sections: str) -> Answer:
    return meaning(asked, answer_wire(asked, answer, rcode, **sections))  # type: ignore[arg-type]


# -- kinds --------------------------------------------------------------------------------------

SOA = soa("example.", 300, 120)
CNAME = "www.example. 60 IN CNAME web.example."

KINDS: list[tuple[str, str, int, str, Kind]] = [
    # what, answer, rcode, authority, kind
    ("data", A, 0, "", Kind.POSITIVE),
    ("data and its authority", A, 0, NS, Kind.POSITIVE),
    ("data and an SOA", A, 0, SOA, Kind.POSITIVE),
    ("NODATA type 1 (SOA, NS)", "", 0, f"{SOA}\n{NS}", Kind.NODATA),
    ("NODATA type 2 (SOA)", "", 0, SOA, Kind.NODATA),
    ("NODATA type 3 (nothing)", "", 0, "", Kind.UNPROVEN),
    ("referral", "", 0, NS, Kind.LAME),
    ("name error type 1 (SOA, NS)", "", 3, f"{NS}\n{SOA}", Kind.NXDOMAIN),
    ("name error type 2 (SOA)", "", 3, SOA, Kind.NXDOMAIN),
    ("name error type 3 (nothing)", "", 3, "", Kind.UNPROVEN),
    ("name error type 4 (NS)", "", 3, NS, Kind.UNPROVEN),
    ("name error after a CNAME", CNAME, 3, SOA, Kind.NXDOMAIN),
    ("name error after a CNAME, without SOA", CNAME, 3, "", Kind.UNPROVEN),
    ("no such type after a CNAME", CNAME, 0, SOA, Kind.NODATA),
    ("a CNAME to nowhere", CNAME, 0, "", Kind.LAME),
    ("a CNAME to a referral", CNAME, 0, NS, Kind.LAME),
    ("data of another type", "www.example. 60 IN AAAA ::1", 0, "", Kind.UNPROVEN),
    ("data of another class", "www.example. 60 CH A abc. 1", 0, "", Kind.LAME),
    (
        "a CNAME of another class",
        CNAME.replace("IN", "CH") + "\nweb.example. 5 IN A 192.0.2.1",
        0,
        "",
        Kind.LAME,
    ),
    ("data of another name", "victim.example. 60 IN A 192.0.2.6", 0, "", Kind.LAME),
    ("data of another name, and NS", "victim.example. 60 IN A 192.0.2.6", 0, NS, Kind.LAME),
    ("data of another name, denied", "victim.example. 60 IN A 192.0.2.6", 3, "", Kind.UNPROVEN),
    ("data of another name, and SOA", "victim.example. 60 IN A 192.0.2.6", 0, SOA, Kind.NODATA),
    ("SERVFAIL", "", 2, "", Kind.LAME),
    ("SERVFAIL with data", A, 2, "", Kind.LAME),
    ("REFUSED with SOA", "", 5, SOA, Kind.LAME),
    ("BADCOOKIE", A, 23, "", Kind.LAME),
]


@pytest.mark.parametrize(("answer", "rcode", "authority", "kind"), [r[1:] for r in KINDS],
                         ids=[r[0] for r in KINDS])  # fmt: skip
def test_what_a_reply_says(answer: str, rcode: int, authority: str, kind: Kind) -> None:
    found = told(answer, rcode, authority=authority)
    assert found.kind is kind
    assert found.rcode == rcode
    if rcode < 16:
        bare = meaning(PLAIN, answer_wire(PLAIN, answer, rcode, authority=authority, edns=None))
        assert bare.kind is kind
        assert bare.wire[12:] == found.wire[12:]
        assert (bare.offsets, bare.additional) == (found.offsets, found.additional)


def chain(links: int, *, end: str = "") -> list[str]:
    names = ["www.example.", *(f"n{number}.example." for number in range(1, links + 1))]
    steps = [f"{a} 60 IN CNAME {b}" for a, b in pairwise(names)]
    return [*steps, end or f"{names[-1]} 60 IN A 192.0.2.1"]


CHAINS: list[tuple[str, list[str], Kind]] = [
    ("one link", chain(1), Kind.POSITIVE),
    ("the longest", chain(CHAIN_MAX), Kind.POSITIVE),
    ("one link too many", chain(CHAIN_MAX + 1), Kind.LAME),
    ("backwards", chain(3)[::-1], Kind.POSITIVE),
    ("in another case", ["www.EXAMPLE. 60 IN CNAME Web.Example.", "wEB.eXAMPLE. 60 IN A 192.0.2.1"],
     Kind.POSITIVE),
    ("past its end", chain(2, end="n9.example. 60 IN A 192.0.2.1"), Kind.LAME),
    ("with a gap", chain(3)[:1] + chain(3)[2:], Kind.LAME),
    ("to itself", ["www.example. 60 IN CNAME www.example."], Kind.LAME),
    ("in a circle", [*chain(2)[:2], "n2.example. 60 IN CNAME www.example."], Kind.LAME),
    ("in a circle of its own", [*chain(2)[:2], "n2.example. 60 IN CNAME n1.example."],
     Kind.LAME),
    ("elsewhere", ["ftp.example. 60 IN CNAME web.example.", "web.example. 60 IN A 192.0.2.1"],
     Kind.LAME),
    ("said twice", [CNAME, CNAME, "web.example. 60 IN A 192.0.2.1"], Kind.POSITIVE),
    ("of two minds (RFC 2181 section 10.1)", [CNAME, "www.example. 60 IN CNAME ftp.example.",
     "web.example. 60 IN A 192.0.2.1"], Kind.LAME),
    ("by DNAME", ["example. 60 IN DNAME example.net.", "www.example. 60 IN CNAME www.example.net.",
     "www.example.net. 60 IN A 192.0.2.1"], Kind.POSITIVE),
    ("beside data", [CNAME, A], Kind.POSITIVE),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "kind"), [row[1:] for row in CHAINS],
                         ids=[row[0] for row in CHAINS])  # fmt: skip
def test_a_chain_of_cnames(lines: list[str], kind: Kind) -> None:
    found = told("\n".join(lines))
    assert found.kind is kind
    if kind is Kind.POSITIVE:
        assert found.ttl == 60


@pytest.mark.parametrize(
    "lines",
    [
        ["www.example. 60 IN CNAME www.example."],
        [*chain(2)[:2], "n2.example. 60 IN CNAME www.example."],
        [*chain(2)[:2], "n2.example. 60 IN CNAME n1.example."],
        chain(CHAIN_MAX + 1),
        ["ftp.example. 60 IN CNAME web.example.", "web.example. 60 IN A 192.0.2.1"],
    ],
    ids=["to itself", "a circle", "a circle further on", "too long", "not from the question"],
)
@pytest.mark.parametrize("authority", ["", SOA, NS])
def test_a_chain_that_leads_nowhere_leaves_nothing_to_pass_on(
    lines: list[str], authority: str
) -> None:
    """As two CNAMEs at one name; where nothing is on the chain an SOA may prove absence."""
    found = told("\n".join(lines), authority=authority)
    if lines[0].startswith("ftp") and authority is SOA:
        assert found.kind is Kind.NODATA
        assert b"\3ftp" not in found.wire
    else:
        assert (found.kind, found.offsets) == (Kind.LAME, ())


def test_a_chain_that_dangles_is_passed_on_up_to_where_it_leads() -> None:
    """Its end may be known to others: dnsmasq and others give no SOA with it."""
    found = told("\n".join(chain(2, end="n9.example. 60 IN A 192.0.2.1")))
    assert [record.to_text() for record in dns.message.from_wire(found.wire).answer] == chain(2)[:2]
    assert found.offsets


def test_two_cnames_at_one_name_leave_nothing_to_keep() -> None:
    lines = [CNAME, "www.example. 60 IN CNAME ftp.example."]
    found = told("\n".join(lines))
    assert (found.kind, found.ttl, found.offsets, found.additional) == (Kind.LAME, 0, (), 0)
    assert found.wire == answer_wire(PLAIN, "", edns=None)


def test_a_cname_is_data_to_those_who_ask_for_it() -> None:
    assert told(CNAME, asked=query("www.example.", "CNAME")).kind is Kind.POSITIVE
    assert told(CNAME, asked=query("www.example.", "ANY")).kind is Kind.POSITIVE


def test_any_type_and_any_class_take_all() -> None:
    assert told(A, asked=query("www.example.", "ANY")).kind is Kind.POSITIVE
    assert told(A, asked=query("www.example.", rdclass="ANY")).kind is Kind.POSITIVE
    assert told(A, asked=query("www.example.", rdclass="CH")).kind is Kind.LAME


# -- TTLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([60], [60]),
        ([60, 60], [60, 60]),
        ([60, 30], [30, 30]),  # RFC 2181 section 5.2: the lowest of an RRset
        ([30, 60], [30, 30]),
        ([90, 30, 60], [30, 30, 30]),
        ([86400], [86400]),
        ([86401], [86400]),  # cache.max_ttl
        ([86401, 86400], [86400, 86400]),
        ([86400, 60], [60, 60]),
        ([0x7FFFFFFF], [86400]),
        ([0x80000000], [86400]),  # RFC 8767 section 4: not zero but very long
        ([0xFFFFFFFF], [86400]),
        ([0xFFFFFFFF, 0xFFFFFFFF], [86400, 86400]),
        ([60, 0xFFFFFFFF], [60, 60]),
        ([0xFFFFFFFF, 60], [60, 60]),
        ([0], [0]),
        ([60, 0], [0, 0]),
    ],
)
@pytest.mark.parametrize("edns", [None, 1232])
def test_the_ttl_of_an_rrset(given: list[int], kept: list[int], edns: int | None) -> None:
    lines = [f"www.example. {ttl} IN A 192.0.2.{n}" for n, ttl in enumerate(given)]
    found = meaning(ASKED, answer_wire(ASKED, "\n".join(lines), edns=edns))
    assert found.kind is Kind.POSITIVE
    assert found.ttl == min(kept)
    assert ttls(found) == kept


def test_rrsets_are_levelled_apart_and_live_as_long_as_the_shortest() -> None:
    found = told(
        "www.example. 300 IN CNAME web.example.\nWEB.example. 20 IN A 192.0.2.1\n"
        "web.example. 40 IN A 192.0.2.2",
        authority="example. 900 IN NS ns.example.\nexample. 800 IN NS ns2.example.",
        additional="ns.example. 172800 IN A 192.0.2.53",
    )
    assert found.kind is Kind.POSITIVE
    assert found.ttl == 20
    assert ttls(found) == [300, 20, 20, 800, 800, 86400]


def test_records_beside_the_answer_are_levelled_and_cut_too() -> None:
    found = told(
        A,
        authority="example. 900 IN NS ns.example.\nEXAMPLE. 800 IN NS ns2.example.",
        additional="ns.example. 172800 IN A 192.0.2.53\nns.example. 60 IN AAAA 2001:db8::53\n"
        "ns2.example. 50 IN A 192.0.2.54\nns.example. 70 IN A 192.0.2.55",
    )
    assert ttls(found)[1:] == [800, 800, 70, 60, 50, 70]
    assert found.ttl == ttls(found)[0]  # they have no say in how long the answer lives


def test_owners_that_cannot_be_read_are_cut_to_the_maximum_and_no_more() -> None:
    wire = answer_wire(ASKED, A, additional="n.example. 90000 IN A 192.0.2.1", edns=None)
    loop = (0xC000 | len(wire)).to_bytes(2, "big")  # a pointer to itself
    record = loop + wire[-14:-10] + (90000).to_bytes(4, "big") + wire[-6:]
    broken = wire[:10] + b"\0\2" + wire[12:] + record
    found = meaning(ASKED, broken)
    assert ttls(found)[1:] == [86400, 86400]


@pytest.mark.parametrize(
    ("ttl", "minimum", "most", "life"),
    [
        (300, 120, 300, 120),  # RFC 2308 section 5: the lower of the two
        (60, 120, 300, 60),
        (120, 120, 300, 120),
        (3600, 7200, 300, 300),  # cache.max_negative_ttl
        (0xFFFFFFFF, 0xFFFFFFFF, 300, 300),
        (0x80000000, 5, 300, 5),
        (300, 0, 300, 0),
        (0, 300, 300, 0),
        (300, 300, 0, 0),
    ],
)
@pytest.mark.parametrize("rcode", [0, 3])
def test_a_negative_answer_lives_by_its_soa(
    ttl: int, minimum: int, most: int, life: int, rcode: int
) -> None:
    wire = answer_wire(ASKED, "", rcode, authority=soa("example.", ttl, minimum))
    found = meaning(ASKED, wire, max_negative_ttl=most)
    assert found.kind is (Kind.NXDOMAIN if rcode else Kind.NODATA)
    assert found.ttl == life
    assert ttls(found) == [life]  # the SOA goes out with it, and is counted down from there
    kept = dns.message.from_wire(found.wire)
    assert kept.authority[0][0].minimum == minimum  # its RDATA stays as it came


@pytest.mark.parametrize(
    ("cname_ttl", "life"), [(300, 120), (20, 20), (0, 0), (0xFFFFFFFF, 120), (120, 120)]
)
@pytest.mark.parametrize("rcode", [0, 3])
def test_a_chain_to_nothing_lives_as_long_as_its_shortest(
    cname_ttl: int, life: int, rcode: int
) -> None:
    link = f"www.example. {cname_ttl} IN CNAME web.example."
    found = told(link, rcode, authority=SOA)
    assert found.kind is (Kind.NXDOMAIN if rcode else Kind.NODATA)
    assert found.ttl == life
    assert ttls(found) == [min(cname_ttl, 86400), 120]


def test_the_first_soa_counts_and_the_rest_stays() -> None:
    lines = [NS, soa("example.", 90, 900), soa("other.", 5, 900), "a.example. 77 IN NSEC b. A"]
    found = told(authority="\n".join(lines))
    assert found.ttl == 90
    assert ttls(found) == [900, 90, 5, 77]


def test_a_first_soa_without_life_counts_too() -> None:
    found = told(authority="\n".join([soa("example.", 0, 900), soa("other.", 50, 900)]))
    assert (found.kind, found.ttl) == (Kind.NODATA, 0)


def test_what_is_not_proven_has_no_life() -> None:
    for rcode in (0, 3):
        assert told(rcode=rcode).ttl == 0


# -- OPT, flags and everything that is not ours to change ------------------------------------------

GLUE = "ns.example. 900 IN A 192.0.2.53"


def test_opt_goes_and_the_records_before_it_stay() -> None:
    with_opt = told(A, authority=NS, additional=GLUE)
    without = meaning(PLAIN, answer_wire(PLAIN, A, authority=NS, additional=GLUE, edns=None))
    assert with_opt.wire == without.wire
    assert with_opt.offsets == without.offsets
    assert with_opt.additional == without.additional == 1
    assert dns.message.from_wire(with_opt.wire).edns == -1


def test_hundreds_of_records_are_counted_in_every_section() -> None:
    many = [f"n{number}.example. 60 IN NS ns.example." for number in range(300)]
    addresses = [f"www.example. 60 IN A 192.0.{n >> 8}.{n & 255}" for n in range(300)]
    data = "\n".join(addresses)
    found = told(data, authority="\n".join(many), additional=data)
    assert (found.kind, found.additional, len(found.offsets)) == (Kind.POSITIVE, 300, 900)
    assert found.wire[6:12] == b"\x01\x2c" * 3


def test_opt_with_options_goes_too() -> None:
    options = (
        dns.edns.EDEOption(dns.edns.EDECode.FORGED_ANSWER, "forged"),
        dns.edns.NSIDOption(b"a"),
    )
    found = meaning(ASKED, answer_wire(ASKED, A, options=options))
    assert found.wire == told(A).wire
    assert b"forged" not in found.wire


def test_what_comes_after_opt_goes_with_it() -> None:
    """The additional section is optional, and a TSIG behind OPT is for us alone."""
    wire = answer_wire(ASKED, A, additional=GLUE)
    whole = dns.message.from_wire(answer_wire(ASKED, A, additional=GLUE, edns=None)).to_wire()
    opt, glue = wire[-11:], whole[len(answer_wire(ASKED, A, edns=None)) :]
    swapped = wire[: -11 - len(glue)] + opt + glue
    found = meaning(ASKED, swapped)
    assert (found.kind, found.additional) == (Kind.POSITIVE, 0)
    assert found.wire == told(A).wire


@pytest.mark.parametrize("rcode", [16, 23, 4095])
def test_an_extended_rcode_is_put_together(rcode: int) -> None:
    assert told(rcode=rcode).rcode == rcode
    assert told(A, rcode).kind is Kind.LAME


@pytest.mark.parametrize("ad", [False, True])
def test_ad_is_noted(ad: bool) -> None:
    assert meaning(ASKED, answer_wire(ASKED, A, ad=ad)).ad is ad


def test_equal_shapes_share_their_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[tuple[int, ...], tuple[int, ...]] = {}
    monkeypatch.setattr(answers, "_shared", table)
    monkeypatch.setattr(answers, "OFFSETS_SHARED_MAX", 2)
    two = f"{A}\n{A}"
    assert told(A).offsets is told(A).offsets
    assert told(two).offsets is told(two).offsets
    late = told(f"{A}\n{two}")
    assert len(late.offsets) == 3
    assert len(table) == 2  # full: what is new is not kept
    assert told(two).offsets is told(two).offsets  # what is old is still shared
