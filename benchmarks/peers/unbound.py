"""Unbound: one thread that forwards everything, no validation. The closest peer.

With stale answers it either asks first and waits 1.8 s (RFC 8767), or gives the stale answer at
once, which is the default of the version in Debian 12.
"""

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
    last_word,
)
from benchmarks.peers.sources import DebianPackage

CLIENT_TIMEOUT_MS = {VERIFY: 1800, AT_ONCE: 0}


def config(place: Place) -> str:
    text = f"""\
server:
    interface: {LOOPBACK}
    port: {place.port}
    num-threads: 1
    so-reuseport: no
    username: ""
    chroot: ""
    directory: "{place.directory}"
    pidfile: ""
    use-syslog: no
    verbosity: 0
    do-ip6: no
    do-not-query-localhost: no
    module-config: "iterator"
    qname-minimisation: no
    minimal-responses: yes
    edns-buffer-size: 1232
    so-rcvbuf: 1m
    so-sndbuf: 1m
    outgoing-range: 8192
    num-queries-per-thread: 4096
    incoming-num-tcp: 100
    msg-cache-size: {place.entries * ENTRY_BYTES // 2}
    rrset-cache-size: {place.entries * ENTRY_BYTES}
    cache-max-ttl: 86400
"""
    if place.stale:
        text += f"""\
    serve-expired: yes
    serve-expired-ttl: {STALE_SECONDS}
    serve-expired-reply-ttl: {STALE_TTL}
    serve-expired-client-timeout: {CLIENT_TIMEOUT_MS[place.stale]}
    ede: yes
    ede-serve-expired: yes
"""
    return text + (
        "remote-control:\n    control-enable: no\n"
        f'forward-zone:\n    name: "."\n    forward-addr: {LOOPBACK}@{place.upstream}\n'
    )


def command(place: Place) -> list[str]:
    file = place.file("unbound.conf", config(place))
    return [str(place.program), "-d", "-p", "-c", str(file)]


PEER = Peer(
    name="unbound",
    language="C",
    source=DebianPackage("unbound", "unbound", ("unbound.service",)),
    command=command,
    version=lambda program: last_word(program, "-V"),
    stale_modes=(VERIFY, AT_ONCE),
    settings="num-threads 1, module-config iterator, minimal-responses",
)
