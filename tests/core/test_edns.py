"""What an ask says in its OPT record and what is believed of a reply's: RFC 7873, 7828, 8467.

dnspython writes the replies and reads the asks.
"""

from __future__ import annotations

import random

import dns.edns
import dns.message
import dns.rcode
import pytest
from hypothesis import given, strategies as st

from dnsguard.core import edns
from dnsguard.core.edns import BLOCK, COOKIE_SECONDS, Dress
from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.health import Event, State
from dnsguard.core.policy import AskPolicy, Policy, Transport, Upstream, Zone
from tests.core import build
from tests.core.byhand import (
    T0,
    ask_for,
    begin,
    good,
    octets_of,
    server_of,
    taken,
    told,
)  # fmt: skip

HALF = b"serverhalf012345"  # of a cookie


def message_of(ask: Ask) -> dns.message.Message:
    return dns.message.from_wire(octets_of(ask))


def cookie_of(ask: Ask) -> tuple[bytes, bytes]:
    """Both halves of the cookie in an ask."""
    for option in message_of(ask).options:
        if isinstance(option, dns.edns.CookieOption):
            return option.client, option.server
    return b"", b""


def reply_to(ask: Ask, cookie: bytes | None, rcode: int = 0, more: bytes = b"") -> bytes:
    """A good answer with this cookie in its OPT record, or with none."""
    message = dns.message.from_wire(good(ask))
    options: list[dns.edns.Option] = []
    if more:
        options.append(dns.edns.GenericOption(dns.edns.PADDING, more))
    if cookie is not None:
        options.append(dns.edns.GenericOption("65001", b"x"))
        options.append(dns.edns.GenericOption(dns.edns.COOKIE, cookie))
    message.use_edns(0, 0, 1232, options=options)
    message.set_rcode(dns.rcode.Rcode(rcode))
    return message.to_wire()


def knows_cookies(engine: Engine, half: bytes = HALF) -> bytes:
    """Have the upstream give its half of a cookie; return ours."""
    ask = ask_for(engine)
    client, _ = cookie_of(ask)
    assert engine.answer(ask, reply_to(ask, client + half), T0 + 0.001)
    assert told(engine) == ["NOERROR"]
    return client


def second(engine: Engine, name: str = "two.example") -> Ask:
    return ask_for(engine, name, T0 + 1)


def answer(ask: Ask, cookie: bytes | None, rcode: int = 0) -> bytes:
    name = message_of(ask).question[0].name.to_text()
    message = dns.message.from_wire(build.answer_wire(octets_of(ask), f"{name} 30 IN A 10.1.0.1"))
    options = () if cookie is None else (dns.edns.GenericOption(dns.edns.COOKIE, cookie),)
    message.use_edns(0, 0, 1232, options=list(options))
    message.set_rcode(dns.rcode.Rcode(rcode))
    return message.to_wire()


# -- cookies ------------------------------------------------------------------------------------


def test_a_servers_half_is_shown_to_it_again_and_to_no_other() -> None:
    engine = begin(None, "10.0.0.1", "10.0.0.2")
    client = knows_cookies(engine)
    first, other = engine.zones.root.servers
    assert cookie_of(second(engine)) == (client, HALF)
    first.health.note(Event.REFUSED, T0 + 2)
    ask = ask_for(engine, "three.example", T0 + 2)
    assert ask.server is other
    theirs = cookie_of(ask)
    assert len(theirs[0]) == 8
    assert theirs[0] != client
    assert theirs[1] == b""


def test_a_cookie_is_drawn_anew_after_a_day_and_after_a_reload() -> None:
    engine = begin()
    client = knows_cookies(engine)
    assert cookie_of(ask_for(engine, "a.example", T0 + COOKIE_SECONDS - 1))[0] == client
    later = cookie_of(ask_for(engine, "b.example", T0 + COOKIE_SECONDS))
    assert later[0] != client
    assert later[1] == b""
    engine.reload(engine.policy, T0 + COOKIE_SECONDS + 1)
    assert cookie_of(ask_for(engine, "c.example", T0 + COOKIE_SECONDS + 2))[0] != later[0]


def test_cookies_can_be_turned_off() -> None:
    engine = begin(AskPolicy(cookies=False))
    ask = ask_for(engine)
    assert message_of(ask).options == ()
    assert engine.answer(ask, reply_to(ask, b"whatever" + HALF), T0 + 0.001)
    assert told(engine) == ["NOERROR"]
    assert message_of(second(engine)).options == ()


def test_who_gives_back_no_more_than_our_half_knows_no_cookies() -> None:
    engine = begin()
    client = knows_cookies(engine, b"")
    ask = second(engine)
    assert cookie_of(ask) == (client, b"")
    assert engine.answer(ask, answer(ask, None), T0 + 1)
    assert told(engine) == ["NOERROR"]


