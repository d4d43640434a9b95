"""`dnsguard query` against real sockets: what it prints, when it asks again, when it gives up."""

from __future__ import annotations

import json
import socket

import pytest
from click.testing import CliRunner, Result
from dnslib import EDNS0, RR, TXT, A, DNSHeader, DNSQuestion, DNSRecord, EDNSOption

from dnsguard.cli import query
from tests.cli.scripted import Scripted

NAME = "web.shop.svc.cluster.local"
OPT = 41


def run(*arguments: str) -> Result:
    return CliRunner().invoke(query.command, arguments)


def reply_to(wire: bytes, *, ede: tuple[int, bytes] | None = None, rcode: int = 0) -> DNSRecord:
    """A reply with one address, and an extended error if asked for."""
    reply = DNSRecord.parse(wire).reply(ra=1, aa=0)
    reply.header.ad = 0
    reply.header.rcode = rcode
    if not rcode:
        reply.add_answer(RR(NAME, 1, 1, 5, A("10.96.0.11")))
    code = ede and EDNSOption(15, ede[0].to_bytes(2, "big") + ede[1])
    reply.add_ar(EDNS0(udp_len=1232, opts=[code] if code else []))
    return reply


def plain(wire: bytes, _transport: str) -> list[bytes]:
    return [reply_to(wire).pack()]


def stale(wire: bytes, _transport: str) -> list[bytes]:
    return [reply_to(wire, ede=(3, b"outage")).pack()]


def truncated_on_udp(wire: bytes, transport: str) -> list[bytes]:
    if transport == "tcp":
        return plain(wire, transport)
    cut = DNSRecord.parse(wire).reply()
    cut.header.tc = 1
    return [cut.pack()]


def test_an_answer_is_printed_with_all_its_parts() -> None:
    with Scripted(plain) as server:
        result = run(NAME, server.option)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: ")
    assert lines[1] == ";; flags: qr rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1"
    assert "; EDNS: version: 0, flags:; udp: 1232" in lines
    answer = lines[lines.index(";; ANSWER SECTION:") + 1]
    assert answer.split() == [f"{NAME}.", "5", "IN", "A", "10.96.0.11"]
    assert f";; SERVER: 127.0.0.1:{server.port} (UDP)" in lines
    assert any(line.startswith(";; Query time: ") for line in lines)
    wire, _ = server.queries[0]
    size = len(plain(wire, "udp")[0])
    assert f";; MSG SIZE  rcvd: {size}" in lines
    assert "STALE" not in result.stdout


def test_a_stale_answer_says_so_in_words() -> None:
    with Scripted(stale) as server:
        long, short = run(NAME, server.option), run(NAME, server.option, "--short")
        found = json.loads(run(NAME, server.option, "--json").stdout)
    assert '; EDE: 3 (Stale Answer): "outage"' in long.stdout.splitlines()
    assert ";; STALE ANSWER: its TTL has run out." in long.stdout
    assert short.stdout == "10.96.0.11\n"
    assert "stale" in short.stderr
    assert found["stale"] is True
    assert found["ede"] == [{"code": 3, "name": "Stale Answer", "text": "outage"}]


def test_a_stale_denial_is_an_answer_too() -> None:
    script = lambda wire, _: [reply_to(wire, ede=(19, b""), rcode=3).pack()]  # noqa: E731
    with Scripted(script) as server:
        result = run(NAME, server.option)
    assert result.exit_code == 0
    assert "status: NXDOMAIN" in result.stdout
    assert "; EDE: 19 (Stale NXDOMAIN Answer)" in result.stdout.splitlines()
    assert "repeats the last denial" in result.stdout


def test_truncation_is_asked_again_over_tcp() -> None:
    with Scripted(truncated_on_udp) as server:
        result = run(NAME, server.option)
        found = json.loads(run(NAME, server.option, "--json").stdout)
    assert "10.96.0.11" in result.stdout
    assert "(TCP, after truncation over UDP)" in result.stdout
    assert (found["transport"], found["retried_over_tcp"]) == ("tcp", True)
    assert [transport for _, transport in server.queries] == ["udp", "tcp", "udp", "tcp"]


def test_truncation_without_tcp_is_still_an_answer() -> None:
    def script(wire: bytes, transport: str) -> list[bytes]:
        return [] if transport == "tcp" else truncated_on_udp(wire, transport)

    with Scripted(script) as server:
        result = run(NAME, server.option)
    assert result.exit_code == 0
    assert "flags: qr aa tc rd" in result.stdout
    assert "did not fit into UDP, and TCP failed" in result.stdout


def test_tcp_at_once() -> None:
    with Scripted(plain) as server:
        result = run(NAME, server.option, "--tcp")
    assert "(TCP)" in result.stdout
    assert [transport for _, transport in server.queries] == ["tcp"]


def test_replies_of_strangers_are_ignored() -> None:
    def script(wire: bytes, _transport: str) -> list[bytes]:
        right = bytes(reply_to(wire).pack())
        wrong_id = bytes([right[0] ^ 1]) + right[1:]
        header = DNSHeader(id=int.from_bytes(wire[:2], "big"), qr=1)
        other = DNSRecord(header, q=DNSQuestion("x."))
        return [b"\0", wire, wrong_id, bytes(other.pack()), right]

    with Scripted(script) as server:
        over_udp, over_tcp = run(NAME, server.option), run(NAME, server.option, "--tcp")
    assert "10.96.0.11" in over_udp.stdout
    assert "10.96.0.11" in over_tcp.stdout


