"""Upstreams that are named, resolved by a real stub at a real server on loopback."""

from __future__ import annotations

import dataclasses

import pytest

from dnsguard.core.policy import Policy, Upstream as Address, Zone
from dnsguard.errors import UpstreamError
from dnsguard.net import bootstrap
from dnsguard.net.bootstrap import is_literal, resolve_upstreams
from tests.net.running import HOST, on_both_loops
from tests.net.upstream import Upstream, address_of


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "PAUSE_SECONDS", 0.0)


def policy(*upstreams: Address, inner: tuple[Address, ...] = ()) -> Policy:
    zones = [Zone(".", upstreams), *([Zone("corp.test.", inner)] if inner else [])]
    return Policy(zones=tuple(zones))


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("10.96.0.10", True),
        ("fd00::a", True),
        ("fe80::1%eth0", True),
        ("dns.test", False),
        ("10.96.0", False),
        ("", False),
    ],
)
def test_addresses_are_told_from_names(host: str, literal: bool) -> None:
    assert is_literal(host) is literal


@on_both_loops
async def test_addresses_pass_through_and_nobody_is_asked() -> None:
    given = policy(Address("192.0.2.1"), Address("fe80::1%eth0", 853, "tls", "dns.test"))
    assert await resolve_upstreams(given, [], print) is given


@on_both_loops
async def test_names_become_addresses_and_each_is_asked_once() -> None:
    given = policy(
        Address("dns.test", 5300),
        Address("192.0.2.1"),
        inner=(Address("dns.test", 853, "tls"), Address("dns.test", 853, "tls", "other.test")),
    )
    async with Upstream() as resolver:
        found = await resolve_upstreams(given, [resolver.url], print)
        assert [seen.name for seen in resolver.seen] == ["dns.test"]
    host = address_of("dns.test")
    assert found.zones[0].upstreams == (Address(host, 5300), Address("192.0.2.1"))
    # What a certificate must carry is the name that the operator wrote, not what it stands for.
    assert found.zones[1].upstreams == (
        Address(host, 853, "tls", "dns.test"),
        Address(host, 853, "tls", "other.test"),
    )
    assert dataclasses.replace(found, zones=given.zones) == given


@on_both_loops
async def test_a_name_may_have_an_ipv6_address_alone() -> None:
    async with Upstream() as resolver:
        found = await resolve_upstreams(policy(Address("six.dns.test")), [resolver.url], print)
    assert found.zones[0].upstreams == (Address("fd00::6"),)


@on_both_loops
async def test_without_a_resolver_a_name_is_an_error_that_says_what_to_do() -> None:
    given = policy(Address("b.test"), Address("a.test"))
    with pytest.raises(UpstreamError, match=r"a\.test is a name.*give the upstream's address"):
        await resolve_upstreams(given, [], print)


@on_both_loops
async def test_a_name_that_cannot_be_resolved_is_tried_again_and_then_an_error() -> None:
    waits: list[str] = []
    async with Upstream() as resolver:
        resolver.behave("servfail")
        with pytest.raises(UpstreamError, match=rf"dns\.test cannot be resolved by {HOST}"):
            await resolve_upstreams(policy(Address("dns.test")), [resolver.url], waits.append)
    assert len(waits) == bootstrap.TRIES - 1
    assert all("dns.test cannot be resolved yet" in wait for wait in waits)


@on_both_loops
async def test_a_resolver_that_comes_up_late_is_waited_for() -> None:
    async with Upstream() as resolver:
        resolver.behave("refused")
        found = await resolve_upstreams(
            policy(Address("dns.test")), [resolver.url], lambda _: resolver.behave("ok")
        )
    assert found.zones[0].upstreams == (Address(address_of("dns.test")),)
