"""The words that the parts of a replay say to each other: questions, what upstreams say, answers.

A question is one object however often it is asked, so that dictionaries find it by identity and its
octets are put together once. Nothing here knows time or chance.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, Protocol

from dnsguard.core.wire import name_octets
from dnsguard.sim.lookup import NOERROR, NXDOMAIN, SERVFAIL, Addresses, Status

CLOSED = -1  # instead of an rcode: the host says that nobody listens on that port (ICMP)
QUERY_HEAD = b"\1\0\0\1\0\0\0\0\0\0"  # RD, one question; what follows a query's id
QUESTION_AT = 12  # octets of a header
HERE = b"\xc0\x0c"  # the name asked, compressed
REPLY_FLAGS = 0x8580  # QR, AA, RD, RA, as CoreDNS's kubernetes plugin answers


class Said(NamedTuple):
    """What an upstream says to a question. `ttl` is in seconds, 0 for an error."""

    rcode: int
    addresses: Addresses = ()
    ttl: int = 0


# What a client is told: rcode, addresses, where from, when an upstream said it (seconds; the
# present if nobody did), and the TTL that it was said with. A plain tuple: there are millions.
Answer = tuple[int, Addresses, str, float, int]

HIT, STALE, UPSTREAM, FAILURE, SYNTHESIZED = "hit", "stale", "upstream", "failure", "synthesized"


class Question:
    """A name and a type, and the forms in which they are needed.

    `tail` is a query after its id, without EDNS: no decision depends on an OPT record, and a
    finished reply serves all programs alike.
    """

    __slots__ = ("name", "octets", "rtype", "tail", "wires")

    def __init__(self, name: str, rtype: int) -> None:
        self.name = name
        self.rtype = rtype
        self.octets = name_octets(name or ".") + struct.pack("!HH", rtype, 1)
        self.tail = QUERY_HEAD + self.octets
        self.wires: dict[Said, bytes] = {}

    def wire(self, said: Said) -> bytes:
        """Return a message after its id that says so; negatives carry an SOA (RFC 2308)."""
        found = self.wires.get(said)
        if found is None:
            found = self.wires[said] = self._build(said)
        return found

    def _build(self, said: Said) -> bytes:
        records = b"".join(
            HERE + struct.pack("!HHIH", self.rtype, 1, said.ttl, len(address)) + address
            for address in said.addresses
        )
        answers, soas = len(said.addresses), 0
        if not answers and said.ttl:
            soas = 1
            tail = b"\0\0" + struct.pack("!IIIII", 1, 7200, 1800, 86400, said.ttl)
            records = b"\0" + struct.pack("!HHIH", 6, 1, said.ttl, len(tail)) + tail
        head = struct.pack("!HHHHH", REPLY_FLAGS | said.rcode, 1, answers, soas, 0)
        return head + self.octets + records


class Questions:
    """All questions of a replay, each of them once."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, int], Question] = {}
        self._by_octets: dict[bytes, Question] = {}

    def get(self, name: str, rtype: int) -> Question:
        """Return the question for a name without a final dot."""
        found = self._by_name.get((name, rtype))
        if found is None:
            found = self._by_name[name, rtype] = Question(name, rtype)
            self._by_octets[found.octets] = found
        return found

    def of(self, octets: bytes) -> Question:
        """Return the question with these octets."""
        return self._by_octets.get(octets) or self.get(*_read(octets))

    def in_message(self, wire: bytes) -> Question:
        """Return the question of a message."""
        end = QUESTION_AT
        while wire[end]:
            end += wire[end] + 1
        return self.of(wire[QUESTION_AT : end + 5])


def _read(octets: bytes) -> tuple[str, int]:
    labels, at = [], 0
    while octets[at]:
        labels.append(octets[at + 1 : at + 1 + octets[at]].decode())
        at += octets[at] + 1
    return ".".join(labels), octets[at + 1] << 8 | octets[at + 2]


class Restart(Enum):
    """How a process begins anew."""

    CLEAN = "restart"  # stopped, with time to write what it knows
    KILL = "kill"  # kill -9
    NEW_NODE = "new node"  # and without the disk


# A look-up that was answered at once: its candidates, how it ended, addresses, the last A answer.
Walk = tuple[int, Status, Addresses, Answer]


class Walked(Protocol):
    """What a look-up asks for, candidate after candidate; see `replay.Plan`."""

    @property
    def pairs(self) -> tuple[tuple[Question, Question], ...]:
        """A and AAAA of every candidate."""


class Flow:
    """A socket that a system keeps: its number stands for the source port."""

    __slots__ = ("number", "opened", "used")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.opened = self.used = now


class Stage(Protocol):
    """What a system may do in a replay."""

    now: float

    def send(
        self, system: System, upstream: int, question: Question, token: object,
        flow: Flow | None = None,
    ) -> None:  # fmt: skip
        """Ask an upstream; `system.heard` is called with the token if anything comes back.

        Without a flow it is asked from a new port.
        """

    def after(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        """Have `what` called with these arguments after a while."""

    def reply(self, token: int, answer: Answer) -> None:
        """Answer a client whose question `ask` did not answer at once."""


class System(Protocol):
    """Whatever stands at the address that clients ask: a cache, or nothing."""

    def ask(self, question: Question, token: int, now: float) -> Answer | None:
        """Take a client's question. None: the answer comes later, by `Stage.reply`, or never."""

    def again(self, plan: Walked, now: float) -> Walk | None:
        """Say once more what a whole look-up was told, if every part of it still stands."""

    def walked(self, plan: Walked, walk: Walk) -> None:
        """Take note of a look-up that was answered at once in all its parts."""

    def heard(self, token: object, said: Said, now: float) -> None:
        """Take what came back from an upstream."""

    def stop(self, now: float, how: Restart) -> None:
        """End; nobody asks until `begin`. Who waits has lost its answer with the process."""

    def begin(self, now: float) -> None:
        """Begin anew, with what was kept."""


def failure(now: float, rcode: int = SERVFAIL) -> Answer:
    """The answer that says that there is none."""
    return rcode, (), FAILURE, now, 0


def fresh(said: Said, now: float) -> Answer:
    """What an upstream has just said, as an answer."""
    source = UPSTREAM if said.rcode in (NOERROR, NXDOMAIN) else FAILURE
    return said.rcode, said.addresses, source, now, said.ttl
