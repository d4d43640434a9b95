"""What programs mean by the names that they look up, and whether what they were told is true.

An answer is not held against anybody while its TTL lasts: a TTL is the zone's own word that an
answer this old is good enough. Knows no clock and draws no lots.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsguard.sim.cluster import Name
from dnsguard.sim.lookup import Addresses, Status
from dnsguard.sim.result import Outcome


class Target:
    """A name at the present instant of a replay; `change` moves it on."""

    __slots__ = ("addresses", "changed", "existed", "name")

    def __init__(self, name: Name, outage_begin: float) -> None:
        self.name = name
        self.addresses = name.at(0.0)
        self.changed = float("-inf")
        self.existed = bool(name.at(outage_begin))  # when the outage began

    def change(self, now: float) -> None:
        """Be what the name is from now on."""
        self.addresses, self.changed = self.name.at(now), now

    def judge(self, status: Status, addresses: Addresses, ttl: float, now: float) -> Outcome:
        """Hold against the truth what a look-up brought; `ttl` seconds of age are no fault."""
        if status is Status.FAILED:
            return Outcome.FAILED
        for true in self._since(now - ttl):
            if status is Status.FOUND and any(address in true for address in addresses):
                return Outcome.RIGHT
            if status is Status.NOT_FOUND and not true:
                return Outcome.RIGHT
        if status is Status.NOT_FOUND:
            return Outcome.WRONG_NEGATIVE
        return Outcome.DEAD_ADDRESS if self.addresses else Outcome.DELETED

    def _since(self, instant: float) -> Iterator[Addresses]:
        """Yield what has been true since an instant, the present first."""
        yield self.addresses
        if self.changed > instant:
            name = self.name
            for start, true in zip(reversed(name.starts), reversed(name.addresses), strict=True):
                if start < self.changed:
                    yield true
                    if start <= instant:
                        return
