"""Queries as they come in, whole and broken: what is read, what is refused, and with which rcode.

dnspython and dnslib write the queries and judge how they were read; the broken ones are written
by hand, because no codec will write them. What names are made of is tried in `test_wire_names`.
"""

from __future__ import annotations

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dnslib
import pytest
from hypothesis import example, given, strategies as st

from dnsguard.core import wire
from dnsguard.core.wire import (
    BADVERS,
    FORMERR,
    HEADER_OCTETS,
    LABEL_MAX,
    NAME_MAX,
    NOTIMP,
    REFUSED,
    STREAM_MAX,
    UDP_MAX,
    UDP_PLAIN,
    Malformed,
    name_text,
    read_name,
    read_query,
    skip_name,
)
from dnsguard.errors import WireError
from tests.core.build import CLIENT, Watched, octets_of, query, read

HEADER = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0"
QUESTION = b"\x03wWw\x07example\0\0\x01\0\x01"
PLAIN = HEADER + QUESTION


def with_counts(qd: int = 1, an: int = 0, ns: int = 0, ar: int = 0, flags: int = 0x0100) -> bytes:
    """A header with these counts."""
    return b"\x12\x34" + struct.pack("!HHHHH", flags, qd, an, ns, ar)


def opt(size: int = 1232, ttl: int = 0, data: bytes = b"", owner: bytes = b"\0") -> bytes:
    """An OPT record as octets."""
    return owner + struct.pack("!HHIH", 41, size, ttl, len(data)) + data


def with_additional(*records: bytes) -> bytes:
    return with_counts(ar=len(records)) + QUESTION + b"".join(records)


TSIG = b"\0" + struct.pack("!HHIH", 250, 255, 0, 0)
TXT = b"\0" + struct.pack("!HHIH", 16, 1, 0, 2) + b"\1a"


# -- what a query says --------------------------------------------------------------------------


def test_a_query_is_read_in_place() -> None:
    found = read_query(PLAIN, CLIENT, 7.5)
    assert found.id == b"\x12\x34"
    assert found.question == QUESTION  # the client's own octets, in its own case
    assert found.key == QUESTION.lower() + b"\0"
    assert found.qtype == 1
    assert found.flags == 0x0100
    assert (found.client, found.at) == (CLIENT, 7.5)
    assert not any((found.edns, found.options, found.stream, found.do, found.wants_ad))


NAMES = (
    st.lists(st.binary(min_size=1, max_size=LABEL_MAX), max_size=6)
    .filter(lambda labels: sum(len(label) + 1 for label in labels) < NAME_MAX)
    .map(lambda labels: dns.name.Name([*labels, b""]))
)


@given(
    name=NAMES,
    qtype=st.integers(1, 65535).filter(lambda number: number not in (41, 250, 251, 252)),
    edns=st.none() | st.integers(0, 65535),
    bits=st.tuples(*[st.booleans()] * 4),
    number=st.integers(0, 65535),
)
def test_whatever_dnspython_can_ask_is_read_alike(
    name: dns.name.Name, qtype: int, edns: int | None, bits: tuple[bool, ...], number: int
) -> None:
    do, cd, ad, rd = bits
    text = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(qtype))
    asked = query(name.to_text(), text, edns=edns, do=do, cd=cd, ad=ad, rd=rd, id=number)
    found = read(asked)
    judge = dns.message.from_wire(asked)
    assert int.from_bytes(found.id, "big") == judge.id == number
    assert found.flags == judge.flags
    assert found.question == octets_of(judge.question[0].name) + struct.pack("!HH", qtype, 1)
    assert found.qtype == qtype
    assert found.edns is (judge.edns == 0)
    assert found.do is do
    assert found.wants_ad is (ad or do)
    assert not found.options
    assert found.key[:-1] == octets_of(name.canonicalize()) + struct.pack("!HH", qtype, 1)
    assert found.key[-1] == do + 2 * cd


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("size", [None, 512, 1400])
@pytest.mark.parametrize("qtype", ["A", "AAAA", "SRV", "HTTPS", "TXT", "PTR", "NAPTR"])
def test_whatever_dnslib_can_ask_is_read_alike(qtype: str, size: int | None, do: bool) -> None:
    record: Any = dnslib.DNSRecord.question("_http._tcp.Web.default.svc.cluster.local", qtype)
    if size is not None:
        record.add_ar(dnslib.EDNS0(udp_len=size, flags="do" if do else ""))
    asked = bytes(record.pack())
    found = read(asked)
    assert int.from_bytes(found.id, "big") == record.header.id
    assert found.qtype == record.q.qtype
    assert name_text(found.key) == str(record.q.qname).lower()
    assert found.edns is (size is not None)
    assert found.do is (do and size is not None)


