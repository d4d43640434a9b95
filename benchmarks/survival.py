"""A DNS server dies in three ways while dnsperf asks; what do the clients of the proxy notice?

NSD serves 2,000 Services at TTL 5 and the proxy stands in front. In each phase every name is known,
dnsperf runs at a steady rate, and at its second 1 NSD is stopped (SIGSTOP), killed, or replaced by
a server that answers SERVFAIL. Then, under the same load, NSD comes back with other addresses in
its zone, so that an answer shows whether it is fresh. Latencies are dnsperf's own, query by query
(-v); freshness is seen by a poller that asks a few names every 20 ms, and by asking all at the end.
The exit status is 1 when dnsguard misses a requirement; a peer is only shown (`--system unbound`
asks first and waits 1.8 s, `--system unbound-at-once` gives stale answers before it asks).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accounting, dnsperf, harness, reporting, servers
from benchmarks.asking import Poller, Sight, ask, ask_all, stub
from benchmarks.cluster import NAMES, ORDER, TTL, WAYS, Upstream
from benchmarks.dnsperf import Load
from benchmarks.harness import Bench, Program, say
from benchmarks.peers import unbound
from benchmarks.peers.peer import AT_ONCE, VERIFY
from benchmarks.reporting import percentile

SYSTEMS = ("dnsguard", "unbound", "unbound-at-once")
POINTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
POLLED = NAMES[:: len(NAMES) // 8]
POLL_INTERVAL = 0.02
BREAK_AT = 1.0  # seconds of a run before NSD fails, or comes back
HEALTHY_SECONDS = 5.0
STARTS = 5
START_POLL = 0.002

P99_SECONDS = 0.002
FRESH_SECONDS = 6.0
IDLE_BYTES = 36_000_000
START_SECONDS = 0.3
BACK_SECONDS = BREAK_AT + FRESH_SECONDS + 2.0  # of load around the return


@dataclass
class Phase:
    """What happened in one run of dnsperf. Times in seconds; infinite when it never happened."""

    system: str
    way: str
    load: Load
    first_second: float  # the slowest answer to a query of the outage's first second
    latency: dict[str, float]  # of the queries after that second
    others: float  # processors used by strangers: the noise
    unanswered: int = 0  # polls
    ede: dict[str, int] = field(default_factory=dict)


@dataclass
class Return:
    """How fresh the answers were once NSD was back."""

    system: str
    way: str
    load: Load
    first_fresh: float  # the first fresh answer that the poller saw
    last_stale: float  # the last stale one
    stale_names: int  # of all names, when the time allowed was over
    silent_names: int


@dataclass
class Record:
    """All that was measured of one system."""

    system: str
    idle_bytes: int
    loaded_bytes: int
    starts: list[float]
    phases: list[Phase]
    returns: list[Return]


# --- one system --------------------------------------------------------------------------------


def start_system(bench: Bench, system: str, upstream: int) -> Program:
    if system == "dnsguard":
        return servers.start_dnsguard(bench, upstream)
    mode = VERIFY if system == "unbound" else AT_ONCE
    server = servers.start_peer(bench, unbound.PEER, upstream, stale=mode)
    server.name = system
    return server


def start_seconds(bench: Bench, system: str, upstream: int) -> float:
    """From exec to the first answer."""
    server = start_system(bench, system, upstream)
    with stub(server.port, timeout=START_POLL) as sock:
        while time.monotonic() < server.started + harness.SETTLE_SECONDS:
            reply = ask(sock, NAMES[0])
            if reply and reply.rcode == "NOERROR":
                taken = time.monotonic() - server.started
                server.stop()
                return taken
            time.sleep(START_POLL)
    raise SystemExit(f"{system} gave no answer after its start:\n{server.tail()}")


def warm_up(server: Program, upstream: Upstream) -> None:
    """Ask until the proxy knows the present address of every name."""
    deadline = time.monotonic() + harness.SETTLE_SECONDS
    while time.monotonic() < deadline:
        replies = ask_all(server.port, NAMES)
        if sum(upstream.fresh(reply, name) for name, reply in replies.items()) == len(NAMES):
            return
        time.sleep(0.5)
    raise SystemExit(f"{server.name} did not learn all names:\n{server.tail()}")


class Asker:
    """dnsperf at a steady rate in the background, every answer noted."""

    def __init__(self, bench: Bench, server: Program, rate: int, seconds: float) -> None:
        names = bench.file("names", "".join(f"{name} A\n" for name in NAMES))
        # As many in flight as five seconds bring, so that a slow server never slows the questions.
        flight = min(65_000, 6 * rate)
        options = ["-Q", str(rate), "-l", str(seconds), "-q", str(flight), "-v", "-W"]
        self.rate = rate
        self.begun = time.monotonic()
        self._program = bench.start(
            "dnsperf", dnsperf.dnsperf_command(server.port, names, *options)
        )

    def running(self) -> bool:
        return self._program.process.poll() is None

    def result(self) -> tuple[Load, list[tuple[float, float]]]:
        """The report, and of each query when it was due and how long it took."""
        self._program.process.wait()
        text = self._program.output()
        found = dnsperf.parse_latencies(text.splitlines(), ORDER)
        self._program.log.unlink()
        due = [(self.begun + number / self.rate, seconds) for number, seconds in found]
        return dnsperf.parse_dnsperf(text), due


def shares(latencies: list[float]) -> dict[str, float]:
    return {name: percentile(latencies, share) for name, share in POINTS.items()}


def healthy(bench: Bench, server: Program, rate: int) -> Phase:
    """The same load with NSD alive: what this machine does without any outage."""
    say(f"{server.name}: NSD healthy, {rate} qps for {HEALTHY_SECONDS:g} s")
    noise = bench.noise()
    load, due = Asker(bench, server, rate, HEALTHY_SECONDS).result()
    latency = shares([seconds for _, seconds in due])
    return Phase(server.name, "healthy", load, 0.0, latency, noise.processors())


def outage(
    bench: Bench, server: Program, upstream: Upstream, way: str, options: argparse.Namespace
) -> Phase:
    say(f"{server.name}: NSD {way}, {options.rate} qps for {options.seconds:g} s")
    upstream.prepare(way)
    warm_up(server, upstream)
    noise = bench.noise()
    asker = Asker(bench, server, options.rate, options.seconds)
    time.sleep(BREAK_AT)
    with Poller(server.port, POLLED, POLL_INTERVAL) as poller:
        upstream.fail(way)
        failed = time.monotonic()
        while asker.running():
            watch(asker, poller, failed, upstream)
        others = noise.processors()
        load, due = asker.result()
        unanswered = poller.unanswered
    early = [seconds for at, seconds in due if failed <= at < failed + 1]
    late = [seconds for at, seconds in due if at >= failed + 1]
    ede = Counter(str(sight.reply.ede) for sight in poller.since(failed))
    return Phase(
        system=server.name,
        way=way,
        load=load,
        first_second=max(early, default=0.0),
        latency=shares(late),
        others=others,
        unanswered=unanswered,
        ede=dict(ede),
    )


def watch(asker: Asker, poller: Poller, failed: float, upstream: Upstream) -> None:
    """Show what the poller sees, every ten seconds, until dnsperf is done."""
    until = time.monotonic() + 10
    while asker.running() and time.monotonic() < until:
        time.sleep(0.05)
    kinds = Counter(kind(sight, upstream) for sight in poller.since(time.monotonic() - 1))
    told = ", ".join(f"{count} {name}" for name, count in sorted(kinds.items())) or "no answers"
    say(f"  {time.monotonic() - failed:3.0f} s into the outage; polled in the last second: {told}")


def kind(sight: Sight, upstream: Upstream) -> str:
    if sight.reply.rcode != "NOERROR":
        return sight.reply.rcode
    return "fresh" if upstream.fresh(sight.reply, sight.name) else "stale"


def come_back(bench: Bench, server: Program, upstream: Upstream, way: str, rate: int) -> Return:
    say(f"{server.name}: NSD back after {way}, {rate} qps for {BACK_SECONDS:g} s")
    asker = Asker(bench, server, rate, BACK_SECONDS)
    with Poller(server.port, POLLED, POLL_INTERVAL) as poller:
        time.sleep(BREAK_AT)
        upstream.come_back(way)
        back = time.monotonic()
        # A name refreshed between the zone's edit and the stop was never stale: it says nothing.
        last = {sight.name: kind(sight, upstream) for sight in poller.sights if sight.at < back}
        time.sleep(FRESH_SECONDS)
        replies = ask_all(server.port, NAMES)
        sights = [sight for sight in poller.since(back) if last.get(sight.name) != "fresh"]
        load, _ = asker.result()
    fresh = [sight.at - back for sight in sights if kind(sight, upstream) == "fresh"]
    stale = [sight.at - back for sight in sights if kind(sight, upstream) != "fresh"]
    result = Return(
        server.name,
        way,
        load,
        first_fresh=min(fresh, default=math.inf),
        last_stale=max(stale, default=0.0),
        stale_names=sum(not upstream.fresh(reply, name) for name, reply in replies.items()),
        silent_names=len(NAMES) - len(replies),
    )
    say(
        f"  first fresh answer after {result.first_fresh:.2f} s, last stale {result.last_stale:.2f}"
    )
    return result


def examine(system: str, options: argparse.Namespace) -> Record:
    with Bench() as bench:
        upstream = Upstream(bench)
        starts: list[float] = []
        for number in range(STARTS):
            starts.append(start_seconds(bench, system, upstream.port))
            say(f"{system}: start {number + 1}/{STARTS}, first answer after {starts[-1]:.3f} s")
        server = start_system(bench, system, upstream.port)
        harness.await_answer(server, NAMES[0])
        time.sleep(1)
        idle = 1024 * accounting.resident_kib(server.pid)
        warm_up(server, upstream)
        phases = [healthy(bench, server, options.rate)]
        returns = []
        for way in options.ways.split(","):
            phases.append(outage(bench, server, upstream, way, options))
            returns.append(come_back(bench, server, upstream, way, options.rate))
            if any(not good for *_, good in unbroken(way, phases[-1].load)):
                say(f"{system} lost or failed queries. Its log ends with:\n{server.tail()}")
        loaded = 1024 * accounting.resident_kib(server.pid)
    return Record(system, idle, loaded, starts, phases, returns)


# --- the verdict -------------------------------------------------------------------------------


def requirements(record: Record) -> list[tuple[str, str, bool]]:
    """What is asked, what was measured, and whether it is enough."""
    found: list[tuple[str, str, bool]] = []
    for phase in record.phases[1:]:
        found += unbroken(f"NSD {phase.way}", phase.load, phase.unanswered)
        p99 = phase.latency["p99"]
        text = f"NSD {phase.way}: p99 after the first second <= {1000 * P99_SECONDS:g} ms"
        found.append((text, f"{milliseconds(p99)} ms", p99 <= P99_SECONDS))
    for back in record.returns:
        found += unbroken(f"back after {back.way}", back.load)
        text = f"back after {back.way}: every name fresh within {FRESH_SECONDS:g} s"
        late = back.stale_names + back.silent_names
        fresh = late == 0 and max(back.first_fresh, back.last_stale) <= FRESH_SECONDS
        found.append((text, f"{back.last_stale:.2f} s, {late} names late", fresh))
    idle = record.idle_bytes
    text = f"resident when idle <= {IDLE_BYTES / 1e6:g} MB"
    found.append((text, f"{idle / 1e6:.1f} MB", idle <= IDLE_BYTES))
    start = reporting.median(record.starts)
    text = (
        f"first answer <= {1000 * START_SECONDS:g} ms after exec (median of {len(record.starts)})"
    )
    found.append((text, f"{1000 * start:.0f} ms", start <= START_SECONDS))
    return found


def unbroken(when: str, load: Load, unanswered: int = 0) -> list[tuple[str, str, bool]]:
    lost = load.sent - load.completed + unanswered
    failed = load.completed - load.rcodes.get("NOERROR", 0)
    return [
        (f"{when}: no query lost", f"{lost} of {load.sent:,}", lost == 0 and load.sent > 0),
        (f"{when}: no SERVFAIL or other error", f"{failed} of {load.completed:,}", failed == 0),
    ]


def milliseconds(seconds: float) -> str:
    return "inf" if math.isinf(seconds) else f"{1000 * seconds:.2f}"


def tally(load: Load) -> list[str]:
    rcodes = " ".join(f"{name} {count:,}" for name, count in load.rcodes.items()) or "-"
    return [f"{load.sent:,}", f"{load.completed:,}", f"{load.sent - load.completed:,}", rcodes]


def report(records: list[Record]) -> str:
    phases = [
        [
            f"{phase.system}, {phase.way}",
            *tally(phase.load),
            milliseconds(phase.first_second),
            *(milliseconds(phase.latency[point]) for point in POINTS),
            f"{phase.others:.0%}",
            " ".join(f"{code}: {count:,}" for code, count in sorted(phase.ede.items())) or "-",
        ]
        for record in records
        for phase in record.phases
    ]
    returns = [
        [
            f"{back.system}, back after {back.way}",
            *tally(back.load),
            f"{back.first_fresh:.2f} s",
            f"{back.last_stale:.2f} s",
            f"{back.stale_names:,}",
        ]
        for record in records
        for back in record.returns
    ]
    sent = ["sent", "completed", "lost", "rcodes"]
    head = ["outage", *sent, "worst in 1st s", *POINTS, "others", "EDE polled"]
    head_back = ["return", *sent, "first fresh", "last stale", f"stale at {FRESH_SECONDS:g} s"]
    return f"{reporting.table(head, phases)}\n\n{reporting.table(head_back, returns)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a DNS server fails in three ways under load")
    parser.add_argument("--system", default="dnsguard", help=f"any of {', '.join(SYSTEMS)}")
    parser.add_argument("--rate", type=int, default=5000, help="queries per second")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in each outage")
    parser.add_argument("--ways", default=",".join(WAYS), help="how NSD fails, separated by commas")
    parser.add_argument("--json", type=Path, help="write everything measured there")
    options = parser.parse_args()
    for known, given in ((SYSTEMS, options.system), (WAYS, options.ways)):
        for word in set(given.split(",")) - set(known):
            parser.error(f"{word!r} is not one of {', '.join(known)}")
    if options.seconds < BREAK_AT + 2:
        parser.error(f"--seconds {options.seconds:g}: at least {BREAK_AT + 2:g} are needed")
    return options


def main() -> int:
    options = arguments()
    systems = options.system.split(",")
    harness.require("nsd", "dnsperf", *(["unbound"] if "unbound" in options.system else []))
    facts = accounting.machine()
    records = [examine(system, options) for system in systems]
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{len(NAMES):,} names at TTL {TTL}, {options.rate:,} queries per second.")
    print(
        "Latencies in ms, by dnsperf; percentiles of the queries after the outage's first second.\n"
    )
    print(report(records))
    failed = False
    for record in records:
        verdicts = requirements(record)
        rows = [[text, value, "ok" if good else "MISSED"] for text, value, good in verdicts]
        print(f"\n{reporting.table([record.system, 'measured', 'verdict'], rows)}")
        print(f"resident after all of it: {record.loaded_bytes / 1e6:.1f} MB")
        failed |= record.system == "dnsguard" and not all(good for _, _, good in verdicts)
    if options.json:
        reporting.write_json(options.json, {"machine": facts, "systems": records})
    return int(failed)


if __name__ == "__main__":
    harness.run_script(main)
