"""A zone in doubt: what is served although it is denied, and how doubt comes to its end.

In doubt the last-known-good answers of all names that are denied are served, and of those that were
believed to be gone a moment before, until they come back, `guard.max_hold` has run out, or an
operator has decided. Whether a source is to be doubted is `guard`'s judgement, whether a single
denial is believed `guarding`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from dnsguard.core.actions import Actions, Notice
from dnsguard.core.cache import Cache
from dnsguard.core.counters import Counters
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.guard import Guard
from dnsguard.core.refreshing import Refreshing
from dnsguard.core.reply import span
from dnsguard.core.staleness import held
from dnsguard.core.wheel import Due, Wheel
from dnsguard.core.zones import ZoneState

ASIDE_MAX = 4096  # believed deletions that can be taken back
ASIDE_WINDOWS = 2  # for so many windows: an event shows within one
# Nothing was denied for so long, while the name that was denied before and names like it were asked
# for again and again (see `watching`): that one was no victim of what began then.
GAP_SECONDS = 8.0
ROUND_MAX = 16  # names in doubt that are asked for every `stale.recheck`, beside clients' own


def _linked(denials: list[float], now: float) -> float:
    """Return the first of the instants that lead up to `now` without a gap."""
    first = now
    for at in sorted(denials, reverse=True):
        if first - at > GAP_SECONDS:
            break
        first = at
    return first


class Doubt:
    """A zone in doubt, and when its names are asked for next."""

    __slots__ = ("at", "over", "zone")

    def __init__(self, zone: ZoneState, now: float) -> None:
        self.zone = zone
        self.at = now + zone.stale.recheck
        self.over = False


class Doubting:
    """The doubt of all zones. `store` keeps an answer, `forget` drops one."""

    def __init__(
        self,
        cache: Cache,
        wheel: Wheel[Due],
        refreshing: Refreshing,
        out: Actions,
        counters: Counters,
        store: Callable[[Entry, Entry | None, float], None],
        forget: Callable[[bytes], None],
    ) -> None:
        self._cache = cache
        self._wheel = wheel
        self._refreshing = refreshing
        self._out = out
        self._counters = counters
        self._store = store
        self._forget = forget
        self._asides: dict[bytes, tuple[Entry, float]] = {}

    # -- what can be taken back -------------------------------------------------------------

    def put_aside(self, key: bytes, old: Entry, now: float) -> None:
        """Keep an answer that is believed to be gone, in case an event shows."""
        if len(self._asides) >= ASIDE_MAX:
            del self._asides[next(iter(self._asides))]
        self._asides[key] = old, now

    def came_back(self, guard: Guard, key: bytes, now: float) -> bool:
        """A denied name has an answer; True if it was believed to be gone a moment ago."""
        if not self._asides:
            return False
        _, at = self._asides.pop(key, (None, NEVER))
        return now - at < self._aside_seconds(guard)

    @staticmethod
    def _aside_seconds(guard: Guard) -> float:
        return ASIDE_WINDOWS * guard.policy.window

    # -- begin, go on, end ------------------------------------------------------------------

    def begin(self, zone: ZoneState, reason: str, now: float) -> None:
        """Go into doubt, or deeper into it: another event strikes while the last is not over."""
        zone.guard.begin(now)
        restored = self._restore(zone, now)
        if zone.doubt is None:
            zone.doubt = Doubt(zone, now)
            self._wheel.set(zone.doubt)
        text = (
            f"zone {zone.name}: doubt, because {reason}; serving last-known-good answers for them"
        )
        if restored:
            text += f", also for {restored} that were believed to be gone"
        self._out.notices.append(Notice("warning", "doubt", text))

    def _restore(self, zone: ZoneState, now: float) -> int:
        """Put back what was believed to be gone a moment ago; return how much."""
        restored = 0
        mine = [item for item in self._asides.items() if item[1][0].zone.name == zone.name]
        since = _linked([at for _, (_, at) in mine] + zone.guard.first_denials(), now)
        since = max(since, now - self._aside_seconds(zone.guard))
        for key, (entry, at) in mine:
            del self._asides[key]
            current = self._cache.get(key)
            if at < since or now >= entry.dies():
                continue
            if current is not None and not current.kind:
                continue  # it is back by itself
            entry.zone = zone
            entry.failed, entry.reason = now, "guard"
            self._store(entry, current, now)
            if not entry.kind:
                zone.guard.hold(key)
                self._counters.guard["restored"] += 1
                restored += 1
        return restored

    def due(self, doubt: Doubt, now: float) -> None:
        """Ask for some of the names in doubt, so that their return is seen without a client."""
        zone = doubt.zone
        guard = zone.guard
        lasted = now - guard.doubt_since
        if lasted >= guard.policy.max_hold:
            self._accept(zone, f"guard.max_hold has run out after {span(lasted)}", now)
            return
        for key in list(guard.held)[:ROUND_MAX]:
            del guard.held[key]
            entry = self._cache.get(key)
            if entry is None or entry.kind or now >= entry.dies():
                continue  # there is nothing left to hold
            guard.held[key] = None  # behind the others: each in turn
            if zone.waits and zone.leisure(now) and not held(entry, zone, now):
                guard.asked_since += 1
                self._refreshing.behind(entry, now)
        if guard.healed(now):
            self.leave_healed(zone, now)
        elif guard.left_behind(now):
            total = guard.ever_held
            why = f"{total - len(guard.held)} of {total} names are back and no other has followed"
            self._accept(zone, f"{why} for {span(now - guard.returned_at)}", now)
        else:
            doubt.at = now + zone.stale.recheck
            self._wheel.set(doubt)

    def leave_healed(self, zone: ZoneState, now: float) -> None:
        """Leave doubt, because its names are back but for a few, which may be denied now."""
        guard = zone.guard
        lasted, total = now - guard.doubt_since, guard.ever_held
        left = self._leave(zone)
        text = (
            f"zone {zone.name}: doubt is over after {span(lasted)}: "
            f"{total - len(left)} of {total} names are back"
        )
        self._out.notices.append(Notice("warning", "trusted", text))

    def _leave(self, zone: ZoneState) -> list[bytes]:
        assert zone.doubt is not None
        zone.doubt.over = True
        zone.doubt = None
        return zone.guard.end()

    def release(self, zone: ZoneState, now: float) -> None:
        """Leave doubt, because the settings no longer ask for it; what is held may be denied."""
        left = self._leave(zone)
        text = f"zone {zone.name}: doubt is switched off, with {len(left)} names denied"
        self._out.notices.append(Notice("warning", "released", text))

    def accept(self, zone: ZoneState, now: float) -> int:
        """Believe everything that is denied, as an operator says; return how many names that is."""
        return self._accept(zone, "an operator has accepted it", now)

    def _accept(self, zone: ZoneState, why: str, now: float) -> int:
        left = self._leave(zone)
        for key in left:
            self._forget(key)
        text = f"zone {zone.name}: doubt ends, because {why}: {len(left)} names are believed gone"
        self._out.notices.append(Notice("warning", "accepted", text))
        return len(left)

    def reject(self, zone: ZoneState, now: float) -> int:
        """Hold for another `guard.max_hold`, as an operator says; return how many names."""
        zone.guard.doubt_since = now
        return len(zone.guard.held)
