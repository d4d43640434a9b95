"""The run: every work, round after round, every entrant in turn, with an eye on the neighbours.

Within a round each entrant is measured once, right after the other; the order turns from round to
round, so that none always follows the same one. A sample that strangers disturbed is repeated, up
to a bound, and the quietest one is kept. An entrant that fails twice is left out of that work, with
the reason and the end of its log; the run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.harness import Broken, say
from benchmarks.peers.peer import Peer
from benchmarks.stage import Entrant, Stage
from benchmarks.works import Plan, Values, Work

NOISE_MAX = 0.25  # of a processor, used by strangers during a sample
CHANCES = 2  # how often an entrant may fail at one work before it is left out


@dataclass(frozen=True)
class Sample:
    """One entrant, one work, one round."""

    work: str
    label: str
    round: int
    values: Values
    others: float  # processors used by strangers: the noise
    repeats: int  # of this sample, because it was disturbed

    @property
    def disturbed(self) -> bool:
        return self.others > NOISE_MAX


@dataclass(frozen=True)
class Failure:
    """Why an entrant is left out of a work."""

    work: str
    label: str
    reason: str


@dataclass
class Outcome:
    """All that was measured."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Run:
    """Carries out a plan on a stage."""

    def __init__(
        self,
        stage: Stage,
        plan: Plan,
        works: Sequence[Work],
        peers: Sequence[Peer],
        keep: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """`keep` is given what there is after each work, in case that the rest never comes."""
        self.outcome = Outcome()
        self._keep = keep
        self._stage = stage
        self._plan = plan
        self._works = {work.key: work for work in works}
        self._entrants = {w.key: [e for peer in peers for e in w.entrants(peer)] for w in works}
        self._failed: dict[tuple[str, str], int] = {}
        self._done = 0
        # Samples of different works take different times; what is left is guessed from those done.
        self._seconds: dict[str, list[float]] = {key: [] for key in self._works}

    def carry_out(self) -> Outcome:
        for work in self._works.values():
            for number in range(1, work.rounds(self._plan) + 1):
                entrants = self._entrants[work.key]
                turn = (number - 1) % max(1, len(entrants))
                for entrant in entrants[turn:] + entrants[:turn]:
                    self._attend(work, entrant, number)
            self._keep(self.outcome)
        return self.outcome

    def _attend(self, work: Work, entrant: Entrant, number: int) -> None:
        begun = time.monotonic()
        while self._failed.get((work.key, entrant.label), 0) < CHANCES:
            try:
                sample = self._quiet_sample(work, entrant, number)
            except Broken as reason:
                self._fail(work, entrant, str(reason))
                continue
            self.outcome.samples.append(sample)
            self._seconds[work.key].append(time.monotonic() - begun)
            self._tell(work, sample)
            return

    def _quiet_sample(self, work: Work, entrant: Entrant, number: int) -> Sample:
        best: Sample | None = None
        for repeat in range(self._plan.repeats + 1):
            noise = self._stage.bench.noise()
            values = work.measure(self._stage, entrant, self._plan)
            others = noise.processors() if work.timed else 0.0
            found = Sample(work.key, entrant.label, number, values, others, repeat)
            best = found if best is None or found.others < best.others else best
            if not found.disturbed:
                break
            if repeat < self._plan.repeats:
                say(f"{work.key} {entrant.label}: others used {found.others:.0%}, measured again")
        assert best is not None
        return best

    def _fail(self, work: Work, entrant: Entrant, reason: str) -> None:
        key = (work.key, entrant.label)
        self._failed[key] = self._failed.get(key, 0) + 1
        say(f"{work.key} {entrant.label} failed: {reason}")
        if self._failed[key] == CHANCES:
            say(f"{entrant.label} is left out of {work.key}")
            outcome = self.outcome
            outcome.failures.append(Failure(work.key, entrant.label, reason))
            outcome.samples = [
                s for s in outcome.samples if (s.work, s.label) != (work.key, entrant.label)
            ]

    def _tell(self, work: Work, sample: Sample) -> None:
        told = work.told(sample.values, self._plan)
        rounds = work.rounds(self._plan)
        mark = ", DISTURBED" if sample.disturbed else ""
        say(
            f"{work.key} {sample.round}/{rounds} {sample.label}: {told}, "
            f"others {sample.others:.0%}{mark}; {self._left()}"
        )

    def _left(self) -> str:
        """How long the rest will take, by the samples so far."""
        known = [seconds for found in self._seconds.values() for seconds in found]
        usual = sum(known) / len(known)
        total = 0.0
        for key, work in self._works.items():
            found = self._seconds[key]
            each = sum(found) / len(found) if found else usual
            all_of_it = len(self._entrants[key]) * work.rounds(self._plan)
            total += each * max(0, all_of_it - len(found))
        return f"about {total / 60:.0f} min left" if total >= 90 else f"{total:.0f} s left"
