"""dnsguard from this checkout: one worker, the cache enlarged like everyone's.

In memory only, as the others are: what keeping answers on disk costs is a question by itself.
"""

from __future__ import annotations

import platform
from pathlib import Path

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
from benchmarks.peers.sources import ThisPython

MODE = {VERIFY: "verify", AT_ONCE: "immediate"}


def command(place: Place) -> list[str]:
    settings = {"cache.max_bytes": str(place.entries * ENTRY_BYTES)}
    if place.stale:
        settings |= {
            "stale.mode": MODE[place.stale],
            "stale.max_age": f"{STALE_SECONDS}s",
            "stale.answer_ttl": f"{STALE_TTL}s",
        }
    arguments = [
        *("-m", "dnsguard", "serve", "--listen", f"{LOOPBACK}:{place.port}"),
        *("--upstream", f"{LOOPBACK}:{place.upstream}"),
        *("--admin", f"{LOOPBACK}:{place.spare_port}"),
        "--no-state",  # like everyone's: none of the others keeps one through a restart
    ]
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    return [str(place.program), *arguments]


def version(program: Path) -> str:
    return (
        f"{last_word(program, '-m', 'dnsguard', '--version')} on Python {platform.python_version()}"
    )


PEER = Peer(
    name="dnsguard",
    language="Python",
    source=ThisPython("this checkout"),
    command=command,
    version=version,
    stale_modes=(VERIFY, AT_ONCE),
    settings="workers 1, --no-state",
)
