"""How fast and at what cost: cached hits over UDP and TCP, misses, a mix, and a steady rate.

Every server is warm when it is measured: it knows the names of the hits, and the load has run for
a while before anything is counted.
"""

from __future__ import annotations

import secrets

from benchmarks import harness
from benchmarks.meters import Result, Task
from benchmarks.stage import HIT_NAMES, MISS_ZONE, Entrant, Stage
from benchmarks.works import (
    Bars,
    Column,
    Plan,
    Values,
    Work,
    everyone,
    forwarders,
    one,
    percent,
    two,
    whole,
)

OUTSTANDING = 100
STEADY_QPS = 10_000
MISS_SHARE = 20  # one query in so many is a miss, in the mix
MIX_RATE = 120_000  # names written for each second: more than any server here answers


def counted(result: Result) -> Values:
    """What every load tells."""
    done = result.answers + result.errors
    return {
        "qps": result.qps,
        "cpu_us": 1e6 * result.cpu_seconds / max(done, 1),
        "busy": result.cpu_seconds / result.seconds,
        "lost": result.lost,
        "errors": result.errors,
        "reconnects": result.reconnects,
    }


def in_microseconds(result: Result) -> Values:
    return {point: 1e6 * seconds for point, seconds in result.latency.items()}


def hit_udp(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    return hits(stage, entrant, plan, tcp=False)


def hit_tcp(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    return hits(stage, entrant, plan, tcp=True)


def hits(stage: Stage, entrant: Entrant, plan: Plan, tcp: bool) -> Values:
    with stage.server(entrant) as server:
        harness.learn(server, HIT_NAMES)
        task = Task(
            server.port,
            stage.hit_names,
            plan.seconds,
            plan.warm_up,
            tcp=tcp,
            outstanding=OUTSTANDING,
        )
        return counted(stage.measure(server, task))


def miss(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    with stage.server(entrant) as server:
        task = Task(
            server.port,
            None,
            plan.seconds,
            plan.warm_up,
            suffix=MISS_ZONE,
            outstanding=OUTSTANDING,
        )
        return counted(stage.measure(server, task))


def mixed(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    tag = secrets.token_hex(3)
    count = int(MIX_RATE * (plan.seconds + plan.warm_up))
    names = [
        HIT_NAMES[n % len(HIT_NAMES)] if n % MISS_SHARE else f"{tag}{n:x}.{MISS_ZONE}"
        for n in range(count)
    ]
    file = stage.names("mixed.names", names)
    with stage.server(entrant) as server:
        harness.learn(server, HIT_NAMES)
        task = Task(server.port, file, plan.seconds, plan.warm_up, outstanding=OUTSTANDING)
        return counted(stage.measure(server, task))


def steady(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    with stage.server(entrant) as server:
        harness.learn(server, HIT_NAMES)
        task = Task(server.port, stage.hit_names, plan.steady_seconds, plan.warm_up, qps=STEADY_QPS)
        result = stage.measure(server, task)
    return counted(result) | in_microseconds(result)


LOSSES = (Column("lost", "lost", whole), Column("errors", "errors", whole))


def rate_columns(_: Plan) -> tuple[Column, ...]:
    return (
        Column("qps", "answers/s", whole, less=False, ratio=True),
        Column("cpu_us", "CPU µs/answer", two, ratio=True),
        Column("busy", "busy", percent),
        *LOSSES,
    )


def tcp_columns(plan: Plan) -> tuple[Column, ...]:
    return (*rate_columns(plan), Column("reconnects", "connections lost", whole))


def steady_columns(_: Plan) -> tuple[Column, ...]:
    return (
        Column("p50", "p50 µs", whole),
        Column("p99", "p99 µs", whole, ratio=True),
        Column("p99.9", "p99.9 µs", whole),
        Column("busy", "busy", percent),
        Column("cpu_us", "CPU µs/answer", one),
        *LOSSES,
    )


def rate_bars(_: Plan) -> tuple[Bars, ...]:
    return (
        Bars(("qps",), "answers per second (more is better)"),
        Bars(("cpu_us",), "CPU µs per answer (less is better)"),
    )


def steady_bars(_: Plan) -> tuple[Bars, ...]:
    return (Bars(("p50", "p99", "p99.9"), "latency, µs (less is better)", log=True),)


def full_rounds(plan: Plan) -> int:
    return plan.rounds


WORKS = (
    Work(
        key="hit-udp",
        title="Cached answers over UDP",
        note=f"{len(HIT_NAMES):,} names, all in the cache; {OUTSTANDING} queries in flight.",
        measure=hit_udp,
        columns=rate_columns,
        bars=rate_bars,
        entrants=everyone,
        rounds=full_rounds,
    ),
    Work(
        key="hit-tcp",
        title="Cached answers over TCP",
        note="The same names over connections that stay open, pipelined.",
        measure=hit_tcp,
        columns=tcp_columns,
        bars=rate_bars,
        entrants=everyone,
        rounds=full_rounds,
    ),
    Work(
        key="miss",
        title="Misses",
        note="Every name is asked once and never again, over UDP.",
        measure=miss,
        columns=rate_columns,
        bars=rate_bars,
        entrants=forwarders,
        rounds=full_rounds,
    ),
    Work(
        key="mixed",
        title="95 % hits, 5 % misses",
        note=f"One query in {MISS_SHARE} is for a name that was never asked before, over UDP.",
        measure=mixed,
        columns=rate_columns,
        bars=rate_bars,
        entrants=forwarders,
        rounds=full_rounds,
    ),
    Work(
        key="steady",
        title=f"{STEADY_QPS:,} queries per second",
        note="Cached answers over UDP at a steady rate; a query's latency counts from when it was "
        "due, so that a stall is not hidden by the queries it held up.",
        measure=steady,
        columns=steady_columns,
        bars=steady_bars,
        entrants=everyone,
        rounds=full_rounds,
    ),
)
