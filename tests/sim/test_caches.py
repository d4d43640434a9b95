"""Models of other caches, one question at a time: what they wait for, keep and say.

The times are those of the servers' own documentation and source, as the presets name them.
"""

from __future__ import annotations

import itertools
import random

import pytest

from dnsguard.sim.caches import Attempt, Cache, NoCache, Zones
from dnsguard.sim.healths import UNBOUND_TIMEOUT_MAX, UnboundHealth
from dnsguard.sim.servers import SERVERS
from dnsguard.sim.told import CLOSED, Answer, Restart, Said
from tests.sim.stages import QUESTIONS, WEB, ZONES, Scripted

GOOD = Said(0, (b"\x0a\x60\0\1",), 30)
OTHER = Said(0, (b"\x0a\x60\0\2",), 30)
DENIED = Said(3, (), 30)
BROKEN = Said(2)


def begin(name: str) -> tuple[Scripted, Cache]:
    stage = Scripted()
    return stage, Cache(SERVERS[name], stage, ZONES)


def ask(stage: Scripted, cache: Cache, token: int) -> Answer | None:
    return cache.ask(WEB, token, stage.now)


def learn(stage: Scripted, cache: Cache, said: Said = GOOD) -> None:
    """Have the cache hold this answer."""
    assert ask(stage, cache, 1000 + len(stage.sent)) is None
    cache.heard(stage.sent[-1][3], said, stage.now)


def expired(name: str) -> tuple[Scripted, Cache]:
    """A cache of this kind whose one answer has been past its TTL for ten seconds."""
    stage, cache = begin(name)
    learn(stage, cache)
    stage.advance(40.0)
    return stage, cache


ALL = sorted(SERVERS)


@pytest.mark.parametrize("name", ALL)
def test_an_answer_is_kept_for_its_ttl(name: str) -> None:
    stage, cache = begin(name)
    learn(stage, cache)
    stage.advance(20.0)
    answer = ask(stage, cache, 1)
    assert answer == (0, GOOD.addresses, "hit", 0.0, 30)
    assert len(stage.sent) == 1


def test_node_cache_serves_nothing_stale_and_says_servfail_after_its_tries() -> None:
    stage, cache = begin("node-cache")
    learn(stage, cache)
    stage.advance(31.0)
    assert ask(stage, cache, 1) is None
    stage.advance(40.0)
    at, answer = stage.replies[1]
    assert (at, answer[0]) == (31.0 + 6.0, 2)


def test_node_cache_asks_once_when_it_knows_that_nobody_answers() -> None:
    stage, cache = begin("node-cache")
    ask(stage, cache, 1)
    stage.advance(10.0)
    ask(stage, cache, 2)
    stage.advance(13.0)
    assert stage.replies[2][0] == 12.0


def test_node_cache_forgets_denials_in_the_cluster_after_five_seconds() -> None:
    stage, cache = begin("node-cache")
    learn(stage, cache, DENIED)
    stage.advance(4.9)
    assert ask(stage, cache, 1) is not None
    stage.advance(5.1)
    assert ask(stage, cache, 2) is None


def test_node_cache_sends_a_question_of_every_client() -> None:
    stage, cache = begin("node-cache")
    for token in range(3):
        ask(stage, cache, token)
    assert len(stage.sent) == 3


@pytest.mark.parametrize("name", ["unbound", "coredns-verify", "dnsmasq"])
def test_others_send_it_once(name: str) -> None:
    stage, cache = begin(name)
    for token in range(3):
        ask(stage, cache, token)
    attempts = [entry[3] for entry in stage.sent]
    assert len({one.fetch for one in attempts if isinstance(one, Attempt)}) == 1
    assert len(attempts) == (3 if name == "dnsmasq" else 1)  # to it a client's repeat is one
    cache.heard(stage.sent[0][3], GOOD, 0.01)
    assert sorted(stage.replies) == [0, 1, 2]


def test_unbound_gives_the_stale_answer_after_1800_ms_each_time() -> None:
    stage, cache = expired("unbound")
    assert ask(stage, cache, 1) is None
    stage.advance(41.9)
    at, answer = stage.replies[1]
    assert at == pytest.approx(41.8)
    assert answer == (0, GOOD.addresses, "stale", 0.0, 30)
    stage.advance(42.0)
    assert ask(stage, cache, 2) is None
    stage.advance(44.0)
    assert stage.replies[2][0] == pytest.approx(43.8)


def test_unbound_asks_five_times_where_it_hears_an_error_and_again_for_the_next_client() -> None:
    stage, cache = expired("unbound")
    for client in (1, 2):
        before = len(stage.sent)
        assert ask(stage, cache, client) is None
        for number in range(1, 6):
            assert (client in stage.replies, len(stage.sent)) == (False, before + number)
            cache.heard(stage.sent[-1][3], BROKEN, 40.0)
        assert stage.replies[client][1][2] == "stale"
    assert len(stage.sent) == 1 + 2 * 5


