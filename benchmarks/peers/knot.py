"""Knot Resolver (kresd): one process, everything forwarded, no validation.

Its cache is a file that it maps into memory; what of it is in memory counts as resident.
"""

from __future__ import annotations

from benchmarks.peers.peer import ENTRY_BYTES, LOOPBACK, VERIFY, Peer, Place, last_word
from benchmarks.peers.sources import DebianPackage


def config(place: Place) -> str:
    text = f"""\
net.ipv6 = false
net.listen('{LOOPBACK}', {place.port}, {{ kind = 'dns' }})
net.tcp_pipeline(1000)
trust_anchors.remove('.')
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('priming')
modules.unload('detect_time_skew')
cache.open({place.entries * ENTRY_BYTES}, 'lmdb://{place.directory}/cache')
policy.add(policy.all(policy.STUB({{ '{LOOPBACK}@{place.upstream}' }})))
log_level('err')
"""
    if place.stale:
        text += "modules.load('serve_stale < cache')\n"
    return text


def command(place: Place) -> list[str]:
    file = place.file("kresd.conf", config(place))
    return [str(place.program), "-n", "-q", "-c", str(file), str(place.directory)]


PEER = Peer(
    name="knot-resolver",
    language="C, Lua",
    source=DebianPackage(
        "knot-resolver", "kresd", ("kresd.target", "kres-cache-gc.service", "kresd@1.service")
    ),
    command=command,
    version=lambda program: last_word(program, "--version"),
    stale_modes=(VERIFY,),
    settings="one instance, policy.STUB, trust anchors removed",
)
