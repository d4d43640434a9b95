"""Which of our addresses a datagram came to, so that its reply leaves from there (RFC 2181 4.1).

A socket that is bound to all addresses of a machine would reply from the one that the kernel finds
on its way to the client; clients do not take that for a reply to their question. So the kernel is
asked where each datagram was sent to (ip(7), IP_PKTINFO; RFC 3542 section 6), and what it says
lies beside the sender's address in one slot. A reply that points at that slot is told both: where
to, and where from. Sockets that are bound to one address need none of this and pay nothing for it.
"""

from __future__ import annotations

import ipaddress
import socket

from dnsguard.net._libc import ffi
from dnsguard.net.addresses import name_octets
from dnsguard.net.mmsg import BATCH, Incoming, Outgoing

IP_PKTINFO, IPV6_RECVPKTINFO = 8, 49  # Linux's numbers; Python 3.11 has no name for the first
# A slot: the sender's address, a gap, and one item of the kernel's: struct cmsghdr (a length, a
# level, a type), then in_pktinfo or in6_pktinfo.
CONTROL_AT = 32  # the next place behind 28 octets that is well aligned
ITEM_AT = CONTROL_AT + ffi.sizeof("size_t") + 8
_INFO_4, _INFO_6 = 12, 20  # an interface and two addresses; an address and an interface
_INTERFACE_4, _INTERFACE_6 = ITEM_AT, ITEM_AT + 16
STRIDE = CONTROL_AT + ffi.sizeof("size_t") + 8 + 24  # CMSG_SPACE of the larger one
# The first two octets, as they lie in memory, of IPv6 addresses that mean nothing without an
# interface (fe80::/10) and of those from which nothing is sent (ff00::/8).
LINK_LOCAL = frozenset(map(socket.htons, range(0xFE80, 0xFEC0)))
MULTICAST = frozenset(map(socket.htons, range(0xFF00, 0x10000)))
SPECIAL = LINK_LOCAL | MULTICAST


def is_everywhere(host: str) -> bool:
    """Tell whether this literal address stands for all that a machine has."""
    return ipaddress.ip_address(host.partition("%")[0]).is_unspecified


def tell_destinations(sock: socket.socket) -> None:
    """Have the kernel tell where each datagram was sent to. Raises OSError.

    To be called before the socket is bound: of what has come until then it is not told.
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def control_octets(family: int) -> int:
    """Return how long what the kernel tells of one datagram is, padded (CMSG_SPACE)."""
    word: int = ffi.sizeof("size_t")
    info = _INFO_6 if family == socket.AF_INET6 else _INFO_4
    return word + 8 + (info + word - 1) // word * word


class IncomingAnywhere(Incoming):
    """Room for a batch of datagrams, each with its sender and where it was sent to."""

    def __init__(self, octets: int, family: int) -> None:
        super().__init__(octets, True, STRIDE)
        self._six = family == socket.AF_INET6
        for i in range(BATCH):
            self._vec[i].msg_hdr.msg_control = self._names + i * STRIDE + CONTROL_AT
        words = memoryview(ffi.buffer(self._vec)).cast("B").cast("P")
        word = ffi.sizeof("size_t")
        at = ffi.offsetof("struct msghdr", "msg_controllen") // word
        self._lengths = words[at :: ffi.sizeof("struct mmsghdr") // word]
        room = ffi.new("size_t[]", [control_octets(family)] * BATCH)
        self._room = memoryview(bytes(ffi.buffer(room))).cast("P")
        slots = memoryview(self.names_of).cast("B")
        interface_at = _INTERFACE_6 if self._six else _INTERFACE_4
        self._interfaces = slots.cast("I")[interface_at // 4 :: STRIDE // 4]
        self._heads = slots.cast("H")[ITEM_AT // 2 :: STRIDE // 2]
        self._none = memoryview(bytes(4 * BATCH)).cast("I")

    def receive(self, fd: int) -> int:
        """Read up to a batch, as any `Incoming` does. Raises OSError."""
        self._lengths[:] = self._room  # the kernel writes here how much of the room it took
        count = super().receive(fd)
        if self._six and not SPECIAL.isdisjoint(self._heads[:count].tolist()):
            self._forget_most_interfaces(count)
        else:
            # A reply goes by the routes, and need not leave where its query came in.
            self._interfaces[:count] = self._none[:count]
        return count

    def _forget_most_interfaces(self, count: int) -> None:
        """Keep the interface of an address that is none without it."""
        for i, head in enumerate(self._heads[:count].tolist()):
            if head in MULTICAST:  # the kernel chooses an address of ours
                at = i * STRIDE + ITEM_AT
                self.names_of[at : at + 16] = bytes(16)
            if head not in LINK_LOCAL:
                self._interfaces[i] = 0


class OutgoingAnywhere(Outgoing):
    """Room for a batch of messages, each with whom it goes to and where it leaves from."""

    def __init__(self, family: int) -> None:
        super().__init__(name_octets(family), stride=STRIDE)
        word, size = ffi.sizeof("size_t"), ffi.sizeof("struct mmsghdr")
        at = ffi.offsetof("struct msghdr", "msg_control")
        self._control_words = tuple((i * size + at) // word for i in range(BATCH))
        for i in range(BATCH):
            header = self._vec[i].msg_hdr
            header.msg_control = self._names + i * STRIDE + CONTROL_AT
            header.msg_controllen = control_octets(family)

    def point_name(self, index: int, name_at: int) -> None:
        """Let message `index` go where the slot that begins at `name_at` says."""
        super().point_name(index, name_at)
        self._headers[self._control_words[index]] = name_at + CONTROL_AT
