"""What clients get, as dnspython reads it: fresh, stale, cut short, refused, in error.

RFC 1035 section 4.1.1 (header), RFC 2181 section 9 (TC), RFC 6840 section 5.7 (AD), RFC 6891 (OPT),
RFC 8767 section 4 (stale TTLs), RFC 8914 (extended errors).
"""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import pytest

from dnsguard.core import reply
from dnsguard.core.entry import Entry
from dnsguard.core.policy import StalePolicy
from dnsguard.core.reply import EDE_NAMES, EDE_NETWORK, EDE_STALE, EDE_STALE_NXDOMAIN
from dnsguard.core.wire import STREAM_MAX, UDP_MAX, UDP_PLAIN, Malformed, read_query
from tests.core.build import CLIENT, answer_wire, entry, query, read, soa, zone_state

A = "www.example. 300 IN A 192.0.2.1"
LATE = 100.0 + 300 + 600  # ten minutes past the TTL of A
UPSTREAM_ASKED = query("www.example.", do=True, ad=True)


def remembered(
    answer: str = A, rcode: int = 0, *, authority: str = "", additional: str = "",
    ad: bool = False, answer_ttl: int = 30, edns: int | None = 1232,
) -> Entry:  # fmt: skip
    """An entry stored at 100."""
    wire = answer_wire(UPSTREAM_ASKED, answer, rcode, authority=authority, additional=additional,
                       ad=ad, aa=True, edns=edns)  # fmt: skip
    return entry(
        UPSTREAM_ASKED, wire, now=100.0, zone=zone_state(StalePolicy(answer_ttl=answer_ttl))
    )


def ede(message: dns.message.Message) -> list[tuple[int, str]]:
    """Extended errors: code and text."""
    found = [option for option in message.options if isinstance(option, dns.edns.EDEOption)]
    assert len(found) == len(message.options)  # we send no other option
    return [(int(option.code), option.text or "") for option in found]


def ttls(message: dns.message.Message) -> list[int]:
    return [record.ttl for section in message.sections[1:] for record in section]


# -- the header ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["fresh", "stale", "truncated", "failure"])
@pytest.mark.parametrize("rd", [False, True])
@pytest.mark.parametrize("cd", [False, True])
@pytest.mark.parametrize("edns", [None, 4096])
def test_the_header_and_the_question(make: str, rd: bool, cd: bool, edns: int | None) -> None:
    asked = query("wWw.ExAmPlE.", rd=rd, cd=cd, edns=edns, id=0xBEEF)
    found = read(asked)
    out = {
        "fresh": lambda: reply.fresh(remembered(), found, 100.0),
        "stale": lambda: reply.stale(remembered(), found, "timeout", LATE),
        "truncated": lambda: reply.truncated(found),
        "failure": lambda: reply.failure(found, 2),
    }[make]()
    assert out[:2] == b"\xbe\xef"
    assert out[12 : 12 + len(found.question)] == found.question  # byte for byte
    message = dns.message.from_wire(out)
    expected = dns.flags.QR | dns.flags.RA  # AA is 0: we are no authority; Z is 0
    expected |= (dns.flags.RD if rd else 0) | (dns.flags.CD if cd else 0)
    expected |= dns.flags.TC if make == "truncated" else 0
    assert message.flags & 0xFFF0 == expected
    assert message.rcode() == (2 if make == "failure" else 0)
    assert (message.edns == 0) is (edns is not None)


@pytest.mark.parametrize("do", [False, True])
def test_our_own_opt_and_no_other(do: bool) -> None:
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    found = read(query("www.example.", edns=512, do=do, options=(cookie,)))
    for out in (
        reply.fresh(remembered(), found, 100.0),
        reply.truncated(found),
        reply.failure(found, 5),
    ):
        message = dns.message.from_wire(out)
        assert message.payload == UDP_MAX
        assert message.ednsflags == (dns.flags.DO if do else 0)
        assert message.options == ()


@pytest.mark.parametrize(
    ("validated", "ad", "do", "expected"),
    [
        (False, False, False, False),
        (False, True, True, False),  # never made up
        (True, False, False, False),  # RFC 6840 section 5.7: only to those who understand it
        (True, True, False, True),
        (True, False, True, True),
        (True, True, True, True),
    ],
)
def test_ad(validated: bool, ad: bool, do: bool, expected: bool) -> None:
    found = read(query("www.example.", ad=ad, do=do))
    out = dns.message.from_wire(reply.fresh(remembered(ad=validated), found, 100.0))
    assert bool(out.flags & dns.flags.AD) is expected
    out = dns.message.from_wire(reply.stale(remembered(ad=validated), found, "timeout", LATE))
    assert not out.flags & dns.flags.AD  # never on what has expired


