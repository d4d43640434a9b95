"""dnsmasq: a single process that forwards everything; TCP connections get a child each."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import AT_ONCE, LOOPBACK, STALE_SECONDS, Peer, Place, first_line
from benchmarks.peers.sources import DebianPackage


def command(place: Place) -> list[str]:
    arguments = [
        "--keep-in-foreground",
        f"--conf-file={place.file('dnsmasq.conf', '')}",
        f"--port={place.port}",
        f"--listen-address={LOOPBACK}",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--no-poll",
        f"--server={LOOPBACK}#{place.upstream}",
        f"--cache-size={place.entries}",
        "--dns-forward-max=10000",
        "--user=",
        "--group=",
        "--pid-file=",
        "--log-facility=-",
    ]
    if place.stale:
        arguments.append(f"--use-stale-cache={STALE_SECONDS}")
    return [str(place.program), *arguments]


def version(program: Path) -> str:
    return first_line(program, "--version").split()[2]


PEER = Peer(
    name="dnsmasq",
    language="C",
    source=DebianPackage("dnsmasq-base", "dnsmasq"),
    command=command,
    version=version,
    stale_modes=(AT_ONCE,),
    settings="cache-size raised from 150, dns-forward-max 10000",
)