def test_dnsmasq_asks_once_more_where_it_hears_an_error() -> None:
    stage, cache = begin("dnsmasq")
    ask(stage, cache, 1)
    cache.heard(stage.sent[-1][3], BROKEN, 0.0)
    assert (1 in stage.replies, len(stage.sent)) == (False, 2)
    cache.heard(stage.sent[-1][3], BROKEN, 0.0)
    assert (stage.replies[1][1][0], len(stage.sent)) == (2, 2)


def test_unbound_does_not_hear_that_nobody_listens() -> None:
    stage, cache = expired("unbound")
    assert ask(stage, cache, 1) is None
    for _ in range(5):
        cache.heard(stage.sent[-1][3], Said(CLOSED), 40.0)
    assert len(stage.sent) == 2  # until the time-out
    stage.advance(41.7)
    assert 1 not in stage.replies
    stage.advance(41.9)
    assert stage.replies[1][0] == pytest.approx(41.8)


def test_unbound_spends_one_question_at_a_time_on_a_server_that_is_silent() -> None:
    stage, cache = begin("unbound")
    ask(stage, cache, 1)
    stage.advance(70.0)
    assert ask(stage, cache, 2) is None  # the probe
    other = QUESTIONS.get("api.example.com", 1)
    assert cache.ask(other, 3, stage.now) == (2, (), "failure", 70.0, 0)


def test_unbound_lets_the_next_question_through_a_whole_second_after_one_was_lost() -> None:
    stage, cache = begin("unbound")
    ask(stage, cache, 1)  # tries until 11.656, when the time-out is 12.032 s
    stage.advance(20.6)
    assert ask(stage, cache, 2) is None  # a new fetch, lost at 32.632
    for at, asks in ((33.9, False), (34.0, True)):  # 20 + 12.032 + 1.999, in whole seconds
        stage.advance(at)
        before = len(stage.sent)
        ask(stage, cache, int(10 * at))
        assert (len(stage.sent) > before) is asks


def test_unbound_waits_for_a_server_as_its_round_trips_have_it() -> None:
    stage, cache = begin("unbound")
    for token in range(40):  # 20 ms each, until the deviation is nothing
        cache.ask(QUESTIONS.get(f"n{token}.example.com", 1), token, stage.now)
        stage.advance(stage.now + 0.02)
        cache.heard(stage.sent[-1][3], GOOD, stage.now)
    before, begun = len(stage.sent), stage.now
    ask(stage, cache, 100)
    stage.advance(begun + 3.0)
    found = [at - begun for at, *_ in stage.sent[before:]]
    assert found == pytest.approx([0.0, 0.05, 0.15, 0.35, 0.75])


@pytest.mark.parametrize("name", ["unbound", "node-cache", "coredns-verify"])
def test_what_comes_after_the_time_out_is_heard_by_nobody(name: str) -> None:
    stage, cache = begin(name)
    ask(stage, cache, 1)
    stage.advance(2.1)  # a second try is under way
    first, latest = stage.sent[0][3], stage.sent[-1][3]
    cache.heard(first, GOOD, stage.now)
    assert (first is latest, stage.replies) == (False, {})
    cache.heard(latest, GOOD, stage.now)
    assert stage.replies[1][1][1] == GOOD.addresses


def test_of_those_who_verify_with_coredns_only_the_first_waits() -> None:
    stage, cache = expired("coredns-verify")
    assert ask(stage, cache, 1) is None
    for token in (2, 3):
        answer = ask(stage, cache, token)
        assert answer is not None
        assert answer[1:3] == (GOOD.addresses, "stale")
    assert len(stage.sent) == 2
    stage.advance(42.0)
    assert stage.replies[1][0] == pytest.approx(41.8)


@pytest.mark.parametrize("said", [Said(0, GOOD.addresses, 1), Said(3, (), 1)])
@pytest.mark.parametrize("name", ["coredns-immediate", "node-cache"])
def test_coredns_keeps_everything_for_five_seconds(name: str, said: Said) -> None:
    stage, cache = begin(name)
    learn(stage, cache, said)
    stage.advance(4.9)
    answer = ask(stage, cache, 1)
    assert answer is not None
    assert answer[2] == "hit"
    stage.advance(5.1)
    answer = ask(stage, cache, 2)
    assert answer is None or answer[2] == "stale"


