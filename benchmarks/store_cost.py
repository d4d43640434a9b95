"""What keeping answers on disk costs: the same server with a state directory and without, in turn.

Two kinds of work, round by round, the order turning: cached answers flat out, for which nothing is
written; and a steady rate of which most names run out every five seconds and some were never asked
before, so that each second has answers to write. CPU is the server's own, of all its threads; the
ratios are taken within each round, and their quartiles say how far the machine can be trusted.

    python benchmarks/store_cost.py --rounds 9
"""

from __future__ import annotations

import argparse
import random
import re
import secrets
import statistics
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accounting, harness, reporting, servers
from benchmarks.asking import LOOPBACK
from benchmarks.harness import Bench, Program, require, run_script, say
from benchmarks.meters import OwnMeter, Task
from benchmarks.soak import free_port

ON, OFF = "store on", "store off"
HIT_ZONE, BRIEF_ZONE, NEW_ZONE = (f"{word}.svc.cluster.local" for word in ("hit", "brief", "new"))
HIT_NAMES = [f"n{number}.{HIT_ZONE}" for number in range(1000)]
BRIEF_NAMES = [f"n{number}.{BRIEF_ZONE}" for number in range(2000)]
TTL, BRIEF_TTL = 3600, 5
NEW_EVERY = 50  # one query in so many is for a name that nobody has asked for
WARM_UP = 1.0
WITHIN = 0.03  # what the goal allows


@dataclass(frozen=True)
class Server:
    """One of the two, and where it tells of itself."""

    label: str
    program: Program
    admin: int

    def hits(self) -> tuple[float, float]:
        """Answers so far, of them from the cache and fresh."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.admin}/metrics") as reply:
            text = reply.read().decode()
        found = re.findall(
            r'^dnsguard_answers_total\{.*source="(\w+)".*\} (\S+)$', text, re.MULTILINE
        )
        numbers = [(source, float(count)) for source, count in found]
        return sum(n for _, n in numbers), sum(n for source, n in numbers if source == "hit")


@dataclass(frozen=True)
class Sample:
    """One server, one kind of work, one round; the values by their heading."""

    round: int
    work: str
    label: str
    values: dict[str, float]
    others: float


def start(bench: Bench, label: str, upstream: int, cpu: int | None) -> Server:
    port, admin = free_port(), free_port()
    command = [sys.executable, "-m", "dnsguard", "serve", "--listen", f"{LOOPBACK}:{port}"]
    command += ["--upstream", f"{LOOPBACK}:{upstream}", "--admin", f"{LOOPBACK}:{admin}"]
    keep = ["--state-dir", str(bench.directory / "state")] if label == ON else ["--no-state"]
    program = bench.start(label.replace(" ", "-"), [*command, *keep], port, cpu)
    harness.await_answer(program, HIT_NAMES[0])
    harness.learn(program, [*HIT_NAMES, *BRIEF_NAMES])
    return Server(label, program, admin)


def steady_names(bench: Bench, count: int) -> Path:
    """So many names, a share of them new."""
    tag, chance = secrets.token_hex(3), random.Random(7)
    new = (f"{tag}{number}.{NEW_ZONE}" for number in range(count))
    lines = (
        next(new) if number % NEW_EVERY == 0 else chance.choice(BRIEF_NAMES)
        for number in range(count)
    )
    return bench.file("steady.names", "".join(f"{name} A\n" for name in lines))


def measure(
    bench: Bench, meter: OwnMeter, server: Server, number: int, work: str, task: Task
) -> Sample:
    noise = bench.noise()
    answers, hits = server.hits()
    result = meter.run(task, lambda: accounting.group_run_seconds(server.program.pid))
    after, hits_after = server.hits()
    if result.lost or result.errors:
        say(f"{server.label}: {result.lost} lost, {result.errors} failed")
    values = {"answers/s": result.qps, "CPU µs/answer": 1e6 * result.cpu_seconds / result.answers}
    if work == "steady":
        values["hits"] = (hits_after - hits) / (after - answers)
        values |= {f"{p} µs": result.latency[p] * 1e6 for p in ("p50", "p99")}
    sample = Sample(number, work, server.label, values, noise.processors())
    told = ", ".join(f"{key} {value:,.4g}" for key, value in values.items())
    say(f"round {number} {work} {server.label}: {told}, others {sample.others:.0%}")
    return sample


def rows(samples: Sequence[Sample]) -> list[list[str]]:
    """A line for each number: both medians, and what the ratios of the rounds say."""
    lines = []
    for work in dict.fromkeys(sample.work for sample in samples):
        on, off = (
            {s.round: s.values for s in samples if (s.work, s.label) == (work, label)}
            for label in (ON, OFF)
        )
        for key in next(iter(on.values())):
            ratios = [on[turn][key] / off[turn][key] for turn in on if turn in off]
            low, middle, high = statistics.quantiles(ratios, n=4)
            medians = [statistics.median(v[key] for v in side.values()) for side in (off, on)]
            shown = [f"{m:.2%}" if key == "hits" else f"{m:,.2f}" for m in medians]
            verdict = "within" if abs(middle - 1) <= WITHIN else "not within"
            lines.append([work, key, *shown, f"{middle:.3f}", f"{low:.3f} to {high:.3f}", verdict])
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="dnsguard with answers on disk, and without.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--works", default="hits,steady", help="which of them")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=5000.0, help="queries a second, steady")
    options = parser.parse_args()
    require("nsd", "taskset")
    facts = accounting.machine()
    with Bench() as bench:
        hosts = servers.hosts(len(BRIEF_NAMES))
        zones = {
            HIT_ZONE: servers.zone_text(HIT_ZONE, hosts, TTL),
            BRIEF_ZONE: servers.zone_text(BRIEF_ZONE, hosts, BRIEF_TTL),
            NEW_ZONE: servers.zone_text(NEW_ZONE, {"*": "192.0.2.1"}, TTL),
        }
        files = {zone: bench.file(f"{zone}.zone", text) for zone, text in zones.items()}
        nsd = servers.start_nsd(bench, free_port(), files, cpu=1)
        pair = [start(bench, label, nsd.port, 0) for label in (OFF, ON)]
        hit_file = bench.file("hit.names", "".join(f"{name} A\n" for name in HIT_NAMES))
        meter = OwnMeter(1)
        samples = []
        for number in range(1, options.rounds + 1):
            count = int(options.rate * (options.seconds + WARM_UP))
            for work in options.works.split(","):
                for server in pair if number % 2 else pair[::-1]:
                    flat_out = work == "hits"
                    task = Task(
                        server.program.port,
                        hit_file if flat_out else steady_names(bench, count),
                        options.seconds, WARM_UP, qps=None if flat_out else options.rate,
                    )  # fmt: skip
                    samples.append(measure(bench, meter, server, number, work, task))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    others = statistics.median(sample.others for sample in samples)
    print(
        f"{options.rounds} rounds of {options.seconds:g} s each; steady: {options.rate:g} a second"
    )
    print(f"others (processors used by strangers): {others:.0%} in the median\n")
    head = ["work", "", OFF, ON, "ratio", "its quartiles", f"{WITHIN:.0%}"]
    print(reporting.table(head, rows(samples)))


if __name__ == "__main__":
    run_script(main)
