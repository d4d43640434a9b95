"""smartdns: everything forwarded to one server, without its speed checks and prefetching."""

from __future__ import annotations

from benchmarks.peers.peer import (
    AT_ONCE,
    LOOPBACK,
    STALE_SECONDS,
    STALE_TTL,
    Peer,
    Place,
    last_word,
)
from benchmarks.peers.sources import DebianPackage


def config(place: Place) -> str:
    stale = "serve-expired no\n"
    if place.stale:
        stale = (
            f"serve-expired yes\nserve-expired-ttl {STALE_SECONDS}\n"
            f"serve-expired-reply-ttl {STALE_TTL}\n"
        )
    persist = "no"
    if place.persist:
        persist = f"yes\ncache-file {place.directory}/smartdns.cache\ncache-checkpoint-time 120"
    return f"""\
user root
bind {LOOPBACK}:{place.port}
bind-tcp {LOOPBACK}:{place.port}
server {LOOPBACK}:{place.upstream}
speed-check-mode none
dualstack-ip-selection no
prefetch-domain no
cache-size {place.entries}
cache-persist {persist}
rr-ttl-min 1
tcp-idle-time 120
log-level error
log-file {place.directory}/smartdns.log
audit-enable no
{stale}"""


def command(place: Place) -> list[str]:
    file = place.file("smartdns.conf", config(place))
    return [str(place.program), "-f", "-x", "-p", "-", "-c", str(file)]


PEER = Peer(
    name="smartdns",
    language="C",
    source=DebianPackage("smartdns", "smartdns", ("smartdns.service",)),
    command=command,
    version=lambda program: last_word(program, "-v"),
    stale_modes=(AT_ONCE,),
    settings="speed-check-mode none, prefetch-domain no, rr-ttl-min 1",
)
