"""The other yardstick: the proxy one would write in an afternoon, with uvloop and dnslib."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from benchmarks.peers.peer import Peer, Place
from benchmarks.peers.sources import ThisPython

PROGRAM = Path(__file__).with_name("naive_proxy.py")


def command(place: Place) -> list[str]:
    # -P keeps this directory off the import path: its modules are named after servers.
    return [str(place.program), "-P", str(PROGRAM), str(place.port), str(place.upstream)]


def version(_: Path) -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("uvloop", "dnslib"))


PEER = Peer(
    name="naive Python",
    language="Python",
    source=ThisPython("benchmarks/peers/naive_proxy.py"),
    command=command,
    version=version,
    settings="a DatagramProtocol, a dict, each message parsed and built",
)
