"""Where the servers are compared: the upstream, its zones, and one measured server at a time.

Every sample begins with a fresh process and ends with it, so that none lives off what another one
left behind and none works in the background of another's sample. The measured server has a
processor for itself; the load, the upstream and this script share another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import accounting, harness, servers
from benchmarks.asking import ask, stub
from benchmarks.harness import Bench, Broken, Program
from benchmarks.meters import Meter, Result, Task
from benchmarks.peers.peer import Peer

HIT_ZONE = "hit.svc.cluster.local"
MISS_ZONE = "miss.svc.cluster.local"
BRIEF_ZONE = "brief.svc.cluster.local"
HIT_NAMES = [f"n{number}.{HIT_ZONE}" for number in range(1000)]
BRIEF_NAMES = [f"n{number}.{BRIEF_ZONE}" for number in range(1000)]
TTL, BRIEF_TTL = 3600, 2
ENTRIES = 1_000_000
START_POLL = 0.002


@dataclass(frozen=True)
class Entrant:
    """A peer in one of its ways of serving stale answers, or in none."""

    peer: Peer
    stale: str = ""

    @property
    def label(self) -> str:
        return f"{self.peer.name} ({self.stale})" if self.stale else self.peer.name


@dataclass(frozen=True)
class Processors:
    """Who runs where; None leaves it to the kernel."""

    server: int | None = None
    load: int | None = None

    @classmethod
    def apart(cls) -> Processors:
        """The first two that we may use; none is pinned where there is only one."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls()


class Stage:
    """The upstream runs as long as this does."""

    def __init__(self, bench: Bench, meter: Meter, cpus: Processors, nsd: bool = True) -> None:
        self.bench = bench
        self.meter = meter
        self._cpus = cpus
        if cpus.load is not None:
            os.sched_setaffinity(0, {cpus.load})
        self.upstream = self._start_nsd() if nsd else self._start_answers()
        harness.await_answer(self.upstream, HIT_NAMES[0])
        self.hit_names = self.names("hit.names", HIT_NAMES)
        self.brief_names = self.names("brief.names", BRIEF_NAMES)

    def _start_nsd(self) -> Program:
        def numbered(zone: str, ttl: int) -> Path:
            text = servers.zone_text(zone, servers.hosts(len(HIT_NAMES)), ttl)
            return self.bench.file(f"{zone}.zone", text)

        wild = servers.zone_text(MISS_ZONE, {"*": "192.0.2.1"}, TTL)
        zones = {
            HIT_ZONE: numbered(HIT_ZONE, TTL),
            BRIEF_ZONE: numbered(BRIEF_ZONE, BRIEF_TTL),
            MISS_ZONE: self.bench.file(f"{MISS_ZONE}.zone", wild),
        }
        return servers.start_nsd(self.bench, harness.free_port(), zones, cpu=self._cpus.load)

    def _start_answers(self) -> Program:
        port = harness.free_port()
        script = Path(__file__).with_name("answers.py")
        return self.bench.start("answers", [sys.executable, str(script), str(port)], port)

    def names(self, file: str, names: Sequence[str]) -> Path:
        """A file for the meters: a name and a type on each line."""
        return self.bench.file(file, "".join(f"{name} A\n" for name in names))

    # --- the measured server -----------------------------------------------------------------

    def start(self, entrant: Entrant, entries: int = ENTRIES) -> Program:
        return servers.start_peer(
            self.bench, entrant.peer, self.upstream.port, entries, entrant.stale, self._cpus.server
        )

    @contextlib.contextmanager
    def server(self, entrant: Entrant, entries: int = ENTRIES) -> Iterator[Program]:
        """A fresh process that answers already; killed at the end. Raises Broken if it dies."""
        program = self.start(entrant, entries)
        try:
            harness.await_answer(program, HIT_NAMES[0])
            yield program
            if (code := program.process.poll()) is not None:
                raise Broken(
                    f"it ended with exit code {code}; its log ends with:\n{program.tail()}"
                )
        except Broken as reason:
            raise Broken(f"{reason}\n{program.tail()}" if program.tail() else str(reason)) from None
        finally:
            program.kill()

    def first_answer(self, entrant: Entrant) -> float:
        """Seconds from exec to the first answer."""
        program = self.start(entrant)
        try:
            with stub(program.port, timeout=START_POLL) as sock:
                while time.monotonic() < program.started + harness.SETTLE_SECONDS:
                    reply = ask(sock, HIT_NAMES[0])
                    if reply and reply.rcode == "NOERROR":
                        return time.monotonic() - program.started
                    time.sleep(START_POLL)
            raise Broken(f"no answer after its start:\n{program.tail()}")
        finally:
            program.kill()

    def measure(self, server: Program, task: Task) -> Result:
        result = self.meter.run(task, lambda: accounting.group_cpu_seconds({server.pid}))
        if not result.answers:
            raise Broken(f"no good answer at all: {result.lost} lost, {result.errors} failed")
        return result

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """The upstream neither answers nor refuses."""
        self.upstream.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.upstream.signal(signal.SIGCONT)
