"""Which zone answers for a name, how its state follows its upstreams, and how the tap opens."""

from __future__ import annotations

import pytest

from dnsguard.core.health import TIMEOUT_MAX, TIMEOUT_UNKNOWN, Event
from dnsguard.core.policy import StalePolicy, Transport, Upstream, Zone
from dnsguard.core.wire import name_octets
from dnsguard.core.zones import (
    KNOWN_MAX,
    MISSED_SECONDS,
    PATIENCE_MAX,
    RAMP_END,
    RAMP_SECONDS,
    RAMP_START,
    REPEATS_MAX,
    REPEATS_PER_SECOND,
    Server,
    Zones,
    ZoneState,
)

A = b"\0\x01\0\x01\0"


def zone(name: str = ".", servers: int = 1, stale: StalePolicy | None = None) -> ZoneState:
    upstreams = tuple(Upstream(f"10.0.0.{n + 1}") for n in range(servers))
    return ZoneState(
        Zone(name, upstreams, stale or StalePolicy()), tuple(Server(u, 0.0) for u in upstreams)
    )


def kill(server: Server, now: float) -> None:
    for _ in range(2):
        server.health.note(Event.SILENT, now)


# -- finding ------------------------------------------------------------------------------------

ZONES = Zones([zone("."), zone("cluster.local"), zone("db.cluster.local"), zone("corp")])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.cluster.local", "cluster.local"),
        ("cluster.local", "cluster.local"),
        ("a.b.db.cluster.local", "db.cluster.local"),
        ("db.cluster.local", "db.cluster.local"),
        ("xdb.cluster.local", "cluster.local"),  # whole labels, not text
        ("mycluster.local", "."),
        ("local", "."),
        ("intra.corp", "corp"),
        ("corp.example", "."),
        (".", "."),
    ],
)
def test_the_longest_suffix_wins(name: str, expected: str) -> None:
    assert ZONES.find(name_octets(name) + A).name == expected


def test_octets_after_the_name_are_no_part_of_it() -> None:
    corp = name_octets("corp")
    assert ZONES.find(name_octets("x") + corp).name == "."


def test_a_single_zone_needs_no_search() -> None:
    only = zone()
    assert Zones([only]).find(b"whatever") is only


# -- state --------------------------------------------------------------------------------------


def test_outage_means_that_every_upstream_is_dead() -> None:
    state = zone(servers=2)
    first, second = state.servers
    kill(first, 5.0)
    assert state.review(5.0) is False
    assert (state.outage, state.waits) == (False, True)
    kill(second, 6.0)
    assert state.review(6.0) is True
    assert (state.outage, state.waits) == (True, False)
    assert state.outage_since == 6.0
    assert state.review(7.0) is False
    second.health.note(Event.GOOD, 8.0)
    assert state.review(8.0) is True
    assert (state.outage, state.waits) == (False, True)
    assert state.recovered == 8.0


def test_suspicion_is_no_outage_but_nobody_waits() -> None:
    state = zone()
    state.servers[0].health.note(Event.SILENT, 1.0)
    assert state.review(1.0) is False
    assert not state.waits


def test_settings_change_but_what_was_learned_stays() -> None:
    old, new = zone(), zone(stale=StalePolicy(recheck=9.0))
    old.remember(b"key", 3.0)
    kill(old.servers[0], 4.0)
    old.review(4.0)
    old.recovered = 2.0
    new.inherit(old)
    assert list(new.known) == [b"key"]
    assert (new.outage, new.outage_since, new.recovered) == (True, 4.0, 2.0)
    assert new.stale.recheck == 9.0


# -- how long to wait ---------------------------------------------------------------------------


def test_the_operators_timeout_wins() -> None:
    assert zone(stale=StalePolicy(client_timeout=0.7)).timeout() == 0.7


def test_a_client_waits_for_a_slow_upstream_no_longer_than_a_look_up_has_time_for() -> None:
    """Four steps of a search list one after another; the question itself has longer."""
    slow, told = zone(), zone(stale=StalePolicy(client_timeout=1.5))
    for state in (slow, told):
        state.servers[0].health.trip.add(1.0, 0.0)
        state.settle()
    assert (slow.patience, slow.retry) == (PATIENCE_MAX, 2 * TIMEOUT_MAX)
    assert 4 * PATIENCE_MAX < 2.0
    assert (told.patience, told.retry) == (1.5, 3.0)


def test_the_timeout_follows_the_upstream_that_would_be_asked() -> None:
    state = zone(servers=2)
    first, second = state.servers
    assert state.timeout() == TIMEOUT_UNKNOWN
    second.health.trip.add(0.2, 0.0)
    assert state.timeout() == TIMEOUT_UNKNOWN
    kill(first, 1.0)
    assert state.timeout() == second.health.trip.timeout()
    kill(second, 1.0)
    assert state.timeout() == TIMEOUT_UNKNOWN  # all are down: the first will be asked first


def test_lagging_is_asked_of_the_first_that_is_up() -> None:
    state = zone(servers=2)
    first, second = state.servers
    for index in range(60):
        first.health.trip.add(0.001, float(index))
        second.health.trip.add(0.001, float(index))
    for index in range(4):
        first.health.trip.add(1.0, 60.0 + index)
    assert state.lagging(70.0)
    kill(first, 70.0)
    assert not state.lagging(70.0)
    kill(second, 70.0)
    assert not state.lagging(70.0)


# -- names to probe with ------------------------------------------------------------------------