def test_unbound_forgets_the_round_trips_of_a_server_that_was_given_up() -> None:
    health = UnboundHealth()
    while health.patience((), 0) < UNBOUND_TIMEOUT_MAX:
        health.failed(health.patience((), 0))
    assert health.tries((0.0,) * 5, 1) == 1
    health.asked(0.0)
    assert not health.usable(120.0)
    health.answered(120.0, 0.3)
    assert health.usable(120.0)
    # From what an unknown server has: srtt 37.5 ms, a deviation of 145.5 ms.
    assert health.patience((), 0) == pytest.approx(0.6195)


def test_unbound_tries_a_server_that_is_silent_for_days_every_two_minutes() -> None:
    stage, cache = begin("unbound")
    for minute in range(3 * 24 * 60):
        ask(stage, cache, minute)
        stage.advance(60.0 * (minute + 1))
    last = [at for at, *_ in stage.sent][-10:]
    assert {b - a for a, b in itertools.pairwise(last)} == {180.0}  # of those who ask each minute


@pytest.mark.parametrize("name", ["coredns-immediate", "dnsmasq"])
def test_stale_comes_first_where_it_is_immediate(name: str) -> None:
    stage, cache = expired(name)
    answer = ask(stage, cache, 1)
    assert answer is not None
    assert answer[1:3] == (GOOD.addresses, "stale")
    cache.heard(stage.sent[-1][3], OTHER, 40.0)
    fresh = ask(stage, cache, 2)
    assert fresh is not None
    assert fresh[1:3] == (OTHER.addresses, "hit")


@pytest.mark.parametrize("name", [n for n in ALL if n != "coredns-prefer-positive"])
def test_a_denial_takes_the_place_of_what_was_good(name: str) -> None:
    stage, cache = expired(name)
    ask(stage, cache, 1)
    cache.heard(stage.sent[-1][3], DENIED, 40.0)
    answer = ask(stage, cache, 2)
    assert answer is not None
    assert answer[0] == 3


def test_prefer_positive_goes_on_with_what_was_good() -> None:
    stage, cache = expired("coredns-prefer-positive")
    assert ask(stage, cache, 1) is None
    cache.heard(stage.sent[-1][3], DENIED, 40.0)
    assert stage.replies[1][1][1:3] == (GOOD.addresses, "stale")


def test_dnsmasq_says_nothing_where_it_hears_nothing_and_repeats_for_a_client_that_does() -> None:
    stage, cache = begin("dnsmasq")
    ask(stage, cache, 1)
    ask(stage, cache, 2)
    assert len(stage.sent) == 2
    stage.advance(20.0)
    assert stage.replies == {}


def test_coredns_looks_whether_a_server_answers_again() -> None:
    stage, cache = begin("coredns-verify")
    ask(stage, cache, 1)
    stage.advance(10.0)
    checks = [entry for entry in stage.sent if isinstance(entry[3], int)]
    assert len(checks) >= 4
    cache.heard(checks[-1][3], Said(2), stage.now)
    before = len(stage.sent)
    stage.advance(20.0)
    assert len(stage.sent) == before


def test_coredns_keeps_a_socket_until_it_brings_nothing() -> None:
    stage, cache = begin("coredns-verify")
    learn(stage, cache)
    stage.advance(31.0)
    ask(stage, cache, 1)
    stage.advance(34.0)
    flows = [entry[4] for entry in stage.sent if not isinstance(entry[3], int)]
    assert flows[0] is not flows[1]  # idle for more than 10 s
    assert flows[1] is not flows[2]  # 2 s without an answer


def test_a_second_upstream_is_tried_after_an_error_of_the_first() -> None:
    stage = Scripted()
    cache = Cache(SERVERS["coredns-verify"], stage, Zones([(".", (0, 1))], "cluster.local"))
    cache.ask(WEB, 1, 0.0)
    cache.heard(stage.sent[0][3], Said(CLOSED), 0.0)
    assert [entry[1] for entry in stage.sent if not isinstance(entry[3], int)] == [0, 1]


@pytest.mark.parametrize("name", ALL)
def test_a_restart_forgets_everything(name: str) -> None:
    stage, cache = begin(name)
    learn(stage, cache)
    cache.stop(1.0, Restart.CLEAN)
    cache.begin(2.0)
    assert ask(stage, cache, 1) is None


def test_without_a_cache_every_question_goes_out_and_every_reply_comes_back() -> None:
    stage = Scripted()
    nothing = NoCache(stage, ZONES, random.Random(1))
    for token in range(3):
        assert nothing.ask(WEB, token, 0.0) is None
    assert len(stage.sent) == 3
    nothing.heard(stage.sent[1][3], Said(CLOSED), 0.0)
    assert stage.replies == {1: (0.0, (CLOSED, (), "failure", 0.0, 0))}
