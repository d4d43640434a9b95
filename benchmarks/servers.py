"""How the servers of a benchmark are started: NSD with its zones, dnsguard, any of the peers.

Each listens on the loopback address and a port of its own, runs as whoever started the script and
writes into the run's temporary directory only.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.asking import LOOPBACK
from benchmarks.harness import Bench, Program, free_port
from benchmarks.peers.peer import Peer, Place
from benchmarks.peers.sources import BUILD

ENTRIES = 1_000_000  # more than any run asks for


def zone_text(origin: str, records: Mapping[str, str], ttl: int, serial: int = 1) -> str:
    """A zone file: SOA, NS and one A record for each owner (relative to `origin`; `*` works)."""
    lines = [
        f"$ORIGIN {origin}.",
        f"$TTL {ttl}",
        f"@ IN SOA ns.dns hostmaster {serial} 7200 1800 86400 {ttl}",
        "@ IN NS ns.dns",
        f"ns.dns IN A {LOOPBACK}",
    ]
    lines += [f"{owner} IN A {address}" for owner, address in records.items()]
    return "\n".join(lines) + "\n"


def hosts(count: int) -> dict[str, str]:
    """So many owners and their addresses: n0 is at 10.0.0.0, n256 at 10.0.1.0."""
    return {f"n{number}": f"10.0.{number >> 8}.{number & 255}" for number in range(count)}


def nsd_config(directory: Path, port: int, zones: Mapping[str, Path]) -> str:
    """One server process that needs no rights and leaves nothing outside `directory`."""
    text = f"""\
server:
    server-count: 1
    ip-address: {LOOPBACK}
    port: {port}
    username: ""
    chroot: ""
    zonesdir: "{directory}"
    database: ""
    pidfile: ""
    zonelistfile: "{directory}/nsd-zone.list"
    xfrdfile: "{directory}/nsd-xfrd.state"
    xfrdir: "{directory}"
    rrl-ratelimit: 0
    minimal-responses: yes
    verbosity: 0
remote-control:
    control-enable: no
"""
    for origin, path in zones.items():
        text += f'zone:\n    name: "{origin}"\n    zonefile: "{path}"\n'
    return text


def start_nsd(
    bench: Bench, port: int, zones: Mapping[str, Path], cpu: int | None = None
) -> Program:
    config = bench.file("nsd.conf", nsd_config(bench.directory, port, zones))
    return bench.start("nsd", ["nsd", "-d", "-c", str(config)], port, cpu)


def start_peer(
    bench: Bench,
    peer: Peer,
    upstream: int,
    entries: int = ENTRIES,
    stale: str = "",
    cpu: int | None = None,
) -> Program:
    """Start a peer on a port of its own. Raises MissingError when it cannot be had."""
    program = peer.source.obtain(BUILD)
    directory = Path(tempfile.mkdtemp(prefix="server-", dir=bench.directory))
    place = Place(program, directory, free_port(), free_port(), upstream, entries, stale)
    return bench.start(peer.name, peer.command(place), place.port, cpu, peer.environment)


def start_dnsguard(bench: Bench, upstream: int, *extra: str, cpu: int | None = None) -> Program:
    port, admin = free_port(), free_port()
    command = [sys.executable, "-m", "dnsguard", "serve", "--listen", f"{LOOPBACK}:{port}"]
    command += ["--upstream", f"{LOOPBACK}:{upstream}", "--admin", f"{LOOPBACK}:{admin}"]
    command += ["--no-state"]  # what an earlier run learned has no place in this one
    return bench.start("dnsguard", [*command, *extra], port, cpu)


def start_servfail(bench: Bench, port: int) -> Program:
    """It waits for the port, which may still be another's."""
    script = Path(__file__).resolve().with_name("servfail.py")
    return bench.start("servfail", [sys.executable, str(script), str(port)], port)
