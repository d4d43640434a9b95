"""A small result of two outages, two caches and a phase of each kind, for the reports."""

from __future__ import annotations

import dataclasses

from dnsguard.sim.result import (
    Interval,
    Kind,
    Made,
    Mode,
    Outcome,
    Phase,
    Result,
    Scenario,
    ScenarioRun,
)
from dnsguard.sim.tally import Entrant, Tally

SPITE = "<script>alert('x')</script> & \"quotes\""  # in every text that a result has
GUARD = Entrant("dnsguard", Kind.DNSGUARD, "0.1.0", {"stale.max_age": "3d"})
PLAIN = Entrant(f"plain {SPITE}", Kind.PEER, f"1.2 {SPITE}", {f"key {SPITE}": f"value {SPITE}"})


def scenario(name: str = "dark", compression: float = 1.0) -> Scenario:
    return Scenario(
        name=name,
        title=f"Two dark minutes {SPITE}",
        date="2024-12-11",
        length=240.0,
        compression=compression,
        phases=(
            Phase("quiet", 0.0, 60.0, "all is well"),
            Phase(f"dark {SPITE}", 60.0, 180.0, f"nobody answers {SPITE}", outage=True),
            Phase("after", 180.0, 240.0, "all is well again"),
        ),
        sources=(
            "https://status.example/incidents/1?a=1&b=2 the report",
            f"javascript:{SPITE}",
            f"a book {SPITE}",
        ),
        notes=(f"assumed {SPITE}",),
    )


def run(facts: Scenario) -> ScenarioRun:
    """dnsguard keeps all; the other one loses every second look-up in the dark."""
    good, bad = Tally(facts), Tally(facts)
    for n in range(480):
        at = n / 2
        dark = 60 <= at < 180
        good.over(at, at + 0.0004, Outcome.RIGHT, source="stale" if dark else "hit", age=at)
        lost = dark and n % 2
        outcome = Outcome.FAILED if lost else Outcome.RIGHT
        bad.over(at, at + (5.0 if lost else 0.02), outcome, source="failure" if lost else "hit")
        good.asked(at)
        bad.asked(at, 3)
    with_interval = dataclasses.replace(good.run(GUARD), interval=Interval(0.99, 1.0, 5))
    return ScenarioRun(facts, (with_interval, bad.run(PLAIN, notes=[f"it died {SPITE}"])))


MADE = Made(
    command=f"dnsguard bench outage dark {SPITE}",
    mode=Mode.OUTAGE,
    seeds=(1, 2, 3),
    dnsguard="0.1.0",
    machine=f"2 processors {SPITE}",
    date="2026-11-28",
    notes=(f"somebody is left out {SPITE}",),
)
RESULT = Result(MADE, (run(scenario()), run(scenario("darker", 60.0))))
EMPTY = Result(
    dataclasses.replace(MADE, notes=()),
    (ScenarioRun(scenario(), (Tally(scenario()).run(GUARD),)), ScenarioRun(scenario("none"), ())),
)
