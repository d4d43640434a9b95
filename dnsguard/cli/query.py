"""`dnsguard query`: asks one server one question and prints what came back, the way dig does.

Any DNS server will do; it need not be dnsguard. UDP first and TCP when the answer did not fit
(RFC 7766 section 5); replies that do not belong to the question are ignored and the wait goes on.
Extended errors (RFC 8914) and stale answers are said in words. What the bytes mean is told by
`message_text`; this file asks.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import click

from dnsguard import message_text
from dnsguard.core import wire
from dnsguard.core.framing import FrameReader, frame
from dnsguard.errors import UpstreamError, WireError

DEFAULT_SERVER = "127.0.0.1:5353"
DNS_PORT = 53
# One question brings many messages; this command prints one.
TRANSFERS = frozenset({wire.T_AXFR, wire.T_IXFR})


class NoAnswer(UpstreamError):
    """No reply that belongs to the question: what happened, and what might help."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self, kind: socket.SocketKind, timeout: float) -> socket.socket:
        """A connected socket; raises OSError."""
        found = socket.getaddrinfo(self.host, self.port, type=kind)
        family, _, protocol, _, address = found[0]
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question brought: the reply's octets, how they came, how long they took."""

    reply: bytes
    transport: str  # in words
    seconds: float
    notes: tuple[str, ...] = ()