@pytest.mark.parametrize("edns", [None, 1232])
def test_all_sections_come_along(edns: int | None) -> None:
    found = read(query("www.example.", edns=edns))
    kept = remembered(authority="example. 900 IN NS ns.example.",
                      additional="ns.example. 600 IN A 192.0.2.53")  # fmt: skip
    for out in (reply.fresh(kept, found, 100.0), reply.stale(kept, found, "timeout", LATE)):
        message = dns.message.from_wire(out)
        assert [len(section) for section in message.sections] == [1, 1, 1, 1]
        assert str(message.additional[0][0]) == "192.0.2.53"


# -- TTLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "left"),
    [(100.0, 300), (100.999, 300), (101.0, 299), (250.5, 150), (399.999, 1), (99.0, 300)],
)
def test_a_fresh_ttl_is_what_is_left_of_it(now: float, left: int) -> None:
    kept, found = remembered(f"{A}\nwww.example. 300 IN A 192.0.2.2"), read(query("www.example."))
    assert ttls(dns.message.from_wire(reply.fresh(kept, found, now))) == [left]


def test_all_ttls_count_down_together_and_stop_at_zero() -> None:
    kept = remembered("www.example. 300 IN CNAME web.example.\nweb.example. 200 IN A 192.0.2.1",
                      authority="example. 50 IN NS ns.example.",
                      additional="ns.example. 0 IN A 192.0.2.53")  # fmt: skip
    out = dns.message.from_wire(reply.fresh(kept, read(query("www.example.")), 200.0))
    assert ttls(out) == [200, 100, 0, 0]


def test_the_soa_of_a_negative_answer_counts_down() -> None:
    """RFC 2308 section 5."""
    kept = remembered("", 3, authority=soa("example.", 900, 120))
    found = read(query("www.example."))
    assert ttls(dns.message.from_wire(reply.fresh(kept, found, 100.0))) == [120]
    assert ttls(dns.message.from_wire(reply.fresh(kept, found, 170.0))) == [50]


def test_the_octets_that_are_kept_stay_as_they_are() -> None:
    kept, found = remembered(), read(query("WWW.example.", edns=4096))
    before = bytes(kept.wire)
    reply.fresh(kept, found, 250.0)
    reply.stale(kept, found, "timeout", LATE)
    assert kept.wire == before


@pytest.mark.parametrize(
    ("original", "answer_ttl", "expected"),
    [(300, 30, 30), (30, 30, 30), (5, 30, 5), (1, 30, 1), (300, 1, 1), (300, 3600, 300)],
)
def test_a_stale_ttl_is_short_and_never_above_its_own(
    original: int, answer_ttl: int, expected: int
) -> None:
    """RFC 8767 section 4: more than 0, 30 s recommended."""
    kept = remembered(f"www.example. {original} IN A 192.0.2.1", answer_ttl=answer_ttl)
    out = dns.message.from_wire(reply.stale(kept, read(query("www.example.")), "timeout", LATE))
    assert ttls(out) == [expected] != [0]


def test_every_record_of_a_stale_answer_is_stale() -> None:
    kept = remembered("www.example. 300 IN CNAME web.example.\nweb.example. 20 IN A 192.0.2.1",
                      authority="example. 900 IN NS ns.example.")  # fmt: skip
    out = dns.message.from_wire(reply.stale(kept, read(query("www.example.")), "timeout", LATE))
    assert ttls(out) == [30, 20, 30]


# -- extended errors ----------------------------------------------------------------------------

NEGATIVE = soa("example.", 60, 60)


