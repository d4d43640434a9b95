"""How long a restart takes until the server is ready, with many names on disk and with none.

`python benchmarks/restart.py [NAMES]` has a server learn names from NSD, kills both, and starts the
server a few times in that outage. Ready is its log line; every name must then be answered, stale.
Milliseconds are counted from before exec, so the start of Python is in them.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks import servers
from benchmarks.asking import LOOPBACK, ask_all
from benchmarks.harness import Bench, Program, free_port, require, run_script, say

NAMES = 10_000
ROUNDS = 7
ORIGIN = "cluster.local"
PATIENCE = 30.0


def start(bench: Bench, port: int, admin: int, upstream: int, *state: str) -> tuple[Program, float]:
    """Start a server; return it and the milliseconds until it said that it was ready."""
    command = [sys.executable, "-m", "dnsguard", "serve", "--listen", f"{LOOPBACK}:{port}"]
    command += ["--upstream", f"{LOOPBACK}:{upstream}", "--admin", f"{LOOPBACK}:{admin}", *state]
    program = bench.start("dnsguard", command, port)
    until = time.monotonic() + PATIENCE
    while " ready " not in program.output():
        if time.monotonic() > until or program.process.poll() is not None:
            raise SystemExit(f"it was never ready:\n{program.tail()}")
        time.sleep(0.001)
    return program, (time.monotonic() - program.started) * 1000


def rows(admin: int) -> int:
    """How many answers are on disk."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{admin}/metrics") as reply:
        found = re.search(r"^dnsguard_store_rows (\S+)$", reply.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def main() -> None:
    """Print the medians."""
    require("nsd")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else NAMES
    names = [f"n{number}.default.svc.{ORIGIN}" for number in range(count)]
    with Bench() as bench:
        state = ("--state-dir", str(bench.directory / "state"))
        upstream, port, admin = free_port(), free_port(), free_port()
        zone = bench.file("zone", servers.zone_text(ORIGIN, {"*.default.svc": "10.1.2.3"}, 5))
        nsd = servers.start_nsd(bench, upstream, {ORIGIN: Path(zone)})
        first, _ = start(bench, port, admin, upstream, *state)
        while rows(admin) < count:
            ask_all(port, names, PATIENCE)
            time.sleep(0.5)
        say(f"{count} names are on disk")
        first.kill()
        nsd.kill()
        for label, flags in (("no state", ("--no-state",)), (f"{count} names", state)):
            took = []
            for _ in range(ROUNDS):
                server, milliseconds = start(bench, port, admin, upstream, *flags)
                took.append(milliseconds)
                stale = sum(r.ede == 3 for r in ask_all(port, names, PATIENCE).values())
                if stale != (count if flags == state else 0):
                    raise SystemExit(f"{label}: {stale} of {count} names are answered stale")
                server.kill()
            print(
                f"{label}: ready after {statistics.median(took):.0f} ms "
                f"(best {min(took):.0f}, worst {max(took):.0f}, {ROUNDS} starts)"
            )


if __name__ == "__main__":
    run_script(main)
