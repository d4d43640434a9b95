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
MODE = {VERIFY: "verify", AT_ONCE: "immediate"}


def config(place: Place) -> str:
    # Twice the entries: the cache is cut into 256 parts, and each evicts when it is full itself.
    capacity = 2 * place.entries
    stale = ""
    if place.stale == VERIFY:
        stale = f"        serve_stale {STALE_SECONDS}s verify 0s {STALE_TTL}s\n"
    elif place.stale:
        stale = f"        serve_stale {STALE_SECONDS}s immediate {STALE_TTL}s\n"
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
    return [str(place.program), "-quiet", "-conf", str(place.file("Corefile", config(place)))]


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
