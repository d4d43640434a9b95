"""Cold names that could not be resolved, and for how long nobody asks for them again.

RFC 9520 wants every failure remembered, so that clients that try again and again do not become
packets: for a second at first, twice as long with each further failure of the same name, and not
beyond a recovery of its zone. A name with a usable answer is not here; its own entry remembers.
"""

from __future__ import annotations

from collections import OrderedDict

FAILURES_MAX = 8192  # cold names whose failure is remembered (RFC 9520 section 3.2: bounded)
FAILURE_FIRST, FAILURE_MAX = 1.0, 30.0  # seconds; RFC 9520 allows 1 s to 5 min


class Failure:
    """One failed name: not asked again until `until`."""

    __slots__ = ("at", "code", "pause", "text", "until")

    def __init__(self, at: float, pause: float, code: int, text: str) -> None:
        self.at = at
        self.pause = pause
        self.until = at + pause
        self.code = code
        self.text = text


class Failures(OrderedDict[bytes, Failure]):
    """All of them by key, oldest first: a dictionary, because every miss looks here."""

    def note(self, key: bytes, code: int, text: str, recovered: float, now: float) -> None:
        """Remember one more failure of `key`, whose zone recovered last at `recovered`."""
        old = self.pop(key, None)
        pause = FAILURE_FIRST
        if old is not None:
            if old.at >= recovered:
                pause = min(old.pause * 2, FAILURE_MAX)
        elif len(self) >= FAILURES_MAX:
            self.popitem(last=False)
        self[key] = Failure(now, pause, code, text)
