"""The report of a run: Markdown for RESULTS.md, the same as plain text, everything as JSON.

Every number in it comes from the one run. The sections lie between markers, so that what others
write into the same file stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import charts, goals
from benchmarks.harness import say
from benchmarks.medians import Row, rows
from benchmarks.peers.everyone import PRODUCT
from benchmarks.peers.peer import Peer
from benchmarks.reporting import markdown, table, write_json, write_section
from benchmarks.rounds import NOISE_MAX, Outcome
from benchmarks.works import Column, Plan, Work

TITLE = "Results"
Render = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


@dataclass(frozen=True)
class Facts:
    """What a reader must know to believe the numbers."""

    command: str
    meter: str
    machine: Mapping[str, str]
    pinned: bool
    upstream: str
    revision: str
    started: str
    minutes: float
    versions: Mapping[str, str]  # by the peer's name
    missing: Mapping[str, str]  # the reason, by the peer's name


class Report:
    """One run, made readable."""

    def __init__(
        self,
        plan: Plan,
        works: Sequence[Work],
        peers: Sequence[Peer],
        outcome: Outcome,
        facts: Facts,
    ) -> None:
        self._plan = plan
        self._works = works
        self._peers = peers
        self._outcome = outcome
        self._facts = facts
        self.rows = {work.key: self._sorted(work) for work in works}

    def _sorted(self, work: Work) -> list[Row]:
        """Best first, by the first column."""
        own = next((e.label for e in work.entrants(PRODUCT)), PRODUCT.name)
        first = work.columns(self._plan)[0]
        sign = 1 if first.less else -1
        return sorted(
            rows(self._outcome.samples, work.key, own),
            key=lambda row: sign * row.values.get(first.key, math.inf),
        )

    # --- tables ------------------------------------------------------------------------------

    def work_table(self, work: Work, render: Render) -> str:
        found = self.rows[work.key]
        columns = [c for c in work.columns(self._plan) if any(c.key in row.values for row in found)]
        head = ["server"]
        for column in columns:
            head += [column.heading, *(["x dnsguard"] if column.ratio else [])]
        return render([*head, "others"], [self._line(row, columns) for row in found])

    @staticmethod
    def _line(row: Row, columns: Sequence[Column]) -> list[str]:
        line = [row.label]
        for column in columns:
            value = row.values.get(column.key, math.nan)
            line.append(column.show(value) if math.isfinite(value) else "-")
            if column.ratio:
                ratio = row.ratios.get(column.key)
                line.append("-" if ratio is None else f"{ratio:.2f}")
        return [*line, f"{row.others:.0%}"]

    def goal_table(self, render: Render) -> str:
        found = [
            [v.goal, v.measured, v.against, "met" if v.met else "**missed**"]
            for v in goals.verdicts(self.rows)
        ]
        return render(["goal", "dnsguard", "against", "verdict"], found) if found else ""

    def remarks(self, work: Work) -> list[str]:
        """Who is not in the table and why, and what was noisy."""
        found = [
            f"Left out: {failure.label}. {one_line(failure.reason)}"
            for failure in self._outcome.failures
            if failure.work == work.key
        ]
        noisy = [row for row in self.rows[work.key] if row.disturbed]
        if noisy:
            counts = ", ".join(f"{row.label} {row.disturbed} of {row.rounds}" for row in noisy)
            found.append(f"Disturbed although repeated (rounds): {counts}.")
        return found

    def plain(self) -> str:
        """For the terminal."""
        parts = []
        for work in self._works:
            parts += [f"\n{work.title}", self.work_table(work, table), *self.remarks(work)]
        goal_table = self.goal_table(table).replace("**", "")
        return "\n".join([*parts, "", goal_table])

    # --- files -------------------------------------------------------------------------------

    def write(self, directory: Path, charts_wanted: bool = True) -> None:
        """RESULTS.md in `directory`, the charts and the JSON in `results` below it."""
        beside = directory / "results"
        images = self._draw(beside) if charts_wanted else {}
        file = directory / "RESULTS.md"
        write_section(file, "the run", self._run_section(), TITLE)
        write_section(file, "goals", f"## Goals\n\n{self.goal_table(markdown)}", TITLE)
        for work in self._works:
            write_section(file, work.key, self._work_section(work, images.get(work.key)), TITLE)
        write_json(beside / "run.json", self._everything())

    def _draw(self, directory: Path) -> dict[str, str]:
        images = {}
        try:
            for work in self._works:
                if self.rows[work.key]:
                    path = directory / f"{work.key}.svg"
                    charts.draw(path, work.title, self.rows[work.key], work.bars(self._plan))
                    images[work.key] = f"{directory.name}/{path.name}"
        except ImportError:
            say("no charts: matplotlib is not installed (pip install 'dnsguard[bench]')")
        return images

    def _work_section(self, work: Work, image: str | None) -> str:
        parts = [f"## {work.title}", work.note, self.work_table(work, markdown)]
        parts += self.remarks(work)
        if image:
            parts.append(f"![{work.title}]({image})")
        return "\n\n".join(parts)

    def _run_section(self) -> str:
        facts, plan = self._facts, self._plan
        machine = ", ".join(f"{key} {value}" for key, value in facts.machine.items())
        pinned = (
            "The measured server has a processor for itself; load and upstream share another."
            if facts.pinned
            else "Nothing is pinned to a processor."
        )
        peers = [
            [p.name, facts.versions[p.name], p.language, p.source.origin(), p.settings]
            for p in self._peers
        ]
        missing = "\n".join(f"- {name}: {reason}" for name, reason in facts.missing.items())
        source = (
            f"Written by `{facts.command}`, started {facts.started}, {facts.minutes:.0f} min, "
            f"revision {facts.revision}. Machine: {machine}."
        )
        setting = (
            f"Upstream: {facts.upstream}, minimal responses. Load: {facts.meter}. {pinned} One "
            "worker or thread each (GOMAXPROCS=1 for Go), every sample in a fresh process that was "
            "warmed up."
        )
        amount = (
            f"Plan `{plan.name}`: medians of {plan.rounds} interleaved rounds of {plan.seconds:g} "
            f"s ({plan.steady_seconds:g} s at the steady rate), {plan.few_rounds} for memory, idle "
            f"and outage, {plan.start_rounds} starts. *x dnsguard* is the median of each round's "
            "ratio to dnsguard. *busy* and *others*: one processor is 100 %; others are processes "
            f"that have nothing to do with it, and a sample with more than {NOISE_MAX:.0%} of them "
            f"was repeated up to {plan.repeats} times. *lost*, *errors* and *connections lost* are "
            "sums of all rounds; answers/s counts good answers only."
        )
        head = ["server", "version", "written in", "from", "settings"]
        parts = [source, setting, amount, markdown(head, peers)]
        if missing:
            parts.append(f"Not measured:\n\n{missing}")
        return "\n\n".join(parts)

    def _everything(self) -> dict[str, object]:
        return {
            "facts": self._facts,
            "plan": self._plan,
            "medians": self.rows,
            "goals": goals.verdicts(self.rows),
            "failures": self._outcome.failures,
            "samples": self._outcome.samples,
        }


def one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines)[:500]
