"""dnsguard beside Unbound on this machine: cached hits and unique misses, in one interleaved run.

Every round measures each server once, one after the other, with the same dnsperf options, the same
names and the same NSD behind them; the table shows the medians of all rounds. A bare C program that
sends every datagram back (recvmmsg/sendmmsg, compiled on the spot when gcc is there) is the
yardstick: what the kernel alone costs. CPU is the server's own, user and system, per answer.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accounting, harness, reporting, servers
from benchmarks.dnsperf import Load, dnsperf
from benchmarks.harness import Bench, Program, say
from benchmarks.peers import echo, unbound
from benchmarks.peers.peer import MissingError
from benchmarks.reporting import median

HIT_NAMES = 1000
HIT_ZONE = "hit.svc.cluster.local"
MISS_ZONE = "miss.svc.cluster.local"
TTL = 3600
MISS_ADDRESS = "192.0.2.1"
MISS_RATE = 120_000  # names written for each second of a miss run: more than any server here asks

PEERS = {"unbound": unbound.PEER, "echo": echo.PEER}


@dataclass(frozen=True)
class Sample:
    """One server, one kind of work, one round."""

    round: int
    work: str
    server: str
    qps: float
    cpu_us: float  # of the server, per answered query
    busy: float  # share of one processor that the server used
    others: float  # processors used by strangers: the noise
    lost: int
    errors: int


@dataclass(frozen=True)
class Row:
    """The medians of one server at one kind of work; ratios are medians of each round's ratio."""

    work: str
    server: str
    qps: float
    qps_ratio: float | None  # to Unbound in the same round
    cpu_us: float
    cpu_ratio: float | None
    busy: float
    others: float
    lost: int
    errors: int


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="dnsguard and Unbound: hits and misses in one run")
    parser.add_argument("--servers", default="dnsguard,unbound,echo", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--outstanding", type=int, default=100, help="in flight (dnsperf -q)")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=(os.cpu_count() or 1) > 1,
        help="each measured server on processor 0, dnsperf and NSD on processor 1",
    )
    parser.add_argument("--json", type=Path, help="write every sample and the medians there")
    return parser.parse_args()


def start_peer(bench: Bench, name: str, upstream: int, cpu: int | None) -> list[Program]:
    try:
        program = servers.start_peer(bench, PEERS[name], upstream, cpu=cpu)
    except MissingError as reason:
        say(f"{name} is left out: {reason}")
        return []
    program.name = name
    return [program]


def start_servers(bench: Bench, options: argparse.Namespace) -> list[Program]:
    """The servers to be measured, and NSD behind them."""
    front, back = (0, 1) if options.pin else (None, None)
    hits, wild = servers.hosts(HIT_NAMES), {"*": MISS_ADDRESS}
    zones = {
        HIT_ZONE: bench.file("hit.zone", servers.zone_text(HIT_ZONE, hits, TTL)),
        MISS_ZONE: bench.file("miss.zone", servers.zone_text(MISS_ZONE, wild, TTL)),
    }
    nsd = servers.start_nsd(bench, harness.free_port(), zones, cpu=back)
    harness.await_answer(nsd, f"n0.{HIT_ZONE}")
    fronts: list[Program] = []
    for name in options.servers.split(","):
        say(f"starting {name}")
        if name == "dnsguard":
            extra = ("--set", "cache.max_bytes=512MiB")
            fronts.append(servers.start_dnsguard(bench, nsd.port, *extra, cpu=front))
        elif name in PEERS:
            fronts += start_peer(bench, name, nsd.port, front)
        else:
            raise SystemExit(f"--servers {name}: known are dnsguard, unbound and echo")
    for server in fronts:
        if server.name != "echo":
            harness.await_answer(server, f"n0.{HIT_ZONE}")
    return fronts


def measure(
    bench: Bench, number: int, work: str, server: Program, names: Path, options: argparse.Namespace
) -> Sample:
    """One dnsperf run; a miss run goes through its file once, so that no name comes twice."""
    flags = ["-l", str(options.seconds), "-q", str(options.outstanding), "-t", "2"]
    flags += ["-n", "1"] if work == "miss" else []
    noise = bench.noise()
    before = accounting.cpu_seconds(server.pid)
    load = dnsperf(server.port, names, *flags, cpu=1 if options.pin else None)
    watch(server, load)
    used = accounting.cpu_seconds(server.pid) - before
    return Sample(
        round=number,
        work=work,
        server=server.name,
        qps=load.qps,
        cpu_us=1e6 * used / max(load.completed, 1),
        busy=used / load.seconds,
        others=noise.processors(),
        lost=load.lost,
        errors=load.completed - load.rcodes.get("NOERROR", 0),
    )


