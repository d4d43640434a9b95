"""The UDP side towards clients: a batch in, the finished replies out, the rest to the engine.

This is the hot path. For a query that is answered from a finished reply the loop in `_answer`
makes no object but the octets that it looks up: even the slices that cut them out are made once for
each slot and length. The reply is written over its query, behind the id, and leaves from there.
Everything else is collected and handed to the engine after the batch of hits has left, so that
those who wait least do not wait for it. Control of who may ask costs nothing where only loopback
can reach the socket, and two set operations a batch where the clients are known already.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from dnsguard.core.engine import Engine
from dnsguard.core.wire import REFUSED
from dnsguard.net.addresses import (
    IPV6_OCTETS,
    REMEMBERED_MAX,
    STRANGER,
    TOO_OFTEN,
    Access,
    Rates,
    family_of,
    name_octets,
    refusal,
)
from dnsguard.net.destination import (
    CONTROL_AT,
    IncomingAnywhere,
    OutgoingAnywhere,
    control_octets,
    is_everywhere,
    tell_destinations,
)
from dnsguard.net.mmsg import BATCH, Incoming, Outgoing, address

QUERY_OCTETS = 2048  # an honest query is under 600; a longer one is cut here and then malformed
ROUNDS = 4  # batches read in a row before others get their turn
SOCKET_BUFFER = 4 * 1024 * 1024  # a burst of some 10,000 queries while the loop is elsewhere
# Ports that answer what is sent to them: a forged query from there would start a conversation
# between servers (echo, discard, daytime, quote, chargen, time) or go nowhere (0). In the order of
# octets in which the kernel writes them.
REFLECTORS = frozenset(map(socket.htons, (0, 7, 9, 13, 17, 19, 37)))
# Don't fragment, and do not believe what anybody says of the path (Linux's numbers; Python has no
# names for them): 1232 octets fit every path there is, and a forged "too big" would have the kernel
# cut a reply into fragments, whose tails anyone can replace (RFC 9715). Our own questions are under
# 450 octets, which no path cuts, so their sockets need none of this.
MTU_DISCOVER, MTU_DISCOVER_6, PROBE = 10, 23, 3
NOBODYS_PORT = 1  # tcpmux (RFC 1078, historic): see `leave`
WAITING_MAX = 4096  # replies for a socket that takes none: who waits for more has asked again

# For each slot and length of a message the slice of the batch's memory from behind the id to the
# end, made when that length first comes: making one anew costs as much as looking a reply up. The
# slots lie at the same places in every listener. Longer messages are few and find their own way.
CUTS_MAX = 512
_CUTS: tuple[list[slice | None], ...] = tuple([None] * CUTS_MAX for _ in range(BATCH))
_SIZE_AT = tuple(range(1, 2 * BATCH, 2))  # the word of `Outgoing` with each message's length
_SLOTS = tuple(range(n) for n in range(BATCH + 1))


class Sink(Protocol):
    """Where replies are put, with the address each goes to, until `flush` sends them."""

    waiting: list[tuple[bytes, bytes]]

    def flush(self) -> None: ...


def bind_udp(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """Return a UDP socket bound to `host` and `port`, with room for bursts. Raises OSError."""
    sock = socket.socket(family_of(host), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, MTU_DISCOVER_6, PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, PROBE)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            # The kernel cuts this to its own maximum (net.core.rmem_max), which is no error.
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        if is_everywhere(host):
            tell_destinations(sock)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class Listener:
    """One bound UDP socket.

    `clock` gives the present instant; `done` is called after each round in which the engine was
    used; `blocked` is called with True when the kernel takes no more replies for the moment, and
    with False when it does again (then `flush` is to be called when the socket is writable).

    A client is the socket address that it asked from; where the socket is bound to all addresses,
    with the address that it asked behind it, in one piece as they lie in a slot.
    """

    def __init__(
        self,
        sock: socket.socket,
        engine: Engine,
        access: Access,
        rates: Rates,
        clock: Callable[[], float],
        done: Callable[[], None],
        blocked: Callable[[Listener, bool], None],
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._engine = engine
        self._clock = clock
        self._done = done
        self._blocked = blocked
        self._name_octets = self._client_octets = name_octets(sock.family)
        self._in: Incoming
        self._out: Outgoing
        self._out_own: Outgoing
        if is_everywhere(sock.getsockname()[0]):
            self._client_octets = CONTROL_AT + control_octets(sock.family)
            self._in = IncomingAnywhere(QUERY_OCTETS, sock.family)
            self._out, self._out_own = (OutgoingAnywhere(sock.family) for _ in range(2))
        else:
            self._in = Incoming(QUERY_OCTETS, True)
            # The kernel writes how long a sender's address was; all that we send to are as long.
            self._out, self._out_own = (Outgoing(self._name_octets) for _ in range(2))
        self._moved: dict[int, int] = {}  # outgoing messages that lie in another one's slot
        self.waiting: list[tuple[bytes, bytes]] = []  # replies of the engine, and where they go
        self._rates = rates
        self.admit(access)
        self.unsent = 0
        self._stuck = False
        for i in range(BATCH):
            self._seat(i, i)

    def admit(self, access: Access) -> None:
        """Answer only the clients that `access` allows from now on, if they keep to their rate."""
        self._access = access
        bound = ipaddress.ip_address(self.sock.getsockname()[0].partition("%")[0])
        whole = ipaddress.ip_network("::1/128" if bound.version == 6 else "127.0.0.0/8")
        reachable_by_them_alone = bound in whole and access.covers_all(whole)
        self._guarded = not reachable_by_them_alone or self._rates.per_second > 0
        self._welcome: set[int | bytes] = set()  # addresses of clients that were admitted before

    def readable(self) -> None:
        """Read and answer what has come, up to a few batches."""
        for _ in range(ROUNDS):
            try:
                count = self._in.receive(self.fd)
            except OSError:
                return  # an ICMP error for a reply we sent: the next read goes on after it
            if count == 0:
                return
            now = self._clock()
            missed = self._answer(count, now)
            if missed:
                self._pass_on(missed, now)
            if count < BATCH:
                return

    def _pass_on(self, missed: list[int], now: float) -> None:
        """Hand what no finished reply answers to the engine."""
        take = self._engine.client
        incoming, octets = self._in, self._client_octets
        data, names, stride = incoming.octets_of, incoming.names_of, incoming.stride
        starts, lengths, length_at = incoming.starts, incoming.lengths, incoming.length_at
        for i in missed:
            start, name = starts[i], i * stride
            client = (self, names[name : name + octets])
            take(data[start : start + lengths[length_at[i]]], client, now)
        self._done()

    def _answer(self, count: int, now: float) -> list[int]:
        """Answer what can be answered from finished replies; return the slots of the others."""
        sizes = self._in.sizes[:count].tolist()
        admitted: Sequence[int] = _SLOTS[count]
        slots: Iterable[tuple[list[slice | None], int, int]] = zip(_CUTS, sizes, _SIZE_AT)  # noqa: B905
        if self._guarded:
            admitted = self._admitted(count, now)
            if len(admitted) < count:
                slots = iter([(_CUTS[i], sizes[i], _SIZE_AT[i]) for i in admitted])
        octets, words = self._in.octets_of, self._out.words
        get = self._engine.datagrams.table.get
        missed: list[int] = []
        left = True
        while left:
            try:
                for cuts, size, size_at in slots:
                    packet = get(octets[cuts[size]])  # type: ignore[index]
                    if packet is None or now >= packet.until:
                        missed.append(size_at >> 1)
                        continue
                    octets[cuts[packet.size]] = packet.rest  # type: ignore[index]
                    words[size_at] = packet.size
                    packet.hits += 1
                left = False
            except (TypeError, IndexError):  # a length that is new to this slot, or a long message
                if not self._answer_one(size_at >> 1, size, now):
                    missed.append(size_at >> 1)
        hits = len(admitted) - len(missed)
        if hits:
            if hits < count:
                self._close_up(hits, {*admitted}.difference(missed))
            self._send_hits(hits)
            for message in self._moved:
                self._seat(message, message)
            self._moved.clear()
            self._engine.counters.latency.observe(self._clock() - now, hits)
        self._engine.counters.queries["udp"] += count
        return missed

    def _answer_one(self, slot: int, size: int, now: float) -> bool:
        """Answer the query of `size` octets in one slot as the loop would; False if it missed."""
        octets, start = self._in.octets_of, self._in.starts[slot]
        cuts = _CUTS[slot]
        if size < CUTS_MAX:
            cuts[size] = slice(start + 2, start + size)
        packet = self._engine.datagrams.table.get(octets[start + 2 : start + size])
        if packet is None or now >= packet.until:
            return False
        size = packet.size
        if size < CUTS_MAX:
            cuts[size] = slice(start + 2, start + size)
        octets[start + 2 : start + size] = packet.rest
        self._out.words[_SIZE_AT[slot]] = size
        packet.hits += 1
        return True

    def _close_up(self, count: int, answered: set[int]) -> None:
        """Let the first `count` messages be the answered ones: late ones move into the gaps."""
        words = self._out.words
        late = (slot for slot in answered if slot >= count)
        for message in range(count):
            if message not in answered:
                slot = self._moved[message] = next(late)
                self._seat(message, slot)
                words[_SIZE_AT[message]] = words[_SIZE_AT[slot]]

    def sender(self, client: bytes) -> bytes:
        """Return the socket address that a client asked from."""
        return client[: self._name_octets]

    def _seat(self, message: int, slot: int) -> None:
        """Let an outgoing message answer the query in `slot`, which is its own as a rule."""
        self._out.point_name(message, self._in.names_at + slot * self._in.stride)
        self._out.words[2 * message] = self._in.arena_at + slot * QUERY_OCTETS

    def _send_hits(self, count: int) -> None:
        sent = 0
        while sent < count:
            result = self._out.send(self.fd, sent, count)
            if result > 0:
                sent += result
            elif result == -errno.EAGAIN:
                self._keep(sent, count)
                return
            else:
                self.unsent += 1  # this one cannot go out (no route, no permission): the others can
                sent += 1

    def _keep(self, start: int, count: int) -> None:
        """Copy hits that the kernel does not take now; they go out when it does."""
        incoming, words = self._in, self._out.words
        for message in range(start, count):
            slot = self._moved.get(message, message)
            at = incoming.starts[slot]
            wire = incoming.octets_of[at : at + words[_SIZE_AT[message]]]
            self.waiting.append((incoming.sender(slot, self._client_octets), wire))
        self._wait()

    def _wait(self) -> None:
        """Wait until the socket takes replies again; of too many that do, the oldest are lost."""
        excess = len(self.waiting) - WAITING_MAX
        if excess > 0:
            del self.waiting[:excess]
            self.unsent += excess
        self._stuck = True
        self._blocked(self, True)

    # -- replies that the engine made -------------------------------------------------------

    def flush(self) -> None:
        """Send every reply in `waiting` that the kernel will take."""
        waiting, done = self.waiting, 0
        out, octets, stride = self._out_own, self._client_octets, self._in.stride
        words, names = out.words, out.names_of
        while done < len(waiting):
            chunk = waiting[done : done + BATCH]
            at = start = 0
            for name, wire in chunk:
                names[start : start + octets] = name
                start += stride
                words[at] = address(wire)
                words[at + 1] = len(wire)
                at += 2
            sent, count = 0, len(chunk)
            while sent < count:
                result = out.send(self.fd, sent, count)
                if result > 0:
                    sent += result
                elif result == -errno.EAGAIN:
                    del waiting[: done + sent]
                    self._wait()
                    return
                else:
                    self.unsent += 1
                    sent += 1
            done += count
        waiting.clear()
        if self._stuck:
            self._stuck = False
            self._blocked(self, False)

    # -- who may ask ------------------------------------------------------------------------

    def _admitted(self, count: int, now: float) -> Sequence[int]:
        """Return the slots of clients that may ask; the others are refused or passed over."""
        limited = self._rates.per_second > 0
        six = self._name_octets == IPV6_OCTETS
        raws = self._in.addresses(count, six)
        if (
            not limited
            and self._welcome.issuperset(raws)
            and REFLECTORS.isdisjoint(self._in.ports[:count].tolist())
        ):
            return _SLOTS[count]
        admitted = []
        for i in range(count):
            name = self._in.sender(i, self._client_octets)
            raw = name[8:24] if six else name[4:8]
            if int.from_bytes(name[2:4], sys.byteorder) in REFLECTORS:
                continue
            if not self._access.allows(raw):
                self._refuse(i, name, STRANGER, now)
            elif limited and not self._rates.allows(raw, now):
                self._refuse(i, name, TOO_OFTEN, now)
            else:
                admitted.append(i)
                if len(self._welcome) >= REMEMBERED_MAX:
                    self._welcome.clear()
                self._welcome.add(raws[i])
        if self.waiting:
            self.flush()
        return admitted

    def _refuse(self, index: int, name: bytes, why: str, now: float) -> None:
        wire = refusal(self._in.message(index), why, now)
        if wire is not None:
            self._engine.counters.answers["failure", REFUSED] += 1
            self.waiting.append((name, wire))

    def leave(self) -> bool:
        """Have new queries go to whoever else listens here; what has come can still be read.

        A datagram that arrives between our last read and the end of the socket would be lost. So
        the socket is first connected with a port where nobody is: from then on the kernel finds
        the others of the address for whatever comes, while what is queued stays ours, and replies
        leave as before: a socket of all addresses has then one of its own, but each of its replies
        says where it leaves from. False where that cannot be done.
        """
        name = self.sock.getsockname()
        try:
            self.sock.connect((name[0], NOBODYS_PORT, *name[2:]))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket; what is still queued is lost."""
        self.sock.close()
