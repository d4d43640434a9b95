"""blocky on one processor, without lists: a forwarder with a cache. It has no stale answers."""

from __future__ import annotations

from benchmarks.peers.peer import LOOPBACK, ONE_PROCESSOR, Peer, Place
from benchmarks.peers.sources import GoModule

SOURCE = GoModule("github.com/0xERR0R/blocky", "v0.34.0", "github.com/0xERR0R/blocky")


def config(place: Place) -> str:
    return f"""\
upstreams:
  init:
    strategy: fast
  strategy: strict
  groups:
    default:
      - {LOOPBACK}:{place.upstream}
ports:
  dns: {LOOPBACK}:{place.port}
caching:
  prefetching: false
specialUseDomains:
  enable: false
queryLog:
  type: none
log:
  level: error
"""


def command(place: Place) -> list[str]:
    return [str(place.program), "--config", str(place.file("blocky.yml", config(place)))]


PEER = Peer(
    name="blocky",
    language="Go",
    source=SOURCE,
    command=command,
    version=lambda _: SOURCE.version,
    environment=ONE_PROCESSOR,
    settings="GOMAXPROCS=1, no lists, no query log, cache unbounded",
)