def parse_server(text: str) -> Server:
    """`ADDR`, `ADDR:PORT`, `[V6]:PORT` or a bare IPv6 address. Raises ValueError."""
    host, port = text.strip(), ""
    if host.startswith("["):
        host, closing, rest = host[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not a server: write [IPv6-ADDRESS]:PORT")
        port = rest[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not host or (port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} is not a server: write ADDRESS:PORT, as in {DEFAULT_SERVER}")
    return Server(host, int(port) if port else DNS_PORT)


def parse_type(text: str) -> int:
    """`AAAA`, `TYPE65`, `65` in any case. Raises ValueError."""
    value = message_text.type_number(text)
    if value in TRANSFERS:
        raise ValueError(
            f"{text.upper()} is a zone transfer, which this command cannot print; use dig"
        )
    return value


def build(name: str, qtype: int, *, edns: bool, dnssec: bool) -> bytes:
    """A query with a random id. Raises WireError if `name` is none."""
    text = name
    if not name.isascii():
        try:
            text = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise WireError(f"{name!r} is not a domain name: {error}") from None
    question = wire.name_octets(text) + wire.OPTION.pack(qtype, 1)
    opt = wire.OPT_FIXED.pack(wire.T_OPT, wire.UDP_MAX, 0, 0, wire.DO_BIT if dnssec else 0, 0)
    header = secrets.token_bytes(2) + wire.U16.pack(wire.RD | wire.AD)
    counts = wire.COUNTS.pack(1, 0, 0, 1 if edns else 0)
    return header + counts + question + (b"\0" + opt if edns else b"")


def belongs(query: bytes, reply: bytes) -> bool:
    """True if `reply` answers `query`: same id and question, in any case of letters."""
    if len(reply) < wire.HEADER_OCTETS or reply[:2] != query[:2] or not reply[2] & 0x80:
        return False
    if reply[4:6] == b"\0\0":  # some servers complain without repeating the question
        return bool(reply[3] & wire.RCODE)
    end = wire.skip_name(query, wire.HEADER_OCTETS)
    asked, told = query[wire.HEADER_OCTETS : end + 4], reply[wire.HEADER_OCTETS : end + 4]
    return asked[:-4].lower() == told[:-4].lower() and asked[-4:] == told[-4:]


def ask(server: Server, query: bytes, *, tcp: bool, timeout: float) -> Answer:
    """Ask over UDP, and over TCP where the reply says so or `tcp` does. Raises NoAnswer."""
    began = time.perf_counter()
    if tcp:
        reply = _try(server, query, socket.SOCK_STREAM, timeout)
        return Answer(reply, "TCP", time.perf_counter() - began)
    reply = _try(server, query, socket.SOCK_DGRAM, timeout)
    if not reply[2] & wire.TC >> 8:
        return Answer(reply, "UDP", time.perf_counter() - began)
    try:
        whole = _try(server, query, socket.SOCK_STREAM, timeout)
    except NoAnswer as error:
        note = f"The answer did not fit into UDP, and TCP failed: {error}"
        return Answer(reply, "UDP, truncated", time.perf_counter() - began, (note,))
    return Answer(whole, "TCP, after truncation over UDP", time.perf_counter() - began)


def _try(server: Server, query: bytes, kind: socket.SocketKind, timeout: float) -> bytes:
    """The first reply that belongs to the query, over one transport."""
    stream = kind == socket.SOCK_STREAM
    via = "TCP" if stream else "UDP"
    deadline = time.perf_counter() + timeout
    ignored = 0
    reader = FrameReader()
    try:
        with server.connect(kind, timeout) as connection:
            connection.sendall(frame(query) if stream else query)
            while (left := deadline - time.perf_counter()) > 0:
                connection.settimeout(left)
                data = connection.recv(wire.STREAM_MAX)
                if stream and not data:
                    raise NoAnswer(
                        f"{server} closed the TCP connection without an answer.",
                        "The server may not accept this client; try without --tcp.",
                    )
                for reply in reader.feed(data) if stream else [data]:
                    if belongs(query, reply):
                        return reply
                    ignored += 1
    except TimeoutError:
        pass
    except ConnectionRefusedError:
        raise NoAnswer(
            f"{server} refuses {via}: nothing listens there.",
            "Start dnsguard (`dnsguard serve` or `dnsguard demo`), or name another server with "
            "--server ADDR:PORT.",
        ) from None
    except socket.gaierror as error:
        raise NoAnswer(
            f"The server's name {server.host!r} has no address: {error.strerror}.",
            "Give its address: --server ADDR:PORT.",
        ) from None
    except OSError as error:
        raise NoAnswer(
            f"{server} cannot be reached over {via}: {error.strerror or error}.",
            "Check the address and the route to it.",
        ) from None
    strangers = f" ({ignored} replies with a wrong id or question were ignored)" if ignored else ""
    raise NoAnswer(
        f"No answer from {server} over {via} within {timeout:g} s{strangers}.",
        "Check that a DNS server listens there; try "
        + ("it without --tcp" if stream else "--tcp or --no-edns")
        + ", a longer --timeout, or another --server.",
    )


def report(server: Server, answer: Answer) -> str:
    """The whole answer as dig prints one, and below it in words what dig leaves to guess."""
    message = message_text.read(answer.reply)
    text = message_text.lines(message)
    text.append("")
    if message.stale:
        kind = "denial" if message.rcode == "NXDOMAIN" else "answer"
        text.append(
            click.style(
                f";; STALE ANSWER: its TTL has run out. The server got no good answer from its\n"
                f";; upstream and repeats the last {kind} that it had.",
                fg="yellow",
                bold=True,
            )
        )
    text += [click.style(f";; NOTE: {note}", fg="yellow") for note in answer.notes]
    text += [
        f";; Query time: {answer.seconds * 1000:.2f} ms",
        f";; SERVER: {server} ({answer.transport})",
        f";; WHEN: {time.strftime('%a %b %d %H:%M:%S %Z %Y')}",
        f";; MSG SIZE  rcvd: {len(answer.reply)}",
    ]
    return "\n".join(text)


def as_json(server: Server, answer: Answer) -> str:
    found: dict[str, Any] = {
        "server": str(server),
        "transport": "tcp" if answer.transport.startswith("TCP") else "udp",
        "retried_over_tcp": "after truncation" in answer.transport,
        "time_ms": round(answer.seconds * 1000, 3),
        "size": len(answer.reply),
        **message_text.as_dict(message_text.read(answer.reply)),
        "notes": list(answer.notes),
    }
    return json.dumps(found, indent=2)


def _server(_context: click.Context, _option: click.Parameter, text: str) -> Server:
    try:
        return parse_server(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _type(_context: click.Context, _argument: click.Parameter, text: str) -> int:
    try:
        return parse_type(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(name="query")
@click.argument("name")
@click.argument("qtype", metavar="[TYPE]", default="A", callback=_type)
@click.option(
    "--server",
    metavar="ADDR[:PORT]",
    default=DEFAULT_SERVER,
    show_default=True,
    callback=_server,
    help=f"Whom to ask; without a port it is {DNS_PORT}.",
)
@click.option("--tcp", is_flag=True, help="Ask over TCP at once.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for each transport.",
)
@click.option("--dnssec", is_flag=True, help="Ask for DNSSEC records (DO).")
@click.option("--no-edns", is_flag=True, help="Ask without EDNS, as old stubs do: no EDE either.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
@click.option("--short", is_flag=True, help="Print the answers' data and nothing else.")
def command(
    name: str,
    qtype: int,
    server: Server,
    tcp: bool,
    timeout: float,
    dnssec: bool,
    no_edns: bool,
    json_: bool,
    short: bool,
) -> None:
    """Ask a DNS server for NAME (taken as it stands: no search list) and print its answer.

    Exit code 0 for any answer, NXDOMAIN and SERVFAIL too; 1 when there is none.
    """
    if dnssec and no_edns:
        raise click.UsageError("--dnssec needs EDNS: leave out --no-edns.")
    if json_ and short:
        raise click.UsageError("--json and --short are two forms of the answer: choose one.")
    try:
        query = build(name, qtype, edns=not no_edns, dnssec=dnssec)
    except WireError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    try:
        answer = ask(server, query, tcp=tcp, timeout=timeout)
    except NoAnswer as error:
        if json_:
            click.echo(json.dumps({"server": str(server), "error": str(error)}, indent=2))
        click.echo(f"{error}\n{error.hint}", err=True)
        sys.exit(1)
    if json_:
        click.echo(as_json(server, answer))
    elif short:
        message = message_text.read(answer.reply)
        for record in message.sections["answer"]:
            click.echo(record.data)
        if message.stale:
            click.echo(";; stale answer: its TTL has run out", err=True)
    else:
        click.echo(report(server, answer))
