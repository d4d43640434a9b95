"""PowerDNS Recursor: one worker thread, everything forwarded, no validation.

It has two caches, of records and of whole packets; both are made large enough.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.peers.peer import (
    LOOPBACK,
    STALE_SECONDS,
    STALE_TTL,
    VERIFY,
    Peer,
    Place,
    first_line,
)
from benchmarks.peers.sources import DebianPackage

SETTINGS = {
    "daemon": "no",
    "quiet": "yes",
    "loglevel": "3",
    "write-pid": "no",
    "local-address": LOOPBACK,
    "allow-from": "127.0.0.0/8",
    "dont-query": "",
    "dnssec": "off",
    "qname-minimization": "no",
    "security-poll-suffix": "",
    "threads": "1",
    "pdns-distributes-queries": "no",
    "max-mthreads": "4096",
    "max-tcp-clients": "1000",
    "max-concurrent-requests-per-tcp-connection": "1000",
}


def command(place: Place) -> list[str]:
    settings = SETTINGS | {
        "config-dir": str(place.directory),
        "socket-dir": str(place.directory),
        "local-port": str(place.port),
        "forward-zones-recurse": f".={LOOPBACK}:{place.upstream}",
        "max-cache-entries": str(2 * place.entries),
        "max-packetcache-entries": str(2 * place.entries),
    }
    if place.stale:
        # Each extension lasts 30 s, or the record's TTL if that is shorter.
        settings["serve-stale-extensions"] = str(STALE_SECONDS // STALE_TTL)
    return [str(place.program), *(f"--{key}={value}" for key, value in settings.items())]


def version(program: Path) -> str:
    found = re.search(r"Recursor (\S+)", first_line(program, "--version"))
    return found[1] if found else "unknown"


PEER = Peer(
    name="powerdns-recursor",
    language="C++",
    source=DebianPackage("pdns-recursor", "pdns_recursor", ("pdns-recursor.service",)),
    command=command,
    version=version,
    stale_modes=(VERIFY,),
    settings="threads 1, pdns-distributes-queries no",
)