@pytest.mark.parametrize(
    ("size", "udp"),
    [
        (None, UDP_PLAIN),  # RFC 1035 section 4.2.1
        (0, UDP_PLAIN),  # RFC 6891 section 6.2.3: below 512 is 512
        (511, UDP_PLAIN),
        (512, 512),
        (513, 513),
        (1231, 1231),
        (1232, UDP_MAX),
        (1233, UDP_MAX),  # RFC 9715: no fragments, whatever the client would take
        (4096, UDP_MAX),
        (65535, UDP_MAX),
    ],
)
def test_the_largest_reply(size: int | None, udp: int) -> None:
    asked = query("www.example.", edns=size)
    assert read(asked).limit == udp
    assert read(asked, stream=True).limit == STREAM_MAX
    assert read(asked, stream=True).stream


def test_the_largest_reply_without_opt_among_other_records() -> None:
    assert read(with_additional(TXT)).limit == UDP_PLAIN
    assert read(with_additional(TXT), stream=True).limit == STREAM_MAX


def test_the_numbers_are_the_registered_ones() -> None:
    for number, name in wire.RCODE_NAMES.items():
        assert dns.rcode.to_text(dns.rcode.Rcode(number)) in (name, "BADVERS")
    codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS"]
    for name in codes:
        assert wire.RCODE_NAMES[getattr(wire, name)] == name
    for rtype in ("CNAME", "SOA", "OPT", "TSIG", "IXFR", "AXFR", "ANY"):
        assert getattr(wire, f"T_{rtype}") == dns.rdatatype.from_text(rtype)
    assert dns.rdataclass.ANY == wire.C_ANY
    for flag in ("QR", "AA", "TC", "RD", "RA", "AD", "CD"):
        assert getattr(wire, flag) == dns.flags.from_text(flag)
    assert dns.flags.DO == wire.DO_BIT
    assert (wire.OPCODE, wire.RCODE) == (0x7800, 0x000F)
    # RFC 1035 sections 2.3.4 and 4.2; RFC 9715
    assert (UDP_PLAIN, UDP_MAX, STREAM_MAX, NAME_MAX, LABEL_MAX) == (512, 1232, 65535, 255, 63)


# -- the key ------------------------------------------------------------------------------------


def test_do_and_cd_make_keys_of_their_own() -> None:
    """RFC 4035 section 3.2.2 and RFC 6840 section 5.9: such answers are never shared."""
    keys = {read(query("a.", do=do, cd=cd)).key for do in (False, True) for cd in (False, True)}
    assert len(keys) == 4


@pytest.mark.parametrize("other", [{"ad": True}, {"rd": False}, {"edns": 4096}, {"id": 9}])
def test_nothing_else_in_the_header_does(other: dict[str, Any]) -> None:
    assert read(query("a.", **other)).key == read(query("a.")).key


def test_an_edns_option_does_not_either() -> None:
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    found = read(query("a.", options=(cookie,)))
    assert found.options
    assert found.key == read(query("a.")).key


def test_case_makes_no_key_and_stays_in_the_question() -> None:
    lower, mixed = read(query("web.example.")), read(query("wEb.EXAMPLE."))
    assert lower.key == mixed.key
    assert mixed.question.startswith(b"\x03wEb\x07EXAMPLE\0")


def test_only_the_name_is_lowered() -> None:
    """65 (HTTPS) is a capital letter and 97 its small one; 0x41 is a class as well."""
    assert read(query("a.", "TYPE65")).key != read(query("a.", "TYPE97")).key
    assert read(query("a.", "HTTPS")).key[-5:-3] == b"\0\x41"
    assert read(query("a.", rdclass="CLASS65")).key != read(query("a.", rdclass="CLASS97")).key
    assert read(query("a.", "TYPE16705")).key[-5:-3] == b"AA"


def test_type_and_class_are_part_of_the_key() -> None:
    keys = {read(query("a.", *args)).key for args in (("A",), ("AAAA",))}
    keys |= {read(query("version.bind.", "TXT", rdclass=c)).key for c in ("IN", "CH")}
    assert len(keys) == 4


# -- what is no query ---------------------------------------------------------------------------

