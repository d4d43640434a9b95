"""How an upstream is doing over one transport, as a table of states and events.

Evidence comes in as events: an answer, silence, a refused packet, a network error, a bad rcode.
The table says what follows, and when to probe. Round trips are kept in two averages: the present
one, and the usual one, which moves slowly, so that an upstream that turns slow is seen to be slow
and is not merely awaited longer. Who sends the probe, and what it asks, is the engine's business.
"""

from __future__ import annotations

from collections import defaultdict
from enum import Enum


class State(Enum):
    """What we believe of an upstream."""

    UP = "up"
    SUSPECT = "suspect"  # one piece of evidence against it: nobody waits, one probe goes out
    DOWN = "down"
    PROBING = "probing"  # down, and a probe is under way


class Event(Enum):
    """What happened to a question that we sent."""

    GOOD = "good"  # an answer that answers
    SILENT = "silent"  # nothing heard from it since we asked, for longer than we wait
    REFUSED = "refused"  # ICMP port unreachable, connection refused or reset
    UNREACHABLE = "unreachable"  # the network would not carry the packet
    BAD = "bad"  # SERVFAIL and the like, for names that it has answered before
    PROBE = "probe"  # we sent a probe


_DEAD = (State.DOWN, State.PROBING)
_UP, _SUSPECT, _DOWN, _PROBING = State.UP, State.SUSPECT, State.DOWN, State.PROBING

# Every pair is written out; a missing one would be a KeyError, that is, a defect.
TABLE: dict[State, dict[Event, State]] = {
    _UP: {
        Event.GOOD: _UP,
        Event.SILENT: _SUSPECT,
        Event.REFUSED: _SUSPECT,
        Event.UNREACHABLE: _SUSPECT,
        Event.BAD: _SUSPECT,
        Event.PROBE: _UP,
    },
    _SUSPECT: {
        Event.GOOD: _UP,
        Event.SILENT: _DOWN,
        Event.REFUSED: _DOWN,
        Event.UNREACHABLE: _DOWN,
        Event.BAD: _DOWN,
        Event.PROBE: _SUSPECT,
    },
    _DOWN: {
        Event.GOOD: _UP,
        Event.SILENT: _DOWN,
        Event.REFUSED: _DOWN,
        Event.UNREACHABLE: _DOWN,
        Event.BAD: _DOWN,
        Event.PROBE: _PROBING,
    },
    _PROBING: {
        Event.GOOD: _UP,
        Event.SILENT: _DOWN,
        Event.REFUSED: _DOWN,
        Event.UNREACHABLE: _DOWN,
        Event.BAD: _DOWN,
        Event.PROBE: _PROBING,
    },
}

BAD_STRIKES = 2  # bad rcodes in a row, no good answer between: one name's trouble is not an outage
PROBE_FIRST = 0.25  # seconds after it is believed down; doubles up to `stale.recheck`
JITTER = 0.25  # share of a pause that chance may take off, so that a fleet does not probe in step

TIMEOUT_MIN, TIMEOUT_MAX = 0.05, 1.8  # 1.8 s: RFC 8767 section 5; 50 ms: a busy node's scheduling
TIMEOUT_UNKNOWN = 0.4  # before the first measurement
SILENCE_TIMES = 1.5  # times the slowest round trip of late, before slow is called silent
USUAL_SECONDS = 600.0  # how slowly the usual round trip follows the present one
USUAL_SAMPLES = 16  # until so many samples, the usual one follows as fast as the present one
LAGGING_TIMES, LAGGING_MIN = 4.0, 0.1  # present over usual, and seconds, to be called lagging
PRESENT_SECONDS = 30.0  # how long a measured round trip says anything of the present one


class RoundTrip:
    """Round trips of one upstream, in seconds: present (RFC 6298 weights), usual, slowest."""

    __slots__ = ("_samples", "at", "present", "slowest", "spread", "usual")

    def __init__(self) -> None:
        self.at = float("-inf")  # the last sample's instant
        self._samples = 0
        self.present = self.usual = self.spread = self.slowest = 0.0

    def add(self, seconds: float, now: float) -> None:
        """Take one measured round trip."""
        if self._samples == 0:
            self.present = self.usual = seconds
            self.spread = seconds / 2
        elif now - self.at > PRESENT_SECONDS:
            self.present = seconds
        self._samples += 1
        self.present += (seconds - self.present) / 8
        self.slowest = max(seconds, self.slowest + (seconds - self.slowest) / 8)
        share = 1 / 8
        if self._samples > USUAL_SAMPLES:
            share = min(share, (now - self.at) / USUAL_SECONDS)
        off = seconds - self.usual
        self.usual += off * share
        self.spread += (abs(off) - self.spread) * share
        self.at = now

    def timeout(self) -> float:
        """Return how long a client waits before it is given a stale answer."""
        if self._samples == 0:
            return TIMEOUT_UNKNOWN
        return min(max(self.usual + 4 * self.spread, TIMEOUT_MIN), TIMEOUT_MAX)

    def silence(self) -> float:
        """Return how long nothing must have come before it is silent and not merely slow."""
        return max(self.timeout(), SILENCE_TIMES * self.slowest)

    def lagging(self, now: float) -> bool:
        """True while answers come, but far later than they usually do."""
        if now - self.at > PRESENT_SECONDS:
            return False
        return self.present > max(LAGGING_MIN, LAGGING_TIMES * self.usual)


class Health:
    """State of one (upstream, transport) pair."""

    __slots__ = (
        "backoff", "heard", "outcomes", "probe_at", "probed_at", "reason", "since", "state",
        "strikes", "trip",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.state = State.UP
        self.since = now
        self.heard = float("-inf")
        self.strikes = 0
        self.backoff = PROBE_FIRST
        self.probe_at = float("inf")
        self.probed_at = float("-inf")
        self.reason = ""
        self.trip = RoundTrip()

    @property
    def up(self) -> bool:
        """True while there is no evidence against it."""
        return self.state is State.UP

    @property
    def dead(self) -> bool:
        """True while it is believed down, whether or not a probe is under way."""
        return self.state in _DEAD

    def note(self, event: Event, now: float) -> bool:
        """Take one event; return True if the state changed."""
        if event is Event.GOOD:
            self.heard = now
            self.strikes = 0
        elif event is Event.BAD:
            self.heard = now
            self.strikes += 1
            if self.strikes < BAD_STRIKES and self.state is State.UP:
                return False
        before, after = self.state, TABLE[self.state][event]
        self.state = after
        if after is State.UP:
            self.backoff = PROBE_FIRST
            self.probe_at = float("inf")
        elif event is not Event.PROBE:
            self.reason = event.value
            if after is State.SUSPECT:
                self.probe_at = now
        if before is after:
            return False
        if not (before in _DEAD and after in _DEAD):  # a probe does not restart the clock
            self.since = now
        return True

    def another(self, names: int) -> bool:
        """True if a probe with another of so many known names is due before it is called down.

        Bad rcodes for some names while others are fine are no outage: all have to be tried.
        """
        return self.state is State.SUSPECT and self.strikes < BAD_STRIKES + names - 1

    def probed(self, now: float, recheck: float, chance: float) -> None:
        """Note that a probe goes out, and plan the next one, should this one fail.

        `recheck` bounds the pause between probes in seconds; `chance` is a random number in
        [0, 1) for its jitter, which only ever shortens it.
        """
        self.note(Event.PROBE, now)
        self.probed_at = now
        pause = min(self.backoff, recheck) * (1 - JITTER * chance)
        self.probe_at = now + max(pause, self.trip.silence())  # not before this one can be in
        self.backoff = min(self.backoff * 2, recheck)
