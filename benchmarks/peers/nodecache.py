"""Kubernetes' NodeLocal DNSCache: CoreDNS with fewer plugins and its own handling of interfaces.

Interfaces and firewall rules, which it sets up by default, stay untouched here.
"""

from __future__ import annotations

from benchmarks.peers import coredns
from benchmarks.peers.peer import (
    AT_ONCE,
    LOOPBACK,
    ONE_PROCESSOR,
    STALE_SECONDS,
    VERIFY,
    Peer,
    Place,
)
from benchmarks.peers.sources import GoModule

# Its releases carry tags that Go does not read as versions; this is release 1.26.7 by its commit.
SOURCE = GoModule("k8s.io/dns", "v0.0.0-20251016141644-1d8f1a620b92", "k8s.io/dns/cmd/node-cache")
RELEASE = "1.26.7"
MODE = {VERIFY: "verify", AT_ONCE: "immediate"}


def command(place: Place) -> list[str]:
    # It is built on CoreDNS 1.13, whose serve_stale takes a mode and nothing behind it.
    stale = f"{STALE_SECONDS}s {MODE[place.stale]}" if place.stale else ""
    file = place.file("Corefile", coredns.config(place, stale))
    return [
        str(place.program),
        f"-localip={LOOPBACK}",
        f"-dns.port={place.port}",
        f"-conf={file}",
        f"-basecorefile={file}",
        "-setupinterface=false",
        "-setupiptables=false",
        "-skipteardown=true",
        f"-metrics-listen-address={LOOPBACK}:{place.spare_port}",
    ]


PEER = Peer(
    name="node-cache",
    language="Go",
    source=SOURCE,
    command=command,
    version=lambda _: RELEASE,
    stale_modes=(VERIFY, AT_ONCE),
    environment=ONE_PROCESSOR,
    settings="GOMAXPROCS=1, no interface, no firewall rules",
)
