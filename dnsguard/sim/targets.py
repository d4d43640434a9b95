"""What programs mean by the names that they look up, and whether what they were told is true.

An answer is not held against anybody while its TTL lasts: a TTL is the zone's own word that an
answer this old is good enough. Knows no clock and draws no lots.
"""

from __future__ import annotations

from dnsguard.sim.cluster import Name
from dnsguard.sim.lookup import Addresses, Status
from dnsguard.sim.result import Outcome


class Target:
    """A name at the present instant of a replay; `change` moves it on."""

    __slots__ = ("addresses", "before", "changed", "existed", "name")

    def __init__(self, name: Name, outage_begin: float) -> None:
        self.name = name
        self.addresses = name.at(0.0)
        self.before: Addresses = ()
        self.changed = float("-inf")
        self.existed = bool(name.at(outage_begin))  # when the outage began

    def change(self, now: float) -> None:
        """Be what the name is from now on."""
        self.before, self.addresses, self.changed = self.addresses, self.name.at(now), now

    def judge(self, status: Status, addresses: Addresses, ttl: float, now: float) -> Outcome:
        """Hold against the truth what a look-up brought; `ttl` seconds of age are no fault."""
        if status is Status.FAILED:
            return Outcome.FAILED
        recent = now - self.changed <= ttl
        if status is Status.FOUND:
            if any(address in self.addresses for address in addresses):
                return Outcome.RIGHT
            if recent and any(address in self.before for address in addresses):
                return Outcome.RIGHT
            return Outcome.DEAD_ADDRESS if self.addresses else Outcome.DELETED
        if not self.addresses or (recent and not self.before):
            return Outcome.RIGHT
        return Outcome.WRONG_NEGATIVE
