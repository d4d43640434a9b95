"""A scenario and a result that are small enough to be checked by hand."""

from __future__ import annotations

from dnsguard.sim.result import Kind, Made, Mode, Phase, Result, Scenario, ScenarioRun
from dnsguard.sim.tally import Entrant, Tally

QUIET, BROKEN, AFTER = "before", "silence", "after"

SCENARIO = Scenario(
    name="one-minute",
    title="A minute of silence",
    date="2024-12-11",
    length=120.0,
    phases=(
        Phase(QUIET, 0.0, 30.0, "all is well"),
        Phase(BROKEN, 30.0, 90.0, "nobody answers", outage=True),
        Phase(AFTER, 90.0, 120.0, "all is well again"),
    ),
    sources=("https://status.example/incidents/1",),
)

MADE = Made(
    command="dnsguard bench simulate one-minute --seed 7",
    mode=Mode.SIMULATE,
    seeds=(7,),
    dnsguard="0.1.0",
    machine="2 processors",
    date="2026-11-28",
)


def entrant(name: str = "dnsguard", kind: Kind = Kind.DNSGUARD) -> Entrant:
    return Entrant(name, kind, "0.1.0", {"stale.max_age": "3d"})


def result(*tallies: tuple[Entrant, Tally]) -> Result:
    return Result(MADE, (ScenarioRun(SCENARIO, tuple(tally.run(who) for who, tally in tallies)),))
