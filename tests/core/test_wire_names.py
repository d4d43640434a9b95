"""Names on the wire and in text, with dnspython as the judge.

Ladders and loops of compression pointers are written by hand; how much of a message is looked at
on the way is counted, octet by octet, so that no clock has to say that a walk was short.
"""

from __future__ import annotations

import struct

import dns.exception
import dns.name
import pytest
from hypothesis import example, given, strategies as st

from dnsguard.core.wire import (
    HEADER_OCTETS,
    LABEL_MAX,
    NAME_MAX,
    POINTER_HOPS_MAX,
    Malformed,
    check_options,
    name_octets,
    name_text,
    read_name,
    skip_name,
)
from dnsguard.errors import WireError
from tests.core.build import Watched, octets_of

HEADER = bytes(HEADER_OCTETS)


def pointer(target: int) -> bytes:
    return struct.pack("!H", 0xC000 | target)


# -- compressed names ---------------------------------------------------------------------------


def test_a_compressed_name_is_read_whole_and_lower() -> None:
    data = HEADER + b"\x07Example\x03COM\0" + b"\x03wWw" + pointer(12) + b"rest"
    start = HEADER_OCTETS + 13
    assert read_name(data, start) == b"\x03www\x07example\x03com\0"
    assert skip_name(data, start) == start + 6
    assert skip_name(data, HEADER_OCTETS) == start


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (HEADER + pointer(12), 12),  # at itself
        (HEADER + pointer(14) + b"\1a\0", 12),  # forwards
        (HEADER + b"\1a" + pointer(12), 12),  # back to its own first label
        (HEADER + b"\1a" + pointer(14), 12),  # at itself, after a label
        (HEADER + pointer(14) + pointer(12), 14),  # at a pointer that leads forwards
        (HEADER + b"\1a" + pointer(16) + b"\1b" + pointer(12), 16),  # two that chase each other
        (HEADER + b"\1a\0" + pointer(0), 15),  # into the header
        (HEADER + b"\1a\0" + pointer(11), 15),
        (HEADER + b"\1a\0" + pointer(0x3FFF), 15),  # beyond the end
        (HEADER + b"\xc0", 12),  # half a pointer
        (HEADER + b"\x40", 12),
        (HEADER + b"\x80\0", 12),
        (HEADER + b"\x3fabc", 12),
        (HEADER, 12),
    ],
)
def test_what_is_no_name(data: bytes, position: int) -> None:
    with pytest.raises(WireError):
        read_name(data, position)


@pytest.mark.parametrize("octets", [b"\x40\0", b"\xbf\0", b"\x3fab", b"\1a", b"\xc0", b""])
def test_what_cannot_be_skipped(octets: bytes) -> None:
    with pytest.raises(WireError):
        skip_name(HEADER + octets, HEADER_OCTETS)


def ladder(rungs: int, label: bytes = b"") -> tuple[Watched, int]:
    """A name and `rungs` pointers, each to the one before; return the last one's place too."""
    data, target = bytearray(HEADER + b"\1z\0"), HEADER_OCTETS
    for _ in range(rungs):
        place = len(data)
        data += label + pointer(target)
        target = place
    return Watched(data), target


def test_a_ladder_of_pointers_has_a_last_rung() -> None:
    data, top = ladder(POINTER_HOPS_MAX)
    assert read_name(data, top) == b"\1z\0"
    data, top = ladder(POINTER_HOPS_MAX + 1)
    with pytest.raises(WireError, match="pointer"):
        read_name(data, top)


