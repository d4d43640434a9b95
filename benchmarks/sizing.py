"""The sizing table of docs/kubernetes.md: `python -m benchmarks.sizing` measures and prints it.

Each cache is that of a process of its own, started as injection starts a sidecar, and asked for so
many different names that it is full. Memory is what the kernel says is resident, processor time
what it has charged; the machine's speed is in the second, nobody's patience in the first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import accounting
from benchmarks.asking import ask_all
from benchmarks.harness import Bench, Program, await_answer, free_port, run_script, say
from dnsguard.kube.profile import BASE_MIB, HEADROOM

CACHES = ("16MiB", "32MiB", "64MiB")
NAMES = 300_000
BATCH = 20_000  # ids are 16 bits
BATCH_SECONDS = 120.0
HITS = 100_000
UPSTREAM = Path(__file__).with_name("floods_upstream.py")


@dataclass(frozen=True)
class Size:
    """What one process came to."""

    cache: str
    idle_mib: float
    full_mib: float
    miss_microseconds: float
    hit_microseconds: float

    def row(self) -> str:
        """A row of the table."""
        limit = round(HEADROOM * (BASE_MIB + int(self.cache.removesuffix("MiB"))))
        return (
            f"| {self.cache} | {self.idle_mib:.0f} MiB | {self.full_mib:.0f} MiB | {limit}Mi "
            f"| {self.miss_microseconds:.0f} µs | {self.hit_microseconds:.0f} µs |"
        )


def name(number: int) -> str:
    """A name as a cluster has them; the upstream gives an hour to those that begin so."""
    return f"hot{number}.shop-{number % 100}.svc.cluster.local"


@contextmanager
def upstream() -> Iterator[int]:
    """The port of a server that has an address for every name."""
    with subprocess.Popen(
        [sys.executable, str(UPSTREAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()  # which ends it


def ask_for(server: Program, numbers: range) -> float:
    """Ask for these names; return CPU seconds for an answer, all processes of the server's."""
    before, answers = accounting.group_cpu_seconds({server.pid}), 0
    for batch in _batches(numbers):
        answers += len(ask_all(server.port, [name(number) for number in batch], BATCH_SECONDS))
    return (accounting.group_cpu_seconds({server.pid}) - before) / answers


def _batches(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]


def measure(bench: Bench, source: int, cache: str, names: int) -> Size:
    """One process from its start until its cache is full."""
    port = free_port()
    state = bench.directory / f"state-{cache}"
    state.mkdir()
    server = bench.start(
        f"dnsguard {cache}",
        [sys.executable, "-m", "dnsguard", "serve", f"--listen=127.0.0.1:{port}",
         "--admin=127.0.0.1:0", f"--state-dir={state}", f"--upstream=127.0.0.1:{source}",
         f"--set=cache.max_bytes={cache}", "--set=store.max_bytes=32MiB"],
        port=port,
    )  # fmt: skip
    await_answer(server, name(0))
    idle = accounting.group_resident_kib(server.pid) / 1024
    miss = ask_for(server, range(names))
    last = range(names - BATCH // 4, names)  # what is in every cache
    ask_for(server, last)
    hits = [ask_for(server, last) for _ in range(HITS // len(last))]
    full = accounting.group_resident_kib(server.pid) / 1024
    server.stop()
    return Size(cache, idle, full, 1e6 * miss, 1e6 * sum(hits) / len(hits))


def main() -> int:
    """Measure every cache and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=NAMES, help="how many are asked for")
    given = parser.parse_args()
    rows = []
    with Bench() as bench, upstream() as source:
        for cache in CACHES:
            say(f"cache.max_bytes {cache}, {given.names:,} names")
            rows.append(measure(bench, source, cache, given.names).row())
    print("| `cache.max_bytes` | idle | full | limit | CPU, new name | CPU, cached |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    run_script(main)
