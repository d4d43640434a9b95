"""What follows from evidence about an upstream: for its health, its zones, its probes and the log.

Every outcome of an ask ends here as an event. A changed state is carried up to the zones that the
upstream answers for, and an upstream that is not well is put in the timer wheel for its next
probe. What a probe asks, and of whom, is `asking`'s business.
"""

from __future__ import annotations

from collections.abc import Callable

from dnsguard.core.actions import Actions, Notice
from dnsguard.core.health import Event, Health
from dnsguard.core.wheel import Due, Wheel
from dnsguard.core.zones import Server, ZoneState

WHY = {
    "silent": "it does not answer",
    "refused": "it refuses our packets (nothing listens there)",
    "unreachable": "the network does not carry our packets to it",
    "bad": "it answers with failures for names that it has answered before",
}


class Evidence:
    """Takes events; `changed` is called with each zone whose state they change."""

    def __init__(
        self, out: Actions, wheel: Wheel[Due], changed: Callable[[ZoneState, float], None]
    ) -> None:
        self._out = out
        self._wheel = wheel
        self._changed = changed

    def note(self, server: Server, health: Health, event: Event, now: float) -> None:
        """Take one event about `server`; `health` is its health over the transport concerned."""
        was_dead = health.dead
        changed = health.note(event, now)
        if health is not server.health:
            return  # TCP for big answers: it has no say in whether the zone is in outage
        self.watch(server)
        if not changed:
            return
        if health.dead != was_dead:
            self._say(server, health)
        for zone in server.zones:
            zone.settle()
            if zone.review(now):
                self._changed(zone, now)

    def watch(self, server: Server) -> None:
        """Keep the server in the wheel for as long as it is owed a probe."""
        due = server.health.probe_at
        if due != server.at:
            server.at = due
            server.over = server.health.up
            if not server.over:
                self._wheel.set(server)

    def _say(self, server: Server, health: Health) -> None:
        if health.dead:
            text = f"upstream {server.label} is down: {WHY[health.reason]}"
            self._out.notices.append(Notice("warning", "upstream_down", text))
        else:
            text = f"upstream {server.label} answers again"
            self._out.notices.append(Notice("info", "upstream_up", text))
