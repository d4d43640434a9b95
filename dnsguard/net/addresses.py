"""Socket addresses as the kernel writes them, and who may ask.

A client is known by the octets of its `sockaddr`, which are handed back when its reply is sent and
read only where its address matters: who may ask, and how often, and the search for forwarding
loops. `refusal` is what the others get, over UDP and TCP alike.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from cachetools import LRUCache

from dnsguard.core import reply
from dnsguard.core.wire import REFUSED, Malformed, read_query

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPV4_OCTETS, IPV6_OCTETS = 16, 28  # sizeof(sockaddr_in), sizeof(sockaddr_in6)
REMEMBERED_MAX = 16384  # clients whose verdict is remembered
RATE_CLIENTS_MAX = 16384  # clients whose queries are counted; of more, the quietest are forgotten
EDE_PROHIBITED = 18
STRANGER, TOO_OFTEN = "not in access.allow", "over limits.client_qps"


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of a literal address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def name_octets(family: int) -> int:
    """Return the length of a socket address of this family."""
    return IPV6_OCTETS if family == socket.AF_INET6 else IPV4_OCTETS


def read_name(name: bytes) -> tuple[str, int]:
    """Return (address, port) of a sockaddr_in or sockaddr_in6 in the kernel's layout."""
    port = name[2] << 8 | name[3]
    if len(name) == IPV6_OCTETS:
        return socket.inet_ntop(socket.AF_INET6, name[8:24]), port
    return socket.inet_ntop(socket.AF_INET, name[4:8]), port


class Access:
    """The networks whose clients are answered; anyone else is refused (RFC 5358)."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._seen: LRUCache[bytes, bool] = LRUCache(REMEMBERED_MAX)

    def allows(self, raw: bytes) -> bool:
        """Tell whether the client with this address (4 or 16 octets) may ask."""
        known = self._seen.get(raw)
        if known is None:
            known = self._seen[raw] = self.covers(ipaddress.ip_address(raw))
        return known

    def covers(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Tell whether `address` lies in one of the networks; mapped IPv4 counts as IPv4."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def covers_all(self, network: Network) -> bool:
        """Tell whether every address of `network` lies in one of the networks."""
        if isinstance(network, ipaddress.IPv6Network):
            six = (n for n in self._networks if isinstance(n, ipaddress.IPv6Network))
            return any(network.subnet_of(n) for n in six)
        four = (n for n in self._networks if isinstance(n, ipaddress.IPv4Network))
        return any(network.subnet_of(n) for n in four)


class Rates:
    """How often each client may ask: `per_second`, from a bucket of one second's worth each.

    0 sets no limit, and then nobody is to be looked up here.
    """

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._buckets: LRUCache[bytes, list[float]] = LRUCache(RATE_CLIENTS_MAX)

    def allows(self, raw: bytes, now: float) -> bool:
        """Take one token for one query of the client with this address (4 or 16 octets)."""
        most = float(self.per_second)
        bucket = self._buckets.get(raw)
        if bucket is None:
            bucket = self._buckets[raw] = [most, now]
        tokens = min(bucket[0] + (now - bucket[1]) * most, most)
        bucket[1] = now
        bucket[0] = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1


def refusal(message: bytes, why: str, now: float, stream: bool = False) -> bytes | None:
    """Return the reply to a client that may not ask; who is wrong besides learns nothing of it."""
    try:
        query = read_query(message, None, now, stream)
    except Malformed:
        return None
    return reply.failure(query, REFUSED, EDE_PROHIBITED, why)