def test_the_codes_are_the_registered_ones() -> None:
    """RFC 8914 section 4."""
    for code, name in EDE_NAMES.items():
        assert dns.edns.EDECode(code).name == name.upper().replace(" ", "_")
    assert dns.edns.OptionType.EDE == reply.EDE_OPTION
    assert (EDE_STALE, EDE_STALE_NXDOMAIN) == (3, 19)
    assert (reply.EDE_UNREACHABLE, EDE_NETWORK) == (22, 23)


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        (remembered(), EDE_STALE),
        (remembered("", 0, authority=NEGATIVE), EDE_STALE),  # NODATA is an answer, too
        (remembered("", 3, authority=NEGATIVE), EDE_STALE_NXDOMAIN),
    ],
)
@pytest.mark.parametrize("do", [False, True])
def test_stale_says_so_to_those_who_can_hear_it(kept: Entry, code: int, do: bool) -> None:
    out = dns.message.from_wire(
        reply.stale(
            kept, read(query("www.example.", edns=4096, do=do)), "outage", kept.expires + 600
        )
    )
    assert ede(out) == [(code, "outage, 10 min past its TTL")]
    assert out.rcode() == kept.rcode
    assert bool(out.ednsflags & dns.flags.DO) is do
    assert code in EDE_NAMES
    plain = dns.message.from_wire(
        reply.stale(kept, read(query("www.example.")), "outage", kept.expires + 600)
    )
    assert plain.edns == -1


@pytest.mark.parametrize(("seconds", "tenths"), [(0.0, 0), (10.0, 100), (0.25, 2), (1e9, 65535)])
def test_how_long_a_connection_lives_is_said_in_every_reply_to_who_asks(
    seconds: float, tenths: int
) -> None:
    wish = query("www.example.", options=(dns.edns.GenericOption("KEEPALIVE", b""),))
    asked = read_query(wish, CLIENT, 0.0, stream=True)
    assert asked.extra
    assert not read_query(wish, CLIENT, 0.0).extra
    asked.extra = reply.keepalive(seconds)
    kept = remembered()
    for wire in (
        reply.fresh(kept, asked, 100.0), reply.stale(kept, asked, "outage", LATE),
        reply.failure(asked, 2), reply.failure(asked, 2, EDE_NETWORK, "text"),
    ):  # fmt: skip
        option = next(o for o in dns.message.from_wire(wire).options if int(o.otype) == 11)
        assert option.to_wire() == tenths.to_bytes(2, "big")


def test_failure_says_why_to_those_who_can_hear_it() -> None:
    with_edns, plain = read(query("www.example.", edns=4096)), read(query("www.example."))
    out = dns.message.from_wire(reply.failure(with_edns, 2, EDE_NETWORK, "10.0.0.1:53 refused"))
    assert ede(out) == [(EDE_NETWORK, "10.0.0.1:53 refused")]
    assert out.rcode() == 2
    assert not out.answer
    assert ede(dns.message.from_wire(reply.failure(with_edns, 2, 0, ""))) == [(0, "")]
    assert ede(dns.message.from_wire(reply.failure(with_edns, 5))) == []
    out = dns.message.from_wire(reply.failure(plain, 2, EDE_NETWORK, "text"))
    assert (out.rcode(), out.edns) == (2, -1)


@pytest.mark.parametrize("room", [0, 1])
def test_an_explanation_never_pushes_a_failure_over_the_limit(room: int) -> None:
    """Cf. CVE-2024-1931: the text goes first, at once."""
    found = read(query("www.example.", edns=512))
    bare = len(reply.failure(found, 2, EDE_NETWORK, ""))
    fits = "x" * (512 - bare)
    out = reply.failure(found, 2, EDE_NETWORK, fits + "x" * room)
    message = dns.message.from_wire(out)
    assert len(out) == (bare if room else 512)
    assert ede(message) == [(EDE_NETWORK, "" if room else fits)]
    assert message.rcode() == 2
    assert not message.flags & dns.flags.TC


# -- limits -------------------------------------------------------------------------------------


def sized(octets: int, *, opt: int = 0) -> Entry:
    """An entry whose reply, with `opt` octets of OPT, is of that size."""
    bare = len(reply.fresh(remembered("www.example. 300 IN TYPE65400 \\# 0"),
                           read(query("www.example.")), 100.0))  # fmt: skip
    rest = octets - opt - bare
    return remembered(f"www.example. 300 IN TYPE65400 \\# {rest} {'ab' * rest}", edns=None)


OPT, EDE, TEXT = 11, 6, "timeout, 10 min past its TTL"


