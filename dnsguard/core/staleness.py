"""What to do with a question whose answer has expired: the one place where that is decided.

Verify first, stale on failure (RFC 8767 section 4): a client waits for a refresh only while there
is reason to hope for one. The table in `judge` reads from the strongest reason not to wait to the
weakest.
"""

from __future__ import annotations

from enum import Enum

from dnsguard.core.entry import Entry
from dnsguard.core.zones import ZoneState


class Verdict(Enum):
    """How to answer from an entry."""

    FRESH = "fresh"  # it has not expired
    VERIFY = "verify"  # ask upstream; stale when the client's timer fires or the try fails
    STALE = "stale"  # stale at once, and ask nobody
    BEHIND = "behind"  # stale at once, and refresh behind it
    DEAD = "dead"  # past its life: as if it were not there


def judge(entry: Entry, now: float) -> tuple[Verdict, str]:
    """Return how to answer from `entry` at `now`, and the reason that metrics and EDE show."""
    if now < entry.expires:
        return Verdict.FRESH, ""
    if now >= entry.dies():
        return Verdict.DEAD, ""
    zone = entry.zone
    if zone.outage:
        return Verdict.STALE, "outage"
    if held(entry, zone, now):
        return Verdict.STALE, entry.reason
    if not zone.waits or not zone.leisure(now):
        return Verdict.STALE, "outage"
    if zone.stale.mode == "immediate" or zone.lagging(now):
        return Verdict.BEHIND, "timeout"
    return Verdict.VERIFY, ""


def held(entry: Entry, zone: ZoneState, now: float) -> bool:
    """True within `stale.recheck` of a failed refresh, unless the zone has recovered since."""
    return entry.failed >= zone.recovered and now < entry.failed + zone.stale.recheck


def until(entry: Entry, now: float) -> float:
    """Return the instant until which a reply judged STALE now may be repeated without a thought.

    While the zone is in outage that is the entry's death (a change of the zone's state clears all
    finished replies); within the recheck pause it is that pause's end; otherwise it is now.
    """
    if entry.zone.outage:
        return entry.dies()
    if held(entry, entry.zone, now):
        return min(entry.failed + entry.zone.stale.recheck, entry.dies())
    return now
