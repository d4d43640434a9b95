"""What the modelled servers know of an upstream's health, and what they do about it.

CoreDNS's forward plugin checks a server that failed; Unbound's infra-cache lets a silent one be
tried ever more seldom; dnsmasq knows nothing. Instants are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dnsguard.sim.told import Flow

UNBOUND_UNKNOWN = 0.376  # UNKNOWN_SERVER_NICENESS
UNBOUND_TIMEOUT_MIN, UNBOUND_TIMEOUT_MAX = 0.05, 120.0  # RTT_MIN_TIMEOUT, RTT_MAX_TIMEOUT
UNBOUND_PROBE = 12.0  # PROBE_MAXRTO
COREDNS_EXPIRE = 10.0  # seconds for which forward keeps an idle socket


class Indifferent:
    """Asks again every time."""

    checking = False

    def usable(self, now: float) -> bool:
        return True

    def patience(self, tries: Sequence[float], turn: int) -> float:
        return tries[min(turn, len(tries) - 1)]

    def tries(self, tries: Sequence[float], upstreams: int) -> int:
        return len(tries)

    def asked(self, now: float) -> None:
        pass

    def answered(self, now: float, seconds: float) -> None:
        """Note that a try, or a check, was answered after so many seconds."""

    def failed(self, timeout: float) -> bool:
        """Note that a try with this time-out failed; True if health checks begin."""
        return False

    def pause(self) -> float:
        return 0.0

    def flow(self, now: float) -> Flow | None:
        """The socket to ask from; None: a new one for this question."""
        return None

    def close(self, flow: Flow | None) -> None:
        """Use a socket no more."""


class CoreDnsHealth(Indifferent):
    """forward: an error starts checks; more than max_fails (2) failures and it is down.

    With everything down it is asked all the same, but once and not until 5 s are over. A socket is
    kept and used again until it was idle for 10 s (expire) or brought nothing.
    """

    def __init__(self) -> None:
        self.checking = False
        self._fails = 0
        self._flow: Flow | None = None
        self._opened = 0

    def flow(self, now: float) -> Flow:
        if self._flow is None or now - self._flow.used > COREDNS_EXPIRE:
            self._opened += 1
            self._flow = Flow(self._opened, now)
        return self._flow

    def close(self, flow: Flow | None) -> None:
        if flow is self._flow:
            self._flow = None

    def tries(self, tries: Sequence[float], upstreams: int) -> int:
        return 1 if self._fails > 2 else len(tries)

    def answered(self, now: float, seconds: float) -> None:
        self.checking = False
        self._fails = 0

    def failed(self, timeout: float) -> bool:
        if not self.checking:
            self.checking = True
            return True
        self._fails += 1
        return False

    def pause(self) -> float:
        return 1.5  # a check's own second, and half a second between two of them


class UnboundHealth(Indifferent):
    """infra-cache and util/rtt.c: the time-out follows the round trip, and doubles with each loss.

    From 12 s on, where that is four times what the round trips would have it, only one question at
    a time tries the server. When the next one may is counted in whole seconds, and there is one to
    spare: `infra_host` adds 1.999 s to the time-out of the one that tries, and cuts the fraction
    off.
    """

    def __init__(self) -> None:
        self._forget()
        self._probe_at = 0

    def _forget(self) -> None:
        self._smoothed, self._deviation = 0.0, UNBOUND_UNKNOWN / 4
        self._timeout = UNBOUND_UNKNOWN

    def _usual(self) -> float:
        """The time-out that the round trips would have."""
        usual = self._smoothed + 4 * self._deviation
        return min(max(usual, UNBOUND_TIMEOUT_MIN), UNBOUND_TIMEOUT_MAX)

    def _probing(self) -> bool:
        return self._timeout >= UNBOUND_PROBE and 4 * self._usual() <= self._timeout

    def usable(self, now: float) -> bool:
        return not self._probing() or math.floor(now) >= self._probe_at

    def patience(self, tries: Sequence[float], turn: int) -> float:
        return self._timeout

    def tries(self, tries: Sequence[float], upstreams: int) -> int:
        return 1 if self._probing() else len(tries) * upstreams

    def asked(self, now: float) -> None:
        if self._probing():
            self._probe_at = math.floor(now) + int(self._timeout + 1.999)

    def answered(self, now: float, seconds: float) -> None:
        if self._timeout >= UNBOUND_TIMEOUT_MAX:
            self._forget()
        off = seconds - self._smoothed
        self._smoothed += off / 8
        self._deviation += (abs(off) - self._deviation) / 4
        self._timeout = self._usual()
        self._probe_at = 0

    def failed(self, timeout: float) -> bool:
        # What got lost together is one loss; what was asked before an answer came is none.
        if timeout <= self._timeout <= 2 * timeout:
            self._timeout = min(2 * timeout, UNBOUND_TIMEOUT_MAX)
        return False


HEALTHS: dict[str, type[Indifferent]] = {
    "none": Indifferent,
    "coredns": CoreDnsHealth,
    "unbound": UnboundHealth,
}
