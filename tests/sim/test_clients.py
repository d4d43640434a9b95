"""Stub resolvers, driven by hand: what they send, when they repeat it, and how a look-up ends.

The expectations were read from the sources that `dnsguard/sim/clients.py` names, not from it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dnsguard.sim.clients import STUBS, Java
from dnsguard.sim.lookup import (
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    Lookup,
    Resolv,
    Result,
    Send,
    Status,
    Stub,
)

POD = Resolv(search=("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"))
HERE = (b"\x0a\0\0\1",)
GOOD = (NOERROR, HERE)
NONE = (NXDOMAIN, ())
EMPTY = (NOERROR, ())
BROKEN = (SERVFAIL, ())
NOTHING = None  # no reply
CLOSED = "closed"  # an ICMP port unreachable

Said = tuple[int, tuple[bytes, ...]] | str | None
Server = Callable[[Send, float], Said]


def run(lookup: Lookup, server: Server, now: float = 0.0) -> tuple[Result, float, list[Send]]:
    """Drive a look-up to its end: every reply takes a millisecond."""
    sent: list[Send] = []
    while lookup.result is None:
        sends, lookup.sends = lookup.sends, []
        sent += sends
        if not sends:
            now = lookup.at
            lookup.due(now)
        for send in sends:
            said = server(send, now)
            if said is CLOSED:
                lookup.refused(send, now)
            elif said is not NOTHING and not isinstance(said, str):
                now += 0.001
                lookup.reply(send, *said, now)
    return lookup.result, now, sent + lookup.sends


def always(said: Said) -> Server:
    return lambda send, now: said


def only(name: str, other: Said = NONE) -> Server:
    """A server that has an A record at one name, and for all others this."""

    def server(send: Send, now: float) -> Said:
        if send.name != name:
            return other
        return GOOD if send.rtype == 1 else EMPTY

    return server


def begin(model: str, name: str, resolv: Resolv = POD) -> Lookup:
    return STUBS[model](resolv).look_up(name, 0.0)


ALL = sorted(STUBS)


@pytest.mark.parametrize("model", ALL)
def test_a_search_ends_at_the_first_candidate_with_addresses(model: str) -> None:
    lookup = begin(model, "db.prod")
    result, _, sent = run(lookup, only("db.prod.svc.cluster.local"))
    assert result == (Status.FOUND, HERE, "db.prod.svc.cluster.local")
    assert [send.name for send in sent] == [
        "db.prod.shop.svc.cluster.local",
        "db.prod.shop.svc.cluster.local",
        "db.prod.svc.cluster.local",
        "db.prod.svc.cluster.local",
    ]
    assert [send.rtype for send in sent] == [1, 28, 1, 28]


@pytest.mark.parametrize("model", ALL)
def test_an_external_name_costs_a_pair_for_every_search_domain(model: str) -> None:
    """With ndots:5 it is eight questions (Zalando 2019 measured ten with four domains)."""
    result, _, sent = run(begin(model, "api.example.com"), only("api.example.com"))
    assert result.status is Status.FOUND
    assert len(sent) == 8


@pytest.mark.parametrize("model", ALL)
def test_a_name_that_is_nowhere_is_not_found(model: str) -> None:
    result, _, sent = run(begin(model, "nowhere"), always(NONE))
    assert result.status is Status.NOT_FOUND
    assert len(sent) == 8


@pytest.mark.parametrize("model", ALL)
def test_a_rooted_name_is_asked_for_alone(model: str) -> None:
    result, _, sent = run(begin(model, "db.prod.svc.cluster.local."), always(NONE))
    assert result.status is Status.NOT_FOUND
    assert {send.name for send in sent} == {"db.prod.svc.cluster.local"}


@pytest.mark.parametrize("model", ["glibc", "go", "java"])
def test_a_name_with_enough_dots_is_tried_as_it_is_first(model: str) -> None:
    result, _, sent = run(begin(model, "a.b.c.d.e.f"), only("a.b.c.d.e.f.cluster.local"))
    assert result.status is Status.FOUND
    assert sent[0].name == "a.b.c.d.e.f"


def test_musl_never_searches_for_a_name_with_enough_dots() -> None:
    result, _, sent = run(begin("musl", "a.b.c.d.e.f"), always(NONE))
    assert result.status is Status.NOT_FOUND
    assert len(sent) == 2


# -- silence --------------------------------------------------------------------------------


def test_glibc_waits_twice_five_seconds_and_then_tries_the_name_as_it_is() -> None:
    result, took, sent = run(begin("glibc", "db.prod"), always(NOTHING))
    assert result.status is Status.FAILED
    assert took == 20.0
    assert {send.name for send in sent} == {"db.prod.shop.svc.cluster.local", "db.prod"}
    assert len(sent) == 8


def test_glibc_asks_both_questions_from_one_socket_and_repeats_them_from_it() -> None:
    _, _, sent = run(begin("glibc", "db.prod."), always(NOTHING))
    assert [send.socket for send in sent] == [1, 1, 1, 1]
    assert [send.number for send in sent] == [0, 1, 0, 1]


def test_musl_repeats_after_two_and_a_half_seconds_and_gives_up_after_five() -> None:
    lookup = begin("musl", "db.prod")
    assert lookup.at == 2.5
    result, took, sent = run(lookup, always(NOTHING))
    assert (result.status, took, len(sent)) == (Status.FAILED, 5.0, 4)


def test_go_searches_on_after_a_silence_with_a_new_socket_for_each_attempt() -> None:
    result, took, sent = run(begin("go", "db.prod"), always(NOTHING))
    assert (result.status, took) == (Status.FAILED, 40.0)
    assert len({send.socket for send in sent}) == len(sent) == 16
    assert all(send.edns for send in sent)


def test_half_a_reply_makes_glibc_ask_one_after_the_other_ever_after() -> None:
    stub = STUBS["glibc"](POD)

    def one_at_a_time(send: Send, now: float) -> Said:
        """Loses the second of two that come at once."""
        busy = now == seen.get("last")
        seen["last"] = now
        return NOTHING if busy else GOOD if send.rtype == 1 else EMPTY

    seen: dict[str, float] = {}
    lookup = stub.look_up("db.prod.svc.cluster.local.", 0.0)
    first, second = lookup.sends
    lookup.sends = []
    lookup.reply(first, *GOOD, 0.001)
    lookup.due(5.0)
    assert [send.number for send in lookup.sends] == [0]
    result, took, sent = run(lookup, only("db.prod.svc.cluster.local"), 5.0)
    assert result.status is Status.FOUND
    assert took == pytest.approx(5.002)
    assert [send.number for send in sent] == [0, 1]
    again = stub.look_up("db.prod.svc.cluster.local.", 10.0)
    assert len(again.sends) == 1
    assert second.number == 1


def test_glibc_takes_half_a_reply_in_the_end() -> None:
    def half(send: Send, now: float) -> Said:
        return GOOD if send.rtype == 1 else NOTHING

    result, took, _ = run(begin("glibc", "db.prod."), half)
    assert result == (Status.FOUND, HERE, "db.prod")
    assert took == pytest.approx(15.0, abs=0.01)


def test_musl_fails_when_only_half_is_answered() -> None:
    def half(send: Send, now: float) -> Said:
        return GOOD if send.rtype == 1 else NOTHING

    result, took, _ = run(begin("musl", "db.prod"), half)
    assert (result.status, took) == (Status.FAILED, 5.0)


# -- errors ---------------------------------------------------------------------------------


def test_glibc_walks_on_after_servfail_and_fails_in_the_end() -> None:
    result, took, sent = run(begin("glibc", "db.prod"), always(BROKEN))
    assert result.status is Status.FAILED
    assert took < 0.1
    assert len(sent) == 2 * 2 * 4


def test_glibc_finds_a_name_behind_a_candidate_that_fails() -> None:
    server = only("db.prod.svc.cluster.local", BROKEN)
    result, _, _ = run(begin("glibc", "db.prod"), server)
    assert result.status is Status.FOUND


def test_one_servfail_fails_a_whole_musl_lookup_after_five_seconds() -> None:
    server = only("db.prod.svc.cluster.local", BROKEN)
    result, took, sent = run(begin("musl", "db.prod"), server)
    assert (result.status, took) == (Status.FAILED, 5.0)
    assert len(sent) == 2 * (2 + 4)  # two rounds of a pair and four repeats at once


def test_musl_takes_an_answer_that_follows_a_servfail() -> None:
    def second_time(send: Send, now: float) -> Said:
        turns[send.number] = turns.get(send.number, 0) + 1
        if turns[send.number] == 1:
            return BROKEN
        return GOOD if send.rtype == 1 else EMPTY

    turns: dict[int, int] = {}
    result, took, _ = run(begin("musl", "db.prod"), second_time)
    assert result.status is Status.FOUND
    assert took < 0.1


def test_go_finds_a_name_behind_a_candidate_that_fails() -> None:
    result, _, sent = run(begin("go", "db.prod"), only("db.prod.svc.cluster.local", BROKEN))
    assert result.status is Status.FOUND
    assert len(sent) == 4 + 2


def test_go_prefers_the_error_of_the_name_as_it_was_given() -> None:
    def server(send: Send, now: float) -> Said:
        return BROKEN if send.name == "api.example.com" else NONE

    result, _, _ = run(begin("go", "api.example.com"), server)
    assert result.status is Status.FAILED


def test_refused_is_ignored_by_musl_and_retried_at_once_by_glibc() -> None:
    _, took, _ = run(begin("musl", "db.prod"), always((5, ())))
    assert took == 5.0
    result, took, sent = run(begin("glibc", "db.prod"), always((5, ())))
    assert result.status is Status.FAILED
    assert took < 0.1
    assert {send.name for send in sent} == {"db.prod.shop.svc.cluster.local", "db.prod"}


@pytest.mark.parametrize("model", ["glibc", "java"])
def test_a_closed_port_ends_a_search_at_once(model: str) -> None:
    result, took, sent = run(begin(model, "db.prod"), always(CLOSED))
    assert (result.status, took) == (Status.FAILED, 0.0)
    assert {send.name for send in sent} == {"db.prod.shop.svc.cluster.local"}


def test_a_closed_port_is_silence_to_musl_and_an_error_to_go() -> None:
    _, took, _ = run(begin("musl", "db.prod"), always(CLOSED))
    assert took == 5.0
    result, took, sent = run(begin("go", "db.prod"), always(CLOSED))
    assert (result.status, took, len(sent)) == (Status.FAILED, 0.0, 16)


def test_nodata_is_final_for_musl_and_counts_in_the_end_for_glibc() -> None:
    def server(send: Send, now: float) -> Said:
        return EMPTY if send.name.endswith("shop.svc.cluster.local") else BROKEN

    result, _, sent = run(begin("musl", "db.prod"), server)
    assert (result.status, len(sent)) == (Status.NOT_FOUND, 2)
    result, _, _ = run(begin("glibc", "db.prod"), server)
    assert result.status is Status.NOT_FOUND


def test_musl_does_not_believe_in_a_name_of_which_one_half_is_denied() -> None:
    def server(send: Send, now: float) -> Said:
        return NONE if send.rtype == 28 else GOOD

    musl, _, _ = run(begin("musl", "db.prod"), server)
    glibc, _, _ = run(begin("glibc", "db.prod"), server)
    assert (musl.status, glibc.status) == (Status.NOT_FOUND, Status.FOUND)


@pytest.mark.parametrize("model", ALL)
def test_what_comes_too_late_changes_nothing(model: str) -> None:
    lookup = begin(model, "db.prod.")
    sends = lookup.sends
    result, now, _ = run(lookup, only("db.prod"))
    for send in sends:
        lookup.reply(send, *NONE, now)
        lookup.refused(send, now)
    lookup.due(now)
    assert lookup.result == result


@pytest.mark.parametrize("model", ALL)
def test_a_lookup_may_begin_behind_candidates_that_are_known_to_be_none(model: str) -> None:
    stub: Stub = STUBS[model](POD)
    result, _, sent = run(stub.look_up("db.prod", 0.0, first=3), always(NONE))
    assert result.status is Status.NOT_FOUND
    assert [send.name for send in sent] == ["db.prod", "db.prod"]


# -- Java -----------------------------------------------------------------------------------


def test_java_remembers_for_thirty_seconds_what_it_found() -> None:
    java = Java(POD)
    run(java.look_up("db.prod", 0.0), only("db.prod.svc.cluster.local"))
    again = java.look_up("db.prod", 29.0)
    assert (again.sends, again.at) == ([], float("inf"))
    assert again.result is not None
    assert again.result.addresses == HERE
    assert java.look_up("db.prod", 31.0).result is None


def test_java_remembers_for_ten_seconds_that_it_failed() -> None:
    java = Java(POD)
    result, now, _ = run(java.look_up("db.prod", 0.0), always(BROKEN))
    assert java.look_up("db.prod", now + 9.9).result == result
    assert java.look_up("db.prod", now + 10.1).result is None
