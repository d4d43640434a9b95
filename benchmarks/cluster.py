"""The cluster DNS of the outage benchmark: NSD with 2,000 Services, and the ways in which it fails.

Each failure changes every address in the zone, so that afterwards an answer shows by itself whether
it is fresh. It knows nothing of the proxy in front or of the load.
"""

from __future__ import annotations

import signal
import time

from benchmarks import harness, servers
from benchmarks.asking import Reply, ask, stub
from benchmarks.harness import Bench, Program

ORIGIN = "cluster.local"
OWNERS = [f"svc{number:04}.default.svc" for number in range(2000)]
NAMES = [f"{owner}.{ORIGIN}" for owner in OWNERS]
ORDER = {name: number for number, name in enumerate(NAMES)}
TTL = 5
WAYS = ("stopped", "killed", "servfail")


class Upstream:
    """NSD on one port, its zone's generation, and what takes its place when it is gone."""

    def __init__(self, bench: Bench) -> None:
        self.port = harness.free_port()
        self.generation = 0
        self._bench = bench
        self._edit()
        self._nsd = self._start()
        self._substitute: Program | None = None

    def address(self, name: str) -> str:
        number = ORDER[name]
        return f"10.{self.generation}.{number >> 8}.{number & 255}"

    def fresh(self, reply: Reply, name: str) -> bool:
        return reply.address == self.address(name)

    def prepare(self, way: str) -> None:
        """Have the SERVFAIL server waiting for the port, so that no gap of silence comes first."""
        if way == "servfail":
            self._substitute = servers.start_servfail(self._bench, self.port)

    def fail(self, way: str) -> None:
        if way == "stopped":
            # NSD learns the new zone just before it is stopped. Otherwise it would wake up with the
            # old one for a moment, and an old answer given then would be no fault of the proxy.
            self._edit()
            self._nsd.process.send_signal(signal.SIGHUP)
            harness.await_answer(self._nsd, NAMES[0], self.address(NAMES[0]))
            self._nsd.signal(signal.SIGSTOP)
            return
        self._nsd.kill()
        self._edit()
        if way == "servfail":
            with stub(self.port, timeout=0.02) as sock:
                while (reply := ask(sock, NAMES[0])) is None or reply.rcode != "SERVFAIL":
                    time.sleep(0.001)

    def come_back(self, way: str) -> None:
        """Returns when NSD itself answers with the new addresses."""
        if way == "stopped":
            self._nsd.signal(signal.SIGCONT)
            return
        if self._substitute:
            self._substitute.kill()
            self._substitute = None
        self._nsd = self._start()

    def _edit(self) -> None:
        self.generation += 1
        records = {owner: self.address(f"{owner}.{ORIGIN}") for owner in OWNERS}
        text = servers.zone_text(ORIGIN, records, TTL, serial=self.generation)
        self._zone = self._bench.file("cluster.zone", text)

    def _start(self) -> Program:
        nsd = servers.start_nsd(self._bench, self.port, {ORIGIN: self._zone})
        harness.await_answer(nsd, NAMES[0], self.address(NAMES[0]))
        return nsd
