"""Every error that dnsguard raises on purpose, as one tree.

Edges catch these by name; anything else that escapes is a defect, not an operating condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DnsguardError(Exception):
    """Root of the tree: catch this to catch everything dnsguard raises on purpose."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in the configuration: where it stands, what stands there, what would be right."""

    path: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value!r}: {self.expected}"


class ConfigError(DnsguardError):
    """The configuration cannot be used. Carries every mistake found, not only the first.

    `what` is what they are in, for people: settings, or a scenario.
    """

    def __init__(self, mistakes: Sequence[Mistake], what: str = "the settings") -> None:
        self.mistakes = tuple(mistakes)
        self.what = what
        super().__init__("\n".join(str(m) for m in self.mistakes))


class WireError(DnsguardError):
    """Bytes that are not a DNS message we can use (RFC 1035 section 4)."""


class UpstreamError(DnsguardError):
    """An upstream could not be reached or used."""


class StoreError(DnsguardError):
    """The last-known-good store could not be read or written.

    `kind` is the word that metrics use for why.
    """

    def __init__(self, text: str, kind: str = "io") -> None:
        self.kind = kind
        super().__init__(text)


class ControlError(DnsguardError):
    """A running instance cannot be reached, or does not do what it was told."""
