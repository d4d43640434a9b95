"""How an upstream is written, and the promises that the defaults make."""

from __future__ import annotations

import dataclasses

import pytest

from dnsguard.core.policy import (
    AskPolicy,
    CachePolicy,
    Limits,
    Policy,
    PrefetchPolicy,
    StalePolicy,
    Transport,
    Upstream,
    Zone,
)

DAY = 86400


@pytest.mark.parametrize(
    ("host", "port", "transport", "name", "text"),
    [
        ("10.96.0.10", 53, "udp", None, "10.96.0.10:53"),
        ("fd00::a", 5353, "udp", None, "[fd00::a]:5353"),
        ("10.96.0.10", 53, "tcp", None, "tcp://10.96.0.10:53"),
        ("9.9.9.9", 853, "tls", "dns.example", "tls://9.9.9.9:853#dns.example"),
        ("fd00::a", 853, "tls", None, "tls://[fd00::a]:853"),
    ],
)
def test_an_upstream_is_shown_as_it_is_configured(
    host: str, port: int, transport: Transport, name: str | None, text: str
) -> None:
    assert str(Upstream(host, port, transport, name)) == text


def test_an_upstream_is_a_value() -> None:
    """Two zones that name the same upstream share its health, because it is the same key."""
    assert {Upstream("10.0.0.1"), Upstream("10.0.0.1", 53, "udp")} == {Upstream("10.0.0.1")}
    assert Upstream("10.0.0.1") != Upstream("10.0.0.1", transport="tcp")


def test_settings_do_not_change_under_those_who_read_them() -> None:
    values = [StalePolicy(), CachePolicy(), AskPolicy(), PrefetchPolicy(), Limits()]
    values += [Zone(".", ()), Policy(())]
    for value in values:
        first = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, first, None)


def test_what_the_standards_ask_of_the_defaults() -> None:
    stale, cache, ask = StalePolicy(), CachePolicy(), AskPolicy()
    assert DAY <= stale.max_age <= 3 * DAY  # RFC 8767 section 5: one to three days
    assert stale.answer_ttl == 30  # RFC 8767 section 4: 30 s recommended, more than 0
    assert stale.mode == "verify"
    assert 0 < stale.recheck <= 30  # RFC 8767 section 5: about 30 s between tries at most
    assert cache.max_ttl <= 7 * DAY  # RFC 8767 section 4: a cap of days to weeks
    assert cache.max_negative_ttl <= 3 * 3600  # RFC 2308 section 5: one to three hours
    assert ask.attempts <= 3  # RFC 9520 section 3.1
    assert ask.deadline < 5  # stub resolvers give up after 5 s
    assert 0 < PrefetchPolicy().fraction < 1


def test_zones_do_not_share_what_could_be_set_apart() -> None:
    own = StalePolicy(max_age=60.0)
    policy = Policy((Zone(".", ()), Zone("cluster.local", (), own)))
    assert [zone.stale.max_age for zone in policy.zones] == [StalePolicy().max_age, 60.0]
    assert policy.cache == CachePolicy()
    assert policy.keep_fresh == ()