@pytest.mark.parametrize(
    "forged", [b"notours!" + HALF, b"notours!", b"short", b"notours!" + bytes(33)]
)
def test_a_reply_with_another_cookie_is_not_believed(forged: bytes) -> None:
    engine = begin()
    ask = ask_for(engine)
    assert engine.answer(ask, reply_to(ask, forged), T0 + 0.001) is False
    assert engine.counters.ignored == {"cookie": 1}
    assert told(engine) == []
    assert engine.answer(ask, reply_to(ask, None), T0 + 0.002)
    assert told(engine) == ["NOERROR"]


@pytest.mark.parametrize("length", [1, 7, 33])
def test_a_half_of_a_length_that_none_has_is_not_believed(length: int) -> None:
    engine = begin()
    ask = ask_for(engine)
    client, _ = cookie_of(ask)
    assert engine.answer(ask, reply_to(ask, client + bytes(length)), T0 + 0.001) is False


@pytest.mark.parametrize("cookie", [None, b""])
def test_without_the_cookie_that_it_gave_a_reply_is_asked_for_over_tcp(
    cookie: bytes | None,
) -> None:
    engine = begin()
    client = knows_cookies(engine)
    ask = second(engine)
    assert engine.answer(ask, answer(ask, cookie), T0 + 1)
    assert told(engine) == []
    (over_tcp,) = taken(engine)
    assert over_tcp.stream
    assert cookie_of(over_tcp) == (client, HALF)
    assert engine.answer(over_tcp, answer(over_tcp, client + b"another half"), T0 + 1)
    assert told(engine) == ["NOERROR"]
    assert cookie_of(ask_for(engine, "three.example", T0 + 2)) == (client, b"another half")


def test_who_gives_no_cookie_over_tcp_either_has_stopped_giving_them() -> None:
    engine = begin()
    client = knows_cookies(engine)
    ask = second(engine)
    engine.answer(ask, answer(ask, None), T0 + 1)
    (over_tcp,) = taken(engine)
    assert engine.answer(over_tcp, answer(over_tcp, None), T0 + 1)
    assert told(engine) == ["NOERROR"]
    ask = ask_for(engine, "three.example", T0 + 2)
    assert cookie_of(ask) == (client, b"")
    assert engine.answer(ask, answer(ask, None), T0 + 2)
    assert told(engine) == ["NOERROR"]


def test_where_tcp_fails_a_lost_cookie_costs_one_try() -> None:
    engine = begin()
    knows_cookies(engine)
    ask = second(engine)
    engine.answer(ask, answer(ask, None), T0 + 1)
    (over_tcp,) = taken(engine)
    engine.failed(over_tcp, Event.REFUSED, T0 + 1)
    (again,) = taken(engine)
    assert not again.stream
    assert engine.answer(again, answer(again, None), T0 + 1)
    assert told(engine) == ["NOERROR"]


def test_an_ask_without_edns_needs_no_cookie() -> None:
    engine = begin()
    knows_cookies(engine)
    server_of(engine).edns_again_at = T0 + 100
    ask = second(engine)
    assert message_of(ask).edns == -1
    wire = build.answer_wire(octets_of(ask), "two.example. 30 IN A 10.1.0.1", edns=None)
    assert engine.answer(ask, wire, T0 + 1)
    assert told(engine) == ["NOERROR"]


# -- BADCOOKIE ----------------------------------------------------------------------------------

BADCOOKIE = 23


def test_after_badcookie_the_question_goes_out_with_the_new_half() -> None:
    engine = begin()
    client = knows_cookies(engine)
    ask = second(engine)
    assert engine.answer(ask, answer(ask, client + b"a newer half", BADCOOKIE), T0 + 1)
    (again,) = taken(engine)
    assert not again.stream
    assert cookie_of(again) == (client, b"a newer half")
    assert engine.answer(again, answer(again, client + b"a newer half"), T0 + 1)
    assert told(engine) == ["NOERROR"]
    assert server_of(engine).health.state is State.UP
    assert server_of(engine).health.outcomes["badcookie"] == 1


def test_after_badcookie_twice_the_question_goes_over_tcp() -> None:
    engine = begin()
    client = knows_cookies(engine)
    ask = second(engine)
    engine.answer(ask, answer(ask, client + b"of one server", BADCOOKIE), T0 + 1)
    (again,) = taken(engine)
    engine.answer(again, answer(again, client + b"of the other", BADCOOKIE), T0 + 1)
    (over_tcp,) = taken(engine)
    assert over_tcp.stream
    assert engine.answer(over_tcp, answer(over_tcp, client + b"of the other"), T0 + 1)
    assert told(engine) == ["NOERROR"]


def test_badcookie_with_the_half_that_we_showed_goes_over_tcp_and_no_further() -> None:
    engine = begin(AskPolicy(attempts=1))
    client = knows_cookies(engine)
    ask = second(engine)
    engine.answer(ask, answer(ask, client + HALF, BADCOOKIE), T0 + 1)
    (over_tcp,) = taken(engine)
    assert over_tcp.stream
    engine.answer(over_tcp, answer(over_tcp, client + HALF, BADCOOKIE), T0 + 1)
    assert told(engine) == ["SERVFAIL"]
    assert taken(engine) == []


