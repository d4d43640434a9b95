"""A question that would fail: who is asked instead, how long a client waits, and what it gets then.

Others are asked in no other case, never twice for one name at a time, and not again so soon.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dnsguard.core import elsewhere as module
from dnsguard.core.elsewhere import AGAIN_SECONDS, WAIT_SECONDS, Elsewhere
from dnsguard.core.engine import Engine
from dnsguard.core.policy import Limits
from dnsguard.core.unanswered import NEVER_ANSWERED
from tests.core import build
from tests.core.byhand import NAME, T0, A, ask_for, begin, good, taken, told
from tests.core.watch import read
from tests.core.world import one_zone

QUERY = build.query(NAME, edns=1232)
KEY = build.read(QUERY).key
WIRE = build.answer_wire(QUERY, A, edns=None)


def dark(limits: Limits | None = None) -> tuple[Engine, Elsewhere]:
    """An engine whose upstream is known to be dead, and that has somewhere else to look."""
    engine = Engine(replace(one_zone(), limits=limits or Limits()), random.Random(1), T0)
    engine.zones.root.outage = True
    return engine, engine.look_elsewhere()


def sought(engine: Engine) -> list[bytes]:
    found, engine.out.searches = engine.out.searches, []
    return found


def test_a_cold_name_in_an_outage_is_looked_for_and_its_client_waits() -> None:
    engine, elsewhere = dark()
    assert engine.look_elsewhere() is elsewhere
    engine.client(QUERY, "one", T0)
    engine.client(QUERY, "two", T0)
    assert sought(engine) == [KEY]
    assert told(engine) == []
    assert elsewhere.found(KEY, WIRE, T0 - 60, T0 + 0.01)
    replies = [(client, read(wire)) for client, wire in engine.out.replies]
    assert [client for client, _ in replies] == ["one", "two"]
    assert all(found.data == ("10.1.0.1",) and found.ede[0][0] == 3 for _, found in replies)
    assert (engine.counters.searches, engine.counters.found) == (1, 1)
    assert engine.counters.stale == {"outage": 2}
    engine.out.replies.clear()
    engine.client(QUERY, "three", T0 + 1)
    assert (told(engine), sought(engine)) == (["NOERROR"], [])


def test_without_an_outage_it_is_looked_for_when_the_question_has_failed() -> None:
    engine = begin()
    elsewhere = engine.look_elsewhere()
    ask = ask_for(engine)
    now = T0
    while not engine.out.searches:
        assert told(engine) == []
        due = engine.deadline()
        assert due is not None
        now = due
        engine.tick(now)
        taken(engine)
    assert now >= T0 + engine.policy.ask.deadline - 0.01
    assert ask.flight.over
    assert elsewhere.found(KEY, WIRE, T0 - 60, now)
    assert told(engine) == ["NOERROR"]


def test_what_nobody_knows_fails_as_it_would_have() -> None:
    engine, elsewhere = dark()
    engine.client(QUERY, "client", T0)
    elsewhere.nowhere(KEY, T0 + 0.1)
    assert engine.unanswered.why(KEY) == NEVER_ANSWERED  # what a status shows as a name to fix
    (found,) = [read(wire) for _, wire in engine.out.replies]
    assert (found.rcode, found.ede[0][0]) == ("SERVFAIL", 22)
    engine.out.replies.clear()
    elsewhere.nowhere(KEY, T0 + 0.2)  # two may say so
    assert told(engine) == []


def test_a_name_that_nobody_knew_is_not_looked_for_again_so_soon() -> None:
    engine, elsewhere = dark()
    engine.client(QUERY, "client", T0)
    elsewhere.nowhere(KEY, T0)
    engine.client(QUERY, "client", T0 + AGAIN_SECONDS - 0.1)
    assert (sought(engine), told(engine)) == ([KEY], ["SERVFAIL", "SERVFAIL"])
    engine.client(QUERY, "client", T0 + AGAIN_SECONDS)
    assert (sought(engine), told(engine)) == ([KEY], [])


def test_nobody_is_waited_for_longer_than_a_moment() -> None:
    engine, _ = dark()
    engine.client(QUERY, "client", T0)
    engine.tick(T0 + WAIT_SECONDS - 0.01)
    assert told(engine) == []
    engine.tick(T0 + WAIT_SECONDS + 0.01)
    assert told(engine) == ["SERVFAIL"]
    engine.tick(T0 + 10)
    assert told(engine) == []


def test_what_is_on_its_way_is_waited_for_a_little_longer() -> None:
    engine, elsewhere = dark()
    elsewhere.at_least = T0 + 2.0
    engine.client(QUERY, "client", T0)
    engine.tick(T0 + 1.99)
    assert told(engine) == []
    engine.tick(T0 + 2.01)
    assert told(engine) == ["SERVFAIL"]


@pytest.mark.parametrize(
    ("wire", "stored"),
    [(b"nonsense", T0), (WIRE, T0 - 86400 * 4), (build.answer_wire(QUERY, rcode=2), T0)],
)
def test_what_is_of_no_use_ends_no_search(wire: bytes, stored: float) -> None:
    engine, elsewhere = dark()
    engine.client(QUERY, "client", T0)
    assert not elsewhere.found(KEY, wire, stored, T0)
    assert told(engine) == []
    assert elsewhere.found(KEY, WIRE, T0 - 60, T0)
    assert told(engine) == ["NOERROR"]


def test_what_nobody_waits_for_is_remembered_all_the_same() -> None:
    engine, elsewhere = dark()
    assert elsewhere.found(KEY, WIRE, T0 - 60, T0)
    assert (told(engine), engine.counters.found) == ([], 0)
    assert KEY in engine.cache.index


def test_an_upstream_that_comes_back_meanwhile_is_believed() -> None:
    engine, elsewhere = dark()
    engine.client(QUERY, "client", T0)
    engine.zones.root.outage = False
    ask = ask_for(engine)  # another client, after the recovery
    assert engine.answer(ask, good(ask), T0 + 0.1)
    engine.out.replies.clear()
    elsewhere.nowhere(KEY, T0 + 0.2)
    assert told(engine) == ["NOERROR"]
    assert engine.counters.answers["hit", 0] == 1


def test_a_stale_answer_of_a_zone_that_is_well_says_why_it_is_stale() -> None:
    engine, elsewhere = dark()
    engine.client(QUERY, "client", T0)
    engine.zones.root.outage = False
    assert elsewhere.found(KEY, WIRE, T0 - 60, T0)
    assert engine.counters.stale == {"timeout": 1}


def test_searches_and_those_who_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCHES_MAX", 1)
    monkeypatch.setattr(module, "MISSES_MAX", 1)
    engine, elsewhere = dark(Limits(waiters_per_question=2))
    other = build.query("db.cluster.local")
    for query, answers in ((QUERY, 0), (QUERY, 0), (QUERY, 1), (other, 1)):
        engine.client(query, "client", T0)
        assert told(engine) == ["SERVFAIL"] * answers
    elsewhere.nowhere(KEY, T0)
    engine.client(other, "client", T0)
    elsewhere.nowhere(build.read(other).key, T0)  # takes the place of the first among the misses
    sought(engine)
    engine.client(QUERY, "client", T0 + 1)
    assert sought(engine) == [KEY]


def test_at_the_end_nobody_waits() -> None:
    engine, _ = dark()
    engine.client(QUERY, "client", T0)
    engine.shutdown(T0 + 0.1)
    assert told(engine) == ["SERVFAIL"]
    assert engine.elsewhere is None
    engine.tick(T0 + 10)  # the search still stands in the wheel
    assert told(engine) == []
