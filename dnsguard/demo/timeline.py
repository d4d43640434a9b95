"""The order of events in a demo: which state the cluster DNS is in, and for how long.

Pure arithmetic on seconds since the clients began; knows no clock and no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What the embedded cluster DNS does with a query."""

    HEALTHY = "healthy"
    DEAD = "dead"  # takes it and says nothing, as an overloaded server or a lost route does
    SERVFAIL = "servfail"  # what CoreDNS says once its API server is gone


WHAT_IT_DOES = {
    Mode.HEALTHY: "healthy: answers every query",
    Mode.DEAD: "DEAD: takes every query, answers none",
    Mode.SERVFAIL: "FAILING: answers SERVFAIL to every query",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of the timeline; `title` fits over a strip of a few cells."""

    title: str
    mode: Mode
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Four phases: healthy, dead, failing, back."""

    phases: tuple[Phase, ...]

    @property
    def total(self) -> float:
        return self.phases[-1].end

    @property
    def outage(self) -> tuple[float, float]:
        """When the cluster DNS stops giving answers and when it gives them again, as planned."""
        bad = [phase for phase in self.phases if phase.mode is not Mode.HEALTHY]
        return bad[0].start, bad[-1].end

    def at(self, now: float) -> Phase:
        """The phase at `now`; the last one from its end on."""
        return next((phase for phase in self.phases if now < phase.end), self.phases[-1])


def timeline(healthy: float, dead: float, failing: float, back: float) -> Timeline:
    """Lay out the four phases, each of so many seconds."""
    plan = (
        ("healthy", Mode.HEALTHY, healthy),
        ("dead", Mode.DEAD, dead),
        ("SERVFAIL", Mode.SERVFAIL, failing),
        ("back", Mode.HEALTHY, back),
    )
    phases, start = [], 0.0
    for title, mode, seconds in plan:
        phases.append(Phase(title, mode, start, start + seconds))
        start += seconds
    return Timeline(tuple(phases))
