"""Questions under way: one flight for each question, however many clients wait for it.

A flight is an entry in a table with a deadline, not a task. It owns the asks that were sent for it
and the queries that wait for it. One flight a question is also what RFC 5452 section 5 asks for:
never two equivalent questions outstanding because two clients asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsguard.core.reply import EDE_UNREACHABLE
from dnsguard.core.wire import Query

if TYPE_CHECKING:
    from dnsguard.core.answer import Answer
    from dnsguard.core.zones import Server, ZoneState


FOREVER = float("inf")
PROBING = 1000  # `attempts` of a flight that is only a probe: past any policy's maximum


class Ask:
    """One message to one upstream. `wire` lacks its id, which the sender draws."""

    __slots__ = ("flight", "id", "probe", "sent", "server", "stream", "wire")

    def __init__(
        self, flight: Flight, server: Server, wire: bytes, now: float, stream: bool, probe: bool
    ) -> None:
        self.flight = flight
        self.server = server
        self.wire = wire
        self.sent = now
        self.stream = stream  # over TCP or TLS
        self.probe = probe
        self.id = -1


class Flight:
    """One question under way.

    `silent_at` is when its clients stop waiting if there is a stale answer, and when an upstream
    that has said nothing since is held to be silent; `retry_at` is when the next ask goes out;
    `ends` is its deadline. `at` is the earliest of these that is still to come.
    """

    __slots__ = (
        "asks", "at", "attempts", "began", "code", "denial", "ends", "failures", "key", "late",
        "looks", "over", "pending", "question", "queued", "reason", "retry_at", "silent_at", "text",
        "waiters", "zone",
    )  # fmt: skip

    def __init__(self, key: bytes, question: bytes, zone: ZoneState, now: float) -> None:
        self.key = key
        self.question = question  # lowered name, type, class
        self.zone = zone
        self.began = now
        self.waiters: list[Query] = []
        self.asks: list[Ask] = []
        self.pending = 0  # asks that may still be answered
        self.attempts = 0
        self.failures = 0
        self.reason = "timeout"  # why a stale answer would be given, should it fail
        self.code = EDE_UNREACHABLE
        self.text = ""
        self.looks = 0  # denials of a name that was good, each from another place
        self.denial: tuple[Answer, float] | None = None  # the latest, and when it came
        self.late = False  # clients have stopped waiting, and another may have its place
        self.queued = False
        self.over = False
        self.silent_at = self.retry_at = self.ends = self.at = FOREVER

    def plan(self) -> None:
        """Set `at` to the earliest instant that is still to come."""
        self.at = min(self.silent_at, self.retry_at, self.ends)
