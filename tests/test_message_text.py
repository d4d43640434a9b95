"""Messages as text: nothing is lost, nothing makes it fail. dnspython is the judge."""

from __future__ import annotations

import json
import time

import dns.edns
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from dnslib import EDNS0, RR, A, DNSRecord
from hypothesis import given, strategies as st

from dnsguard import message_text
from dnsguard.demo.cluster import ClusterDns
from dnsguard.demo.zone import Question, questions


def wire_of(*records: RR) -> bytes:
    reply = DNSRecord.question("a.example", "A").reply()
    for record in records:
        reply.add_answer(record)
    return bytes(reply.pack())


@pytest.mark.parametrize("question", questions(), ids=lambda q: f"{q.name}{q.qtype}")
def test_every_answer_of_the_demo_reads_as_dnspython_reads_it(question: Question) -> None:
    query = DNSRecord.question(question.name, question.qtype)
    query.add_ar(EDNS0(udp_len=1232))
    wire = ClusterDns(5, time.monotonic(), ["door"]).reply(bytes(query.pack()), "door")
    assert wire is not None
    mine, judge = message_text.read(wire), dns.message.from_wire(wire)
    sections = zip(message_text.SECTIONS, judge.sections[1:], strict=True)
    for name, theirs in sections:
        expected = sorted(
            (str(rrset.name), rrset.ttl, dns.rdatatype.to_text(rrset.rdtype), str(rdata))
            for rrset in theirs
            for rdata in rrset
        )
        found = sorted((r.name, r.ttl, r.rtype, r.data) for r in mine.sections[name])
        if question.qtype != "SRV" and mine.rcode == "NOERROR" and question.data:
            assert found == expected
        assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert mine.rcode == dns.rcode.to_text(judge.rcode())
    assert mine.edns is not None
    assert mine.edns.udp_size == judge.payload


def test_an_unknown_type_is_shown_as_rfc_3597_has_it() -> None:
    wire = bytearray(wire_of(RR("a.example", 1, 1, 5, A("10.0.0.1"))))
    wire[-14:-12] = (65400).to_bytes(2, "big")
    (record,) = message_text.read(bytes(wire)).sections["answer"]
    assert (record.rtype, record.data.lower()) == ("TYPE65400", "\\# 4 0a000001")


def test_data_that_does_not_fit_its_type_is_shown_in_hex() -> None:
    wire = bytearray(wire_of(RR("a.example", 1, 1, 5, A("10.0.0.1"))))
    wire[-6:] = (3).to_bytes(2, "big") + b"\x0a\0\0"
    (record,) = message_text.read(bytes(wire)).sections["answer"]
    assert (record.rtype, record.data) == ("A", "\\# 3 0a0000")


def test_what_cannot_be_cut_into_records_is_shown_in_hex() -> None:
    wire = wire_of(RR("a.example", 1, 1, 5, A("10.0.0.1")))
    message = message_text.read(wire[:-1])
    assert message.sections["answer"] == []
    assert message.unread == wire[27:-1]
    assert f"; {message.unread.hex()}" in message_text.lines(message)
    after = message_text.read(wire + b"\1\2")
    assert len(after.sections["answer"]) == 1
    assert after.unread == b"\1\2"


def test_extended_rcode_and_options_are_read() -> None:
    query = dns.message.make_query("a.example", "A", use_edns=0, want_dnssec=True)
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.BADVERS)
    options = [
        dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678"),
        dns.edns.EDEOption(dns.edns.EDECode.make(29), "made up"),
        dns.edns.GenericOption(dns.edns.OptionType.EDE, (900).to_bytes(2, "big")),
    ]
    reply.use_edns(0, payload=1400, options=options, ednsflags=0x8000)
    reply.set_rcode(dns.rcode.BADVERS)
    lines = message_text.lines(message_text.read(reply.to_wire()))
    assert "status: BADVERS" in lines[0]
    assert "; EDNS: version: 0, flags: do; udp: 1400" in lines
    assert '; EDE: 29 (Synthesized): "made up"' in lines
    assert "; EDE: 900 (unknown code)" in lines
    assert "; COOKIE: 3132333435363738" in lines


@given(st.binary(min_size=12, max_size=600))
def test_any_octets_become_text(wire: bytes) -> None:
    message = message_text.read(wire)
    assert all(line.isprintable() for line in message_text.lines(message))
    json.dumps(message_text.as_dict(message))


@given(st.data())
def test_a_damaged_message_becomes_text(data: st.DataObject) -> None:
    query = DNSRecord.question("_pg._tcp.postgres.data.svc.cluster.local", "SRV")
    dns_server = ClusterDns(5, time.monotonic(), ["door"])
    wire = bytearray(dns_server.reply(bytes(query.pack()), "door") or b"")
    for position in data.draw(st.lists(st.integers(12, len(wire) - 1), max_size=6)):
        wire[position] = data.draw(st.integers(0, 255))
    assert message_text.lines(message_text.read(bytes(wire)))
