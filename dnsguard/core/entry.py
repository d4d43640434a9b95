"""One remembered answer and what it knows about itself: its octets, its times, its uses.

Ages are asked, never stored: an entry keeps instants, and every question about it brings `now`.
Whether a stale entry may be served is `staleness`'s decision, because that depends on the health
of the upstream at that moment (RFC 8767 section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsguard.core.answer import Answer, Kind
from dnsguard.core.pods import of_pods

if TYPE_CHECKING:
    from dnsguard.core.packets import Packet
    from dnsguard.core.zones import ZoneState

# What an entry costs besides its key and its octets: the object, its times, its place in the index
# and in a queue. Measured with 100,000 entries in one process; see benchmarks.
ENTRY_OVERHEAD = 440
NEVER = float("-inf")


class Entry:
    """An answer in wire form with the instants that bound its life (seconds, boot-time clock).

    `stored` is when it came, `expires` when its TTL ends; it dies at `expires` plus the zone's
    `stale.max_age`, or `stale.headless_max_age` for addresses of pods, and nothing moves that
    instant but a new answer. `failed` is when a refresh last failed (-inf: never since it was
    stored). `hits` counts questions over the name's whole life in the cache, across refreshes;
    `asked` is when the last of them came, or was counted if a finished reply answered it. `written`
    is when the version of this answer that lies on disk was stored (-inf: none does).
    """

    __slots__ = (
        "_pods", "ad", "additional", "asked", "expires", "failed", "hits", "key", "kind", "offsets",
        "packets", "rcode", "reason", "recent", "segment", "stored", "ttl", "wire", "written",
        "zone",
    )  # fmt: skip

    def __init__(self, key: bytes, answer: Answer, zone: ZoneState, now: float) -> None:
        self.key = key
        self.wire = answer.wire
        self.offsets = answer.offsets
        self.additional = answer.additional
        self.kind = answer.kind
        self.rcode = answer.rcode
        self.ttl = answer.ttl
        self.ad = answer.ad
        self.zone = zone
        self.stored = now
        self.expires = now + answer.ttl
        self.failed = NEVER
        self.reason = "timeout"
        self.hits = 0
        self.recent = 0
        self.asked = NEVER
        self.segment = 0
        self.written = NEVER
        self.packets: list[Packet] | None = None
        self._pods: bool | None = None  # not looked at yet: few answers ever expire unrefreshed

    @property
    def size(self) -> int:
        """Octets of memory this entry is charged for."""
        return len(self.wire) + len(self.key) + ENTRY_OVERHEAD

    @property
    def negative(self) -> bool:
        """True if the answer denies something (RFC 2308)."""
        return self.kind is not Kind.POSITIVE

    def dies(self) -> float:
        """Return the instant after which this answer is never served again."""
        stale = self.zone.stale
        if stale.headless_max_age < stale.max_age and self.of_pods():
            return self.expires + stale.headless_max_age
        return self.expires + stale.max_age

    def move(self, zone: ZoneState) -> None:
        """Belong to another zone from now on."""
        self.zone = zone
        self._pods = None

    def of_pods(self) -> bool:
        """True if these are addresses of pods, which are reused (see `pods`)."""
        if self._pods is None:
            found = self.kind is Kind.POSITIVE and of_pods(self.key, self.wire, self.zone.domain)
            self._pods = found
        return self._pods

    def spoil(self) -> None:
        """Make every finished reply that was built from this entry invalid at once."""
        if self.packets is not None:
            for packet in self.packets:
                packet.until = 0.0
            self.packets = None
