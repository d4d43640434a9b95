"""Socket addresses as the kernel writes them, and who may ask.

A client is known by the octets of its `sockaddr`, which are handed back when its reply is sent and
read only where its address matters: access control and the search for forwarding loops.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from cachetools import LRUCache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPV4_OCTETS, IPV6_OCTETS = 16, 28  # sizeof(sockaddr_in), sizeof(sockaddr_in6)
REMEMBERED_MAX = 16384  # clients whose verdict is remembered


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
