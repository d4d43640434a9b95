"""A drill on all workers at once, as the drill of one: begun and ended together, one report.

The same names take part everywhere, as a client's questions reach now one worker and now another.
Each worker stops by its own tally; here it is stopped by that of all, and as soon as one of them
has ended or does not answer: half a drill shows nothing. Whoever asked stays connected to us, and
we to the workers, so a lost connection ends it there too.
"""

from __future__ import annotations

import asyncio
import base64
import random
from array import array
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dnsguard.admin.control import Arguments, Facts, Verb
from dnsguard.admin.drill_verbs import GONE, NEWS_SECONDS, NONE_YET
from dnsguard.admin.telling import Silent, Talk
from dnsguard.errors import ControlError

if TYPE_CHECKING:
    from dnsguard.admin.merged_verbs import Group
    from dnsguard.core.drill import Plan

PATIENCE = 5.0  # seconds for each word of a worker, which says one a second
END_SECONDS = 2.0  # for the others to end, after the first whose time is over
SUMS = ("lookups", "answered", "failed", "broken", "unnamed")
SAME_SECONDS = 10.0  # within which two workers see one thing happen


class Part:
    """One worker's drill, from its beginning on."""

    def __init__(self, number: int, talk: Talk, running: Facts) -> None:
        self.number = number
        self.running = running  # how it is going, as it was said last
        self.report: Facts | None = None
        self.trouble = ""
        self._talk = talk
        self.over = asyncio.ensure_future(self._follow())

    @classmethod
    async def begin(cls, number: int, directory: str, plan: Mapping[str, Any]) -> Part:
        """Have a worker begin; raises `ControlError` with why it does not."""
        try:
            talk = await Talk.begin(directory, PATIENCE)
            try:
                talk.say("drill", plan)
                _, facts = await talk.hear()
            except BaseException:
                talk.close()
                raise
        except Silent:
            raise ControlError(f"worker {number} does not answer") from None
        return cls(number, talk, facts["running"])

    async def _follow(self) -> None:
        try:
            while self.report is None:
                _, facts = await self._talk.hear()
                self.running = facts.get("running", self.running)
                self.report = facts.get("report")
        except ControlError as error:
            silent = isinstance(error, Silent)
            self.trouble = "does not answer any more" if silent else str(error)

    async def end(self) -> None:
        """Have it end if it has not, and hear its report."""
        try:
            if not self.over.done():
                self._talk.say("drill.report", {"marks": True})
                await asyncio.wait((self.over,))
        finally:
            self._talk.close()

    @property
    def facts(self) -> Facts:
        """Its report, or the last that was heard of it."""
        return self.running if self.report is None else self.report


