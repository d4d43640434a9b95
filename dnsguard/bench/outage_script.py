"""What a scripted upstream does with a question at an instant, by the scenario's rules.

Every cache under test has a script of its own, so that what one of them asks does not change what
another one gets. All upstreams of the scenario stand behind one address, as behind kube-dns: which
of them is asked depends on the name, which of its replicas on the source port. The rules themselves
are the simulator's (`dnsguard.sim.upstreams`). Pure: time, ports and chance are arguments.
"""

from __future__ import annotations

import random

from dnsguard.bench.outage_plan import Plan
from dnsguard.sim.cluster import Cluster
from dnsguard.sim.scenario import CLUSTER_DOMAIN, Phase
from dnsguard.sim.told import Flow, Questions
from dnsguard.sim.upstreams import Address, Came

GROUPS = ("cluster", "external")


class Script:
    """All upstreams as one cache sees them."""

    def __init__(self, plan: Plan, cluster: Cluster, chance: random.Random) -> None:
        self._plan = plan
        self._questions = Questions()
        self._flows: dict[int, Flow] = {}
        self._addresses = {
            upstream.name: Address(
                upstream.name, plan.scenario, upstream, range(upstream.replicas), cluster.by_text,
                chance,
            )
            for upstream in plan.scenario.upstreams
        }  # fmt: skip
        self._serving = {
            group: next(u.name for u in plan.scenario.upstreams if u.serves in ("all", group))
            for group in GROUPS
        }
        self._phase: Phase = plan.scenario.phases[0]
        self._rolls = [
            (at + number * event.seconds, at + (number + 1) * event.seconds, event.upstream, number)
            for at, event in plan.scenario.events
            if event.do == "roll"
            for number in range(len(self._addresses[event.upstream].replicas))
        ]

    def take(self, text: str, rtype: int, now: float, port: int) -> Came | None:
        """What comes back to a question (lower case, no final dot), and when; or None.

        Before the start (`now` below 0) all is as in the first phase, and there is no queue.
        """
        weight = 1 / self._plan.scale if now >= 0 else 0.0
        now = max(now, 0.0)
        self._go_to(now)
        inside = text == CLUSTER_DOMAIN or text.endswith(f".{CLUSTER_DOMAIN}")
        address = self._addresses[self._serving["cluster" if inside else "external"]]
        flow = self._flows.get(port)
        if flow is None:
            flow = self._flows[port] = Flow(port, now)
        return address.take(self._questions.get(text, rtype), now, weight, flow)

    def _go_to(self, now: float) -> None:
        """Enter the phase of this instant; before the start it is the first one."""
        phase = self._plan.scenario.phase(now)
        if phase is not self._phase:
            self._phase = phase
            for address in self._addresses.values():
                for replica in address.replicas:
                    replica.enter(phase)
        for begin, end, name, number in self._rolls:
            if begin <= now < end:
                self._addresses[name].replicas[number].down_until = end
