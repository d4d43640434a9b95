"""What a server needs when it does little: memory by entries, the first answer, idle CPU."""

from __future__ import annotations

import time

from benchmarks import accounting, dnsperf
from benchmarks.asking import ask, ask_all, stub
from benchmarks.harness import Broken, Program
from benchmarks.peers.everyone import YARDSTICKS
from benchmarks.peers.peer import Peer
from benchmarks.stage import HIT_NAMES, MISS_ZONE, Entrant, Stage
from benchmarks.works import (
    Bars,
    Column,
    Plan,
    Values,
    Work,
    everyone,
    one,
    percent,
    two,
    whole,
)

SAMPLE = 1000  # of the names, asked again without the upstream: are they still there?
BASE_ENTRIES = 10_000  # what the cache is sized for where nothing is in it
IDLE_INTERVAL = 1.0
FILL_OUTSTANDING = "100"  # more overruns the receive buffers that some servers leave at the default
FILL_PASSES = 5


# --- memory --------------------------------------------------------------------------------------


def memory(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    """Each level is a process of its own, its cache sized for that many entries."""
    values: Values = {}
    with stage.server(entrant, BASE_ENTRIES) as server:
        values["bytes_0"] = resident(server, plan)
    for level in plan.levels:
        names = [f"e{number:x}.{MISS_ZONE}" for number in range(level)]
        with stage.server(entrant, level) as server:
            fill(stage, server, names)
            values[f"bytes_{level}"] = resident(server, plan)
            values["kept"] = kept(stage, server, names)
            values["per_entry"] = (values[f"bytes_{level}"] - values["bytes_0"]) / level
    return values


def resident(server: Program, plan: Plan) -> float:
    time.sleep(plan.settle)  # whatever is being tidied up
    return 1024.0 * accounting.group_resident_kib(server.pid)


def fill(stage: Stage, server: Program, names: list[str]) -> None:
    """Ask every name once; what got lost is asked again, with all the others."""
    file = stage.names("fill.names", names)
    for _ in range(FILL_PASSES):
        load = dnsperf.dnsperf(server.port, file, "-n", "1", "-q", FILL_OUTSTANDING)
        if load.rcodes.get("NOERROR", 0) == len(names):
            return
    raise Broken(f"{len(names):,} names were asked {FILL_PASSES} times and never all answered")


def kept(stage: Stage, server: Program, names: list[str]) -> float:
    """The share of the names that is answered while the upstream is silent."""
    sample = names[:: max(1, len(names) // SAMPLE)][:SAMPLE]
    with stage.silence():
        replies = ask_all(server.port, sample, timeout=5.0, edns=False)
    return sum(reply.address is not None for reply in replies.values()) / len(sample)


def products(peer: Peer) -> tuple[Entrant, ...]:
    return () if peer.name in YARDSTICKS else (Entrant(peer),)


def level_name(level: int) -> str:
    return f"{level // 1_000_000} M" if level >= 1_000_000 else f"{level // 1000} k"


def mebibytes(value: float) -> str:
    return f"{value / 2**20:,.1f}"


def memory_columns(plan: Plan) -> tuple[Column, ...]:
    levels = [
        Column(f"bytes_{n}", f"{level_name(n)}, MiB", mebibytes, ratio=n == plan.levels[-1])
        for n in plan.levels
    ]
    return (
        Column("bytes_0", "empty, MiB", mebibytes, ratio=True),
        *levels,
        Column("per_entry", "bytes/entry", whole),
        Column("kept", "still there", percent),
    )


def memory_bars(plan: Plan) -> tuple[Bars, ...]:
    keys = ("bytes_0", *(f"bytes_{level}" for level in plan.levels))
    return (Bars(keys, "resident memory, bytes (less is better)", log=True),)


# --- start, idle ---------------------------------------------------------------------------------


def start(stage: Stage, entrant: Entrant, _: Plan) -> Values:
    return {"start_ms": 1000 * stage.first_answer(entrant)}


def idle(stage: Stage, entrant: Entrant, plan: Plan) -> Values:
    """One client that asks for a cached name every second."""
    with stage.server(entrant) as server, stub(server.port, timeout=1.0) as sock:
        ask(sock, HIT_NAMES[0])
        time.sleep(plan.settle)
        begun = time.monotonic()
        cpu, woken = accounting.group_run_seconds(server.pid), accounting.group_wake_ups(server.pid)
        asked = answered = 0
        while (due := begun + IDLE_INTERVAL * asked) < begun + plan.idle_seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            answered += ask(sock, HIT_NAMES[0]) is not None
            asked += 1
        time.sleep(max(0.0, begun + plan.idle_seconds - time.monotonic()))
        seconds = time.monotonic() - begun
        return {
            "cpu_ms": 1000 * (accounting.group_run_seconds(server.pid) - cpu) / seconds,
            "wake_ups": (accounting.group_wake_ups(server.pid) - woken) / seconds,
            "lost": asked - answered,
        }


WORKS = (
    Work(
        key="memory",
        title="Memory",
        note="Resident memory when empty and with so many answers in the cache, each level in a "
        "process of its own whose cache is sized for it. *still there*: the share that is "
        "answered while the upstream is silent, at the highest level.",
        measure=memory,
        columns=memory_columns,
        bars=memory_bars,
        entrants=products,
        rounds=lambda plan: plan.few_rounds,
        timed=False,
    ),
    Work(
        key="start",
        title="Start to first answer",
        note="From exec to the first good answer, which takes the upstream's.",
        measure=start,
        columns=lambda _: (Column("start_ms", "ms", whole, ratio=True),),
        bars=lambda _: (Bars(("start_ms",), "ms to the first answer (less is better)"),),
        entrants=everyone,
        rounds=lambda plan: plan.start_rounds,
    ),
    Work(
        key="idle",
        title="An idle client",
        note="One query a second, always answered from the cache.",
        measure=idle,
        columns=lambda _: (
            Column("cpu_ms", "CPU ms/s", two, ratio=True),
            Column("wake_ups", "wake-ups/s", one),
            Column("lost", "lost", whole),
        ),
        bars=lambda _: (Bars(("cpu_ms",), "CPU ms per second (less is better)", log=True),),
        entrants=everyone,
        rounds=lambda plan: plan.few_rounds,
    ),
)