@pytest.mark.parametrize("label", [b"", b"\1a", b"\x07abcdefg"])
def test_the_longest_ladder_is_left_early(label: bytes) -> None:
    data, top = ladder(0x3FF0 // (2 + len(label)), label)
    with pytest.raises(WireError):
        read_name(data, top)
    assert data.looks <= 4 * (POINTER_HOPS_MAX + 1)  # a length, a label, a pointer's two octets


PIECES = st.one_of(
    st.binary(min_size=1, max_size=5).map(lambda label: bytes((len(label),)) + label),
    st.integers(0, 60).map(pointer),
    st.just(b"\0"),
    st.binary(max_size=3),
)


@given(st.lists(PIECES, max_size=16), st.integers(HEADER_OCTETS, 40))
@example([b"\1a", b"\0", pointer(12), pointer(15), pointer(17)], 19)
def test_names_are_read_as_dnspython_reads_them(pieces: list[bytes], position: int) -> None:
    data = Watched(HEADER + b"".join(pieces))
    try:
        judge, octets = dns.name.from_wire(bytes(data), min(position, len(data)))
    except dns.exception.DNSException:
        with pytest.raises(WireError):
            read_name(data, position)
        return
    try:
        found = read_name(data, position)
    except WireError:  # more careful than the judge: no name lies in the header
        chain = [piece for piece in pieces if piece[:1] >= b"\xc0" and piece[1:] < b"\x0c"]
        assert chain, f"{judge} was not read"
        return
    assert found == octets_of(judge.canonicalize())
    assert skip_name(data, position) == position + octets
    assert data.looks < 4 * (NAME_MAX + POINTER_HOPS_MAX)


# -- text ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=LABEL_MAX), max_size=8))
@example([b'."\\();@$', b" ", b"\x7f", b"~", b"!", b"\0", b"\xff"])
def test_names_are_written_as_dnspython_writes_them(labels: list[bytes]) -> None:
    try:
        judge = dns.name.Name([*labels, b""])
    except dns.name.NameTooLong:
        return
    octets = octets_of(judge)
    text = name_text(octets)
    assert text == judge.to_text()
    assert name_octets(text) == octets.lower()
    assert name_octets(text[:-1] or ".") == octets.lower()  # the last dot may be left out


@given(st.text(alphabet="aZ.-_\\019 ~\x7f*\u0661é", max_size=12))
@example("a\\.b.c")
@example("\\065\\090.")
@example("a" * 64)
@example(".".join(["a" * 63] * 4))
@example(".".join(["a" * 63] * 3 + ["a" * 61]))
def test_text_is_understood_as_dnspython_understands_it(text: str) -> None:
    """Except that white space at the end is the reader's, not the name's."""
    if text != text.rstrip():
        return
    try:
        if not text.isascii():
            raise dns.name.EmptyLabel
        expected = octets_of(dns.name.from_text(text).canonicalize())
    except dns.exception.DNSException:
        with pytest.raises(WireError):
            name_octets(text)
    else:
        assert name_octets(text) == expected


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (".", b"\0"),
        ("WWW.Example", b"\x03www\x07example\0"),
        ("www.example.\n", b"\x03www\x07example\0"),
        ("_http._tcp.web.", b"\x05_http\x04_tcp\x03web\0"),
        ("a\\.b.", b"\x03a.b\0"),
        ("\\000\\255.", b"\x02\x00\xff\0"),
        ("a\\\\.", b"\x02a\\\0"),
    ],
)
def test_text_of_every_sort(text: str, octets: bytes) -> None:
    assert name_octets(text) == octets


@pytest.mark.parametrize(
    "text",
    ["..", ".a", "a..b", "a..", "x" * 64, "ä.example", "a\\", "a\\25", "a\\256", "a\\2x5", "a\\ä",
     "a\\٣٣٣", ". ", ".".join(["x" * 63] * 4)],
)  # fmt: skip
def test_text_that_is_no_name(text: str) -> None:
    with pytest.raises(WireError, match="not a domain name"):
        name_octets(text)


def test_octets_without_their_end_are_still_shown() -> None:
    assert name_text(b"\x03www") == "www."
    assert name_text(b"") == "."


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [b"", b"\0\1\0\0", b"\0\1\0\2ab\xff\xff\0\1c"])
def test_options_that_fill_their_record(options: bytes) -> None:
    check_options(b"before" + options + b"after", 6, 6 + len(options))


def test_the_wish_to_know_how_long_a_connection_lives_is_seen_among_options() -> None:
    """RFC 7828, and only where it stands as an option."""
    other, wish = b"\0\x08\0\4\0\x0b\0\0", b"\0\x0b\0\0"
    assert not check_options(other, 0, len(other))
    assert check_options(other + wish + other, 0, 2 * len(other) + len(wish))


@pytest.mark.parametrize("options", [b"\0", b"\0\1\0", b"\0\1\0\1", b"\0\1\0\0\0\1\0\2a"])
def test_options_that_do_not(options: bytes) -> None:
    with pytest.raises(Malformed) as raised:
        check_options(b"before" + options + b"after", 6, 6 + len(options), b"question")
    assert (raised.value.question, raised.value.edns) == (b"question", True)
