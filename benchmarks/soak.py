"""A long run under load with kills and outages, in which every answer is checked.

A server answers 2,000 queries a second (`--rate`). Every 30 seconds it is killed (SIGKILL) and
started again, and half-way its settings are read again (SIGHUP); every 2 minutes its upstream fails
in one of six ways for 40 seconds, with a kill in the middle. With several workers every other kill
is of one worker, which its parent replaces while the others answer. An address tells the name and
the moment that it is of, so a wrong one shows. What counts as a fault: a wrong answer, a query lost
or failed while the server was up, a name that had been written and is not known after a kill, a
worker that is not replaced, and a server whose memory, descriptors, disk or waits grow from life to
life. Queries that a killed worker had not answered yet go with it; they are counted by themselves.

    make soak            # 30 minutes
    make soak ARGS="--minutes 60 --rate 300"
    make soak ARGS="--workers 2"
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import accounting
from benchmarks.soak_upstream import FAILURES, address, changes, name_of

HOST = "127.0.0.1"
NAMES = 2000
QPS = 2000
SOCKETS = 8
KILL_SECONDS, OUTAGE_SECONDS, OUTAGE_EVERY = 30.0, 40.0, 120.0
FLUSH_SECONDS = 1.0
WRITTEN_SECONDS = 3.0  # after which an answer has been written: three times the flush interval
PATIENCE = 6.0  # a client gives up after five
TICK = 0.005
PORT_MIN, PORT_MAX = 20_000, 32_768  # ip(7), ip_local_port_range: the latter is its usual start
P99_SLACK = 5000  # microseconds: others use the machine too
KILLED_SECONDS = 10.0  # for the kernel to end what was killed
GROWTH_MAX = 1.1  # of the median of the last third of all lives over that of the first
DISK_SLACK = 2 << 20  # octets: the log may be as large as it gets, or just have been emptied
HEADER = struct.Struct("!6H")


@dataclass
class Life:
    """One life of the server: when it was up, and what it took shortly before its end."""

    begun: float
    ready: float = 0.0
    killed: float = 0.0
    resident: int = 0
    descriptors: int = 0
    disk: int = 0


@dataclass
class Tally:
    """What has come of all queries."""

    sent: int = 0
    right: int = 0
    stale: int = 0
    while_down: int = 0  # sent, or under way, while there was no server that had said it is ready
    with_worker: int = 0  # not answered yet by a worker that was killed
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    rcodes: Counter[int] = field(default_factory=Counter)


class Asker(asyncio.DatagramProtocol):
    """One client socket."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self.waiting: dict[int, tuple[int, float]] = {}
        self._next = random.randrange(65536)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def ask(self, number: int, now: float) -> None:
        self._next = self._next + 1 & 0xFFFF
        self.waiting[self._next] = number, now
        head = HEADER.pack(self._next, 0x0100, 1, 0, 0, 0)
        self.transport.sendto(head + name_of(number) + b"\0\1\0\1")

    def datagram_received(self, data: bytes, addr: object) -> None:
        found = self.waiting.pop(int.from_bytes(data[:2], "big"), None)
        if found is not None:
            self._soak.answered(*found, data)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens: the query counts when it is given up."""


class Soak:
    """The whole run."""

    def __init__(self, seconds: float, workers: int, root: Path, rate: float = 0.0) -> None:
        self._seconds = seconds
        self._rate = rate or QPS
        self.waits: list[list[float]] = [[]]  # of the answers of each minute with an upstream
        self._workers = workers
        self._root = root
        self.tally = Tally()
        self.lives: list[Life] = []
        self._known: dict[int, float] = {}  # since when each name has been answered
        self._dark = False
        self._askers: list[Asker] = []
        self._chance = random.Random(1)
        self._port, self._up_port = free_port(), free_port()
        self.outages = self.worker_kills = 0
        self._orphans: set[tuple[Asker, int, float]] = set()  # were waited for as a worker was gone
        self._spent = 0.0  # processor seconds of the lives that are over
        self.others = 0.0  # processors used by strangers, in the mean

    # -- answers ----------------------------------------------------------------------------

    def _up(self, since: float, until: float) -> bool:
        """True if one server was ready all the time from `since` until `until`."""
        return any(
            life.ready and life.ready <= since and not (life.killed and life.killed <= until)
            for life in self.lives[-3:]
        )

    def answered(self, number: int, sent: float, data: bytes) -> None:
        tally, now = self.tally, time.monotonic()
        rcode = data[3] & 15
        tally.rcodes[rcode] += 1
        what = f"n{number} after {now - self._began:.1f} s: "
        if rcode or data[6:8] != b"\0\1":
            since = self._known.get(number)
            if not self._up(sent, sent):
                tally.while_down += 1
            elif since is None or now - since < WRITTEN_SECONDS + KILL_SECONDS:
                tally.failed.append(f"{what}rcode {rcode}")
            else:
                tally.forgotten.append(f"{what}rcode {rcode}, known for {now - since:.0f} s")
            return
        found, expected = data[-4:], address(number, time.time())
        age = (expected[3] - found[3]) % 256
        if found[:3] != expected[:3] or (not changes(number) and found[3]) or age > 128:
            tally.wrong.append(f"{what}{found.hex()}, not {expected.hex()}")
            return
        tally.right += 1
        if not self._dark and self._up(sent - 1.0, now):
            self.waits[-1].append(now - sent)
        tally.stale += self._dark
        self._known.setdefault(number, now)

    def _give_up(self, now: float) -> None:
        for asker in self._askers:
            late = [i for i, (_, sent) in asker.waiting.items() if now - sent > PATIENCE]
            for key in late:
                number, sent = asker.waiting.pop(key)
                if (asker, key, sent) in self._orphans:
                    self._orphans.discard((asker, key, sent))
                    self.tally.with_worker += 1
                elif self._up(sent, sent + PATIENCE):
                    self.tally.lost.append(f"n{number} sent after {sent - self._began:.1f} s")
                else:
                    self.tally.while_down += 1

    # -- the stage --------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end of the time."""
        upstream = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("soak_upstream.py")),
            str(self._up_port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert upstream.stdout is not None
        await upstream.stdout.readline()
        loop = asyncio.get_running_loop()
        for _ in range(SOCKETS):
            _, asker = await loop.create_datagram_endpoint(
                lambda: Asker(self), remote_addr=(HOST, self._port)
            )
            self._askers.append(asker)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._start()
            self._began = time.monotonic()
            busy, used = accounting.busy_seconds(), self._used(upstream.pid)
            tasks = [
                asyncio.create_task(part)
                for part in (self._load(), self._kills(), self._outages(upstream), self._show())
            ]
            await asyncio.wait(tasks, timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()  # none of them ends by itself
            strangers = accounting.busy_seconds() - busy - self._used(upstream.pid) + used
            self.others = max(strangers, 0.0) / (time.monotonic() - self._began)
            tasks[0].cancel()
            await asyncio.sleep(PATIENCE)
            self._give_up(float("inf"))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for process in (self._server, upstream):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await self._reader
            for asker in self._askers:
                asker.transport.close()
            await asyncio.sleep(0)  # let what was closed say so

    async def _start(self) -> None:
        life = Life(time.monotonic())
        self.lives.append(life)
        self._server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dnsguard", "serve", "--listen", f"{HOST}:{self._port}",
            "--upstream", f"{HOST}:{self._up_port}", "--admin", "off",
            "--state-dir", str(self._root / "state"), "--set", f"workers={self._workers}",
            "--set", f"store.flush_interval={FLUSH_SECONDS:g}s",
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._server.stderr is not None
        said = []
        while line := await self._server.stderr.readline():
            if re.search(rb"ready in \d+ ms", line):
                life.ready = time.monotonic()
                self._reader = asyncio.create_task(self._server.stderr.read())
                return
            said.append(line.decode())
        raise SystemExit(f"the server did not start; it said:\n{''.join(said)}")

    async def _load(self) -> None:
        due = time.monotonic()
        everyone = iter(range(NAMES))
        while True:
            now = time.monotonic()
            while due <= now:
                number = next(everyone, None)
                if number is None:  # few names are asked for often
                    number = int(NAMES * self._chance.random() ** 3)
                self._askers[self.tally.sent % SOCKETS].ask(number, now)
                self.tally.sent += 1
                due += 1 / self._rate
            self._give_up(now)
            await asyncio.sleep(TICK)

    async def _kills(self) -> None:
        for count in range(1, 1 << 30):
            await self._until((count - 0.5) * KILL_SECONDS)
            self._server.send_signal(signal.SIGHUP)
            await self._until(count * KILL_SECONDS - 1.0)
            if self._workers > 1 and count % 2:
                await self._until(count * KILL_SECONDS)
                await self._kill_worker()
                continue
            self._weigh(self.lives[-1])
            await self._until(count * KILL_SECONDS)
            self._spent += accounting.tree_cpu_seconds(self._server.pid)
            self.lives[-1].killed = time.monotonic()
            self._server.send_signal(signal.SIGKILL)
            await self._server.wait()
            await self._start()

    async def _kill_worker(self) -> None:
        """Kill one of them, and note which queries nobody had answered when it was gone."""
        victim = self._chance.choice(accounting.children(self._server.pid))
        os.kill(victim, signal.SIGKILL)
        self.worker_kills += 1
        async with asyncio.timeout(KILLED_SECONDS):
            while accounting.is_alive(victim):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.001)
        self._orphans |= {
            (asker, key, sent) for asker in self._askers for key, (_, sent) in asker.waiting.items()
        }

    async def _outages(self, upstream: asyncio.subprocess.Process) -> None:
        assert upstream.stdin is not None
        for count in range(1, 1 << 30):
            await self._until(count * OUTAGE_EVERY - OUTAGE_SECONDS / 2)
            upstream.stdin.write(f"{FAILURES[(count - 1) % len(FAILURES)]}\n".encode())
            self._dark = True
            self.outages += 1
            await self._until(count * OUTAGE_EVERY + OUTAGE_SECONDS / 2)
            upstream.stdin.write(b"well\n")
            self._dark = False
            self.waits.append([])

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(self._began + moment - time.monotonic())

    def _weigh(self, life: Life) -> None:
        pid = self._server.pid
        workers = accounting.children(pid)
        if self._workers > 1 and len(workers) != self._workers:
            self.tally.failed.append(f"{len(workers)} workers, not {self._workers}")
        for one in [pid, *workers]:
            status = Path(f"/proc/{one}/status").read_text()
            resident = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert resident is not None
            life.resident += int(resident[1]) * 1024
            life.descriptors += len(os.listdir(f"/proc/{one}/fd"))
        life.disk = sum(f.stat().st_size for f in self._root.rglob("*") if f.is_file())

    def _used(self, upstream: int) -> float:
        """Processor seconds of this script, its servers and its upstream."""
        living = accounting.tree_cpu_seconds(self._server.pid) + accounting.tree_cpu_seconds(
            upstream
        )
        return sum(os.times()[:2]) + self._spent + living

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(10)
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Say how far it has come."""
        tally = self.tally
        found = (tally.wrong, tally.lost, tally.failed, tally.forgotten)
        faults = " + ".join(str(len(some)) for some in found)
        return (
            f"{time.monotonic() - self._began:5.0f} of {self._seconds:.0f} s: {tally.sent:,} sent, "
            f"{tally.right:,} right, {len(self.lives) - 1} kills, "
            f"{f'{self.worker_kills} of a worker, ' if self.worker_kills else ''}"
            f"{self.outages} outages"
            f"{' (dark)' if self._dark else ''}, {faults} faults"  # wrong, lost, failed, forgotten
        )

    # -- the end ----------------------------------------------------------------------------

    def report(self) -> bool:
        """Print what came of it; True if there is no fault."""
        tally = self.tally
        rows = [
            ("wrong answers", tally.wrong),
            ("lost while the server was up", tally.lost),
            ("failed while the server was up", tally.failed),
            ("written names not known after a kill", tally.forgotten),
        ]
        print(f"\n{self.line()}")
        print(
            f"\n{tally.sent:,} queries at {self._rate:g} a second for {NAMES:,} names, flush 1 s:"
        )
        print(f"  right {tally.right:,}, of them in an outage {tally.stale:,}")
        print(f"  without a server that was ready {tally.while_down:,}")
        if self.worker_kills:
            print(f"  not answered yet by a worker that was killed {tally.with_worker:,}")
        print("  rcodes " + ", ".join(f"{k}: {v:,}" for k, v in sorted(tally.rcodes.items())))
        starts = [life.ready - life.begun for life in self.lives if life.ready]
        print(
            f"  ready {statistics.median(starts):.2f} s after a kill, at most {max(starts):.2f} s"
        )
        print(f"  other programs used {self.others:.0%} of a processor, of {os.cpu_count()}")
        good = True
        print()
        for what, found in rows:
            good &= not found
            print(f"{what:40} {len(found):>10}  {'missed' if found else 'ok'}")
            for text in found[:5]:
                print(f"    {text}")
        weighed = [life for life in self.lives if life.resident]
        for what, values, slack in (
            ("resident, bytes", [life.resident for life in weighed], 0),
            ("descriptors", [life.descriptors for life in weighed], 2),
            ("disk, bytes", [life.disk for life in weighed], DISK_SLACK),
            ("p99 of a quiet minute, µs", [p99(turn) for turn in self.waits if turn], P99_SLACK),
        ):
            good &= grown(what, values, slack)
        return good


def grown(what: str, values: Sequence[int], slack: int) -> bool:
    """Compare the last third of all lives with the first; True if it has not grown."""
    third = max(len(values) // 3, 1)
    if len(values) < 2:
        print(f"{what:40} too short a run to tell")
        return True
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    fine = last <= first * GROWTH_MAX + slack
    print(f"{what:40} {first:>10,.0f} -> {last:,.0f}  {'ok' if fine else 'missed'}")
    return fine


def p99(waits: Sequence[float]) -> int:
    """Return the wait, in microseconds, that one answer in a hundred has longer than."""
    return round(sorted(waits)[len(waits) * 99 // 100] * 1e6)


def free_port() -> int:
    """Return a port that is free for UDP and TCP, and below those that the kernel hands out.

    Between a kill and the next start another program's client would get it otherwise.
    """
    while True:
        port = random.randrange(PORT_MIN, PORT_MAX)
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket() as tcp,
        ):
            udp.bind((HOST, port))
            tcp.bind((HOST, port))
            return port


def main() -> int:
    """Run, and report."""
    parser = argparse.ArgumentParser(
        description="Kills and outages under load, all answers checked."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rate", type=float, default=QPS, help="queries a second (%(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        soak = Soak(chosen.minutes * 60, chosen.workers, Path(root), chosen.rate)
        asyncio.run(soak.run())
        return 0 if soak.report() else 1


if __name__ == "__main__":
    sys.exit(main())
