"""What a server does while its upstream is silent: stale answers, how fast and how soon.

Every name has run out when the upstream falls silent. Then each is asked once, which is when a
client waits; then all of them flat out; then at a steady rate. Servers that offer both ways take
part in both: asking the upstream first (RFC 8767), and answering at once.
"""

from __future__ import annotations

import math
import time

from benchmarks import dnsperf
from benchmarks.harness import Program
from benchmarks.meters import Task
from benchmarks.peers.peer import Peer
from benchmarks.rates import OUTSTANDING, STEADY_QPS, counted, in_microseconds
from benchmarks.reporting import percentile
from benchmarks.stage import BRIEF_NAMES, HIT_NAMES, Entrant, Stage
from benchmarks.works import Bars, Column, Plan, Values, Work, percent, two, whole

EXPIRY_SECONDS = 7.0  # no server here keeps a name of TTL 2 for longer: some have a floor of 5
FIRST_PATIENCE = "12"  # seconds; BIND takes 10 to give up on its upstream


def stale(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    with stage.server(entrant) as server:
        stage.learn(server, HIT_NAMES)
        hits = Task(
            server.port, stage.hit_names, plan.seconds, plan.warm_up, outstanding=OUTSTANDING
        )
        fresh = stage.measure(server, hits)
        stage.learn(server, BRIEF_NAMES)
        with stage.silence():
            time.sleep(EXPIRY_SECONDS)
            first = first_touch(stage, server)
            flat_out = Task(
                server.port, stage.brief_names, plan.seconds, plan.warm_up, outstanding=OUTSTANDING
            )
            flood = stage.measure(server, flat_out)
            steadily = Task(
                server.port, stage.brief_names, plan.steady_seconds, plan.warm_up, qps=STEADY_QPS
            )
            paced = stage.measure(server, steadily)
    values = counted(flood) | in_microseconds(paced) | first
    values["of_hits"] = flood.qps / fresh.qps
    values["lost"] = flood.lost + paced.lost
    values["errors"] = flood.errors + paced.errors
    return values


def first_touch(stage: Stage, server: Program) -> Values:
    """Each name once, all within a second: how long clients wait at the worst moment."""
    count = str(len(BRIEF_NAMES))
    options = ("-n", "1", "-Q", count, "-q", count, "-t", FIRST_PATIENCE, "-v", "-W")
    latencies = dnsperf.verbose(server.port, stage.brief_names, *options)
    answered = [1000 * seconds for seconds in latencies if math.isfinite(seconds)]
    return {
        "first_p50": percentile(answered, 0.5) if answered else math.inf,
        "first_max": max(answered, default=math.inf),
        "first_lost": len(BRIEF_NAMES) - len(answered),
    }


def entrants(peer: Peer) -> tuple[Entrant, ...]:
    return tuple(Entrant(peer, mode) for mode in peer.stale_modes)


def columns(_: Plan) -> tuple[Column, ...]:
    return (
        Column("qps", "answers/s", whole, less=False, ratio=True),
        Column("of_hits", "of its own hit rate", percent, less=False),
        Column("cpu_us", "CPU µs/answer", two),
        Column("p50", "p50 µs", whole),
        Column("p99", "p99 µs", whole),
        Column("p99.9", "p99.9 µs", whole),
        Column("first_p50", "first, p50 ms", whole),
        Column("first_max", "first, max ms", whole),
        Column("first_lost", "first, none", whole),
        Column("lost", "lost", whole),
        Column("errors", "errors", whole),
    )


def bars(_: Plan) -> tuple[Bars, ...]:
    return (
        Bars(("qps",), "stale answers per second (more is better)"),
        Bars(("p99",), f"p99 at {STEADY_QPS:,} q/s, µs (less is better)", log=True),
    )


WORKS = (
    Work(
        key="stale",
        title="Stale answers while the upstream is silent",
        note=f"{len(BRIEF_NAMES):,} names whose TTL has run out. *first*: each name asked once, "
        f"all within a second. Then flat out, and p50 to p99.9 at {STEADY_QPS:,} queries per "
        "second. *verify* asks the upstream first, *at once* answers before it asks.",
        measure=stale,
        columns=columns,
        bars=bars,
        entrants=entrants,
        rounds=lambda plan: plan.few_rounds,
    ),
)