def test_yxrrset_is_not_badcookie() -> None:
    engine = begin(AskPolicy(attempts=1))
    ask = ask_for(engine)
    wire = build.answer_wire(octets_of(ask), rcode=7)
    engine.answer(ask, wire, T0)
    assert server_of(engine).health.outcomes["yxrrset"] == 1


# -- someone guesses ----------------------------------------------------------------------------


def test_a_question_whose_id_is_guessed_at_is_asked_over_tcp() -> None:
    engine = begin()
    ask = ask_for(engine)
    engine.asking.forged(ask, T0)
    (over_tcp,) = taken(engine)
    assert over_tcp.stream
    assert engine.counters.ignored == {"forged": 1}
    assert engine.answer(over_tcp, good(over_tcp), T0)
    assert told(engine) == ["NOERROR"]
    engine.asking.forged(ask, T0)  # it is over by now
    assert taken(engine) == []
    assert server_of(engine).health.state is State.UP


# -- streams ------------------------------------------------------------------------------------


def over(transport: Transport) -> Engine:
    upstream = Upstream("10.0.0.53", transport=transport, server_name="x")
    return Engine(Policy(zones=(Zone(".", (upstream,)),)), random.Random(1), T0)


@pytest.mark.parametrize("length", range(1, 60))
def test_an_ask_over_tls_is_padded_to_a_block(length: int) -> None:
    engine = over("tls")
    name = f"{'a' * length}.{'b' * length}.example"
    ask = ask_for(engine, name)
    assert len(octets_of(ask)) % BLOCK == 0
    message = message_of(ask)
    assert message.question[0].name.to_text() == name + "."
    assert [int(option.otype) for option in message.options] == [10, 11, 12]


def test_an_ask_over_tcp_asks_how_long_the_connection_lives_and_one_over_udp_does_not() -> None:
    options = message_of(ask_for(over("tcp"))).options
    assert [int(option.otype) for option in options] == [10, 11]
    assert options[1].to_wire() in (None, b"")
    assert [int(option.otype) for option in message_of(ask_for(over("udp"))).options] == [10]


@pytest.mark.parametrize(("tenths", "seconds"), [(0, 0.0), (15, 1.5), (65535, 6553.5)])
def test_how_long_a_server_lets_a_connection_live(tenths: int, seconds: float) -> None:
    ask = ask_for(over("tcp"))
    message = dns.message.from_wire(good(ask))
    told = dns.edns.GenericOption("KEEPALIVE", tenths.to_bytes(2, "big"))
    message.use_edns(0, 0, 1232, options=[dns.edns.GenericOption("65001", b"x"), told])
    assert edns.idle_time(message.to_wire()) == seconds


def test_a_server_that_says_nothing_of_the_kind() -> None:
    wire = good(ask_for(over("tcp")))
    assert edns.idle_time(wire) is None
    assert edns.idle_time(wire + b"\0\x0b\0\2\0\1") is None  # not in its OPT record
    assert edns.idle_time(b"\0\x0b\0\2") is None
    assert edns.idle_time(bytes(12) + b"\x7f\0\x0b\0\2") is None


# -- reading ------------------------------------------------------------------------------------

START = 12 + len("\3web\7cluster\5local\0") + 4


@given(cut=st.integers(0, 200), code=st.integers(9, 13), junk=st.binary(max_size=40))
def test_no_reply_is_read_past_its_end(cut: int, code: int, junk: bytes) -> None:
    ask = ask_for(begin())
    wire = reply_to(ask, b"12345678" + HALF, more=b"\0")
    broken = wire[:cut] + junk
    found = edns.option(broken, START, code) if len(broken) >= 12 else None
    assert found is None or found in broken
    if len(broken) >= 12:
        assert 0 <= edns.extended_rcode(broken, START) < 4096


def test_an_option_that_is_cut_is_none() -> None:
    wire = reply_to(ask_for(begin()), b"12345678" + HALF)
    assert edns.option(wire, START, 10) == b"12345678" + HALF
    assert edns.option(wire[:-1], START, 10) is None
    assert edns.option(wire, START, 3) is None
    assert edns.option(wire[:12] + bytes(20), 12, 10) is None


def test_an_opt_record_elsewhere_than_at_the_root_is_none() -> None:
    ask = ask_for(begin())
    bare = build.answer_wire(octets_of(ask), edns=None)
    record = b"\xc0\x0c" + b"\0\x29\x04\xd0\1\0\0\0\0\0" + b"\0\0"
    assert edns.find_opt(bare[:10] + b"\0\1" + bare[12:] + record, START) == 0
    assert edns.extended_rcode(bare, START) == 0


def test_a_dress_says_what_it_holds() -> None:
    dress = Dress(b"12345678", T0)
    assert dress.until == T0 + COOKIE_SECONDS
    dress.learn(HALF)
    assert b"12345678" + HALF in dress.datagram[0][1]
    assert dress.accepts(good(ask_for(begin())), START) is None
