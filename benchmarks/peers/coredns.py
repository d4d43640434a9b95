"""CoreDNS: the plugins forward and cache, nothing else, on one processor."""

from __future__ import annotations

from benchmarks.peers.peer import (
    AT_ONCE,
    LOOPBACK,
    ONE_PROCESSOR,
    STALE_SECONDS,
    STALE_TTL,
    VERIFY,
    Peer,
    Place,
)
from benchmarks.peers.sources import GoModule

SOURCE = GoModule("github.com/coredns/coredns", "v1.14.7", "github.com/coredns/coredns")
# Mode, the longest wait of a client, TTL of a stale answer, pause after a failure.
MODE = {
    VERIFY: f"verify 1800ms {STALE_TTL}s 5s",
    AT_ONCE: f"immediate {STALE_TTL}s 5s",
}


def config(place: Place, serve_stale: str) -> str:
    """A Corefile; `serve_stale` is the arguments of that option, or nothing."""
    # Twice the entries: the cache is cut into 256 parts, and each evicts when it is full itself.
    capacity = 2 * place.entries
    stale = f"        serve_stale {serve_stale}\n" if serve_stale else ""
    return f"""\
.:{place.port} {{
    bind {LOOPBACK}
    forward . {LOOPBACK}:{place.upstream}
    cache 86400 {{
        success {capacity} 86400
        denial {capacity} 86400
{stale}    }}
}}
"""


def command(place: Place) -> list[str]:
    stale = f"{STALE_SECONDS}s {MODE[place.stale]}" if place.stale else ""
    return [
        str(place.program),
        "-quiet",
        "-conf",
        str(place.file("Corefile", config(place, stale))),
    ]


PEER = Peer(
    name="coredns",
    language="Go",
    source=SOURCE,
    command=command,
    version=lambda _: SOURCE.version,
    stale_modes=(VERIFY, AT_ONCE),
    environment=ONE_PROCESSOR,
    settings="GOMAXPROCS=1, plugins forward and cache",
)
