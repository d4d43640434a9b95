"""What a server does while its upstream is silent: stale answers, how fast and how soon.

Every name has run out when the upstream falls silent. Then each is asked once, which is when a
client waits; then all of them flat out; then at a steady rate. Servers that offer both ways take
part in both: asking the upstream first (RFC 8767), and answering at once.
"""

from __future__ import annotations

import time

from benchmarks import harness
from benchmarks.harness import Program
from benchmarks.meters import Task
from benchmarks.peers.peer import Peer
from benchmarks.rates import OUTSTANDING, STEADY_QPS, counted, in_microseconds
from benchmarks.stage import BRIEF_NAMES, HIT_NAMES, Entrant, Stage
from benchmarks.works import Bars, Column, Plan, Values, Work, percent, two, whole

FIRST_PATIENCE = 12.0  # seconds; BIND takes 10 to give up on its upstream


def stale(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    with stage.server(entrant) as server:
        harness.learn(server, HIT_NAMES)
        hits = Task(
            server.port, stage.hit_names, plan.seconds, plan.warm_up, outstanding=OUTSTANDING
        )
        fresh = stage.measure(server, hits)
        harness.learn(server, BRIEF_NAMES)
        with stage.silence():
            time.sleep(plan.expiry)
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
    count = len(BRIEF_NAMES)
    task = Task(server.port, stage.brief_names, 1.0, qps=count, timeout=FIRST_PATIENCE)
    result = stage.measure(server, task)
    return {
        "first_p50": 1000 * result.latency["p50"],
        "first_max": 1000 * result.latency["max"],
        "first_lost": count - result.answers,
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
        Column("first_lost", "first, failed", whole),
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
