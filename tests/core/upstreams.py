"""Upstreams that do as they are told, in virtual time.

An `Upstream` has records and manners. It is handed an asked message and returns what comes back
over the network and after how long: octets, or the network's own refusal. The latest manner that
fits a name is the one that holds. Nothing here knows the engine; replies are put together by hand,
so that they can be as wrong as a manner wants them (RFC 1035 section 4, RFC 2308, RFC 6891).
"""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

import dns.edns
import dns.message
import dns.rdatatype

from dnsguard.core.health import Event
from dnsguard.core.wire import name_octets

FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS, BADCOOKIE = 1, 2, 3, 4, 5, 16, 23
AA, TC = 0x0400, 0x0200
T_NS, T_CNAME, T_SOA, T_TXT = 2, 5, 6, 16
OPT = b"\0" + struct.pack("!HHBBHH", 41, 1232, 0, 0, 0, 0)
HERE = b"\xc0\x0c"  # the name asked, compressed

Record = tuple[bytes, int, int, bytes]  # owner, type, TTL, RDATA
Sign = bytes | Event  # what comes back: octets, or the network's word


def type_number(text: str) -> int:
    """`A`, `TYPE64000` and the like as a number."""
    return int(dns.rdatatype.from_text(text))


def rdata_octets(rtype: int, text: str) -> bytes:
    """RDATA of the few types that tests need; anything else is hexadecimal."""
    name = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype))
    if name in ("A", "AAAA"):
        return ipaddress.ip_address(text).packed
    if name in ("CNAME", "NS", "PTR"):
        return name_octets(text)
    if name == "TXT":
        return bytes((len(text),)) + text.encode()
    return bytes.fromhex(text)


def question_of(message: bytes) -> bytes:
    """The question's octets as they stand in a message."""
    end = 12
    while label := message[end]:
        end += label + 1
    return message[12 : end + 5]


def has_opt(asked: bytes) -> bool:
    return asked[10:12] != b"\0\0"


def message(
    asked: bytes, rcode: int = 0, answer: tuple[Record, ...] = (),
    authority: tuple[Record, ...] = (), flags: int = 0, opt: bytes | None = None,
    question: bytes | None = None,
) -> bytes:  # fmt: skip
    """A reply to `asked`; it has an OPT record if that had one, unless `opt` says otherwise."""
    if question is None:
        question = question_of(asked)
    if opt is None:
        opt = OPT if has_opt(asked) else b""
    body = b"".join(
        owner + struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata
        for owner, rtype, ttl, rdata in answer + authority
    )
    head = 0x8000 | 0x0080 | (asked[2] << 8 | asked[3]) & 0x0110 | flags | rcode
    counts = struct.pack("!HHHHH", head, 1, len(answer), len(authority), int(bool(opt)))
    return asked[:2] + counts + question + body + opt


def soa(ttl: int) -> Record:
    """The SOA that goes with a negative answer of that life, owned by the root."""
    return b"\0", T_SOA, ttl, b"\0\0" + struct.pack("!IIIII", 1, 7200, 1800, 86400, ttl)


@dataclass(frozen=True, slots=True)
class Manner:
    """How an upstream behaves towards names under `suffix`.

    `latency` is the round trip in seconds; `loss` is the share of questions that get lost.
    """

    kind: str = "ok"
    latency: float = 0.001
    loss: float = 0.0
    suffix: str = "."


