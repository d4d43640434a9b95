"""The timeline of an outage: each answer judged, counted by phase and resolver, drawn.

Takes what was seen and what was true; knows nothing of how either came about. Drawn by matplotlib;
the same numbers give the same file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.shop import Truth
from tests.e2e.watch import Sight

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From the best for a client to the worst.
VERDICTS = ("right", "old", "wrong", "empty", "NXDOMAIN", "SERVFAIL", "refused", "nothing")
GOOD = ("right", "old")
COLOURS = {
    "right": "#2e8b57", "old": "#9acd6b", "wrong": "#7b2d8b", "empty": "#e0a030",
    "NXDOMAIN": "#d9700f", "SERVFAIL": "#c1272d", "refused": "#8b1a1a", "nothing": "#3a3a3a",
}  # fmt: skip
MEANINGS = {
    "right": "the answer that is true now",
    "old": "the answer that was true before the pods moved",
    "wrong": "an answer that was never true",
    "empty": "NOERROR without a record, where there is one",
    "NXDOMAIN": "the denial of a name that is there",
    "SERVFAIL": "SERVFAIL",
    "refused": "REFUSED or another error",
    "nothing": "no answer within 5 s",
}


@dataclass(frozen=True)
class Phase:
    """A stretch of the run, in Unix time."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Judged:
    """A sight and what it is worth."""

    sight: Sight
    kind: str
    verdict: str


def judge(sight: Sight, before: Truth, now: Truth) -> str:
    """One of VERDICTS. `before` and `now` differ only for what has moved."""
    said = (sight.rcode, sight.data)
    if said == (now.rcode, now.data):
        return "right"
    if said == (before.rcode, before.data):
        return "old"
    if not sight.rcode:
        return "nothing"
    if sight.rcode in ("NXDOMAIN", "SERVFAIL"):
        return sight.rcode
    if sight.rcode != "NOERROR":
        return "refused"
    return "wrong" if sight.data else "empty"


def judged(
    sights: Iterable[Sight], before: Sequence[Truth], after: Sequence[Truth], moved_at: float
) -> list[Judged]:
    """Every sight with its verdict; from `moved_at` on, the later truth is the truth."""
    found = []
    for sight in sights:
        then = before[sight.question]
        now = after[sight.question] if sight.at >= moved_at else then
        found.append(Judged(sight, then.kind, judge(sight, then, now)))
    return found


def during(all_judged: Iterable[Judged], phase: Phase) -> list[Judged]:
    """What was asked in a phase."""
    return [one for one in all_judged if phase.start <= one.sight.at < phase.end]


def cell(these: Sequence[Judged]) -> str:
    """The share of good answers, and the shares of the others by name."""
    if not these:
        return "-"
    counts = Counter(one.verdict for one in these)
    good = sum(counts[verdict] for verdict in GOOD)
    others = [
        f"{verdict} {percent(counts[verdict], len(these))}"
        for verdict in VERDICTS
        if verdict not in GOOD and counts[verdict]
    ]
    share = percent(good, len(these))
    return f"**{share}**" if not others else f"{share} ({', '.join(others)})"


def percent(part: int, whole: int) -> str:
    """A share that is 100 % only if it is all, and 0 % only if it is nothing."""
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f} %".replace(".0 %", " %")


def table(
    all_judged: Sequence[Judged], phases: Sequence[Phase], systems: Sequence[str]
) -> list[str]:
    """Markdown: a row for each phase, a column for each system."""
    lines = ["| phase | s | " + " | ".join(systems) + " |", "|---" * (len(systems) + 2) + "|"]
    for phase in phases:
        here = during(all_judged, phase)
        cells = [cell([one for one in here if one.sight.system == system]) for system in systems]
        lines.append(
            f"| {phase.name} | {phase.end - phase.start:.0f} | " + " | ".join(cells) + " |"
        )
    return lines


