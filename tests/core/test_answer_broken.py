"""Replies that are none: cut short, too long, with counts and lengths that lie.

Whatever the octets, they are an `Answer` or a `WireError`, and finding out takes a number of looks
that does not depend on how cleverly they were compressed.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, strategies as st

from dnsguard.core.answer import NAMES_MAX, Answer, Kind, read_answer
from dnsguard.core.wire import HEADER_OCTETS, U32
from dnsguard.errors import WireError
from tests.core.build import Watched, answer_wire, meaning, query, read, soa

ASKED = query("www.example.")
KEY = read(ASKED).key
QUESTION = KEY[:-1]
A = "www.example. 60 IN A 192.0.2.1"
CHAIN = "www.example. 60 IN CNAME web.example.\nweb.example. 50 IN A 192.0.2.1"
HERE = b"\xc0\x0c"


def record(rtype: int, rdata: bytes, *, owner: bytes = HERE, ttl: int = 60, rclass: int = 1,
           length: int | None = None) -> bytes:  # fmt: skip
    fixed = struct.pack("!HHIH", rtype, rclass, ttl, len(rdata) if length is None else length)
    return owner + fixed + rdata


def message(an: bytes = b"", ns: bytes = b"", ar: bytes = b"", *,
            counts: tuple[int, int, int] = (0, 0, 0)) -> bytes:  # fmt: skip
    """A reply of hand-made sections; a section that is there counts one if not told otherwise."""
    numbers = [count or bool(part) for count, part in zip(counts, (an, ns, ar), strict=True)]
    return ASKED[:2] + struct.pack("!HHHHH", 0x8180, 1, *numbers) + QUESTION + an + ns + ar


def judged(wire: bytes) -> Answer:
    return read_answer(wire, QUESTION, 1, 86400, 300)


OPT = record(41, b"", owner=b"\0", rclass=1232, ttl=0)
DATA = record(1, b"\xc0\0\2\1")
SOA_RDATA = b"\0\0" + bytes(20)

BROKEN = [
    ("an answer that is not there", message(counts=(1, 0, 0))),
    ("an authority that is not there", message(DATA, counts=(1, 1, 0))),
    ("an additional that is not there", message(DATA, counts=(1, 0, 1))),
    ("65535 answers", message(DATA, counts=(65535, 0, 0))),
    ("an octet too many", message(DATA) + b"\0"),
    ("an octet after OPT", message(DATA, ar=OPT) + b"\0"),
    ("a record that is not counted", message(DATA + DATA)),
    ("an owner cut in half", message(b"\xc0")),
    ("an owner without end", message(b"\x3fabc")),
    ("an owner with a reserved label", message(b"\x40" + DATA)),
    ("an owner that points at itself", message(record(1, b"", owner=b"\xc0\x1d"))),
    ("an owner that points forwards", message(record(1, b"", owner=b"\xc0\x2b"))),
    ("an owner that points into the header", message(record(1, b"", owner=b"\xc0\x04"))),
    ("a record without RDLENGTH", message(DATA[:8])),
    ("answer RDATA past the end", message(record(1, b"\xc0\0\2\1", length=5))),
    ("authority RDATA past the end", message(ns=record(2, b"\0", length=2))),
    ("additional RDATA past the end", message(ar=record(1, b"", length=1))),
    ("OPT past the end", message(ar=record(41, b"", owner=b"\0", length=1))),
    ("OPT past the end, fast", message(DATA, ar=OPT[:-1] + b"\1")),
    ("RDATA that eats into OPT", message(record(1, b"\xc0\0\2\1", length=5), ar=OPT)),
    ("RDATA that leaves a gap to OPT", message(record(1, b"\xc0\0\2\1", length=3), ar=OPT)),
    ("an SOA of 21 octets", message(ns=record(6, SOA_RDATA[:21]))),
    ("a CNAME without a name", message(record(5, b""))),
    ("a CNAME shorter than its name", message(record(5, b"\1a\0", length=2) + b"\0")),
    ("a CNAME longer than its name", message(record(5, b"\1a\0x"))),
    ("a CNAME that points at itself", message(record(5, b"\xc0\x29"))),
    ("OPT among the answers", message(DATA + OPT, counts=(2, 0, 0))),
    ("OPT in the authority", message(DATA, ns=OPT)),
]


@pytest.mark.parametrize("wire", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_no_reply(wire: bytes) -> None:
    with pytest.raises(WireError):
        judged(wire)


def test_the_hand_made_messages_are_right_but_for_their_fault() -> None:
    assert judged(message(DATA, ar=OPT)).kind is Kind.POSITIVE
    assert judged(message(DATA)).kind is Kind.POSITIVE
    assert judged(message(ns=record(6, SOA_RDATA))).kind is Kind.NODATA
    assert judged(message(record(5, b"\1a\0"))).kind is Kind.LAME
    assert judged(message()).kind is Kind.UNPROVEN


WHOLE = [
    answer_wire(ASKED, A),
    answer_wire(ASKED, A, edns=None),
    answer_wire(ASKED, CHAIN, authority="example. 9 IN NS ns.example."),
    answer_wire(ASKED, "", 3, authority=soa("example.", 300, 300)),
    answer_wire(ASKED, A, additional="ns.example. 9 IN A 192.0.2.53"),
]


@pytest.mark.parametrize("wire", WHOLE)
def test_no_beginning_of_a_reply_is_one(wire: bytes) -> None:
    judged(wire)
    for size in range(HEADER_OCTETS + len(QUESTION), len(wire)):
        with pytest.raises(WireError):
            judged(wire[:size])


def sound(found: Answer, wire: bytes) -> None:
    """What every answer must keep to, whatever it was read from."""
    if found.kind is not Kind.LAME:
        assert 0 <= found.ttl <= 86400
        assert len(found.wire) <= len(wire)
        assert all(offset + 4 <= len(found.wire) for offset in found.offsets)
        if found.kind is not Kind.UNPROVEN:
            assert found.offsets
            assert found.ttl <= max(U32.unpack_from(found.wire, at)[0] for at in found.offsets)


COUNTS = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))
RECORDS = st.builds(
    record,
    st.sampled_from([1, 5, 6, 28, 41, 46]),
    st.sampled_from([b"\xc0\0\2\1", b"\xc0\x0c", b"\1a\0", b"", SOA_RDATA]) | st.binary(max_size=8),
    owner=st.sampled_from([HERE, b"\0", b"\1a\0", b"\x03www\x07EXAMPLE\0", b"\xc0\x10"]),
    ttl=st.sampled_from([0, 60, 90000, 0xFFFFFFFF]),
    rclass=st.sampled_from([1, 3, 1232]),
    length=st.none() | st.integers(0, 9),
)


@given(counts=COUNTS, records=st.lists(RECORDS, max_size=5), rest=st.binary(max_size=4))
@example(counts=(1, 0, 1), records=[DATA, OPT], rest=b"")
def test_sections_of_any_sort(
    counts: tuple[int, int, int], records: list[bytes], rest: bytes
) -> None:
    wire = message(b"".join(records) + rest, counts=counts)
    try:
        sound(judged(wire), wire)
    except WireError:
        return


@given(st.integers(0, 65535), st.lists(st.integers(0, 3), min_size=3, max_size=3), st.binary())
def test_any_octets_are_an_answer_or_an_error(flags: int, counts: list[int], body: bytes) -> None:
    wire = ASKED[:2] + struct.pack("!HHHHH", flags, 1, *counts) + QUESTION + body
    try:
        sound(judged(wire), wire)
    except WireError:
        return


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_reply_is_no_worse(whole: bytes, blows: list[tuple[int, int]]) -> None:
    data, start = bytearray(whole), HEADER_OCTETS + len(QUESTION)
    for place, octet in blows:
        place = start + place % (len(data) - start)
        data[place] = octet
    wire = bytes(data)
    try:
        sound(judged(wire), wire)
    except WireError:
        return


# -- work ---------------------------------------------------------------------------------------


def ladder_of(rungs: int, owners: bytes, rtype: int, rdata: bytes) -> Watched:
    """64 KiB of records whose names lead down a ladder of pointers hidden in the first RDATA.

    `owners` and `rdata` are followed by a pointer to the ladder's top.
    """
    steps, top = bytearray(), 0
    start = HEADER_OCTETS + len(QUESTION) + 12
    for rung in range(rungs):
        place = start + len(steps)
        steps += b"\1x" + (struct.pack("!H", 0xC000 | top) if rung else b"\0")
        top = place
    down = struct.pack("!H", 0xC000 | top)
    parts, count, size = [record(16, bytes(steps))], 1, len(steps)
    while size < 65000:
        owner = owners.replace(b"#", bytes((count & 0x7F,))) + down
        parts.append(record(rtype, rdata and rdata + down, owner=owner))
        size += len(parts[-1])
        count += 1
    return Watched(message(b"".join(parts), counts=(count, 0, 0)))


@pytest.mark.parametrize(
    ("owners", "rtype", "rdata"),
    [(b"", 1, b"1234"), (b"\1a", 1, b""), (b"", 5, b"\1b"), (b"\2#a", 1, b"")],
)
def test_compression_cannot_make_a_reply_expensive(owners: bytes, rtype: int, rdata: bytes) -> None:
    """Cf. CVE-2024-8508: thousands of names, each of them a hundred hops long."""
    wire = ladder_of(100, owners, rtype, rdata)
    assert len(wire) > 64000
    try:
        judged(wire)
    except WireError as error:
        assert str(NAMES_MAX) in str(error)  # noqa: PT017
    assert wire.looks < 2 * len(wire)


def test_many_records_at_the_end_of_a_chain_are_no_attack() -> None:
    lines = [f"web.example. 60 IN A 192.0.{n >> 8}.{n & 255}" for n in range(4 * NAMES_MAX)]
    wire = answer_wire(ASKED, "\n".join(["www.example. 60 IN CNAME web.example.", *lines]))
    assert meaning(ASKED, wire).kind is Kind.POSITIVE


def test_names_without_number_are_refused() -> None:
    lines = [f"n{number}.example. 60 IN A 192.0.2.1" for number in range(NAMES_MAX + 1)]
    with pytest.raises(WireError, match="names"):
        meaning(ASKED, answer_wire(ASKED, "\n".join(lines)))


def test_a_name_that_lies_in_a_ttl_is_none() -> None:
    """Found by fuzzing: once the TTL was levelled, the name was another, or none at all."""
    ttl_at = HEADER_OCTETS + len(QUESTION) + 6
    first = record(1, b"\xc0\0\2\1", ttl=0x01610000)  # its octets could be the name `a`
    for at in (ttl_at, ttl_at + 2, ttl_at + 3):
        owner = (0xC000 | at).to_bytes(2, "big")
        for second in (record(1, b"\xc0\0\2\2", owner=owner), record(5, owner)):
            with pytest.raises(WireError, match="in a TTL"):
                judged(message(first + second, counts=(2, 0, 0)))


def test_a_name_beside_a_ttl_is_one() -> None:
    name = b"\3abc\0"
    end = HEADER_OCTETS + len(QUESTION) + len(HERE) + 10
    owner = (0xC000 | end).to_bytes(2, "big")
    found = judged(
        message(record(16, name) + record(1, b"\xc0\0\2\2", owner=owner), counts=(2, 0, 0))
    )
    assert found.kind is Kind.UNPROVEN
