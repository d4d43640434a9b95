"""The watcher of a node: asks its resolver, keeps packets here or lets them go, mends rules.

It stands outside of the resolver, which may die in any way without taking this with it; and what it
says to the kernel holds for a few seconds only, so that its own death lets packets go as well.
What is believed when stands in `node_watch`; what is done then, here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from dnsguard import __version__, clock
from dnsguard.kube import node_link
from dnsguard.kube.node_check import PINNED, check
from dnsguard.kube.node_company import Company, others
from dnsguard.kube.node_link import CannotLink
from dnsguard.kube.node_plan import Plan
from dnsguard.kube.node_rules import CannotRule, Rules
from dnsguard.kube.node_watch import Finding, State, Step, Watch

CHECK_EVERY = 0.5
HOLD_EVERY = 1.0  # between renewals of a lease of LEASE_SECONDS
LOOK_EVERY = 10.0  # between looks at rules and addresses; rules that are gone are seen at a renewal
FINDINGS = {
    Finding.REFUSED: "refuses questions",
    Finding.SILENT: "does not answer",
    Finding.WRONG: f"is not the dnsguard that is meant: {PINNED} has another answer there",
}
MENDED = ("rules", "addresses")

Say = Callable[[str, str], None]  # level, text
Check = Callable[[], Awaitable[Finding]]
Mine = Callable[[], Awaitable[bool]]
AtEnd = Literal["remove", "fallback"]


@dataclass(frozen=True, slots=True)
class Times:
    """How often what is done, in seconds."""

    check: float = CHECK_EVERY
    hold: float = HOLD_EVERY
    look: float = LOOK_EVERY
    linger: float = 5.0  # for answers under way, before addresses are taken off


class Agent:
    """One watcher; `run` it until `stop` is set."""

    def __init__(
        self, plan: Plan, rules: Rules, say: Say, at_end: AtEnd = "remove",
        times: Times | None = None, ask: Check | None = None,
        company: Company | None = None, mine: Mine | None = None,
    ) -> None:  # fmt: skip
        self.plan, self._rules, self._say, self._at_end = plan, rules, say, at_end
        self._times = times or Times()
        self._ask = ask or (lambda: check(plan.addresses))
        self._mine = mine  # whether our own resolver is there, and not only an older one
        self._watch = Watch()
        self._company = company or Company()
        self._joined = self._installed = self._succeeded = False
        self._held, self._looked = 0.0, clock.now()
        self._ended = asyncio.Event()
        self._registry = registry = CollectorRegistry()
        self._keeping = Gauge(
            "dnsguard_node_keeping", "1 while packets are kept on this node.", registry=registry
        )
        self._acting = Gauge(
            "dnsguard_node_acting", "1 while no newer watcher acts in place of this one.",
            registry=registry,
        )  # fmt: skip
        self._checks = Counter(
            "dnsguard_node_checks", "Questions to the resolver, by what came of them.",
            ["finding"], registry=registry,
        )  # fmt: skip
        for finding in Finding:
            self._checks.labels(finding.value)
        self._let_go = Counter(
            "dnsguard_node_let_go", "Times that packets were left to cluster DNS.",
            registry=registry,
        )  # fmt: skip
        self._mended = Counter(
            "dnsguard_node_mended", "Rules and addresses that were missing and put back.",
            ["what"], registry=registry,
        )  # fmt: skip
        for what in MENDED:
            self._mended.labels(what)
        self._errors = Counter(
            "dnsguard_node_errors", "Rules and addresses that could not be put in place.",
            registry=registry,
        )  # fmt: skip
        info = Gauge("dnsguard_build_info", "Always 1.", ["version"], registry=registry)
        info.labels(__version__).set(1)

    @property
    def keeping(self) -> bool:
        """Whether packets are kept on this node, as far as this watcher knows."""
        return self._watch.state is State.KEPT

    @property
    def joined(self) -> bool:
        """Whether our own resolver has answered, and older watchers have left the node to us."""
        return self._joined

    @property
    def acting(self) -> bool:
        """Whether no newer watcher acts."""
        return self._joined and not self._company.succeeded

    def metrics(self) -> bytes:
        """What has happened, in the text format of Prometheus."""
        self._keeping.set(self.keeping)
        self._acting.set(self.acting)
        return generate_latest(self._registry)

    def resolver_ended(self) -> None:
        """Take it that the resolver's process has ended: no check need find that out."""
        self._ended.set()

    async def prepare(self) -> None:
        """Have the addresses, so that a resolver can listen, and rules that keep no packet yet.

        Raises CannotLink and CannotRule.
        """
        for text in await node_link.ensure(self.plan):
            self._say("info", f"put in place: {text}")
        if self.plan.without_fallback:
            self._say(
                "warning",
                f"{', '.join(self.plan.without_fallback)} has no fallback: who names it in "
                "resolv.conf has no DNS while the resolver is dead (--fallback)",
            )
        await self._rules.prepare()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop."""
        while not stop.is_set():
            began = clock.now()
            await self._once()
            await self._until(stop, began + self._times.check - clock.now())

    async def finish(self, ended: Callable[[], Awaitable[None]]) -> None:
        """Leave the node; `ended` is awaited between letting go and taking the addresses off."""
        if not self._company.alone or (not self._joined and others()):
            self._say("info", "another watcher is here: rules and addresses stay")
            await ended()
            self._company.leave()
            return
        try:
            await self._rules.lapse()
            await ended()
            if self._at_end == "remove":
                await asyncio.sleep(self._times.linger)
                removed = await self._rules.remove()
                done = ["rules"] if removed else []
                done += await node_link.remove(self.plan)
                self._say("info", f"taken away: {', '.join(done) or 'nothing was there'}")
            else:
                self._say("info", "rules stay, and send every packet to cluster DNS")
        except (CannotRule, CannotLink) as error:
            self._failed(f"not all could be taken away: {error}")
        self._company.leave()

    async def _once(self) -> None:
        """Check once, and do what follows."""
        if self._ended.is_set():
            self._ended.clear()
            finding, step = Finding.REFUSED, self._watch.ended()
        else:
            finding = await self._ask()
            self._checks.labels(finding.value).inc()
            step = self._watch.found(finding)
        if not self._joined and self.keeping and (self._mine is None or await self._mine()):
            self._join()
            step = Step.KEEP
        if self._company.succeeded is not self._succeeded:
            self._succeeded = self._company.succeeded
            self._say("info", "a newer watcher acts" if self._succeeded else "this one acts again")
            if not self._succeeded and self.keeping:
                step = Step.KEEP
        if step is Step.LET_GO:
            self._let_go.inc()
        if self._succeeded or not self._joined:
            return
        try:
            await self._do(step, finding)
            await self._look()
        except (CannotRule, CannotLink) as error:
            self._failed(f"packets are left to cluster DNS: {error}")

    async def _do(self, step: Step, finding: Finding) -> None:
        now = clock.now()
        if step is Step.KEEP:
            await self._install(alive=True)
            self._held = now
            self._say("info", f"the resolver answers: DNS packets to {self._where()} stay here")
        elif step is Step.HOLD and now - self._held >= self._times.hold:
            if not await self._rules.hold():
                await self._install(alive=True)
                self._missing("rules", "the rules were gone")
            self._held = now
        elif step is Step.LET_GO:
            await self._rules.lapse()
            self._say(
                "error",
                f"the resolver {FINDINGS[finding]}: DNS packets to {self._where()} go to cluster "
                "DNS until it answers",
            )

    async def _look(self) -> None:
        """Now and then see whether all is in place."""
        now = clock.now()
        if now - self._looked < self._times.look:
            return
        self._looked = now
        missing = await node_link.ensure(self.plan)
        if missing:
            self._missing("addresses", f"put back: {', '.join(missing)}")
        if self._installed and await self._rules.altered():
            await self._install(alive=self.keeping)
            self._missing("rules", "somebody had changed the rules")

    async def _install(self, alive: bool) -> None:
        await self._rules.install(alive)
        self._installed = True

    def _join(self) -> None:
        """Make ourselves known: from here on an older watcher leaves it to us."""
        try:
            elders = self._company.join()
        except OSError as error:
            self._failed(f"no place among the watchers of this node: {error}")
            return
        self._joined = True
        if elders:
            self._say("info", f"taking over from {elders} watcher{'s' * (elders > 1)}")

    def _missing(self, what: str, text: str) -> None:
        self._mended.labels(what).inc()
        self._say("warning", text)

    def _failed(self, text: str) -> None:
        self._errors.inc()
        self._say("error", text)

    def _where(self) -> str:
        return ", ".join(self.plan.addresses)

    async def _until(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait so long, but no longer than until there is something to do."""
        if seconds <= 0:
            return
        waits = [asyncio.create_task(event.wait()) for event in (stop, self._ended)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
