"""The search list of a pod, walked here and answered once: what CoreDNS calls autopath.

With `ndots:5` a libc asks for `api.example.com.shop.svc.cluster.local` first and comes to
`api.example.com` three denials later. When the pod's namespace is known, the first of these
questions already tells the rest. Each step of the walk is a question of its own, put to the engine
as if the client had asked it, so that it is fresh, stale, pinned or denied by the same rules; the
first step that is not NXDOMAIN is the answer, behind a CNAME from the name that was asked for. A
step that fails ends the walk: what is unknown is not passed over, or a name further on could be
taken for it. If no step exists the client is told so of its first one, and searches on by itself;
where the walk took its time, that one is asked for once more, as what was said of it may be old.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dnsguard.core import reply
from dnsguard.core.actions import Actions
from dnsguard.core.answering import Answering
from dnsguard.core.graft import grafted
from dnsguard.core.policy import Kubernetes
from dnsguard.core.wire import HEADER_OCTETS, NOERROR, NXDOMAIN, TC, Query, name_octets, skip_name

if TYPE_CHECKING:
    from dnsguard.core.cache import Cache
    from dnsguard.core.packets import Packet

SEARCHED = (1, 28)  # A and AAAA: what a search is made for
STEPS_MAX = 5  # below the namespace, the Services, the domain, the root; and the first once more
_PLAIN = b"\0\1\0"  # class IN, neither DO nor CD: who validates is not given what nobody signed
_TC = TC >> 8


class Walk:
    """One client's query, and how far its search has come; it is the client of its own steps."""

    __slots__ = ("again", "data", "first", "heard", "packet", "query", "steps", "until")

    def __init__(self, query: Query, data: bytes, steps: list[bytes]) -> None:
        self.query = query
        self.data = data
        self.steps = steps  # names that are still to be asked for
        self.first = b""  # what was said of the first one
        self.heard = 0.0  # when that was said
        self.again = False  # whether it is asked for a second time
        self.until = float("inf")  # until when all that was said so far may be repeated
        self.packet: Packet | None = None  # the last step's finished reply


class Autopath:
    """The walks of one engine; `ask` takes a query's octets, its client, the instant, and how."""

    def __init__(
        self,
        settings: Kubernetes,
        ask: Callable[[bytes, object, float, bool], None],
        cache: Cache,
        out: Actions,
        answering: Answering,
    ) -> None:
        self._ask = ask
        self._cache = cache
        self._out = out
        self._answering = answering
        self.waiting = 0  # walks whose step is under way
        self.obey(settings)

    def obey(self, settings: Kubernetes) -> None:
        """Follow these settings; walks that have begun go on as they began."""
        self.on = settings.autopath
        domain = name_octets(settings.domain)
        service = b"\3svc" + domain
        own = name_octets(settings.namespace)[:-1] + service
        self._suffixes = (own, service, domain, b"\0")

    def steps(self, name: bytes) -> list[bytes]:
        """Return the names that a search which begins with `name` comes to, itself first.

        `name` is wire octets in lower case. Empty if no search of this pod begins so.
        """
        own = self._suffixes[0]
        if not name.endswith(own):
            return []
        end = len(name) - len(own)
        position = 0
        while position < end:
            position += name[position] + 1
        if position != end or not end:
            return []  # the suffix lies within a label, or is all there is
        return [name[:end] + suffix for suffix in self._suffixes]

    def take(self, query: Query, data: bytes, now: float) -> bool:
        """Walk the search that this query begins; False if it begins none."""
        if query.qtype not in SEARCHED or query.key[-3:] != _PLAIN or type(query.client) is Walk:
            return False
        steps = self.steps(query.key[:-5])
        if not steps:
            return False
        self._go(Walk(query, data, steps), now)
        return True

    def settle(self, now: float) -> None:
        """Go on with the walks whose step has been answered; for before replies are sent."""
        replies = self._out.replies
        mine = [each for each in replies if type(each[0]) is Walk]
        if mine:
            replies[:] = [each for each in replies if type(each[0]) is not Walk]
        for walk, wire in mine:
            assert isinstance(walk, Walk)
            self.waiting -= 1
            walk.until = 0.0  # it took its time: what was said before it may be old
            if not self._told(walk, wire, now):
                self._go(walk, now)

    def _go(self, walk: Walk, now: float) -> None:
        """Ask for step after step, as long as each is answered at once."""
        data, query, replies = walk.data, walk.query, self._out.replies
        packets = self._answering.streams if query.stream else self._answering.datagrams
        end = HEADER_OCTETS + len(query.question) - 4
        while True:
            name = walk.steps.pop(0)
            step = data[:HEADER_OCTETS] + name + data[end:] if walk.first else data
            packet = packets.table.get(step[2:]) if walk.first else None
            if packet is not None and now < packet.until:
                packet.hits += 1
                wire = step[:2] + packet.rest
            else:
                self._ask(step, walk, now, query.stream)
                if not replies or replies[-1][0] is not walk:
                    self.waiting += 1
                    return
                wire = replies.pop()[1]
                packet = packets.table.get(step[2:])
            if not walk.first and (walk.steps or walk.again) and wire[3] & 0xF == NXDOMAIN:
                # The first step has the octets of the query, whose reply will be another one.
                packets.drop(step[2:])
            walk.packet = packet
            walk.until = min(walk.until, packet.until if packet is not None else 0.0)
            if self._told(walk, wire, now):
                return

    def _told(self, walk: Walk, wire: bytes, now: float) -> bool:
        """Take the reply to a step; True if that ends the walk."""
        rcode = wire[3] & 0xF
        query = walk.query
        if not walk.first:
            walk.first, walk.heard = wire, now
        first = walk.first
        if rcode == NXDOMAIN:
            if walk.steps:
                return False
            out = first
        elif wire is first:
            out = wire
        else:
            out = self._answer(query, wire, rcode) or first
        if out is first and self._old(walk, now):
            return False
        self._out.replies.append((query.client, out))
        packet = walk.packet
        if packet is not None and now < walk.until and wire is not first:
            packets = self._answering.streams if query.stream else self._answering.datagrams
            packets.add(walk.data[2:], out, walk.until, packet.entry, packet.reason)
        return True

    def _old(self, walk: Walk, now: float) -> bool:
        """Ask for the first step once more if more may be known of it; False if there is no need.

        What is not remembered is not asked for anew within the second that a TTL is exact to.
        """
        if walk.again or walk.heard == now:
            return False
        entry = self._cache.get(walk.query.key)
        if now - walk.heard < 1 and (entry is None or now >= entry.expires):
            return False
        walk.again, walk.first = True, b""
        walk.steps = [walk.query.key[:-5]]
        return True

    @staticmethod
    def _answer(query: Query, wire: bytes, rcode: int) -> bytes | None:
        """Return the reply to a later step as one to the query; None if that cannot be written."""
        if wire[2] & _TC:
            return reply.truncated(query, rcode)
        if rcode != NOERROR:  # it has no records: whatever has some is NOERROR or NXDOMAIN
            end = skip_name(wire, HEADER_OCTETS) + 4
            return wire[:HEADER_OCTETS] + query.question + wire[end:]
        out = grafted(wire, query.question)
        return out if out is None or len(out) <= query.limit else reply.truncated(query, rcode)
