"""What the engine wants done: replies to send, upstreams to ask, names to look
for elsewhere, events to report.

The engine only fills these lists; whoever drives it empties them after every batch. Logging is an
action too, so that a test can ask what a line in the log was the consequence of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnsguard.core.flights import Ask


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator should know. `level` is a logging level's name in lower case."""

    level: str
    event: str
    text: str
    fields: tuple[tuple[str, object], ...] = ()


class Actions:
    """The engine's outbox."""

    __slots__ = ("asks", "notices", "replies", "searches")

    def __init__(self) -> None:
        self.replies: list[tuple[object, bytes]] = []
        self.asks: list[Ask] = []
        self.notices: list[Notice] = []
        self.searches: list[bytes] = []  # keys that others may know: see `elsewhere`