class Upstream:
    """One scripted server."""

    def __init__(self, chance: random.Random) -> None:
        self.negative_ttl = 30
        self.names: dict[bytes, dict[int, tuple[Record, ...]]] = {}
        self._manners: list[tuple[bytes, Manner]] = [(b"\0", Manner())]
        self._chance = chance
        self._answered: set[bytes] = set()

    def put(self, name: str, rtype: str, ttl: int, *values: str) -> None:
        """Have these records at `name`, in place of what it had of that type."""
        number = type_number(rtype)
        records = tuple((HERE, number, ttl, rdata_octets(number, value)) for value in values)
        self.names.setdefault(name_octets(name), {})[number] = records

    def drop(self, name: str) -> None:
        """Have no such name any more."""
        self.names.pop(name_octets(name), None)

    def behave(self, manner: Manner) -> None:
        """Behave so from now on towards the names it is for."""
        assert manner.kind in KINDS, f"no such manner: {manner.kind}"
        suffix = name_octets(manner.suffix)
        self._manners = [m for m in self._manners if not m[0].endswith(suffix)]
        self._manners.append((suffix, manner))

    def take(self, asked: bytes, stream: bool) -> list[tuple[float, Sign]]:
        """Return what comes back for a message: after how many seconds, and what."""
        name = question_of(asked)[:-4].lower()
        manner = max(
            ((suffix, manner) for suffix, manner in self._manners if name.endswith(suffix)),
            key=lambda pair: len(pair[0]),
            default=(b"", Manner()),
        )[1]
        if manner.loss and self._chance.random() < manner.loss:
            return []
        return [(manner.latency, sign) for sign in KINDS[manner.kind](self, asked, stream)]

    # -- the manners ------------------------------------------------------------------------

    def ok(self, asked: bytes, stream: bool = False) -> list[Sign]:
        question = question_of(asked)
        name, rtype = question[:-4].lower(), int.from_bytes(question[-4:-2], "big")
        types = self.names.get(name)
        if types is None:
            return [message(asked, NXDOMAIN, authority=(soa(self.negative_ttl),))]
        records = types.get(rtype) or types.get(T_CNAME)
        if not records:
            return [message(asked, authority=(soa(self.negative_ttl),))]
        return [message(asked, answer=records)]

    def zero_ttl(self, asked: bytes, stream: bool) -> list[Sign]:
        question = question_of(asked)
        types = self.names.get(question[:-4].lower(), {})
        records = types.get(int.from_bytes(question[-4:-2], "big"), ())
        return [message(asked, answer=tuple((o, t, 0, r) for o, t, _, r in records))]

    def no_edns(self, asked: bytes, stream: bool) -> list[Sign]:
        return [message(asked, FORMERR, opt=b"")] if has_opt(asked) else self.ok(asked)

    def badvers(self, asked: bytes, stream: bool) -> list[Sign]:
        opt = b"\0" + struct.pack("!HHBBHH", 41, 1232, BADVERS >> 4, 0, 0, 0)
        return [message(asked, opt=opt)]

    def over_tcp(self, asked: bytes, stream: bool) -> list[Sign]:
        return self.ok(asked) if stream else [message(asked, flags=TC)]

    def udp_only(self, asked: bytes, stream: bool) -> list[Sign]:
        return [Event.REFUSED] if stream else self.ok(asked)

    def once_only(self, asked: bytes, stream: bool) -> list[Sign]:
        """An answer to each name, and then silence towards it."""
        name = question_of(asked)
        if name in self._answered:
            return []
        self._answered.add(name)
        return self.ok(asked)

    def either(self, asked: bytes, stream: bool) -> list[Sign]:
        """One of two replicas, of which one denies everything."""
        denial = [message(asked, NXDOMAIN, authority=(soa(self.negative_ttl),))]
        return [*denial] if self._chance.random() < 0.5 else self.ok(asked)

    def tcp_refused(self, asked: bytes, stream: bool) -> list[Sign]:
        return [Event.REFUSED] if stream else [message(asked, flags=TC)]

    def tcp_silent(self, asked: bytes, stream: bool) -> list[Sign]:
        return [] if stream else [message(asked, flags=TC)]

    def referral(self, asked: bytes, stream: bool) -> list[Sign]:
        return [message(asked, authority=((b"\0", T_NS, 300, name_octets("elsewhere.")),))]

    def two_cnames(self, asked: bytes, stream: bool) -> list[Sign]:
        targets = (name_octets("one."), name_octets("two."))
        return [message(asked, answer=tuple((HERE, T_CNAME, 300, t) for t in targets))]

    def dangling(self, asked: bytes, stream: bool) -> list[Sign]:
        return [message(asked, answer=((HERE, T_CNAME, 300, name_octets("nowhere.")),))]

    def wrong_id(self, asked: bytes, stream: bool) -> list[Sign]:
        forged = bytes((asked[0] ^ 0xFF, asked[1])) + asked[2:]
        return [self._forge(forged), *self.ok(asked)]

    def wrong_question(self, asked: bytes, stream: bool) -> list[Sign]:
        other = b"\x05other" + question_of(asked)[-5:]
        return [self._forge(asked, other), *self.ok(asked)]

    def query_back(self, asked: bytes, stream: bool) -> list[Sign]:
        return [asked, *self.ok(asked)]

    def cookies(self, asked: bytes, stream: bool) -> list[Sign]:
        """Right answers, with a half of a cookie that is new now and then."""
        opt = self._cookie(asked, b"half%04d" % self._chance.randrange(3))
        return [reply[:-11] + opt if opt else reply for reply in self._whole(asked)]

    def bad_cookie(self, asked: bytes, stream: bool) -> list[Sign]:
        """BADCOOKIE over UDP to whoever shows a cookie, whatever it is."""
        opt = self._cookie(asked, b"half%04d" % self._chance.randrange(9999), BADCOOKIE >> 4)
        if stream or not opt:
            return self.ok(asked)
        return [message(asked, BADCOOKIE & 0xF, opt=opt)]

    def _whole(self, asked: bytes) -> list[bytes]:
        return [sign for sign in self.ok(asked) if isinstance(sign, bytes)]

    def _cookie(self, asked: bytes, half: bytes, extended_rcode: int = 0) -> bytes:
        """An OPT record that gives back the cookie in `asked`, or nothing if there is none."""
        for option in dns.message.from_wire(asked).options:
            if isinstance(option, dns.edns.CookieOption):
                data = option.client + half
                fixed = (41, 1232, extended_rcode, 0, 0, 4 + len(data), 10, len(data))
                return b"\0" + struct.pack("!HHBBHHHH", *fixed) + data
        return b""

    def lower_case(self, asked: bytes, stream: bool) -> list[Sign]:
        question = question_of(asked)
        return [self._forge(asked, question[:-4].lower() + question[-4:])]

    def _forge(self, asked: bytes, question: bytes | None = None) -> bytes:
        """An answer that must not be believed."""
        lie = (HERE, 1, 300, bytes((6, 6, 6, 6)))
        return message(asked, answer=(lie,), question=question)