def test_the_letters_case_in_a_reply_does_not_matter() -> None:
    def script(wire: bytes, _transport: str) -> list[bytes]:
        right = bytes(reply_to(wire).pack())
        return [right[:12] + right[12:20].upper() + right[20:]]

    with Scripted(script) as server:
        assert run(NAME, server.option).exit_code == 0


def test_a_complaint_without_a_question_is_an_answer() -> None:
    with Scripted(lambda wire, _: [wire[:2] + b"\x80\x01" + bytes(8)]) as server:
        result = run(NAME, server.option)
    assert result.exit_code == 0
    assert "status: FORMERR" in result.stdout


def test_no_answer_says_what_happened_and_what_to_try() -> None:
    script = lambda wire, _: [bytes([wire[0] ^ 1]) + wire[1:]]  # noqa: E731
    with Scripted(script) as server:
        result = run(NAME, server.option, "--timeout=0.2")
        as_json = run(NAME, server.option, "--timeout=0.2", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "within 0.2 s (1 replies with a wrong id or question were ignored)" in result.stderr
    assert "--tcp" in result.stderr
    assert as_json.exit_code == 1
    assert "No answer from" in json.loads(as_json.stdout)["error"]


def test_a_refused_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    result = run(NAME, f"--server=127.0.0.1:{port}")
    assert result.exit_code == 1
    assert "nothing listens there" in result.stderr
    assert "dnsguard serve" in result.stderr


def test_a_closed_stream_is_no_answer() -> None:
    with Scripted(lambda _wire, _transport: []) as server:
        result = run(NAME, server.option, "--tcp")
    assert result.exit_code == 1
    assert "closed the TCP connection" in result.stderr


def test_a_server_is_asked_over_ipv6() -> None:
    # The IPv4-mapped form takes an IPv6 socket even where ::1 is not configured.
    with Scripted(plain) as server:
        result = run(NAME, f"--server=[::ffff:127.0.0.1]:{server.port}")
    assert result.exit_code == 0, result.output
    assert f"[::ffff:127.0.0.1]:{server.port}" in result.stdout


def test_edns_and_dnssec_are_the_users_choice() -> None:
    with Scripted(plain) as server:
        for options in ([], ["--dnssec"], ["--no-edns"]):
            assert run(NAME, "AAAA", server.option, *options).exit_code == 0
    sent = [DNSRecord.parse(wire) for wire, _ in server.queries]
    assert [[rr.edns_do for rr in query.ar if rr.rtype == OPT] for query in sent] == [[0], [1], []]
    assert {query.q.qtype for query in sent} == {28}
    assert len({query.header.id for query in sent}) == 3


def test_what_a_stranger_writes_cannot_move_the_cursor() -> None:
    def script(wire: bytes, _transport: str) -> list[bytes]:
        reply = reply_to(wire, ede=(3, b"\x1b[2J"))
        reply.add_answer(RR(NAME, 16, 1, 5, TXT(b"\x1b]0;owned\x07")))
        return [bytes(reply.pack())]

    with Scripted(script) as server:
        text = run(NAME, server.option).stdout
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\027[2J" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a" * 64], "label"),
        (["."], None),
        (["x", "NOTYPE"], "record type"),
        (["x", "AXFR"], "zone transfer"),
        (["x", "TYPE70000"], "record type"),
        (["x", "--server=127.0.0.1:0"], "write ADDRESS:PORT"),
        (["x", "--server=[::1"], "[IPv6-ADDRESS]:PORT"),
        (["x", "--json", "--short"], "choose one"),
        (["x", "--dnssec", "--no-edns"], "--dnssec needs EDNS"),
        (["x", "--timeout=0"], "--timeout"),
    ],
)
def test_bad_usage_is_told_before_anything_is_sent(arguments: list[str], told: str | None) -> None:
    with Scripted(plain) as server:
        result = run(server.option, *arguments)  # the last --server counts
    if told is None:
        assert result.exit_code == 0
        return
    assert result.exit_code == 2
    assert told in result.stderr
    assert not server.queries


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 53),
        ("127.0.0.1:5353", "127.0.0.1", 5353),
        ("localhost:53", "localhost", 53),
        ("::1", "::1", 53),
        ("[::1]", "::1", 53),
        ("[fd00::a]:5353", "fd00::a", 5353),
    ],
)
def test_servers_are_read(text: str, host: str, port: int) -> None:
    assert query.parse_server(text) == query.Server(host, port)


@pytest.mark.parametrize(("text", "number"), [("a", 1), ("SRV", 33), ("type65", 65), ("28", 28)])
def test_types_are_read(text: str, number: int) -> None:
    assert query.parse_type(text) == number


def test_a_name_in_another_script_is_asked_in_its_xn_form() -> None:
    wire = query.build("bücher.example", 1, edns=True, dnssec=False)
    assert str(DNSRecord.parse(wire).q.qname) == "xn--bcher-kva.example."