LONG = b"".join(b"\x3f" + b"x" * 63 for _ in range(3))  # 192 octets
SILENCE = None

BAD_QUERIES: list[tuple[str, bytes, int | None, bool, bool]] = [
    # why, octets, rcode, question echoed, OPT in the reply
    ("nothing at all", b"", SILENCE, False, False),
    ("eleven octets", PLAIN[:11], SILENCE, False, False),
    ("a reply", PLAIN[:2] + b"\x81" + PLAIN[3:], SILENCE, False, False),
    ("opcode 1 (IQUERY)", with_counts(flags=1 << 11) + QUESTION, NOTIMP, False, False),
    ("opcode 4 (NOTIFY)", with_counts(flags=4 << 11) + QUESTION, NOTIMP, False, False),
    ("opcode 5 (UPDATE)", with_counts(flags=5 << 11) + QUESTION, NOTIMP, False, False),
    ("opcode 6 (DSO, RFC 8490)", with_counts(0, flags=6 << 11), NOTIMP, False, False),
    ("opcode 15", with_counts(flags=15 << 11) + QUESTION, NOTIMP, False, False),
    ("no question (RFC 9619)", with_counts(0), FORMERR, False, False),
    ("two questions (RFC 9619)", with_counts(2) + QUESTION * 2, FORMERR, False, False),
    ("256 questions", with_counts(256) + QUESTION, FORMERR, False, False),
    ("an answer in it", with_counts(an=1) + QUESTION, FORMERR, False, False),
    ("an authority in it", with_counts(ns=1) + QUESTION, FORMERR, False, False),
    ("header alone", HEADER, FORMERR, False, False),
    ("a name without end", HEADER + b"\x03www", FORMERR, False, False),
    ("a label cut short", HEADER + b"\x09www", FORMERR, False, False),
    ("no type", HEADER + b"\x03www\0", FORMERR, False, False),
    ("no class", PLAIN[:-2], FORMERR, False, False),
    ("half a class", PLAIN[:-1], FORMERR, False, False),
    ("a pointer in the question", HEADER + b"\xc0\x0c\0\1\0\1", FORMERR, False, False),
    ("label type 01", HEADER + b"\x40\0\0\1\0\1", FORMERR, False, False),
    ("label type 10", HEADER + b"\x80\0\0\1\0\1", FORMERR, False, False),
    ("a name of 256 octets", HEADER + LONG + b"\x3e" + b"x" * 62 + b"\0\0\1\0\1", FORMERR, False,
     False),
    ("an octet after the question", PLAIN + b"\0", FORMERR, True, False),
    ("a record that is not counted", PLAIN + opt(), FORMERR, True, False),
    ("a record that is not there", with_additional() [:11] + b"\1" + QUESTION, FORMERR, True,
     False),
    ("two of three records", with_counts(ar=3) + QUESTION + TXT + opt(), FORMERR, True, False),
    ("half a record", with_additional(opt()[:6]), FORMERR, True, False),
    ("RDATA past the end", with_additional(opt(data=b"abcd")[:-1]), FORMERR, True, False),
    ("an owner without end", with_additional(b"\x3fx"), FORMERR, True, False),
    ("a pointer cut in half", with_additional(b"\xc0"), FORMERR, True, False),
    ("an octet after OPT", with_additional(opt()) + b"\0", FORMERR, True, False),
    ("two OPT (RFC 6891)", with_additional(opt(), opt()), FORMERR, True, False),
    ("OPT with a name", with_additional(opt(owner=b"\1a\0")), FORMERR, True, False),
    ("OPT at a pointer to the name", with_additional(opt(owner=b"\xc0\x0c")), FORMERR, True, False),
    ("three octets of an option", with_additional(opt(data=b"\0\x0a\0")), FORMERR, True, True),
    ("an option past OPT", with_additional(opt(data=b"\0\x0a\0\x09abc")), FORMERR, True, True),
    ("EDNS version 1", with_additional(opt(ttl=1 << 16)), BADVERS, True, True),
    ("EDNS version 255, DO", with_additional(opt(ttl=0xFF8000)), BADVERS, True, True),
    ("TSIG", with_additional(TSIG), REFUSED, True, False),
    ("TSIG after OPT", with_additional(opt(), TSIG), REFUSED, True, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "rcode", "echoed", "edns"),
    [row[1:] for row in BAD_QUERIES],
    ids=[row[0] for row in BAD_QUERIES],
)
def test_what_is_no_query(data: bytes, rcode: int | None, echoed: bool, edns: bool) -> None:
    for stream in (False, True):
        with pytest.raises(Malformed) as raised:
            read_query(data, CLIENT, 0.0, stream)
        assert raised.value.rcode == rcode
        assert raised.value.question == (QUESTION if echoed else b"")
        assert raised.value.edns is edns


