"""Messages put together by an independent codec (dnspython), and what core makes of them.

`query` and `answer_wire` know nothing of dnsguard. Records are master-file lines, and every line
becomes a record of its own, so that an RRset can be as uneven as a test wants it (RFC 1035 section
5.1). `read`, `meaning` and `entry` then take those octets through the real `core`.
"""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from dnsguard.core.answer import Answer, read_answer
from dnsguard.core.entry import Entry
from dnsguard.core.policy import StalePolicy, Upstream, Zone
from dnsguard.core.wire import Query, read_query
from dnsguard.core.zones import Server, ZoneState

CLIENT = ("127.0.0.1", 40000)
DAY = 86400
NEGATIVE_MAX = 300
EDNS_SIZE = 1232
SOA = "dns.test. admin.dns.test. 1 7200 1800 86400"  # complete it with a minimum

# Of every type that may be compressed, and of one that may not.
RDATA = {
    "NS": "ns.victim.example.",
    "CNAME": "ns.victim.example.",
    "SOA": "ns.victim.example. admin.victim.example. 1 2 3 4 5",
    "PTR": "ns.victim.example.",
    "MX": "10 mail.victim.example.",
    "RP": "admin.victim.example. txt.victim.example.",
    "AFSDB": "1 ns.victim.example.",
    "RT": "1 ns.victim.example.",
    "PX": "1 ns.victim.example. mail.victim.example.",
    "SRV": "0 5 53 ns.victim.example.",
    "NAPTR": '10 20 "u" "sip+E2U" "!^.*$!sip:x!" ns.victim.example.',
    "KX": "1 ns.victim.example.",
    "DNAME": "ns.victim.example.",
    "TXT": '"ns.victim.example."',
    "TYPE65400": r"\# 5 c00c41ff00",
}


class Watched(bytes):
    """Octets that count how often they are looked at, so that no clock has to."""

    looks = 0

    def __getitem__(self, key: Any) -> Any:
        self.looks += 1
        return super().__getitem__(key)


def query(
    name: str, qtype: str = "A", *, edns: int | None = None, do: bool = False, cd: bool = False,
    ad: bool = False, rd: bool = True, rdclass: str = "IN", version: int = 0,
    options: tuple[dns.edns.Option, ...] = (),
    id: int = 0x1234,  # noqa: A002
) -> bytes:  # fmt: skip
    """A client's query. `edns` is the size in its OPT; DO, options or a version bring OPT too."""
    flags = (dns.flags.RD if rd else 0) | (dns.flags.CD if cd else 0) | (dns.flags.AD if ad else 0)
    message = dns.message.make_query(name, qtype, rdclass, id=id, flags=flags)
    size = EDNS_SIZE if edns is None else edns
    if edns is not None or do or options or version:
        message.use_edns(version, dns.flags.DO if do else 0, size, options=list(options))
    return message.to_wire(origin=dns.name.root)


def octets_of(name: dns.name.Name) -> bytes:
    """A whole name in wire form, in its own case."""
    octets = name.to_wire()
    assert octets is not None
    return octets


def records(text: str) -> list[dns.rrset.RRset]:
    """One RRset of one record for each line `owner TTL class type RDATA`; `;` opens a comment."""
    found = []
    for line in text.splitlines():
        fields = line.partition(";")[0].split(None, 4)
        if fields:
            owner, ttl, rdclass, rdtype, *rdata = fields
            # By numbers: a TTL may be any 32 bits here, which a master file would not allow.
            found.append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, *rdata))
    return found


def answer_wire(
    asked: bytes, answer: str = "", rcode: int = 0, *, authority: str = "", additional: str = "",
    edns: int | None = EDNS_SIZE, options: tuple[dns.edns.Option, ...] = (), aa: bool = False,
    tc: bool = False, ad: bool = False,
) -> bytes:  # fmt: skip
    """A server's reply to `asked`; sections are record lines, `edns` None means no OPT."""
    reply = dns.message.make_response(dns.message.from_wire(asked), True)
    flags = ((dns.flags.AA, aa), (dns.flags.TC, tc), (dns.flags.AD, ad))
    for flag, wanted in flags:
        reply.flags = reply.flags | flag if wanted else reply.flags & ~flag
    reply.answer = records(answer)
    reply.authority = records(authority)
    reply.additional = records(additional)
    if edns is None:
        reply.use_edns(False)
    else:
        reply.use_edns(0, 0, edns, options=list(options))
    reply.set_rcode(dns.rcode.Rcode.make(rcode))
    return reply.to_wire(origin=dns.name.root, max_size=65535)


def soa(zone: str, ttl: int, minimum: int) -> str:
    """The authority of a negative answer."""
    return f"{zone} {ttl} IN SOA {SOA} {minimum}"


def read(asked: bytes, *, now: float = 0.0, stream: bool = False) -> Query:
    """A query as core reads it."""
    return read_query(asked, CLIENT, now, stream)


def meaning(
    asked: bytes, wire: bytes, *, max_ttl: int = DAY, max_negative_ttl: int = NEGATIVE_MAX
) -> Answer:
    """A reply to `asked` as core reads it."""
    key = read(asked, stream=True).key
    qtype = int.from_bytes(key[-5:-3], "big")
    return read_answer(wire, key[:-1], qtype, max_ttl, max_negative_ttl)


def zone_state(stale: StalePolicy | None = None, name: str = ".") -> ZoneState:
    """A zone with one upstream that has not been asked yet."""
    upstream = Upstream("192.0.2.53")
    policy = Zone(name, (upstream,), stale or StalePolicy())
    return ZoneState(policy, (Server(upstream, 0.0),))


def entry(
    asked: bytes, wire: bytes, *, now: float = 0.0, zone: ZoneState | None = None,
    max_ttl: int = DAY, max_negative_ttl: int = NEGATIVE_MAX,
) -> Entry:  # fmt: skip
    """What is remembered of a reply to `asked` that came at `now`."""
    answer = meaning(asked, wire, max_ttl=max_ttl, max_negative_ttl=max_negative_ttl)
    return Entry(read(asked, stream=True).key, answer, zone or zone_state(), now)
