"""What an outage may deny: never a name that a cluster could have. Stories are in `scenarios/`."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import given, strategies as st

from dnsguard.core.policy import Kubernetes
from dnsguard.core.schema import Schema, impossible, schema_of
from dnsguard.core.wire import NXDOMAIN
from tests.core import build
from tests.core.world import World, one_zone

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
PROTOCOL = st.sampled_from(["_tcp", "_udp", "_sctp"])
V4 = st.ip_addresses(v=4).map(lambda address: str(address).replace(".", "-"))
V6 = st.ip_addresses(v=6).map(lambda address: str(address).replace(":", "-"))
# The forms of the DNS specification for Kubernetes, sections 2.2 to 2.4, put together by hand.
NAMES = st.one_of(
    st.tuples(LABEL, LABEL, st.just("svc")),
    st.tuples(LABEL, LABEL, LABEL, st.just("svc")),
    st.tuples(V4, LABEL, LABEL, st.just("svc")),
    st.tuples(LABEL.map(lambda port: f"_{port}"), PROTOCOL, LABEL, LABEL, st.just("svc")),
    st.tuples(st.one_of(V4, V6), LABEL, st.just("pod")),
    st.tuples(LABEL, st.just("svc")),
    st.tuples(LABEL, st.just("pod")),
    st.tuples(LABEL),
)


@given(NAMES)
def test_no_name_of_the_schema_is_impossible(labels: tuple[str, ...]) -> None:
    assert not impossible([label.encode() for label in labels])


@pytest.mark.parametrize(
    "name",
    [
        "api.example.com.default.svc", "a.b.c.d.e.svc", "_http._tls.web.default.svc",
        "web.default.svc.cluster.local.default.svc", "example.com", "www.example.com",
        "web.default.pod", "10-1-2.default.pod", "10-1-2-300.default.pod", "x.10-1-2-3.default.pod",
        "dns-version.dns", "web.default.svc.default",
    ],
)  # fmt: skip
def test_names_that_no_object_has(name: str) -> None:
    assert impossible([label.encode() for label in name.split(".")])


def denied(world: World, name: str, rtype: str = "A", domain: str = "cluster.local") -> str:
    """Why a name would be denied, if it would."""
    schema = Schema(domain, world.engine.cache.index)
    key = build.read(build.query(name, rtype)).key
    found = schema.denial(key, world.engine.zones.root, world.now)
    return "" if found is None else f"{found.rcode} {found.why}"


def known(*names: str) -> World:
    world = World(one_zone())
    for name in names:
        world.put(name, "A", 30, "10.1.0.1")
        world.resolve(name)
    return world


def test_only_names_under_the_domain_follow_its_schema() -> None:
    world = known()
    assert (
        denied(world, "a.b.cluster.local")
        == f"{NXDOMAIN} the Kubernetes DNS schema has no such name"
    )
    assert not denied(world, "a.b.cluster.example")
    assert not denied(world, "a.b.xcluster.local")
    assert not denied(world, "cluster.local")
    assert not denied(world, "local")
    assert denied(world, "a.b.k8s.example", domain="k8s.example")
    schema = Schema("cluster.local", {})
    chaos = build.read(build.query("a.b.cluster.local", rdclass="CH")).key
    assert schema.denial(chaos, world.engine.zones.root, world.now) is None
    world.finish()


def test_a_search_is_told_from_a_name_of_its_own() -> None:
    world = known("example.com", "db.prod.svc.cluster.local", "registry")
    for step in ("default.svc.cluster.local", "svc.cluster.local", "cluster.local"):
        assert denied(world, f"example.com.{step}")
        assert not denied(world, f"registry.{step}"), "one label alone is no search"
    assert not denied(world, "other.com.default.svc.cluster.local")
    assert denied(world, "db.prod.shop.svc.cluster.local")
    assert not denied(world, "db.prod.svc.cluster.local", "SRV")
    world.advance(4 * 86400)
    assert not denied(world, "example.com.svc.cluster.local"), "what it led to has died"
    assert not denied(world, "db.prod.svc.cluster.local"), "it was there once"
    world.finish()


def test_what_was_missing_long_before_the_outage_may_be_there_by_now() -> None:
    world = known()
    world.resolve("gone.prod.svc.cluster.local")
    child = "web-0.gone.prod.svc.cluster.local"
    assert denied(world, child)
    world.advance(3599)
    assert denied(world, child)
    assert denied(world, "gone.prod.svc.cluster.local", "AAAA")
    world.advance(2)
    assert not denied(world, child)
    zone = world.engine.zones.root
    zone.outage, zone.outage_since = True, world.now - 3000
    assert denied(world, child), "it is the outage's beginning that counts"
    zone.outage = False
    world.finish()


def test_a_missing_namespace_has_no_pods_and_no_services() -> None:
    world = known()
    world.resolve("prod.svc.cluster.local")
    world.resolve("prod.pod.cluster.local")
    assert denied(world, "web.prod.svc.cluster.local")
    assert denied(world, "_http._tcp.web.prod.svc.cluster.local", "SRV")
    assert denied(world, "10-1-2-3.prod.pod.cluster.local")
    assert not denied(world, "web.shop.svc.cluster.local")
    world.finish()


def test_a_record_is_missing_where_the_other_family_is_there() -> None:
    world = known("example.com")
    assert denied(world, "example.com", "AAAA") == "0 it has addresses of the other family"
    assert not denied(world, "example.com", "TXT")
    world.finish()


def test_it_can_be_switched_off() -> None:
    assert schema_of(Kubernetes(schema_negatives=False), {}) is None
    assert schema_of(Kubernetes(), {}) is not None


@pytest.mark.parametrize("edns", [None, 1232, 4096])
def test_a_denial_is_a_whole_message_that_says_who_made_it_up(edns: int | None) -> None:
    world = known("example.com")
    world.advance(40)
    world.behave("closed")
    world.resolve("example.com")
    asked = world.ask("example.com.svc.cluster.local", edns=edns)
    assert asked.reply is not None
    message = dns.message.from_wire(asked.reply)
    (soa,) = message.authority
    assert soa.name.to_text() == "cluster.local."
    assert (soa.ttl, soa[0].minimum) == (5, 5)
    assert soa[0].mname.to_text() == "synthesized.dnsguard.invalid."
    assert [error.code for error in message.extended_errors()] == ([29] if edns else [])
    assert world.engine.counters.answers["synthesized", NXDOMAIN] == 1
    world.finish()


def test_a_denial_that_does_not_fit_is_cut() -> None:
    world = known("example.com")
    world.advance(40)
    world.behave("closed")
    world.resolve("example.com")
    long = ".".join(["x" * 63, "y" * 63, "z" * 63, "cluster.local"])
    asked = world.ask(long, edns=512)
    assert asked.read().rcode == "NXDOMAIN"
    assert len(asked.reply or b"") <= 512
    world.finish()
