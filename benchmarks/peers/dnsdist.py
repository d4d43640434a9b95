"""dnsdist: a load balancer with a packet cache, here with one server behind it.

It serves stale answers only while its health check calls every server dead, and keeps expired
answers only when told to.
"""

from __future__ import annotations

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

BATCH = 64


def config(place: Place) -> str:
    stale = f"setStaleCacheEntriesTTL({STALE_SECONDS})\n" if place.stale else ""
    keep = f", staleTTL={STALE_TTL}, keepStaleData=true" if place.stale else ""
    return f"""\
setLocal('{LOOPBACK}:{place.port}', {{ maxInFlight=1000 }})
setACL('127.0.0.0/8')
setSecurityPollSuffix('')
setUDPMultipleMessagesVectorSize({BATCH})
setMaxTCPClientThreads(1)
setMaxUDPOutstanding(65535)
newServer({{ address='{LOOPBACK}:{place.upstream}' }})
getPool(''):setCache(newPacketCache({2 * place.entries}, {{ maxTTL=86400, minTTL=0{keep} }}))
{stale}"""


def command(place: Place) -> list[str]:
    file = place.file("dnsdist.conf", config(place))
    return [str(place.program), "--supervised", "--disable-syslog", "-C", str(file)]


PEER = Peer(
    name="dnsdist",
    language="C++, Lua",
    source=DebianPackage("dnsdist", "dnsdist", ("dnsdist.service",)),
    command=command,
    version=lambda program: first_line(program, "--version").split()[1],
    stale_modes=(VERIFY,),
    settings=f"one listener, batches of {BATCH} datagrams, one TCP thread",
)
