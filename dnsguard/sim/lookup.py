"""What the models of stub resolvers have in common: what they are told, and what they say.

A look-up is one getaddrinfo call for both address families: candidates from the search list, two
questions for each, repeats, time-outs, and an end. It is a state machine without sockets or clock:
it is told the time, what came back and that its timer fired, and says what to send. So the same
objects ask in virtual time and over real sockets. The models are in `clients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

A, AAAA = 1, 28
TYPES = (A, AAAA)
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
NEVER = float("inf")

Addresses = tuple[bytes, ...]


class Status(Enum):
    """How a look-up ended for the program."""

    FOUND = "found"
    NOT_FOUND = "not found"  # EAI_NONAME, EAI_NODATA: the program may take it for the truth
    FAILED = "failed"  # EAI_AGAIN: an error, or nobody answered


class Result(NamedTuple):
    """The end of a look-up. `name` is the candidate that had addresses, else the last one."""

    status: Status
    addresses: Addresses
    name: str


class Send(NamedTuple):
    """A question to be sent now.

    `number` is the same for a repeat of one question: a reply to either counts. `socket` is the
    look-up's own count of sockets; one that it has left is closed, and replies to it are lost.
    """

    number: int
    name: str  # absolute, without a final dot
    rtype: int
    socket: int
    edns: bool


class Reply(NamedTuple):
    """What a stub reads from a message: addresses are those of the type asked for."""

    rcode: int
    addresses: Addresses


@dataclass(frozen=True, slots=True)
class Resolv:
    """The resolv.conf of a pod."""

    search: tuple[str, ...] = ()
    ndots: int = 5
    timeout: float = 5.0  # seconds
    attempts: int = 2


class Lookup:
    """One look-up under way.

    After every call whoever drives it sends what is in `sends` and empties it, and calls `due` at
    the instant `at`. It is over when `result` is set.
    """

    __slots__ = ("at", "names", "resolv", "result", "sends", "socket", "step")

    def __init__(self, resolv: Resolv, names: Sequence[str], first: int) -> None:
        self.resolv = resolv
        self.names = names
        self.step = first
        self.socket = 0
        self.at = NEVER
        self.sends: list[Send] = []
        self.result: Result | None = None

    def reply(self, send: Send, rcode: int, addresses: Addresses, now: float) -> None:
        """Take the reply to `send`; one that is no longer waited for is ignored."""
        raise NotImplementedError

    def refused(self, send: Send, now: float) -> None:
        """Take an ICMP port unreachable for `send`."""
        raise NotImplementedError

    def due(self, now: float) -> None:
        """Take note that it is `at`."""
        raise NotImplementedError

    def _end(self, status: Status, addresses: Addresses, now: float) -> None:
        self.result = Result(status, addresses, self.names[min(self.step, len(self.names) - 1)])
        self.at = NEVER
        self.sends.clear()


class Stub:
    """The resolver library of one process."""

    model = ""
    edns = False  # whether its questions carry an OPT record

    def __init__(self, resolv: Resolv) -> None:
        self.resolv = resolv

    def candidates(self, name: str) -> tuple[str, ...]:
        """Return the absolute names that are asked for `name`, in order, at most."""
        if name.endswith("."):
            return (name[:-1],)
        searched = tuple(f"{name}.{domain}" for domain in self.resolv.search)
        if name.count(".") >= self.resolv.ndots:
            return (name, *searched)
        return (*searched, name)

    def settle(self, pair: Sequence[Reply]) -> Status | None:
        """What two replies (A, AAAA; rcodes 0 or 3) mean for a candidate; None: try the next."""
        return Status.FOUND if pair[0].addresses or pair[1].addresses else None

    def look_up(self, name: str, now: float, first: int = 0) -> Lookup:
        """Begin a look-up, at candidate number `first`: the ones before it are known to be none."""
        raise NotImplementedError
