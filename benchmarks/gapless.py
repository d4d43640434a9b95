"""What a killed worker and a change of servers cost, in queries, by dnsperf's count.

First one of two workers is killed (SIGKILL) in the middle of 20,000 queries a second. What it had
not answered goes with it; how much lay in its socket is read from /proc/net/udp just before, in
octets of the kernel's own accounting. Then a server takes the place of another (`--takeover`, and
SIGTERM to the old one once the new one is ready) at 5,000 queries a second: over UDP, over TCP
connections that are held, and over connections of 100 queries each.

    python benchmarks/gapless.py
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accounting, harness, servers
from benchmarks.asking import LOOPBACK
from benchmarks.dnsperf import Load, dnsperf_command, parse_dnsperf
from benchmarks.harness import Bench, Program, require, run_script, say
from benchmarks.soak import free_port

ZONE = "hit.svc.cluster.local"
NAMES = [f"n{number}.{ZONE}" for number in range(1000)]
KILL_QPS, TAKEOVER_QPS = 20_000, 5_000
SECONDS = 12
EVENT_AFTER = 5.0  # seconds of load
PATIENCE = 30.0
WAYS: dict[str, tuple[str, ...]] = {
    "UDP": ("-c", "16"),
    "TCP, 16 connections held": ("-m", "tcp", "-c", "16"),
    "TCP, a connection every 100 queries": (
        "-m", "tcp", "-c", "16", "-O", "num-queries-per-conn=100",
    ),
}  # fmt: skip


def start(bench: Bench, name: str, port: int, upstream: int, *more: str) -> Program:
    """Start a server and wait until it is ready."""
    command = [sys.executable, "-m", "dnsguard", "serve", "--listen", f"{LOOPBACK}:{port}"]
    command += ["--upstream", f"{LOOPBACK}:{upstream}", "--admin", f"{LOOPBACK}:0", *more]
    program = bench.start(name, command, port)
    wait_for(program, " ready in")
    return program


def wait_for(program: Program, text: str) -> None:
    """Wait until a program has said something; raises if it does not."""
    until = time.monotonic() + PATIENCE
    while text not in program.output():
        if time.monotonic() > until or program.process.poll() is not None:
            raise harness.Broken(f"{program.name} never said {text!r}:\n{program.tail()}")
        time.sleep(0.002)


class Loading:
    """A dnsperf that runs meanwhile."""

    def __init__(self, port: int, names: Path, qps: int, *options: str) -> None:
        flags = ("-Q", str(qps), "-l", str(SECONDS), "-q", "10000", "-t", "5", *options)
        self._process = subprocess.Popen(
            dnsperf_command(port, names, *flags),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._until = time.monotonic() + EVENT_AFTER

    def wait_for_the_moment(self) -> None:
        time.sleep(max(self._until - time.monotonic(), 0.0))

    def end(self) -> Load:
        return parse_dnsperf(*self._process.communicate())


def told(load: Load) -> str:
    failed = load.completed - load.rcodes.get("NOERROR", 0)
    return (
        f"{load.sent:,} sent, {load.qps:,.0f} a second, {load.lost:,} lost, {failed:,} failed"
        f"{f', {load.interrupted:,} not waited for' if load.interrupted else ''}"
    )


def waiting(pid: int, port: int) -> int:
    """Octets that wait in the UDP sockets of a process, as the kernel counts them."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        name = os.readlink(link)
        if name.startswith("socket:["):
            own.add(name[len("socket:[") : -1])
    found = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in own and int(fields[1].partition(":")[2], 16) == port:
            found += int(fields[4].partition(":")[2], 16)
    return found


def kill_one(bench: Bench, upstream: int, names: Path) -> str:
    port = free_port()
    server = start(bench, "two-workers", port, upstream, "--no-state", "--set", "workers=2")
    harness.learn(server, NAMES)
    load = Loading(port, names, KILL_QPS, "-c", "16")
    load.wait_for_the_moment()
    victim = accounting.children(server.pid)[0]
    held = waiting(victim, port)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while accounting.is_alive(victim):
        time.sleep(0.0005)
    gone = time.monotonic() - began
    wait_for(server, "serves in place of the former")
    again = time.monotonic() - began
    text = told(load.end())
    server.kill()
    return (
        f"{text}; {held:,} octets lay in its socket; it was gone after {gone * 1000:.1f} ms, "
        f"another one served after {again:.2f} s"
    )


def take_over(bench: Bench, upstream: int, names: Path, options: Sequence[str], turn: int) -> str:
    port = free_port()
    state = ("--state-dir", str(bench.directory / f"state-{turn}"), "--takeover")
    old = start(bench, "old", port, upstream, *state)
    harness.learn(old, NAMES)
    load = Loading(port, names, TAKEOVER_QPS, *options)
    load.wait_for_the_moment()
    new = start(bench, "new", port, upstream, *state)
    old.signal(signal.SIGTERM)
    code = old.process.wait(PATIENCE)
    text = told(load.end())
    new.kill()
    return f"{text}; the old one ended with {code}"


def main() -> None:
    """Print what each part cost."""
    parser = argparse.ArgumentParser(description="What a kill and a takeover cost in queries.")
    parser.add_argument("--times", type=int, default=3, help="how often each part is done")
    options = parser.parse_args()
    require("nsd", "dnsperf")
    facts = accounting.machine()
    with Bench() as bench:
        zone = bench.file("hit.zone", servers.zone_text(ZONE, servers.hosts(len(NAMES)), 3600))
        nsd = servers.start_nsd(bench, free_port(), {ZONE: zone})
        names = bench.file("names", "".join(f"{name} A\n" for name in NAMES))
        print(", ".join(f"{key} {value}" for key, value in facts.items()))
        turn = 0
        for _ in range(options.times):
            noise = bench.noise()
            found = kill_one(bench, nsd.port, names)
            print(f"kill of one worker of two: {found}; others {noise.processors():.0%}")
        for way, flags in WAYS.items():
            for _ in range(options.times):
                turn += 1
                noise = bench.noise()
                found = take_over(bench, nsd.port, names, flags, turn)
                print(f"takeover, {way}: {found}; others {noise.processors():.0%}", flush=True)
        say("done")


if __name__ == "__main__":
    run_script(main)