def kinds_table(
    all_judged: Sequence[Judged], phases: Sequence[Phase], systems: Sequence[str]
) -> list[str]:
    """Markdown: a row for each sort of name over those phases, a column for each system."""
    here = [one for phase in phases for one in during(all_judged, phase)]
    lines = ["| names | " + " | ".join(systems) + " |", "|---" * (len(systems) + 1) + "|"]
    for kind in dict.fromkeys(one.kind for one in here):
        cells = [
            cell([one for one in here if (one.kind, one.sight.system) == (kind, system)])
            for system in systems
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def slowest_table(
    all_judged: Sequence[Judged], phases: Sequence[Phase], systems: Sequence[str]
) -> list[str]:
    """Markdown: median and longest time to an answer, in milliseconds, by phase and system."""
    lines = ["| phase | " + " | ".join(systems) + " |", "|---" * (len(systems) + 1) + "|"]
    for phase in phases:
        cells = []
        for system in systems:
            times = sorted(
                one.sight.seconds for one in during(all_judged, phase)
                if one.sight.system == system and one.verdict != "nothing"
            )  # fmt: skip
            if times:
                cells.append(f"{1000 * times[len(times) // 2]:.1f} / {1000 * times[-1]:.0f}")
            else:
                cells.append("-")
        lines.append(f"| {phase.name} | " + " | ".join(cells) + " |")
    return lines


def recovery_seconds(all_judged: Sequence[Judged], system: str, moved_at: float) -> float | None:
    """Seconds until the last answer that was not right, or None if it still is not in the end."""
    later = [one for one in all_judged if one.sight.system == system and one.sight.at >= moved_at]
    late = [one.sight.at for one in later if one.verdict != "right"]
    if not later or (late and max(late) >= max(one.sight.at for one in later)):
        return None
    return max(late) - moved_at if late else 0.0


def shares(
    all_judged: Iterable[Judged], start: float, end: float, seconds: float
) -> tuple[list[float], dict[str, list[float]]]:
    """For each stretch of `seconds` the percentage of each verdict, for the picture."""
    count = max(1, round((end - start) / seconds))
    bins: list[Counter[str]] = [Counter() for _ in range(count)]
    for one in all_judged:
        place = int((one.sight.at - start) / seconds)
        if 0 <= place < count:
            bins[place][one.verdict] += 1
    at = [(place + 0.5) * seconds for place in range(count)]
    return at, {
        verdict: [100 * each[verdict] / max(each.total(), 1) for each in bins]
        for verdict in VERDICTS
    }


def draw(
    path: Path, title: str, all_judged: Sequence[Judged], phases: Sequence[Phase],
    systems: Sequence[str], seconds: float = 2.0,
) -> None:  # fmt: skip
    """Write the picture to `path` as SVG: a band for each system, phases as lines across them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    start, end = phases[0].start, phases[-1].end
    with mpl.rc_context({"svg.hashsalt": "dnsguard", "font.size": 9}):
        figure = Figure(figsize=(11, 1.35 * len(systems) + 1.6), layout="constrained")
        figure.suptitle(title, fontsize=11)
        bands = figure.subplots(len(systems), 1, sharex=True, squeeze=False)[:, 0]
        for axes, system in zip(bands, systems, strict=True):
            mine = [one for one in all_judged if one.sight.system == system]
            _band(axes, system, shares(mine, start, end, seconds), seconds)
            for phase in phases[1:]:
                axes.axvline(phase.start - start, color="black", linewidth=0.8)
        for phase in phases:
            middle = (phase.start + phase.end) / 2 - start
            bands[0].text(middle, 104, phase.name, ha="center", va="bottom", fontsize=7.5)
        bands[-1].set_xlabel("seconds")
        bands[-1].set_xlim(0, end - start)
        seen = {one.verdict for one in all_judged}
        handles, labels = bands[0].get_legend_handles_labels()
        kept = [(h, word) for h, word in zip(handles, labels, strict=True) if word in seen]
        figure.legend(*zip(*kept, strict=True), loc="outside lower center", ncols=len(VERDICTS))
        figure.savefig(path, format="svg", metadata={"Date": None})


def _band(
    axes: Axes, system: str, drawn: tuple[list[float], Mapping[str, list[float]]], seconds: float
) -> None:
    at, by_verdict = drawn
    bottom = [0.0] * len(at)
    for verdict, values in by_verdict.items():
        axes.bar(
            at, values, seconds, bottom=bottom, color=COLOURS[verdict], label=verdict, linewidth=0
        )
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100], ["0", "50", "100 %"])
    axes.set_ylabel(system, rotation=0, ha="right", va="center", fontsize=9)
