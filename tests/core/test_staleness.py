"""The table of `judge`, row by row, and what `held` and `until` say at each boundary."""

from __future__ import annotations

import pytest

from dnsguard.core.answer import Answer, Kind
from dnsguard.core.entry import Entry
from dnsguard.core.health import Event
from dnsguard.core.policy import StalePolicy, Upstream, Zone
from dnsguard.core.staleness import Verdict, held, judge, until
from dnsguard.core.zones import Server, ZoneState

TTL, MAX_AGE, RECHECK = 30, 100.0, 5.0
EXPIRES = float(TTL)
DIES = EXPIRES + MAX_AGE


def entry_of(stale: StalePolicy | None = None, servers: int = 1) -> Entry:
    """An entry stored at 0 in a zone of its own."""
    upstreams = tuple(Upstream(f"10.0.0.{n + 1}") for n in range(servers))
    policy = Zone(".", upstreams, stale or StalePolicy(max_age=MAX_AGE, recheck=RECHECK))
    zone = ZoneState(policy, tuple(Server(upstream, 0.0) for upstream in upstreams))
    answer = Answer()
    answer.wire, answer.offsets, answer.additional = b"", (), 0
    answer.kind, answer.rcode, answer.ttl, answer.ad = Kind.POSITIVE, 0, TTL, False
    return Entry(b"\x03web\0\0\x01\0\x01\0", answer, zone, 0.0)


def hurt(entry: Entry, event: Event, times: int, now: float) -> None:
    """Let every upstream of the entry's zone have evidence against it."""
    for server in entry.zone.servers:
        for _ in range(times):
            server.health.note(event, now)
    entry.zone.review(now)


def test_fresh_until_expiry_and_dead_from_max_age_on() -> None:
    entry = entry_of()
    assert judge(entry, EXPIRES - 0.001) == (Verdict.FRESH, "")
    assert judge(entry, EXPIRES) == (Verdict.VERIFY, "")
    assert judge(entry, DIES - 0.001) == (Verdict.VERIFY, "")
    assert judge(entry, DIES) == (Verdict.DEAD, "")


def test_no_outage_keeps_the_dead_alive() -> None:
    entry = entry_of()
    hurt(entry, Event.SILENT, 2, 40.0)
    assert entry.zone.outage
    assert judge(entry, DIES - 0.001) == (Verdict.STALE, "outage")
    assert judge(entry, DIES) == (Verdict.DEAD, "")


def test_nobody_waits_while_the_only_upstream_is_suspect() -> None:
    entry = entry_of()
    hurt(entry, Event.SILENT, 1, 40.0)
    assert not entry.zone.outage
    assert judge(entry, 41.0) == (Verdict.STALE, "outage")
    assert until(entry, 41.0) == 41.0  # one packet will tell: nothing to be repeated unseen


def test_one_healthy_upstream_is_worth_waiting_for() -> None:
    entry = entry_of(servers=2)
    entry.zone.servers[0].health.note(Event.SILENT, 40.0)
    assert judge(entry, 41.0) == (Verdict.VERIFY, "")


def test_a_failed_refresh_is_not_tried_again_for_recheck() -> None:
    entry = entry_of()
    entry.failed, entry.reason = 50.0, "servfail"
    assert judge(entry, 50.0) == (Verdict.STALE, "servfail")
    assert judge(entry, 50.0 + RECHECK - 0.001) == (Verdict.STALE, "servfail")
    assert judge(entry, 50.0 + RECHECK) == (Verdict.VERIFY, "")
    assert until(entry, 51.0) == 50.0 + RECHECK
    assert until(entry, 50.0 + RECHECK) == 50.0 + RECHECK


def test_recovery_forgets_failed_refreshes() -> None:
    entry = entry_of()
    entry.failed = 50.0
    entry.zone.recovered = 50.1
    assert not held(entry, entry.zone, 51.0)
    entry.failed = 50.1  # failed in the very instant of recovery: that is after it
    assert held(entry, entry.zone, 51.0)


def test_a_repeated_stale_reply_ends_with_the_entry() -> None:
    entry = entry_of()
    entry.failed = DIES - 1.0
    assert until(entry, DIES - 0.5) == DIES
    hurt(entry, Event.SILENT, 2, DIES - 0.5)
    assert until(entry, DIES - 0.4) == DIES


def test_after_an_outage_the_tap_opens_slowly() -> None:
    entry = entry_of()
    hurt(entry, Event.SILENT, 2, 40.0)
    hurt(entry, Event.GOOD, 1, 45.0)
    assert judge(entry, 45.0) == (Verdict.VERIFY, "")
    entry.zone.inflight = entry.zone.ramp
    assert judge(entry, 45.0) == (Verdict.STALE, "outage")
    assert judge(entry, 60.0) == (Verdict.VERIFY, "")


def test_immediate_mode_refreshes_behind_the_answer() -> None:
    entry = entry_of(StalePolicy(mode="immediate"))
    assert judge(entry, 40.0) == (Verdict.BEHIND, "timeout")
    entry.failed = 40.0
    assert judge(entry, 41.0) == (Verdict.STALE, "timeout")


@pytest.mark.parametrize(("seconds", "verdict"), [(0.001, Verdict.VERIFY), (1.0, Verdict.BEHIND)])
def test_nobody_waits_for_an_upstream_that_turned_slow(seconds: float, verdict: Verdict) -> None:
    entry = entry_of()
    trip = entry.zone.servers[0].health.trip
    for index in range(100):
        trip.add(0.001, index * 0.1)
    for index in range(4):
        trip.add(seconds, 20.0 + index)
    assert judge(entry, 40.0)[0] is verdict
