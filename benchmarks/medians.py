"""From samples to medians, and to ratios that a change of the weather does not move.

A ratio is taken within each round, between two samples minutes apart at most, and the median is
taken of the ratios: what slows a whole round down slows both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reporting import median
from benchmarks.rounds import Sample
from benchmarks.works import Values

ADDED_UP = ("lost", "errors", "reconnects", "first_lost")  # a median would hide the one bad round


@dataclass(frozen=True)
class Row:
    """One entrant at one work."""

    work: str
    label: str
    values: Values
    ratios: Values  # to the base entrant, by the same names
    others: float
    rounds: int
    disturbed: int  # rounds
    repeated: int  # samples thrown away for their noise


def rows(samples: Sequence[Sample], work: str, base: str) -> list[Row]:
    """The medians of one work, `base` being the entrant that ratios refer to."""
    mine = [sample for sample in samples if sample.work == work]
    bases = {sample.round: sample.values for sample in mine if sample.label == base}
    found = []
    for label in dict.fromkeys(sample.label for sample in mine):
        own = [sample for sample in mine if sample.label == label]
        keys = dict.fromkeys(key for sample in own for key in sample.values)
        found.append(
            Row(
                work=work,
                label=label,
                values={key: together(key, own) for key in keys},
                ratios={key: r for key in keys if (r := ratio(key, own, bases)) is not None},
                others=median([sample.others for sample in own]),
                rounds=len(own),
                disturbed=sum(sample.disturbed for sample in own),
                repeated=sum(sample.repeats for sample in own),
            )
        )
    return found


def together(key: str, samples: Sequence[Sample]) -> float:
    values = [sample.values[key] for sample in samples if key in sample.values]
    return sum(values) if key in ADDED_UP else median(values)


def ratio(key: str, samples: Sequence[Sample], bases: dict[int, Values]) -> float | None:
    """None where there is nothing to compare with, or nothing to divide by."""
    pairs = [
        (sample.values[key], bases[sample.round].get(key, 0.0))
        for sample in samples
        if key in sample.values and sample.round in bases
    ]
    found = [own / other for own, other in pairs if other and math.isfinite(own / other)]
    return median(found) if found else None
