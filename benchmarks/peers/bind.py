"""BIND's named: forward only, one worker, no validation, no control channel."""

from __future__ import annotations

from benchmarks.peers.peer import (
    AT_ONCE,
    ENTRY_BYTES,
    LOOPBACK,
    STALE_SECONDS,
    STALE_TTL,
    VERIFY,
    Peer,
    Place,
    first_line,
)
from benchmarks.peers.sources import DebianPackage

CLIENT_TIMEOUT = {VERIFY: "off", AT_ONCE: "0"}


def config(place: Place) -> str:
    stale = ""
    if place.stale:
        stale = f"""\
    stale-cache-enable yes;
    stale-answer-enable yes;
    stale-answer-ttl {STALE_TTL};
    stale-answer-client-timeout {CLIENT_TIMEOUT[place.stale]};
    stale-refresh-time 30;
    max-stale-ttl {STALE_SECONDS};
"""
    return f"""\
options {{
    directory "{place.directory}";
    listen-on port {place.port} {{ {LOOPBACK}; }};
    listen-on-v6 {{ none; }};
    forward only;
    forwarders {{ {LOOPBACK} port {place.upstream}; }};
    recursion yes;
    allow-query {{ {LOOPBACK}; }};
    dnssec-validation no;
    empty-zones-enable no;
    minimal-responses yes;
    recursive-clients 10000;
    tcp-clients 1000;
    max-cache-size {place.entries * ENTRY_BYTES};
    pid-file none;
    session-keyfile none;
    lock-file none;
    zone-statistics none;
{stale}}};
controls {{ }};
logging {{
    channel errors {{ stderr; severity error; }};
    category default {{ errors; }};
}};
"""


def command(place: Place) -> list[str]:
    file = place.file("named.conf", config(place))
    return [str(place.program), "-f", "-n", "1", "-X", "none", "-c", str(file)]


PEER = Peer(
    name="bind",
    language="C",
    source=DebianPackage("bind9", "named", ("named.service",)),
    command=command,
    version=lambda program: first_line(program, "-v").split()[1],
    stale_modes=(VERIFY, AT_ONCE),
    settings="-n 1, forward only, minimal-responses",
)