def test_known_names_are_few_and_distinct() -> None:
    state = zone()
    keys = [name_octets(f"web{n}.cluster.local") + A for n in range(KNOWN_MAX + 1)]
    state.remember(keys[0], 1.0)
    state.remember(keys[0], 2.0)
    assert list(state.known) == [keys[0]]
    assert state.known_at == 2.0
    for now, key in enumerate(keys):
        state.remember(key, 3.0 + now)
    assert list(state.known) == keys[1:]  # the latest is the last


def test_one_site_does_not_crowd_out_another() -> None:
    state = zone()
    cluster = name_octets("web.cluster.local") + A
    short = [name_octets(name) + A for name in (".", "local")]
    for key in (cluster, *short):
        state.remember(key, 0.0)
    for n in range(2 * KNOWN_MAX):
        state.remember(name_octets(f"www{n}.shop.example") + A, 1.0 + n)
    assert len(state.known) == KNOWN_MAX
    assert {cluster, *short} < set(state.known)


# -- the ramp -----------------------------------------------------------------------------------


def recovered(now: float) -> ZoneState:
    state = zone()
    kill(state.servers[0], now - 1.0)
    state.review(now - 1.0)
    state.servers[0].health.note(Event.GOOD, now)
    state.review(now)
    return state


def test_there_is_room_without_limit_in_normal_times() -> None:
    state = zone()
    state.inflight = 100_000
    assert state.room(0.0)


def test_recovery_allows_a_few_at_first() -> None:
    state = recovered(10.0)
    state.inflight = RAMP_START - 1
    assert state.room(10.0)
    state.inflight = RAMP_START
    assert not state.room(10.0)


def test_the_ramp_ends_by_time_or_by_success() -> None:
    late = recovered(10.0)
    late.inflight = 100_000
    assert not late.room(10.0 + RAMP_SECONDS - 0.01)
    assert late.room(10.0 + RAMP_SECONDS)
    assert late.ramp == 0
    wide = recovered(10.0)
    wide.inflight = 100_000
    wide.ramp = RAMP_END
    assert wide.room(10.1)
    assert wide.ramp == 0


def test_what_can_wait_gets_half_of_the_room() -> None:
    state = recovered(10.0)
    state.inflight = RAMP_START // 2
    assert state.room(10.0)
    assert not state.leisure(10.0)
    state.inflight -= 1
    assert state.leisure(10.0)
    assert zone().leisure(10.0)


def test_what_is_missed_leaves_its_place_little_by_little() -> None:
    state = recovered(10.0)
    state.inflight = RAMP_START
    for _ in range(RAMP_START):
        state.miss(10.0, 10.1)
    assert state.inflight == 0
    assert not state.room(10.1)
    assert state.room(10.1 + MISSED_SECONDS / 4)
    assert not state.leisure(10.1 + MISSED_SECONDS / 4)
    assert state.leisure(10.1 + MISSED_SECONDS)


def test_questions_that_are_missed_together_halve_the_ramp_once() -> None:
    state = recovered(10.0)
    state.ramp = 8 * RAMP_START
    state.inflight = 3
    state.miss(10.1, 10.2)
    state.miss(10.1, 10.2)
    assert state.ramp == 4 * RAMP_START
    state.miss(10.2, 10.3)  # sent by the new measure
    assert state.ramp == 2 * RAMP_START


def test_the_ramp_is_never_less_than_it_began_with_and_goes_on_while_questions_are_missed() -> None:
    state = recovered(10.0)
    state.inflight = 100_000
    state.miss(11.0, 10.0 + RAMP_SECONDS - 0.1)
    assert state.ramp == RAMP_START
    assert not state.room(10.0 + RAMP_SECONDS)
    assert state.room(10.0 + 2 * RAMP_SECONDS - 0.1)


def test_in_normal_times_what_is_missed_limits_nothing() -> None:
    state = zone()
    state.inflight = 100_000
    state.miss(1.0, 1.1)
    assert state.room(1.1)
    assert state.leisure(1.1)


# -- servers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transport", "streams"), [("udp", False), ("tcp", True), ("tls", True)])
def test_a_server_has_one_health_a_transport(transport: Transport, streams: bool) -> None:
    server = Server(Upstream("10.0.0.1", transport=transport), 0.0)
    assert server.streams is streams
    assert server.health_over(False) is server.health
    assert (server.health_over(True) is server.health) is streams


# -- repeats ------------------------------------------------------------------------------------


def spend(server: Server, held: bool, now: float) -> int:
    """How many repeats it grants at one instant."""
    return sum(1 for _ in iter(lambda: server.repeat(held, now), False))


def test_the_last_repeats_are_for_what_nobody_remembers() -> None:
    server = Server(Upstream("10.0.0.1"), 0.0)
    held = spend(server, True, 0.0)
    assert 0 < held <= REPEATS_MAX / 2 + 1
    assert spend(server, False, 0.0) == REPEATS_MAX - held


def test_repeats_come_back_with_time_and_with_answers() -> None:
    server = Server(Upstream("10.0.0.1"), 0.0)
    spend(server, False, 0.0)
    assert spend(server, False, 2.0) == 2 * REPEATS_PER_SECOND
    server.repeats += 3
    assert spend(server, False, 2.0) == 3
    server.repeats += 10 * REPEATS_MAX  # a good day is no credit for the bad one
    assert spend(server, False, 2.0) == REPEATS_MAX
    assert spend(server, False, 86_400.0) == REPEATS_MAX