def merged_drill_verbs(group: Group) -> Mapping[str, Verb]:
    """Return the verbs `drill` and `drill.report` for all workers of a group."""
    last: list[Facts] = []
    running: list[Plan] = []

    async def drill(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        from dnsguard.admin.drilled import read_plan

        given = arguments.rest()
        plan = read_plan(Arguments("drill", given))
        if running:
            raise ControlError(f"a drill runs already: {running[0].words}")
        running.append(plan)
        try:
            parts = await _begin_all(group, given)
            why = ""
            try:
                while not (why or any(part.over.done() for part in parts)):
                    yield {"running": sums([part.facts for part in parts])}
                    await _change(parts, NEWS_SECONDS)
                    why = _too_much(parts, plan)
                if not why and all(_in_time(part) for part in parts if part.over.done()):
                    await asyncio.wait([part.over for part in parts], timeout=END_SECONDS)
            finally:
                await asyncio.gather(*(part.end() for part in parts))
                last[:] = [merged_report(parts, why)]
        finally:
            running.clear()
        yield {"report": last[0]}

    def report(arguments: Arguments) -> Facts:
        arguments.end()
        if not last:
            raise ControlError(NONE_YET)
        return {"report": last[0]}

    return {"drill": Verb(drill, attended=True), "drill.report": Verb(report)}


async def _begin_all(group: Group, given: Mapping[str, Any]) -> Sequence[Part]:
    """Have all workers begin, or none."""
    numbers = group.serving()
    absent = [n for n in range(1, group.wanted + 1) if n not in numbers]
    if absent:
        raise ControlError(
            f"worker {absent[0]} does not serve at present, and a drill is for all: try again"
        )
    plan = {**given, "salt": random.SystemRandom().getrandbits(32), "marks": True}
    asked = [asyncio.ensure_future(Part.begin(n, group.directory(n), plan)) for n in numbers]
    try:
        begun = await asyncio.gather(*asked, return_exceptions=True)
    except asyncio.CancelledError:
        # Whoever wanted it is gone. Who was still being asked has been hung up on; the others have
        # begun, and would go on by themselves for as long as was asked for.
        has_begun = [one for one in asked if not one.cancelled() and one.exception() is None]
        await asyncio.gather(*(one.result().end() for one in has_begun))
        raise
    parts = [part for part in begun if isinstance(part, Part)]
    refused = [error for error in begun if isinstance(error, BaseException)]
    if refused:
        await asyncio.gather(*(part.end() for part in parts))
        raise refused[0]
    return parts


async def _change(parts: Sequence[Part], seconds: float) -> None:
    """Wait for the end of one of them, at most so long."""
    await asyncio.wait(
        [part.over for part in parts], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )


def _too_much(parts: Sequence[Part], plan: Plan) -> str:
    """Return why the tally of all ends it, which may say so before that of one does."""
    from dnsguard.core.drill import LOOKUPS_MIN

    found = sums([part.facts for part in parts])
    lookups, failed = found["lookups"], found["failed"]
    if lookups < LOOKUPS_MIN or failed <= plan.abort_above * lookups:
        return ""
    return f"{failed} of {lookups} look-ups failed, more than {plan.abort_above * 100:.3g}%"


def _in_time(part: Part) -> bool:
    return part.report is not None and not part.report["aborted"]


def sums(all_: Sequence[Facts]) -> dict[str, Any]:
    """Return how the drills of several processes are doing, as that of one.

    A name that several were asked for is counted by them all, so there are at least `names`.
    """
    found = dict(all_[0]) | {key: sum(one.get(key, 0) for one in all_) for key in SUMS}
    found["names"] = max(one["names"] for one in all_)
    found["lasted"] = max(one["lasted"] for one in all_)
    found["left"] = max(one["left"] for one in all_)
    return found


def merged_report(parts: Sequence[Part], why: str) -> dict[str, Any]:
    """Return the report of all; `why` is what has ended it from here, if that is so."""
    heard = [part.report for part in parts if part.report is not None]
    ended = why or _reason(parts)
    aborted = bool(why) or any(not _in_time(part) for part in parts)
    marks = set().union(*(array("I", base64.b64decode(one["marks"])) for one in heard))
    found = sums([part.facts for part in parts])
    found.pop("marks", None)
    sources: Counter[str] = Counter()
    for one in heard:
        sources.update(one["sources"])
    names, beyond = _to_fix(heard)
    return found | {
        "workers": len(parts),
        "names": max(len(marks), found["names"]),
        "ended": ended, "aborted": aborted, "sources": dict(sources),
        "longest_wait": max((one["longest_wait"] for one in heard), default=0.0),
        "events": _events(one["events"] for one in heard),
        "to_fix": names, "unnamed": found["unnamed"] + beyond,
    }  # fmt: skip


def _reason(parts: Sequence[Part]) -> str:
    """Return why it is over: what one of them says that nobody has told it."""
    for part in parts:
        if part.report is not None and part.report["aborted"] and part.report["ended"] != GONE:
            own = part.report["ended"]
            same = all(other.report and other.report["ended"] == own for other in parts)
            return str(own) if same else f"worker {part.number}: {own}"
    for part in parts:
        if part.trouble:
            return f"worker {part.number} {part.trouble}"
    return str(max((part.report["ended"] for part in parts if part.report), key=GONE.__eq__))


def _to_fix(heard: Iterable[Facts]) -> tuple[list[dict[str, Any]], int]:
    """Return the names without an answer, most asked first, and the look-ups of those cut off."""
    from dnsguard.core.drill import NAMES_MAX

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for report in heard:
        for one in report["to_fix"]:
            known = found.setdefault((one["name"], one["type"]), {**one, "times": 0})
            known["times"] += one["times"]
    order = sorted(found.values(), key=lambda one: (-one["times"], one["name"]))
    return order[:NAMES_MAX], sum(one["times"] for one in order[NAMES_MAX:])


def _events(lists: Iterable[Sequence[Facts]]) -> list[Facts]:
    """Return what would have been said, in order; what several would have said, once."""
    from dnsguard.core.drill import EVENTS_MAX

    events: list[Facts] = []
    for event in sorted((e for one in lists for e in one), key=lambda event: event["at"]):
        if not any(
            other["text"] == event["text"] and event["at"] - other["at"] < SAME_SECONDS
            for other in events
        ):
            events.append(event)
    return events[:EVENTS_MAX]
