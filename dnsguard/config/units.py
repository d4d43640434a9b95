"""Durations, sizes and numbers: how a setting's text becomes a value, and the value text again.

Every `read_…` raises `ValueError` whose message says what would be right, so that a caller can
show it beside the key and the text. Every `show_…` returns text that its `read_…` reads to the
same value. Nothing here knows a key, a default or a source.
"""

from __future__ import annotations

import math
import re

# Milliseconds are the finest step: no timer of a DNS forwarder means anything below one.
_MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
# At most 12 digits: larger numbers are slips of the finger, and every product stays exact.
_PART = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?(ms|[wdhms])")
_DURATION = re.compile(rf"(-?)((?:{_PART.pattern})+)")
_BYTES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]iB|B)?")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_SWITCH = {
    "on": True, "true": True, "yes": True, "off": False, "false": False, "no": False,
}  # fmt: skip

A_DURATION = "a duration: a number and a unit (ms, s, m, h, d, w), such as 300ms, 30s or 3d"
A_SIZE = "a size: a number and a unit (B, KiB, MiB, GiB, TiB), such as 64MiB"


def _milliseconds(text: str) -> int:
    """Exact, in integers: `0.1s` must be 100 ms and not what binary fractions make of it."""
    if text == "0":
        return 0  # the one number whose unit does not matter
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(A_DURATION)
    total = 0
    for whole, fraction, unit in _PART.findall(match[2]):
        scale = _MILLISECONDS[unit]
        part, rest = divmod(int(fraction or "0") * scale, 10 ** len(fraction))
        if rest:
            raise ValueError("a duration in steps of 1ms")
        total += int(whole) * scale + part
    return -total if match[1] else total


def read_duration(text: str) -> float:
    """Seconds. A sign is read so that a range can reject it with its reason."""
    return _milliseconds(text) / 1000


def show_duration(seconds: float) -> str:
    """The largest unit that leaves no fraction: 90m, not 1h30m; 3d, not 72h."""
    milliseconds = round(seconds * 1000)
    for unit, scale in _MILLISECONDS.items():
        # Weeks are read but never shown: TTLs and stale ages are spoken of in days.
        if milliseconds and unit != "w" and milliseconds % scale == 0:
            return f"{milliseconds // scale}{unit}"
    return "0s"


def read_seconds(text: str) -> int:
    """Whole seconds, for what ends up in a TTL field (RFC 1035 section 3.2.1)."""
    seconds, rest = divmod(_milliseconds(text), 1000)
    if rest:
        raise ValueError("a duration in whole seconds, since a TTL counts nothing finer")
    return seconds


def read_size(text: str) -> int:
    """Bytes. A bare number is bytes: that is how Kubernetes hands a container its memory limit."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(A_SIZE)
    return int(match[1]) * _BYTES[match[2] or "B"]


def show_size(size: int) -> str:
    """The largest unit that leaves no fraction."""
    for unit, scale in _BYTES.items():
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return "0B"


def read_integer(text: str) -> int:
    """A whole number."""
    if not _INTEGER.fullmatch(text):
        raise ValueError("a whole number")
    return int(text)


def read_number(text: str) -> float:
    """A finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number such as 0.1")
    return number


def read_share(text: str) -> float:
    """A part of a whole: `1%`, 0.01, or off for none."""
    if text.lower() == "off":
        return 0.0
    number = text.removesuffix("%")
    try:
        share = read_number(number) / (100 if number != text else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("a share from 0% to 100%, such as 1% or 0.01, or off")
    return share


def show_share(share: float) -> str:
    """In percent, or off."""
    return f"{share * 100:.12g}%" if share else "off"


def read_switch(text: str) -> bool:
    """On or off, in the spellings that YAML gives a truth value."""
    switch = _SWITCH.get(text.lower())
    if switch is None:
        raise ValueError("on or off")
    return switch
