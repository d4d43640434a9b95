"""What the modelled servers know of an upstream's health, and what they do about it.

CoreDNS's forward plugin checks a server that failed; Unbound's infra-cache lets a silent one be
tried ever more seldom; dnsmasq knows nothing. Instants are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dnsguard.sim.told import Flow

UNBOUND_TRIES = (0.376, 0.752, 1.504, 3.008, 6.016)  # UNKNOWN_SERVER_NICENESS, doubled every time
UNBOUND_TIMEOUT_MAX = 120.0  # RTT_MAX_TIMEOUT
UNBOUND_LEVEL_MAX = 9  # 0.376 s, doubled so often, is more than that
COREDNS_EXPIRE = 10.0  # seconds for which forward keeps an idle socket


class Indifferent:
    """Asks again every time."""

    checking = False
    level = 0

    def usable(self, now: float) -> bool:
        return True

    def patience(self, tries: Sequence[float], turn: int) -> float:
        return tries[min(turn, len(tries) - 1)]

    def tries(self, tries: Sequence[float], upstreams: int) -> int:
        return len(tries)

    def asked(self, now: float) -> None:
        pass

    def answered(self, now: float) -> None:
        pass

    def failed(self, level: int) -> bool:
        """Note that a try begun at this level failed; True if health checks begin."""
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

    def answered(self, now: float) -> None:
        self.checking = False
        self._fails = 0

    def failed(self, level: int) -> bool:
        if not self.checking:
            self.checking = True
            return True
        self._fails += 1
        return False

    def pause(self) -> float:
        return 1.5  # a check's own second, and half a second between two of them


class UnboundHealth(Indifferent):
    """infra-cache: the time-out doubles; from 12 s on only one question at a time tries it.

    When the next one may is counted in whole seconds, and there is one to spare: `infra_host` adds
    1.999 s to the time-out of the one that tries, and cuts the fraction off.
    """

    def __init__(self) -> None:
        self.level = 0
        self._probe_at = 0

    def usable(self, now: float) -> bool:
        return self.level < len(UNBOUND_TRIES) or math.floor(now) >= self._probe_at

    def patience(self, tries: Sequence[float], turn: int) -> float:
        return min(UNBOUND_TRIES[0] * 2.0**self.level, UNBOUND_TIMEOUT_MAX)

    def tries(self, tries: Sequence[float], upstreams: int) -> int:
        return len(tries) * upstreams if self.level < len(tries) else 1

    def asked(self, now: float) -> None:
        if self.level >= len(UNBOUND_TRIES):
            self._probe_at = math.floor(now) + int(self.patience((), 0) + 1.999)

    def answered(self, now: float) -> None:
        self.level = 0

    def failed(self, level: int) -> bool:
        if level == self.level < UNBOUND_LEVEL_MAX:  # what got lost together is one loss
            self.level += 1
        return False


HEALTHS: dict[str, type[Indifferent]] = {
    "none": Indifferent,
    "coredns": CoreDnsHealth,
    "unbound": UnboundHealth,
}