@pytest.mark.parametrize(
    ("data", "edns", "options"),
    [
        (with_additional(TXT), False, True),  # harmless, but not to be answered without a look
        (with_additional(TXT, opt()), True, False),
        (with_additional(opt(), TXT), True, False),
        (with_additional(opt(ttl=0x7FFF)), True, False),  # RFC 6891: unknown flags are ignored
        (with_additional(opt(ttl=0xFF000000)), True, False),  # so is a query's extended rcode
        (with_additional(opt(data=b"\0\x0a\0\0")), True, True),
        (with_additional(opt(data=b"\0\x0c\1\2" + bytes(258))), True, True),
        (with_additional(opt(data=b"\xff\xff\0\x02ab\0\x0c\0\0")), True, True),
        (with_counts(flags=0x0100 | 0x0640 | 0x8) + QUESTION, False, False),  # AA, TC, Z, rcode
    ],
)
def test_what_looks_odd_and_is_answered(data: bytes, edns: bool, options: bool) -> None:
    found = read_query(data, CLIENT, 0.0)
    assert found.key == QUESTION.lower() + b"\0"
    assert found.edns is edns
    assert found.options is options


def test_a_name_of_255_octets_is_legal_and_one_more_is_not() -> None:
    longest = LONG + b"\x3d" + b"x" * 61 + b"\0"
    assert len(longest) == NAME_MAX
    assert read_query(HEADER + longest + b"\0\1\0\1", CLIENT, 0.0).question[:-4] == longest
    assert read_name(bytes(HEADER_OCTETS) + longest, HEADER_OCTETS) == longest
    assert skip_name(longest, 0) == NAME_MAX
    longer = LONG + b"\x3e" + b"x" * 62 + b"\0"
    for walk in (read_name, skip_name):
        with pytest.raises(WireError, match="255"):
            walk(bytes(HEADER_OCTETS) + longer, HEADER_OCTETS)


OPTIONS = 16000


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (with_additional(opt(data=b"\xff\xff\0\0" * OPTIONS)), True),
        (with_additional(opt(data=b"\xff\xff\0\0" * OPTIONS + b"\0")), False),
        (with_additional(*[TXT] * 4000), True),
        (with_additional(*[b"\1a" * 127 + TXT] * 200), True),
        (with_additional(*[b"\xc0\x0c" + TXT[1:]] * 4000), True),
        (HEADER + b"\1a" * 32000, False),
    ],
    ids=["options", "options, cut", "records", "long owners", "pointers", "a name without end"],
)
def test_64_kib_are_read_in_one_pass(data: bytes, good: bool) -> None:
    """The number of looks grows with the octets, and no faster."""
    watched = Watched(data)
    assert len(data) > 50000
    if good:
        assert read_query(watched, CLIENT, 0.0, stream=True).options
    else:
        with pytest.raises(Malformed):
            read_query(watched, CLIENT, 0.0, stream=True)
    assert watched.looks < len(data)


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda tail: PLAIN[:2] + tail))
@example(PLAIN)
def test_any_octets_are_a_query_or_malformed(data: bytes) -> None:
    for stream in (False, True):
        try:
            found = read_query(data, CLIENT, 0.0, stream)
        except Malformed as why:
            silent = len(data) < HEADER_OCTETS or bool(data[2] & 0x80)
            assert silent is (why.rcode is None)  # noqa: PT017
        else:
            assert data[HEADER_OCTETS:].startswith(found.question)


@given(
    st.sampled_from([PLAIN, with_additional(opt()), with_additional(TXT, opt(data=b"\0\1\0\0"))]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_broken_query_is_no_worse(good: bytes, blows: list[tuple[int, int]]) -> None:
    """What is taken, dnspython takes too: nothing is read that is not there."""
    data = bytearray(good)
    for place, octet in blows:
        data[place % len(data)] = octet
    try:
        found = read_query(bytes(data), CLIENT, 0.0)
    except Malformed:
        return
    judge = dns.message.from_wire(bytes(data), question_only=True)
    assert octets_of(judge.question[0].name.canonicalize()) == found.key[:-5]
    assert judge.question[0].rdtype == found.qtype
