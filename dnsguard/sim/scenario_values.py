"""How the text of a scenario's key becomes a value; each reader's ValueError says what is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, field
from datetime import date
from typing import Any

from dnsguard.config import addresses, units

LENGTH_MAX = 14 * 86400.0  # of a scenario: the longest outage known took three days
Read = Callable[[str], Any]

_WORD = re.compile(r"[a-z][a-z0-9-]{0,39}")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")


def key(read: Read | None, means: str, default: Any = MISSING) -> Any:
    """A field that a file may set; `read` None: it is a section or a list of its own."""
    metadata = {"read": read, "means": means}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def text(given: str) -> str:
    """Some text, on one line."""
    line = " ".join(given.split())
    if not line:
        raise ValueError("some text")
    return line


def word(given: str) -> str:
    """A name within the file."""
    if not _WORD.fullmatch(given):
        raise ValueError("a name of a-z, 0-9 and '-' that begins with a letter, at most 40 long")
    return given


def day(given: str) -> str:
    """The day of an outage, or none."""
    try:
        return given if given == "none" else date.fromisoformat(given).isoformat()
    except ValueError:
        raise ValueError("a date such as 2024-12-11; none if it happens every day") from None


def url(given: str) -> str:
    """Where something is to be read."""
    if not _URL.fullmatch(given):
        raise ValueError("a URL, https://…")
    return given


def host(given: str) -> str:
    """A domain name, not the root."""
    name = addresses.read_name(given)
    if "." not in name:
        raise ValueError("a whole domain name, such as db.example.com")
    return name


def share(given: str) -> float:
    """A share, from 0 to 1."""
    try:
        value = float(given[:-1]) / 100 if given.endswith("%") else float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError("a share such as 30% or 0.3")
    return value


def shares(given: str) -> tuple[float, float]:
    """One share, or two with dots between: from the begin of the phase to its end."""
    first, dots, last = given.partition("..")
    return (share(first), share(last)) if dots else (share(first), share(first))


def number(low: float, high: float) -> Read:
    """Numbers from `low` to `high`."""

    def read(given: str) -> float:
        value = units.read_number(given)
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return read


def count(low: int, high: int) -> Read:
    """Whole numbers from `low` to `high`."""

    def read(given: str) -> int:
        value = units.read_integer(given)
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


def duration(low: float, high: float = LENGTH_MAX) -> Read:
    """Durations from `low` to `high`, in seconds."""

    def read(given: str) -> float:
        value = units.read_duration(given)
        if not low <= value <= high:
            bounds = units.show_duration(low), units.show_duration(high)
            raise ValueError(f"a duration from {bounds[0]} to {bounds[1]}")
        return value

    return read


def one_of(*words: str) -> Read:
    """One of these words."""

    def read(given: str) -> str:
        if given not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return given

    return read


def group_or_host(*groups: str) -> Read:
    """One of these words, or a domain name, which stands for itself and what is below it."""

    def read(given: str) -> str:
        if given in groups:
            return given
        try:
            return host(given)
        except ValueError:
            raise ValueError(f"one of {', '.join(groups)}, or a domain name") from None

    return read
