"""AdGuard's dnsproxy on one processor, its cache switched on and enlarged."""

from __future__ import annotations

from benchmarks.peers.peer import (
    AT_ONCE,
    ENTRY_BYTES,
    LOOPBACK,
    ONE_PROCESSOR,
    STALE_SECONDS,
    STALE_TTL,
    Peer,
    Place,
)
from benchmarks.peers.sources import GoModule

SOURCE = GoModule("github.com/AdguardTeam/dnsproxy", "v0.84.1", "github.com/AdguardTeam/dnsproxy")


def command(place: Place) -> list[str]:
    arguments = [
        f"--listen={LOOPBACK}",
        f"--port={place.port}",
        f"--upstream={LOOPBACK}:{place.upstream}",
        "--cache",
        f"--cache-size={place.entries * ENTRY_BYTES}",
        "--ratelimit=0",
        "--pending-requests-enabled",
    ]
    if place.stale:
        arguments += [
            "--cache-optimistic",
            f"--optimistic-answer-ttl={STALE_TTL}s",
            f"--optimistic-max-age={STALE_SECONDS}s",
        ]
    return [str(place.program), *arguments]


PEER = Peer(
    name="dnsproxy",
    language="Go",
    source=SOURCE,
    command=command,
    version=lambda _: SOURCE.version,
    stale_modes=(AT_ONCE,),
    environment=ONE_PROCESSOR,
    settings="GOMAXPROCS=1, no rate limit",
)
