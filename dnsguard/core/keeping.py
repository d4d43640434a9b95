"""Names that are refreshed whether or not anybody asks for them (`keep_fresh.names`).

A name that must survive an outage is worth nothing if nobody happened to ask for it in time. Each
stands in the timer wheel for the two questions that a client asks to reach it; what is due for a
refresh, and whether this is the moment, is for the engine to judge.
"""

from __future__ import annotations

from collections.abc import Iterable

from dnsguard.core.wheel import Due, Wheel
from dnsguard.core.wire import name_octets

KEEP_TYPES = (1, 28)  # A and AAAA
KEEP_RETRY = 5.0  # seconds between looks at a name that has no answer yet


class Keep:
    """One question that is kept fresh."""

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key
        self.at = now
        self.over = False


class Keeping:
    """All questions that are kept fresh."""

    def __init__(self, wheel: Wheel[Due]) -> None:
        self._wheel = wheel
        self._kept: list[Keep] = []

    def begin(self, names: Iterable[str], now: float) -> None:
        """Keep these names from now on, and no others."""
        for keep in self._kept:
            keep.over = True
        self._kept = [
            Keep(name_octets(name) + qtype.to_bytes(2, "big") + b"\0\1\0", now)
            for name in names
            for qtype in KEEP_TYPES
        ]
        for keep in self._kept:
            self._wheel.set(keep)
