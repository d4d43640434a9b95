"""Pins: an operator's own addresses for a name, which win over cache and upstreams.

For the day on which everything else is wrong: a pin is set in the settings for good, or over the
control socket for a while, and then it ends by itself. A pinned name answers A and AAAA from its
pin alone, with "no such record" for the family that it lacks, and no HTTPS or SVCB record, because
their address hints would lead past it. Other types go their usual way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from dnsguard.core.policy import Policy
from dnsguard.core.wire import name_octets

T_A, T_AAAA, T_SVCB, T_HTTPS = 1, 28, 64, 65
PINNED_TYPES = frozenset({T_A, T_AAAA, T_SVCB, T_HTTPS})
PINS_MAX = 1000  # an operator's own; whoever needs more runs a zone
ADDRESSES_MAX = 64  # of one pin: some 1,000 octets of AAAA records, which still go by UDP
PIN_TTL = 30  # seconds: as long as a stale answer, so that an end is seen soon
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned name; `since` and `until` are instants. Those of the settings have no end."""

    name: str
    addresses: tuple[str, ...]
    ttl: int = PIN_TTL
    since: float = 0.0
    until: float = FOREVER

    def data(self, qtype: int) -> list[bytes]:
        """Return the addresses of one family as record data."""
        version = {T_A: 4, T_AAAA: 6}.get(qtype)
        found = map(ipaddress.ip_address, self.addresses)
        return [address.packed for address in found if address.version == version]


class Pins:
    """All pins. `table` is by lowered wire name, and empty for nearly everyone."""

    __slots__ = ("_fixed", "_set", "table")

    def __init__(self, fixed: Iterable[Pin]) -> None:
        self.table: dict[bytes, Pin] = {}
        self._set: dict[bytes, Pin] = {}
        self.obey(fixed)

    def obey(self, fixed: Iterable[Pin]) -> None:
        """Take other pins from the settings; an operator's stay, and win."""
        self._fixed = {name_octets(pin.name): pin for pin in fixed}
        self._merge()

    def _merge(self) -> None:
        self.table.clear()  # the engine holds on to this very dictionary
        self.table.update(self._fixed | self._set)

    def find(self, key: bytes, now: float) -> Pin | None:
        """Return the pin that answers the question in `key`; one that has ended is let go."""
        name = key[:-5]
        pin = self.table.get(name)
        if pin is None or key[-3:-1] != b"\0\1" or key[-5] << 8 | key[-4] not in PINNED_TYPES:
            return None
        if now >= pin.until:
            self.remove(name)
            return self.find(key, now)  # the settings may have one as well, which does not end
        return pin

    def put(self, pin: Pin) -> bool:
        """Set a pin; False if there are too many."""
        name = name_octets(pin.name)
        if name not in self._set and len(self._set) >= PINS_MAX:
            return False
        self._set[name] = pin
        self._merge()
        return True

    def remove(self, name: bytes) -> Pin | None:
        """Take an operator's pin away; return it, or None if there was none."""
        pin = self._set.pop(name, None)
        self._merge()
        return pin

    def operators(self, now: float) -> list[Pin]:
        """Return the pins that were set by hand and have not ended."""
        return [pin for pin in self._set.values() if now < pin.until]


def pins_of(policy: Policy) -> list[Pin]:
    """Return the pins of the settings."""
    return [Pin(name, addresses) for name, addresses in policy.pins]
