"""Which upstreams answer for a name: the longest suffix wins (as in a resolver's forward zones).

Beside its upstreams a zone has a state of its own, because an outage is a property of where the
answers come from and not of each name. The state follows from the upstreams' health; what to do
about it is decided in `staleness` and `engine`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dnsguard.core.edns import Dress
from dnsguard.core.guard import Guard
from dnsguard.core.health import Health
from dnsguard.core.policy import Kubernetes, Policy, Upstream, Zone
from dnsguard.core.wire import name_octets

if TYPE_CHECKING:
    from dnsguard.core.doubting import Doubt
    from dnsguard.core.flights import Flight

CLUSTER_DOMAIN = name_octets(Kubernetes().domain)
KNOWN_MAX = 8  # names that answered lately, to probe with: one of them may be the one that fails
KNOWN_PAUSE = 1.0
RETRY_MIN = 0.25  # seconds before a question is sent again; doubles with every try
# A look-up through a search list asks four times, one after another, and is to be done within 2 s.
PATIENCE_MAX = 0.4
RAMP_START, RAMP_END = 8, 256  # questions in flight allowed at recovery, and when to stop counting
RAMP_SECONDS = 10.0
MISSED_SECONDS = 1.0  # after so long a missed question has 1/e of its place left
# Repeats of questions that got no answer, for each upstream: so many at once, so many more for each
# answer that comes, and so many a second in any case. Where a third and more of what is asked is
# lost, repeats would be most of the load, and what keeps an overloaded upstream down.
REPEATS_MAX, REPEATS_EARNED, REPEATS_PER_SECOND = 32.0, 0.5, 2.0


class Server:
    """One upstream at run time: who it is and how it does over each transport."""

    __slots__ = (
        "at", "dress", "edns_again_at", "health", "label", "over", "private", "repeats",
        "repeats_at", "stream_health", "streams", "upstream", "zones",
    )  # fmt: skip

    def __init__(self, upstream: Upstream, now: float) -> None:
        self.upstream = upstream
        self.label = str(upstream)
        self.streams = upstream.transport != "udp"
        self.private = upstream.transport == "tls"
        self.dress = Dress(b"", float("-inf"))  # made anew for the first ask
        self.zones: list[ZoneState] = []
        self.at = float("inf")  # when it is due for a probe: servers sit in the timer wheel
        self.over = True
        self.health = Health(now)  # over the transport it is configured with
        self.stream_health = Health(now)  # over TCP, where UDP answers are truncated
        self.repeats = REPEATS_MAX
        self.repeats_at = now
        self.edns_again_at = float("-inf")  # until then it is asked without EDNS (RFC 6891 6.2.2)

    def repeat(self, held: bool, now: float) -> bool:
        """Spend one repeat; False if none is left, or few are and there is a stale answer: `held`.

        What is lost because a server has too much to do is not to be asked twice and thrice.
        """
        left = self.repeats + (now - self.repeats_at) * REPEATS_PER_SECOND
        self.repeats_at = now
        self.repeats = left = min(left, REPEATS_MAX)
        if left < (REPEATS_MAX / 2 if held else 1):
            return False
        self.repeats = left - 1
        return True

    def health_over(self, stream: bool) -> Health:
        """Return its health over its own transport, or over TCP for answers too big for UDP."""
        return self.stream_health if stream and not self.streams else self.health


class ZoneState:
    """One zone at run time."""

    __slots__ = (
        "cut_at", "domain", "doubt", "guard", "inflight", "known", "known_at", "missed",
        "missed_at", "name", "outage", "outage_since", "patience", "queue", "ramp", "ramp_until",
        "recovered", "retry", "servers", "stale", "suffix",
    )  # fmt: skip

    def __init__(
        self, policy: Zone, servers: tuple[Server, ...], domain: bytes = CLUSTER_DOMAIN
    ) -> None:
        self.name = policy.name
        self.domain = domain  # of the cluster, whose names tell what they are names of
        self.guard = Guard(policy.guard, domain)
        self.doubt: Doubt | None = None
        self.suffix = name_octets(policy.name)
        self.stale = policy.stale
        self.servers = servers
        for server in servers:
            server.zones.append(self)
        self.outage = False
        self.outage_since = float("-inf")
        self.recovered = float("-inf")
        self.inflight = 0
        self.ramp = 0  # 0: no limit
        self.ramp_until = float("-inf")
        self.cut_at = float("-inf")  # when the ramp was halved
        self.missed = 0.0  # questions of late that got no answer in time, as of `missed_at`
        self.missed_at = float("-inf")
        self.known: deque[bytes] = deque(maxlen=KNOWN_MAX)
        self.known_at = float("-inf")
        self.queue: deque[Flight] = deque()
        self.patience = self.retry = 0.0
        self.settle()

    @property
    def state(self) -> str:
        """Return the zone's state in a word: normal, outage or doubt."""
        if self.outage:
            return "outage"
        return "doubt" if self.guard.doubt else "normal"

    @property
    def since(self) -> float:
        """Return when its outage or its doubt began."""
        return self.outage_since if self.outage else self.guard.doubt_since

    @property
    def waits(self) -> bool:
        """False while every upstream has evidence against it: then nobody is made to wait."""
        return any(server.health.up for server in self.servers)

    def lagging(self, now: float) -> bool:
        """True if the upstream that would be asked answers, but far later than it usually does."""
        for server in self.servers:
            if server.health.up:
                return server.health.trip.lagging(now)
        return False

    def timeout(self) -> float:
        """Return within how many seconds an answer is to be expected."""
        if self.stale.client_timeout is not None:
            return self.stale.client_timeout
        for server in self.servers:
            if server.health.up:
                return server.health.trip.timeout()
        return self.servers[0].health.trip.timeout()

    def settle(self) -> None:
        """Work out what is wanted with every question and changes with few of them.

        `patience` is how long a client waits before it is given a stale answer, `retry` is how long
        the first try of a question has, both in seconds.
        """
        expected = self.timeout()
        asked_for = self.stale.client_timeout is not None
        self.patience = expected if asked_for else min(expected, PATIENCE_MAX)
        self.retry = max(RETRY_MIN, 2 * expected)

    def review(self, now: float) -> bool:
        """Follow the upstreams' health; return True if the zone's state changed."""
        outage = all(server.health.dead for server in self.servers)
        if outage == self.outage:
            return False
        self.outage = outage
        if outage:
            self.outage_since = now
        else:
            self.recovered = now
            self.ramp = RAMP_START
            self.ramp_until = now + RAMP_SECONDS
        return True

    def inherit(self, old: ZoneState) -> None:
        """Take over what `old`, the same zone under former settings, has learned."""
        self.known = old.known
        self.recovered = old.recovered
        self.outage, self.outage_since = old.outage, old.outage_since
        self.guard = old.guard.obeying(self.guard)
        self.doubt = old.doubt
        if self.doubt is not None:
            self.doubt.zone = self

    def remember(self, key: bytes, now: float) -> None:
        """Keep `key` as a name known to exist, to probe with; one a second is plenty."""
        self.known_at = now
        known = self.known
        if key in known:
            known.remove(key)  # the latest is the last
        elif len(known) == KNOWN_MAX:
            # Variety: where `shop.example` fails as a whole, `cluster.local` may be fine.
            sites = [_site(k) for k in known]
            known.remove(known[sites.index(max(sites, key=sites.count))])
        known.append(key)

    def room(self, now: float) -> bool:
        """True if another question may be sent: recovery opens the tap slowly (RFC 4697 spirit)."""
        return self._has_room(1.0, now)

    def leisure(self, now: float) -> bool:
        """True if there is room also for what can wait, as there is a stale answer to it."""
        return self._has_room(0.5, now)

    def _has_room(self, share: float, now: float) -> bool:
        if not self.ramp:
            return True
        if self.ramp >= RAMP_END or now >= self.ramp_until:
            self.ramp = 0
            return True
        return self.inflight + self._missed(now) < self.ramp * share

    def miss(self, sent: float, now: float) -> None:
        """Note that a question of the instant `sent` is missed; the zone is asked for less.

        It leaves its place little by little, because what was lost was too much. The ramp is halved
        once for all that were under way together (as in RFC 5681), and goes on.
        """
        self.inflight -= 1
        self.missed, self.missed_at = self._missed(now) + 1, now
        if self.ramp and sent >= self.cut_at:
            self.ramp = max(self.ramp >> 1, RAMP_START)
            self.cut_at = now
            self.ramp_until = now + RAMP_SECONDS

    def _missed(self, now: float) -> float:
        return self.missed * math.exp((self.missed_at - now) / MISSED_SECONDS)


