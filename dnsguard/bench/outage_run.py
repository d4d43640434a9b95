"""A scenario on real sockets: starts everything, lets it happen, and sums up what clients saw.

The programs and the scripted upstream are processes of their own and tell what happened; here is
the clock, what happens to the caches, and the sum. An answer's age and source are worked out from
outside, alike for every cache: from when the upstream last said the same to that cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dnsguard.bench.outage_child import Child
from dnsguard.bench.outage_clients import OUTCOMES, OVERTIME_SECONDS
from dnsguard.bench.outage_plan import CLIENTS_MAX, Plan, facts, plan
from dnsguard.bench.outage_stage import Cache, Rival
from dnsguard.sim.result import IN_TIME_SECONDS, Outcome, ScenarioRun
from dnsguard.sim.scenario import OF_THE_CACHE, Scenario
from dnsguard.sim.tally import Entrant, Tally

LEAD_SECONDS = 0.5  # from when everybody is told to the begin
TELL_SECONDS = 0.5
LATE_SECONDS = 0.25  # above which waits say more about this machine than about the caches
LATE = (
    "{}: look-ups began up to {:.1f} s late, for this machine was too busy. Waits are longer than "
    "the servers made them, and some look-ups may count as late or failed for that: use a smaller "
    "--rate, or --only."
)
GOOD = (0, 3)  # rcodes that say something about the name
SLACK_SECONDS = 0.05  # between the clocks of a reply and of who reads it


@dataclass(slots=True)
class Sight:
    """How far it is, for whoever looks on."""

    at: float  # seconds since the start; negative while caches are started and warmed up
    length: float
    phase: str
    shares: dict[str, float]  # right in time so far, by system


@dataclass
class Seen:
    """What was told of one system."""

    lookups: list[tuple[float, float, int, bool, str, str]] = field(default_factory=list)
    said: dict[str, list[float]] = field(default_factory=dict)  # by name: when it was answered
    asked: list[float] = field(default_factory=list)
    right: int = 0
    notes: list[str] = field(default_factory=list)


class Run:
    """One scenario, once."""

    def __init__(
        self, scenario: Scenario, factor: float, seed: int, rate: float, rivals: Sequence[Rival],
        tell: Callable[[Sight], None], stop: asyncio.Event,
    ) -> None:  # fmt: skip
        self._scenario = scenario
        self._factor = factor
        self._seed, self._rate = seed, rate
        self._tell = tell
        self._stop = stop
        self._rivals = list(rivals)
        self.notes: list[str] = []
        self._seen: list[Seen] = []
        self._epoch = 0.0

    def now(self) -> float:
        return time.monotonic() - self._epoch

    async def go(self) -> ScenarioRun | None:
        """Everything; None if it was stopped before the start. Raises ChildDied."""
        home = Path(tempfile.mkdtemp(prefix="dnsguard-outage-"))
        try:
            async with contextlib.AsyncExitStack() as undo:
                return await self._go(home, undo)
        finally:
            shutil.rmtree(home, ignore_errors=True)

    async def _go(self, home: Path, undo: contextlib.AsyncExitStack) -> ScenarioRun | None:
        self._sight(-1.0, "starting")
        plan_ = self._plan()
        upstream = await Child.start("the scripted upstream", "dnsguard.bench.outage_upstream")
        undo.push_async_callback(upstream.stop)
        upstream.tell({"plan": msgspec.to_builtins(plan_)})
        opened = await _until(upstream.word("ports"), self._stop)
        if opened is None:
            return None
        if not opened["icmp"]:
            self.notes.append(
                "An unreachable upstream was silent: an ICMP message needs root or CAP_NET_RAW."
            )
        caches = await self._caches(opened["ports"], home, undo)
        clients = await Child.start("the process of the clients", "dnsguard.bench.outage_clients")
        undo.push_async_callback(clients.stop)
        self._sight(-1.0, "warming up")
        ports = [cache.spot.port if cache else 1 for cache in caches]
        clients.tell({"plan": msgspec.to_builtins(plan_), "ports": ports})
        if await _until(clients.word("warm"), self._stop) is None:
            return None
        self._epoch = time.monotonic() + LEAD_SECONDS
        for child in (upstream, clients):
            child.tell({"epoch": self._epoch})
        await self._happen(plan_, upstream, clients, [c for c in caches if c])
        return self._sum(plan_)

    def _plan(self) -> Plan:
        systems = [rival.name for rival in self._rivals]
        self._seen = [Seen() for _ in systems]
        return plan(self._scenario, self._factor, self._seed, self._rate, systems)

    async def _caches(
        self, ports: list[int], home: Path, undo: contextlib.AsyncExitStack
    ) -> list[Cache | None]:
        """Start them all; one that does not answer is left out, and said so."""
        caches: list[Cache] = []
        for rival, port in zip(self._rivals, ports, strict=True):
            cache = Cache(rival, port, home)
            undo.callback(cache.stop)
            caches.append(cache)
        answering: list[Cache | None] = []
        for cache in caches:
            reason = await asyncio.to_thread(cache.why_not)
            if reason:
                cache.stop()
                self.notes.append(f"{cache.rival.name} is left out: it {reason}")
            answering.append(None if reason else cache)
        return answering

    # -- while it goes on -----------------------------------------------------------------------

    async def _happen(
        self, plan_: Plan, upstream: Child, clients: Child, caches: list[Cache]
    ) -> None:
        """Take down what is told, until the programs are done or somebody wants an end."""
        played = asyncio.create_task(self._hear_clients(clients))
        tasks = [
            asyncio.create_task(self._hear_upstream(upstream)),
            asyncio.create_task(self._events(plan_.scenario, caches)),
            asyncio.create_task(self._watch(plan_.scenario, caches)),
        ]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            limit = plan_.scenario.length + OVERTIME_SECONDS + 60
            await asyncio.wait(
                {played, stopping}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if self._stop.is_set():
                self.notes.append(
                    f"{self._scenario.title} was interrupted after {max(self.now(), 0.0):.0f} of "
                    f"{plan_.scenario.length:.0f} s; its numbers are those until then."
                )
            await clients.stop()
            await played
            await asyncio.sleep(TELL_SECONDS)  # for the rest of the upstream's log
            await upstream.stop()
            await tasks[0]
        finally:
            for task in (*tasks, stopping, played):
                task.cancel()
            await asyncio.gather(*tasks, stopping, played, return_exceptions=True)

    async def _hear_clients(self, clients: Child) -> None:
        async for word in clients.words():
            for system, began, ended, outcome, known, name, kind in word.get("over", ()):
                seen = self._seen[system]
                seen.lookups.append((began, ended, outcome, known, name, kind))
                right = OUTCOMES[outcome] is Outcome.RIGHT and ended - began <= IN_TIME_SECONDS
                seen.right += right
            if "played" in word:
                if word["latest"] > LATE_SECONDS:
                    self.notes.append(LATE.format(self._scenario.title, word["latest"]))
                return
        if not self._stop.is_set():
            raise await clients.died()

    async def _hear_upstream(self, upstream: Child) -> None:
        async for word in upstream.words():
            for door, at, name, _, rcode in word.get("log", ()):
                seen = self._seen[door]
                if at >= 0:
                    seen.asked.append(at)
                if rcode in GOOD:
                    seen.said.setdefault(name, []).append(at)

    async def _events(self, scenario: Scenario, caches: list[Cache]) -> None:
        """What happens to the caches, to all at the same moment."""
        for at, event in scenario.events:
            if event.do in OF_THE_CACHE:
                await asyncio.sleep(max(0.0, at - self.now()))
                with ThreadPoolExecutor(len(caches) or 1) as pool:
                    run = partial(asyncio.get_running_loop().run_in_executor, pool)
                    await asyncio.gather(*(run(cache.happen, event.do) for cache in caches))

    async def _watch(self, scenario: Scenario, caches: list[Cache]) -> None:
        dead: set[str] = set()
        while True:
            now = self.now()
            phase = scenario.phase(now).name if 0 <= now < scenario.length else "the last answers"
            self._sight(now, phase)
            for number, rival in enumerate(self._rivals):
                cache = next((one for one in caches if one.rival is rival), None)
                death = cache.death() if cache else ""
                if death and rival.name not in dead:
                    dead.add(rival.name)
                    self._seen[number].notes.append(f"after {now:.1f} s it {death}")
            await asyncio.sleep(TELL_SECONDS)

    def _sight(self, at: float, phase: str) -> None:
        shares = {
            rival.name: seen.right / len(seen.lookups)
            for rival, seen in zip(self._rivals, self._seen, strict=False)
            if seen.lookups
        }
        self._tell(Sight(at, self._scenario.length / self._factor, phase, shares))

    # -- the sum --------------------------------------------------------------------------------

    def _sum(self, plan_: Plan) -> ScenarioRun:
        scenario = facts(plan_.scenario, self._factor, self._rate)
        if self._scenario.clients.count > CLIENTS_MAX:
            self.notes.append(
                f"{self._scenario.title} has {self._scenario.clients.count:,} programs; "
                f"{CLIENTS_MAX} were played, with the same look-ups in all."
            )
        left_out = {note.split(" is left out: ")[0] for note in self.notes}
        runs = []
        for rival, seen in zip(self._rivals, self._seen, strict=True):
            if rival.name in left_out:
                continue
            tally = Tally(scenario)
            for at in seen.asked:
                tally.asked(at)
            for began, ended, outcome, known, name, kind in seen.lookups:
                age, source = _origin(seen.said.get(name), began, ended, kind, outcome, plan_)
                tally.over(began, ended, OUTCOMES[outcome], known=known, source=source, age=age)
            entrant = Entrant(rival.name, rival.kind, rival.version, rival.settings)
            runs.append(tally.run(entrant, notes=seen.notes))
        return ScenarioRun(scenario, tuple(runs))


def _origin(
    said: list[float] | None, began: float, ended: float, kind: str, outcome: int, plan_: Plan
) -> tuple[float, str]:
    """The age of an answer and where it came from, as far as that is seen from outside."""
    if kind == "client":
        return 0.0, "client"
    if OUTCOMES[outcome] is Outcome.FAILED:
        return 0.0, "failure" if kind == "asked" else "none"
    last = bisect_right(said, ended + SLACK_SECONDS) if said else 0
    if not said or not last:
        return 0.0, "synthesized"
    age = max(0.0, ended - said[last - 1])
    if said[last - 1] >= began - SLACK_SECONDS:
        return age, "upstream"
    names = plan_.scenario.names
    ttl = max(names.ttl, names.external_ttl, names.negative_ttl)
    return age, "hit" if age <= ttl + SLACK_SECONDS else "stale"


async def _until(what: Coroutine[Any, Any, Any], stop: asyncio.Event) -> Any:
    """Wait for something; None if somebody wants an end before."""
    task, stopping = asyncio.ensure_future(what), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
