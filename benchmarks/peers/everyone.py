"""The list of all servers in the comparison, in the order in which they are asked for."""

from __future__ import annotations

from benchmarks.peers import (
    bind,
    blocky,
    coredns,
    dnsdist,
    dnsguard,
    dnsmasq,
    dnsproxy,
    echo,
    knot,
    naive,
    nodecache,
    recursor,
    smartdns,
    unbound,
)
from benchmarks.peers.peer import Peer

PRODUCT = dnsguard.PEER
ECHO = echo.PEER
NAIVE = naive.PEER

EVERYONE: tuple[Peer, ...] = (
    PRODUCT,
    unbound.PEER,
    dnsdist.PEER,
    bind.PEER,
    knot.PEER,
    recursor.PEER,
    dnsmasq.PEER,
    smartdns.PEER,
    coredns.PEER,
    nodecache.PEER,
    dnsproxy.PEER,
    blocky.PEER,
    ECHO,
    NAIVE,
)
YARDSTICKS = (ECHO.name, NAIVE.name)
