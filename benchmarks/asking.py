"""Questions and what a benchmark wants to know of their answers: one, many at once, or a beat.

It is written apart from dnsguard's own code, so that a fault there cannot hide itself here. A
broken reply raises IndexError or struct.error and ends the run: here that is a finding. Messages
follow RFC 1035, EDNS RFC 6891, Extended DNS Errors RFC 8914.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
WINDOW = 100  # questions in flight when many are asked at once
STUB_PATIENCE = 5.0  # glibc gives up on a server after 5 s
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
TYPE_A = 1
TYPE_OPT = 41
OPTION_EDE = 15


@dataclass(frozen=True)
class Reply:
    """What a benchmark wants to know of an answer."""

    ident: int
    rcode: str
    address: str | None = None
    ttl: int | None = None
    ede: int | None = None


def query(name: str, ident: int, edns: bool = True) -> bytes:
    """An A question with recursion desired; with an empty OPT, the reply may carry an EDE."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    opt = struct.pack("!BHHIH", 0, TYPE_OPT, 1232, 0, 0)
    head = struct.pack("!6H", ident, 0x0100, 1, 0, 0, int(edns))
    return head + labels + b"\0\0\1\0\1" + (opt if edns else b"")


def parse_reply(message: bytes) -> Reply:
    """Read the rcode, the first A record and the first EDE of a reply."""
    ident, flags, questions, *counts = struct.unpack_from("!6H", message)
    offset = 12
    for _ in range(questions):
        offset = _after_name(message, offset) + 4
    address: str | None = None
    ttl: int | None = None
    ede: int | None = None
    for _ in range(sum(counts)):
        offset = _after_name(message, offset)
        rtype, _, life, size = struct.unpack_from("!HHIH", message, offset)
        data = message[offset + 10 : offset + 10 + size]
        offset += 10 + size
        if rtype == TYPE_A and address is None:
            address, ttl = socket.inet_ntoa(data), life
        elif rtype == TYPE_OPT:
            ede = _first_ede(data) if ede is None else ede
    code = flags & 15
    return Reply(ident, RCODES.get(code, f"RCODE{code}"), address, ttl, ede)


def _after_name(message: bytes, offset: int) -> int:
    while (length := message[offset]) != 0:
        if length >= 0xC0:
            return offset + 2
        offset += 1 + length
    return offset + 1


def _first_ede(options: bytes) -> int | None:
    offset = 0
    while offset + 4 <= len(options):
        code, size = struct.unpack_from("!HH", options, offset)
        if code == OPTION_EDE:
            return int(struct.unpack_from("!H", options, offset + 4)[0])
        offset += 4 + size
    return None


def stub(port: int, timeout: float) -> socket.socket:
    """A connected UDP socket to a server on this machine."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((LOOPBACK, port))
    sock.settimeout(timeout)
    return sock


def ask(sock: socket.socket, name: str, ident: int = 1, edns: bool = True) -> Reply | None:
    """One question; None when nothing came in time or nobody listens."""
    try:
        sock.send(query(name, ident, edns))
        return parse_reply(sock.recv(4096))
    except OSError:
        return None


def ask_all(
    port: int, names: Sequence[str], timeout: float = 3.0, edns: bool = True
) -> dict[str, Reply]:
    """Ask every name once, a hundred at a time; a name without an answer in time is left out."""
    replies: dict[str, Reply] = {}
    deadline = time.monotonic() + timeout
    waiting = 0
    left = iter(enumerate(names))
    with stub(port, timeout=0.2) as sock:
        while time.monotonic() < deadline and len(replies) < len(names):
            for number, name in itertools.islice(left, WINDOW - waiting):
                with contextlib.suppress(ConnectionRefusedError):
                    sock.send(query(name, number, edns))
                waiting += 1
            try:
                reply = parse_reply(sock.recv(4096))
                replies[names[reply.ident]] = reply
                waiting -= 1
            except TimeoutError:
                waiting = 0  # what did not come by now holds up nobody else
            except ConnectionRefusedError:
                waiting = max(0, waiting - 1)
    return replies


@dataclass(frozen=True)
class Sight:
    """One answer that the poller saw; `at` is the time it came."""

    at: float
    name: str
    reply: Reply
    seconds: float


class Poller(threading.Thread):
    """Asks a few names at a steady beat beside the load and keeps every answer."""

    def __init__(self, port: int, names: Sequence[str], interval: float) -> None:
        super().__init__(daemon=True)
        self.sights: list[Sight] = []
        self.asked = 0
        self._port = port
        self._names = names
        self._interval = interval
        self._over = threading.Event()
        self._pending: dict[int, tuple[str, float]] = {}

    def __enter__(self) -> Poller:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    @property
    def unanswered(self) -> int:
        """Questions that got no answer although they waited longer than any stub resolver does."""
        late = time.monotonic() - STUB_PATIENCE
        return sum(1 for _, sent in list(self._pending.values()) if sent < late)

    def since(self, start: float) -> list[Sight]:
        return [sight for sight in self.sights if sight.at >= start]

    def run(self) -> None:
        beat = time.monotonic()
        with stub(self._port, timeout=self._interval) as sock:
            while not self._over.is_set():
                for name in self._names:
                    ident = self.asked & 0xFFFF
                    self._pending[ident] = (name, time.monotonic())
                    self.asked += 1
                    with contextlib.suppress(ConnectionRefusedError):
                        sock.send(query(name, ident))
                beat += self._interval
                while (left := beat - time.monotonic()) > 0:
                    sock.settimeout(left)
                    with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                        self._take(sock.recv(4096))

    def _take(self, message: bytes) -> None:
        reply = parse_reply(message)
        now = time.monotonic()
        if reply.ident in self._pending:
            name, sent = self._pending.pop(reply.ident)
            self.sights.append(Sight(now, name, reply, now - sent))
