"""How NSD, Unbound and dnsguard are started for a benchmark: their configuration, as text.

Each listens on the loopback address and a port of its own, runs as whoever started the script and
writes into the run's temporary directory only. Unbound is configured as the closest peer: one
thread, forwarding, no validation, caches that are large enough for any run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.asking import LOOPBACK
from benchmarks.harness import Bench, Program, free_port


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


def unbound_config(directory: Path, port: int, upstream: int, stale_after: int | None) -> str:
    """One thread that forwards everything to `upstream`.

    `stale_after` is serve-expired-client-timeout in milliseconds: 1800 asks first (RFC 8767), 0
    gives the stale answer at once; None serves nothing stale.
    """
    text = f"""\
server:
    interface: {LOOPBACK}
    port: {port}
    num-threads: 1
    so-reuseport: no
    username: ""
    chroot: ""
    directory: "{directory}"
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
    msg-cache-size: 256m
    rrset-cache-size: 512m
    cache-max-ttl: 86400
"""
    if stale_after is not None:
        text += f"""\
    serve-expired: yes
    serve-expired-ttl: 259200
    serve-expired-reply-ttl: 30
    serve-expired-client-timeout: {stale_after}
    ede: yes
    ede-serve-expired: yes
"""
    return text + (
        "remote-control:\n    control-enable: no\n"
        f'forward-zone:\n    name: "."\n    forward-addr: {LOOPBACK}@{upstream}\n'
    )


def start_nsd(
    bench: Bench, port: int, zones: Mapping[str, Path], cpu: int | None = None
) -> Program:
    config = bench.file("nsd.conf", nsd_config(bench.directory, port, zones))
    return bench.start("nsd", ["nsd", "-d", "-c", str(config)], port, cpu)


def start_unbound(
    bench: Bench, upstream: int, stale_after: int | None = None, cpu: int | None = None
) -> Program:
    port = free_port()
    text = unbound_config(bench.directory, port, upstream, stale_after)
    config = bench.file(f"unbound-{port}.conf", text)
    return bench.start("unbound", ["unbound", "-d", "-p", "-c", str(config)], port, cpu)


def start_dnsguard(bench: Bench, upstream: int, *extra: str, cpu: int | None = None) -> Program:
    port, admin = free_port(), free_port()
    command = [sys.executable, "-m", "dnsguard", "serve", "--listen", f"{LOOPBACK}:{port}"]
    command += ["--upstream", f"{LOOPBACK}:{upstream}", "--admin", f"{LOOPBACK}:{admin}"]
    return bench.start("dnsguard", [*command, *extra], port, cpu)


def start_servfail(bench: Bench, port: int) -> Program:
    """It waits for the port, which may still be another's."""
    script = Path(__file__).resolve().with_name("servfail.py")
    return bench.start("servfail", [sys.executable, str(script), str(port)], port)
