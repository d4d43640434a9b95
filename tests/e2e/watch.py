"""Asks several resolvers the same questions at the same moments, and keeps what each said.

Messages are written and read by dnslib, apart from dnsguard's own code. An answer counts if it
comes within the time that glibc waits for one. It does not know what would have been right.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnslib import EDNS0, QTYPE, RCODE, DNSError, DNSRecord

from tests.e2e.shop import Truth

PATIENCE = 5.0  # seconds; resolv.conf's default
EDNS_OCTETS = 1232
REPLY_OCTETS = 4096


@dataclass(frozen=True)
class Sight:
    """One answer, or none (`rcode` is empty): who was asked what and when, what came how fast."""

    at: float  # Unix time of the question
    system: str
    question: int  # its place in the list
    rcode: str
    data: frozenset[str]
    seconds: float


def question_message(truth: Truth, ident: int) -> bytes:
    """A query with recursion desired and an OPT record."""
    record = DNSRecord.question(truth.name, truth.qtype)
    record.header.id = ident
    record.add_ar(EDNS0(udp_len=EDNS_OCTETS))
    return bytes(record.pack())


def read_reply(message: bytes, qtype: str) -> tuple[int, str, frozenset[str]]:
    """Id, rcode and the data of the records of the type that was asked. Raises DNSError."""
    record = DNSRecord.parse(message)
    data = frozenset(str(rr.rdata) for rr in record.rr if QTYPE[rr.rtype] == qtype)
    return record.header.id, str(RCODE[record.header.rcode]), data


def ask_once(
    address: tuple[str, int], questions: Sequence[Truth], patience: float = 1.0
) -> list[tuple[str, frozenset[str]] | None]:
    """Rcode and data of each answer, in order; None for a question without one."""
    found: list[tuple[str, frozenset[str]] | None] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(patience)
        for ident, truth in enumerate(questions):
            try:
                sock.send(question_message(truth, ident))
                got, rcode, data = read_reply(sock.recv(REPLY_OCTETS), truth.qtype)
            except OSError:
                return [*found, *[None] * (len(questions) - len(found))]
            found.append((rcode, data) if got == ident else None)
    return found


@dataclass
class _Waiting:
    system: str
    question: int
    at: float
    sent: float


class Watch(threading.Thread):
    """Once started, asks every system every question at each beat, until `stop`."""

    def __init__(
        self, systems: Mapping[str, tuple[str, int]], questions: Sequence[Truth], beat: float
    ) -> None:
        super().__init__(daemon=True)
        self.sights: list[Sight] = []
        self._questions = questions
        self._beat = beat
        self._over = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[str, socket.socket] = {}
        self._waiting: dict[tuple[str, int], _Waiting] = {}
        self._ident = 0
        for system, address in systems.items():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(address)
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, system)
            self._sockets[system] = sock

    def stop(self) -> None:
        """End after the answers that are still awaited; waits for that."""
        self._over.set()
        self.join()
        for sock in self._sockets.values():
            sock.close()

    def run(self) -> None:
        beat = time.monotonic()
        while not self._over.is_set():
            self._ask()
            beat = max(beat + self._beat, time.monotonic())
            while (left := beat - time.monotonic()) > 0:
                self._listen(left)
            self._give_up()
        end = time.monotonic() + PATIENCE
        while self._waiting and (left := end - time.monotonic()) > 0:
            self._listen(left)
        self._give_up(everything=True)

    def _ask(self) -> None:
        for question, truth in enumerate(self._questions):
            self._ident = (self._ident + 1) & 0xFFFF
            message = question_message(truth, self._ident)
            for system, sock in self._sockets.items():
                key = (system, self._ident)
                self._waiting[key] = _Waiting(system, question, time.time(), time.monotonic())
                # Refused is what the answer to an earlier question was: nobody listens there now.
                for _ in range(2):
                    with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                        sock.send(message)
                        break
            self._listen(0)

    def _listen(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            assert isinstance(key.fileobj, socket.socket)
            while True:
                try:
                    message = key.fileobj.recv(REPLY_OCTETS)
                except ConnectionRefusedError:
                    continue
                except BlockingIOError:
                    break
                self._take(key.data, message)

    def _take(self, system: str, message: bytes) -> None:
        waiting = self._waiting.get((system, int.from_bytes(message[:2], "big")))
        if waiting is None:
            return  # later than anyone waits
        took = time.monotonic() - waiting.sent
        try:
            ident, rcode, data = read_reply(message, self._questions[waiting.question].qtype)
        except DNSError as error:
            ident, rcode, data = int.from_bytes(message[:2], "big"), f"broken: {error}", frozenset()
        del self._waiting[system, ident]
        self.sights.append(Sight(waiting.at, system, waiting.question, rcode, data, took))

    def _give_up(self, everything: bool = False) -> None:
        late = time.monotonic() - PATIENCE
        for key, one in list(self._waiting.items()):
            if everything or one.sent < late:
                del self._waiting[key]
                self.sights.append(
                    Sight(one.at, one.system, one.question, "", frozenset(), PATIENCE)
                )
