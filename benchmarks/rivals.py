"""The servers that stand beside dnsguard in `dnsguard bench outage`, set to serve stale answers.

Each as its documentation recommends for that, in its usual mode; where two modes are usual, in
both. NodeLocal DNSCache takes part without, as Kubernetes ships it. Nothing is installed here: a
server that is missing is left out, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers import (
    bind,
    coredns,
    dnsdist,
    dnsmasq,
    dnsproxy,
    knot,
    nodecache,
    recursor,
    smartdns,
    unbound,
)
from benchmarks.peers.peer import (
    AT_ONCE,
    STALE_SECONDS,
    STALE_TTL,
    VERIFY,
    MissingError,
    Peer,
    Place,
)
from benchmarks.peers.sources import BUILD
from dnsguard.bench.outage_stage import Rival, Spot
from dnsguard.sim.result import Kind

ENTRIES = 20_000  # more than any scenario asks for
WAYS: tuple[tuple[Peer, str, str], ...] = (
    (unbound.PEER, VERIFY, "unbound"),
    (bind.PEER, VERIFY, "bind"),
    (knot.PEER, VERIFY, "knot"),
    (recursor.PEER, VERIFY, "powerdns"),
    (dnsdist.PEER, VERIFY, "dnsdist"),
    (dnsmasq.PEER, AT_ONCE, "dnsmasq"),
    (smartdns.PEER, AT_ONCE, "smartdns"),
    (dnsproxy.PEER, AT_ONCE, "dnsproxy"),
    (coredns.PEER, VERIFY, "coredns verify"),
    (coredns.PEER, AT_ONCE, "coredns immediate"),
    (nodecache.PEER, "", "node-cache"),
)


@dataclass(frozen=True)
class Way:
    """A peer in one of its modes."""

    peer: Peer
    mode: str

    def command(self, spot: Spot) -> list[str]:
        place = Place(
            program=self.peer.source.there(BUILD),
            directory=spot.directory,
            port=spot.port,
            spare_port=spot.spare_port,
            upstream=spot.upstream,
            entries=ENTRIES,
            stale=self.mode,
            persist=True,
        )
        return self.peer.command(place)


def rivals() -> tuple[list[Rival], list[str]]:
    """Those that are here, and a line for each that is not."""
    found, missing = [], []
    for peer, mode, name in WAYS:
        try:
            program = peer.source.there(BUILD)
        except MissingError as reason:
            missing.append(f"{name} is left out: {reason}")
            continue
        settings = {"stale answers": "none, as it is shipped"}
        if mode:
            settings = {
                "stale answers": mode,
                "for at most": f"{STALE_SECONDS} s",
                "with a TTL of": f"{STALE_TTL} s",
            }
        rival = Rival(
            name=name,
            kind=Kind.PEER,
            version=peer.version(program),
            settings=settings | {peer.settings: ""},
            command=Way(peer, mode).command,
            environment=peer.environment,
        )
        found.append(rival)
    return found, missing