@pytest.mark.parametrize(
    ("edns", "stream", "limit"),
    [
        (None, False, UDP_PLAIN),
        (512, False, UDP_PLAIN),
        (100, False, UDP_PLAIN),
        (1000, False, 1000),
        (4096, False, UDP_MAX),
        (None, True, STREAM_MAX),
        (512, True, STREAM_MAX),
    ],
)
@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("how", ["fresh", "stale"])
def test_a_reply_fits_or_is_empty(
    edns: int | None, stream: bool, limit: int, over: int, how: str
) -> None:
    found = read_query(query("www.example.", edns=edns), CLIENT, 0.0, stream)
    opt = 0 if edns is None else OPT
    over = min(over, STREAM_MAX - limit + opt)  # no upstream can send more than that
    kept = sized(limit + over, opt=opt)
    if how == "fresh":
        out = reply.fresh(kept, found, 100.0)
    else:
        out = reply.stale(kept, found, "timeout", LATE)
    message = dns.message.from_wire(out)
    assert len(out) <= limit
    assert bool(message.flags & dns.flags.TC) is (over > 0)
    if over > 0:
        assert out == reply.truncated(found)
    else:
        assert len(out) == limit + over
        assert len(message.answer) == 1
    assert (message.edns == 0) is (edns is not None)


@pytest.mark.parametrize(
    ("room", "said"),
    [
        (OPT + EDE + len(TEXT), [(EDE_STALE, TEXT)]),
        (OPT + EDE + len(TEXT) - 1, [(EDE_STALE, "")]),
        (OPT + EDE, [(EDE_STALE, "")]),
        (OPT + EDE - 1, []),
        (OPT, []),
    ],
)
def test_a_stale_answer_loses_its_explanation_before_its_data(
    room: int, said: list[tuple[int, str]]
) -> None:
    found = read(query("www.example.", edns=4096))
    kept = sized(UDP_MAX - room)
    out = reply.stale(kept, found, "timeout", kept.expires + 600)
    message = dns.message.from_wire(out)
    assert message.answer
    assert ede(message) == said
    assert len(out) <= UDP_MAX


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0, "0 s"), (1.9, "1 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min"),
     (7200, "2 h"), (172799, "47 h"), (172800, "2 d"), (10 * 86400, "10 d")],
)  # fmt: skip
def test_the_age_of_an_answer_in_words(seconds: float, text: str) -> None:
    assert reply.span(seconds) == text


@pytest.mark.parametrize("rcode", [0, 3])
def test_a_cut_reply_keeps_its_rcode_and_nothing_else(rcode: int) -> None:
    padding = "\n".join(f"example. 300 IN TYPE65400 \\# 250 {'ab' * 250}" for _ in range(5))
    kept = remembered("", rcode, authority=f"{NEGATIVE}\n{padding}")
    out = dns.message.from_wire(reply.fresh(kept, read(query("www.example.", edns=900)), 100.0))
    assert out.rcode() == rcode
    assert [len(section) for section in out.sections] == [1, 0, 0, 0]
    assert out.flags & dns.flags.TC


# -- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rcode", "question", "edns"),
    [(1, False, False), (1, True, False), (1, True, True), (4, False, False), (5, True, True),
     (16, True, True)],
)  # fmt: skip
@pytest.mark.parametrize("opcode", [0, 4, 5, 15])
def test_a_malformed_message_gets_its_rcode(
    rcode: int, question: bool, edns: bool, opcode: int
) -> None:
    data = bytearray(query("wWw.example.", id=0xCAFE))
    data[2] |= opcode << 3 | 0x06  # AA and TC do not come back
    data[3] |= 0x50  # Z and CD; only CD does
    why = Malformed("why", rcode, bytes(data[12:]) if question else b"", edns)
    out = reply.malformed(bytes(data), why)
    assert out[:2] == b"\xca\xfe"
    assert out[2] << 8 | out[3] == 0x8000 | opcode << 11 | 0x0100 | 0x0080 | 0x0010 | rcode & 15
    head = 11 if edns else 0
    assert out[12 : len(out) - head] == (bytes(data[12:]) if question else b"")
    if opcode == 0:
        message = dns.message.from_wire(out)
        assert message.rcode() == rcode
        assert (message.edns == 0) is edns  # the version that we speak
        assert message.ednsflags & dns.flags.DO == 0
        assert len(message.question) == question


def test_silence_has_no_octets() -> None:
    with pytest.raises(AssertionError):
        reply.malformed(bytes(12), Malformed("a reply", None))