class Zones:
    """All zones, found by the longest suffix of a name."""

    __slots__ = ("_by_suffix", "all", "root")

    def __init__(self, zones: Iterable[ZoneState]) -> None:
        self.all = tuple(zones)
        self._by_suffix = {zone.suffix: zone for zone in self.all}
        self.root = self._by_suffix[b"\0"]

    def find(self, name: bytes) -> ZoneState:
        """Return the zone for a lowered name in wire form; octets after its end are ignored."""
        if len(self.all) == 1:
            return self.root
        name = name[: _end(name) + 1]
        position = 0
        while label := name[position]:
            zone = self._by_suffix.get(name[position:])
            if zone is not None:
                return zone
            position += label + 1
        return self.root


def _site(key: bytes) -> bytes:
    """Return the last two labels of the name that `key` begins with."""
    starts = [0]
    while label := key[starts[-1]]:
        starts.append(starts[-1] + label + 1)
    return key[starts[max(len(starts) - 3, 0)] : starts[-1]]


def _end(name: bytes) -> int:
    """Return the offset of the closing zero octet of the name that `name` begins with."""
    position = 0
    while label := name[position]:
        position += label + 1
    return position


def build_zones(policy: Policy, now: float, servers: Mapping[Upstream, Server]) -> Zones:
    """Return the zones of `policy`; an upstream named in two zones is one server."""
    known = dict(servers)
    domain = name_octets(policy.kubernetes.domain)
    states = []
    for zone in policy.zones:
        for upstream in zone.upstreams:
            if upstream not in known:
                known[upstream] = Server(upstream, now)
        states.append(ZoneState(zone, tuple(known[u] for u in zone.upstreams), domain))
    return Zones(states)