def watch(server: Program, load: Load) -> None:
    """A server that loses queries or fails them is worth a look at once: its log goes with it."""
    failed = load.completed - load.rcodes.get("NOERROR", 0)
    if load.lost or failed:
        say(f"{server.name} lost {load.lost} and failed {failed} queries. Its log ends with:")
        say(server.tail() or "(nothing)")


def run(bench: Bench, options: argparse.Namespace) -> list[Sample]:
    fronts = start_servers(bench, options)
    hit_names = bench.file("hit.names", "".join(f"n{n}.{HIT_ZONE} A\n" for n in range(HIT_NAMES)))
    for server in fronts:
        watch(server, dnsperf(server.port, hit_names, "-n", "2", "-q", "50"))
    samples: list[Sample] = []
    for number in range(1, options.rounds + 1):
        for work in ("hit", "miss"):
            names = hit_names if work == "hit" else unique_names(bench, options.seconds)
            # The order turns round by round, so that no server always follows the same one.
            turn = number % len(fronts)
            for server in fronts[turn:] + fronts[:turn]:
                if work == "miss" and server.name == "echo":
                    continue
                one = measure(bench, number, work, server, names, options)
                samples.append(one)
                say(
                    f"round {number}/{options.rounds} {work:4} {server.name:8} {one.qps:8,.0f} qps "
                    f"{one.cpu_us:6.2f} us/query, busy {one.busy:4.0%}, others {one.others:4.0%}, "
                    f"lost {one.lost}"
                )
    return samples


def unique_names(bench: Bench, seconds: float) -> Path:
    """Names that no server has seen: the labels carry a fresh random tag."""
    tag = secrets.token_hex(3)
    count = int(MISS_RATE * seconds)
    return bench.file("miss.names", "".join(f"{tag}{n:x}.{MISS_ZONE} A\n" for n in range(count)))


def summary(samples: list[Sample]) -> list[Row]:
    rows: list[Row] = []
    for work, server in dict.fromkeys((sample.work, sample.server) for sample in samples):
        mine = [sample for sample in samples if (sample.work, sample.server) == (work, server)]
        base = {
            sample.round: sample
            for sample in samples
            if (sample.work, sample.server) == (work, "unbound")
        }
        pairs = [(sample, base[sample.round]) for sample in mine if sample.round in base]
        rows.append(
            Row(
                work=work,
                server=server,
                qps=median([sample.qps for sample in mine]),
                qps_ratio=median([a.qps / b.qps for a, b in pairs]) if pairs else None,
                cpu_us=median([sample.cpu_us for sample in mine]),
                cpu_ratio=median([a.cpu_us / b.cpu_us for a, b in pairs]) if pairs else None,
                busy=median([sample.busy for sample in mine]),
                others=median([sample.others for sample in mine]),
                lost=sum(sample.lost for sample in mine),
                errors=sum(sample.errors for sample in mine),
            )
        )
    return sorted(rows, key=lambda row: (row.work, -row.qps))


def report(rows: list[Row]) -> str:
    def ratio(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    head = ["work", "server", "qps", "x unbound", "CPU us/query", "x unbound"]
    head += ["busy", "others", "lost", "errors"]
    lines = [
        [
            row.work,
            row.server,
            f"{row.qps:,.0f}",
            ratio(row.qps_ratio),
            f"{row.cpu_us:.2f}",
            ratio(row.cpu_ratio),
            f"{row.busy:.0%}",
            f"{row.others:.0%}",
            str(row.lost),
            str(row.errors),
        ]
        for row in rows
    ]
    return reporting.table(head, lines)


def main() -> None:
    options = arguments()
    harness.require("nsd", "dnsperf", *(["unbound"] if "unbound" in options.servers else []))
    harness.require(*(["taskset"] if options.pin else []))
    facts = accounting.machine()
    with Bench() as bench:
        samples = run(bench, options)
    rows = summary(samples)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(
        f"Medians of {options.rounds} interleaved rounds of {options.seconds:g} s, "
        f"{options.outstanding} queries in flight, one worker each; ratios are taken per round."
    )
    print("busy: one processor = 100 %. others: processors used by strangers; high means noise.\n")
    print(report(rows))
    if options.json:
        everything = {"machine": facts, "medians": rows, "samples": samples}
        reporting.write_json(options.json, everything)


if __name__ == "__main__":
    harness.run_script(main)
