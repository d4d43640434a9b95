"""What an event about an upstream leads to: its zones' state, its next probe, a line in the log."""

from __future__ import annotations

import pytest

from dnsguard.core.actions import Actions
from dnsguard.core.evidence import WHY, Evidence
from dnsguard.core.health import TABLE, Event
from dnsguard.core.policy import Upstream, Zone
from dnsguard.core.wheel import Due, Wheel
from dnsguard.core.zones import Server, ZoneState


class Bench:
    """One server in two zones, and what its evidence leads to."""

    def __init__(self) -> None:
        self.out = Actions()
        self.wheel: Wheel[Due] = Wheel()
        self.changes: list[tuple[str, bool]] = []
        self.evidence = Evidence(self.out, self.wheel, self._changed)
        upstream = Upstream("10.0.0.53")
        self.server = Server(upstream, 0.0)
        self.zones = [ZoneState(Zone(name, (upstream,)), (self.server,)) for name in (".", "corp")]

    def _changed(self, zone: ZoneState, now: float) -> None:
        self.changes.append((zone.name, zone.outage))

    def note(self, event: Event, now: float) -> None:
        self.evidence.note(self.server, self.server.health, event, now)

    def said(self) -> list[str]:
        notices, self.out.notices = self.out.notices, []
        return [notice.text for notice in notices]


def test_down_and_up_reach_every_zone_and_the_log_once() -> None:
    bench = Bench()
    bench.note(Event.SILENT, 1.0)
    assert bench.changes == []
    assert bench.said() == []
    for now in (2.0, 3.0, 4.0):
        bench.note(Event.SILENT, now)
    assert bench.changes == [(".", True), ("corp", True)]
    assert bench.said() == ["upstream 10.0.0.53:53 is down: it does not answer"]
    bench.note(Event.GOOD, 5.0)
    bench.note(Event.GOOD, 6.0)
    assert bench.changes[2:] == [(".", False), ("corp", False)]
    assert bench.said() == ["upstream 10.0.0.53:53 answers again"]


@pytest.mark.parametrize("event", [Event.SILENT, Event.REFUSED, Event.UNREACHABLE, Event.BAD])
def test_every_evidence_has_words(event: Event) -> None:
    bench = Bench()
    for now in (1.0, 2.0, 3.0):
        bench.note(event, now)
    assert bench.said() == [f"upstream 10.0.0.53:53 is down: {WHY[event.value]}"]
    assert len(TABLE) == 4


def test_a_suspect_is_in_the_wheel_until_it_is_well() -> None:
    bench = Bench()
    assert bench.wheel.next() is None
    bench.note(Event.SILENT, 1.0)
    assert bench.wheel.due(1.01) == [bench.server]
    bench.server.health.probed(1.01, 5.0, 0.0)
    bench.evidence.watch(bench.server)
    bench.evidence.watch(bench.server)  # once is enough
    assert bench.wheel.due(bench.server.health.probe_at + 0.01) == [bench.server]
    assert bench.wheel.next() is None
    bench.note(Event.SILENT, 2.0)
    bench.server.health.probed(2.0, 5.0, 0.0)
    bench.evidence.watch(bench.server)
    bench.note(Event.GOOD, 2.1)
    assert bench.wheel.due(10.0) == []


def test_tcp_for_big_answers_has_no_say_about_the_zone() -> None:
    bench = Bench()
    for now in (1.0, 2.0, 3.0):
        bench.evidence.note(bench.server, bench.server.stream_health, Event.REFUSED, now)
    assert bench.server.stream_health.dead
    assert bench.server.health.up
    assert bench.changes == []
    assert bench.said() == []
    assert bench.wheel.next() is None


def test_the_patience_of_a_zone_follows_the_server_that_would_be_asked() -> None:
    bench = Bench()
    bench.server.health.trip.add(0.05, 0.0)
    before = [zone.patience for zone in bench.zones]
    bench.note(Event.SILENT, 1.0)
    assert [zone.patience for zone in bench.zones] != before