Kind = Callable[[Upstream, bytes, bool], list[Sign]]


def _fixed(rcode: int = 0, flags: int = 0) -> Kind:
    return lambda _, asked, __: [message(asked, rcode, flags=flags)]


def _network(event: Event) -> Kind:
    return lambda _, __, ___: [event]


KINDS: dict[str, Kind] = {
    "ok": Upstream.ok,
    "silent": lambda _, __, ___: [],
    "closed": _network(Event.REFUSED),  # ICMP port unreachable; TCP reset
    "unreachable": _network(Event.UNREACHABLE),
    "servfail": _fixed(SERVFAIL),
    "refused": _fixed(REFUSED),
    "formerr": _fixed(FORMERR),
    "notimp": _fixed(NOTIMP),
    "nxdomain": lambda up, asked, __: [message(asked, NXDOMAIN, authority=(soa(up.negative_ttl),))],
    "nodata": lambda up, asked, __: [message(asked, authority=(soa(up.negative_ttl),))],
    "badvers": Upstream.badvers,
    "no-edns": Upstream.no_edns,
    "zero-ttl": Upstream.zero_ttl,
    "over-tcp": Upstream.over_tcp,  # cut over UDP, whole over TCP
    "udp-only": Upstream.udp_only,
    "once-only": Upstream.once_only,
    "either": Upstream.either,
    "tcp-closed": Upstream.tcp_refused,  # cut over UDP, and nobody listens on TCP
    "tcp-silent": Upstream.tcp_silent,
    "cut": _fixed(0, TC),  # over both
    "empty": _fixed(),  # neither data nor SOA
    "empty-nxdomain": _fixed(NXDOMAIN),
    "referral": Upstream.referral,
    "two-cnames": Upstream.two_cnames,
    "dangling": Upstream.dangling,
    "garbage": lambda _, asked, __: [message(asked, answer=((HERE, 1, 5, b""),))[:-9] + b"\xff"],
    "short": lambda _, asked, __: [asked[:2] + b"\x80\0\0\1"],
    "header-only": lambda _, asked, __: [asked[:2] + b"\x80\x05" + bytes(8)],
    "wrong-id": Upstream.wrong_id,
    "wrong-question": Upstream.wrong_question,
    "query-back": Upstream.query_back,
    "lower-case": Upstream.lower_case,
    "cookies": Upstream.cookies,
    "bad-cookie": Upstream.bad_cookie,
}
