"""The layers of settings: defaults, effects, precedence, zones, the system's resolvers."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from dnsguard.config import Address, Given, Origin, load, others, resolv_conf
from dnsguard.config.keys import KEYS, Key, env_name, from_env_name
from dnsguard.core import policy
from dnsguard.core.policy import StalePolicy, Upstream
from tests.settings_from import RESOLVER, SET, flag, loaded, mistakes_of, written


def test_defaults() -> None:
    found = loaded()
    assert found.listen == (Address("127.0.0.1", 5353),)
    assert found.admin == Address("127.0.0.1", 9153)
    assert (found.log_format, found.log_level) == ("text", "info")
    assert found.policy == policy.Policy(zones=(policy.Zone(".", (Upstream(RESOLVER),)),))
    assert ipaddress.ip_network("169.254.0.0/16") in found.access
    assert ipaddress.ip_network("0.0.0.0/0") not in found.access


def test_a_host_may_ask_from_the_address_it_listens_at() -> None:
    """As a node does that answers for a Service; GKE's Services lie in a public network."""
    places = ("34.118.224.10:53", "127.0.0.5:53", "[::]:53", "[2001:db8::a]:53", "0.0.0.0:53")
    found = loaded(flag("listen", places), flag("access.allow", ("10.0.0.0/8",)))
    assert [str(network) for network in found.access] == [
        "10.0.0.0/8", "34.118.224.10/32", "2001:db8::a/128"
    ]  # fmt: skip


def test_settings_cannot_be_changed() -> None:
    found = loaded()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.admin = None  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.effective["listen"] = found.effective["listen"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("section", "default"),
    [
        ("stale", policy.StalePolicy()),
        ("cache", policy.CachePolicy()),
        ("upstream", policy.AskPolicy()),
        ("prefetch", policy.PrefetchPolicy()),
        ("limits", policy.Limits()),
    ],
)
def test_every_field_of_the_policy_has_a_key(section: str, default: Any) -> None:
    rows = {
        name.removeprefix(f"{section}."): key.default
        for name, key in KEYS.items()
        if name.startswith(f"{section}.")
    }
    assert rows == dataclasses.asdict(default)


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: str(key.name))
def test_every_default_may_be_set(key: Key) -> None:
    shown = key.show(key.default)
    if isinstance(shown, list):
        assert tuple(key.read(str(item)) for item in shown) == key.default
    else:
        assert key.read(str(shown)) == key.default
    assert key.meaning
    assert key.low is None or key.why


# -- single values: each key takes effect where it should

EFFECTS = [
    ("cache.max_bytes", "1MiB", "policy.cache.max_bytes", 1 << 20),
    ("cache.max_ttl", "7d", "policy.cache.max_ttl", 604800),
    ("cache.max_negative_ttl", "3h", "policy.cache.max_negative_ttl", 10800),
    ("stale.max_age", "0", "policy.zones.0.stale.max_age", 0.0),
    ("stale.headless_max_age", "6h", "policy.zones.0.stale.headless_max_age", 21600.0),
    ("stale.answer_ttl", "1s", "policy.zones.0.stale.answer_ttl", 1),
    ("stale.client_timeout", "1ms", "policy.zones.0.stale.client_timeout", 0.001),
    ("stale.client_timeout", "10s", "policy.zones.0.stale.client_timeout", 10.0),
    ("stale.client_timeout", "auto", "policy.zones.0.stale.client_timeout", None),
    ("stale.recheck", "100ms", "policy.zones.0.stale.recheck", 0.1),
    ("stale.mode", "immediate", "policy.zones.0.stale.mode", "immediate"),
    ("guard.mode", "observe", "policy.zones.0.guard.mode", "observe"),
    ("guard.second_look", "off", "policy.zones.0.guard.second_look", False),
    ("guard.window", "1m", "policy.zones.0.guard.window", 60.0),
    ("guard.mass_min", "9", "policy.zones.0.guard.mass_min", 9),
    ("guard.mass_fraction", "0.5", "policy.zones.0.guard.mass_fraction", 0.5),
    ("guard.max_hold", "1d", "policy.zones.0.guard.max_hold", 86400.0),
    ("guard.hold_empty", "0", "policy.zones.0.guard.hold_empty", 0.0),
    ("guard.canaries", "DB.Corp.", "policy.zones.0.guard.canaries", ("db.corp",)),
    ("upstream.deadline", "2s", "policy.ask.deadline", 2.0),
    ("upstream.attempts", "1", "policy.ask.attempts", 1),
    ("upstream.policy", "hedged", "policy.ask.policy", "hedged"),
    ("upstream.case_randomization", "on", "policy.ask.case_randomization", True),
    ("upstream.cookies", "off", "policy.ask.cookies", False),
    ("prefetch.fraction", "1", "policy.prefetch.fraction", 1.0),
    ("prefetch.min_hits", "5", "policy.prefetch.min_hits", 5),
    ("keep_fresh.names", "A.example., b.example", "policy.keep_fresh", ("a.example", "b.example")),
    ("kubernetes.domain", "K8s.Example.", "policy.kubernetes.domain", "k8s.example"),
    ("kubernetes.schema_negatives", "off", "policy.kubernetes.schema_negatives", False),
    ("kubernetes.namespace", "shop-2", "policy.kubernetes.namespace", "shop-2"),
    ("kubernetes.autopath", "on", "policy.kubernetes.autopath", True),
    ("keep_fresh.names", "", "policy.keep_fresh", ()),
    ("limits.inflight", "1", "policy.limits.inflight", 1),
    ("limits.waiters_per_question", "7", "policy.limits.waiters_per_question", 7),
    ("limits.tcp_connections", "9", "policy.limits.tcp_connections", 9),
    ("limits.tcp_idle", "30s", "policy.limits.tcp_idle", 30.0),
    ("limits.client_qps", "100", "policy.limits.client_qps", 100),
    ("listen", "[::1]:53", "listen", (Address("::1", 53),)),
    ("admin.listen", "off", "admin", None),
    ("admin.hot_names", "off", "hot_names", False),
    ("admin.listen", "[::1]:9153", "admin", Address("::1", 9153)),
    ("access.allow", "10.0.0.0/8", "access", (ipaddress.ip_network("10.0.0.0/8"),)),
    ("store.dir", "/var/lib/dnsguard", "store.dir", "/var/lib/dnsguard"),
    ("store.dir", "off", "store.dir", None),
    ("store.flush_interval", "100ms", "store.flush_interval", 0.1),
    ("store.max_bytes", "1MiB", "store.max_bytes", 1 << 20),
    ("kubernetes.domain", "k8s.example", "policy.kubernetes.domain", "k8s.example"),
    ("kubernetes.schema_negatives", "off", "policy.kubernetes.schema_negatives", False),
    ("workers", "4", "workers", 4),
    ("takeover", "on", "takeover", True),
    ("store.shared", "redis://192.0.2.1:70/2", "store.shared.0.places", (("192.0.2.1", 70),)),
    ("store.shared_prefix", "east", "store.shared_prefix", "east"),
    ("metrics.coredns_names", "on", "coredns_names", True),
    ("log.format", "json", "log_format", "json"),
    ("log.level", "debug", "log_level", "debug"),
    ("log.queries", "1%", "log_queries", 0.01),
    ("log.query_names", "off", "log_query_names", False),
]

BESIDE = {"kubernetes.autopath": ("kubernetes.namespace", "shop")}  # what a key cannot be without


@pytest.mark.parametrize(("key", "text", "path", "value"), EFFECTS)
def test_each_key_has_its_effect_from_every_source(
    key: str, text: str, path: str, value: object, tmp_path: Path
) -> None:
    file = written(tmp_path, f"{key}: {json.dumps(text)}\n")
    beside = [flag(*BESIDE[key])] if key in BESIDE else []
    for found in (
        loaded(flag(key, text), *beside),
        loaded(*beside, environ={env_name(key): text}),
        loaded(*beside, file=file),
    ):
        place: Any = found
        for part in path.split("."):
            place = place[int(part)] if part.isdigit() else getattr(place, part)
        assert place == value


def test_the_table_of_effects_is_whole() -> None:
    assert {row[0] for row in EFFECTS} == set(KEYS)


# -- precedence


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = written(tmp_path, "stale:\n  max_age: 1d\n  recheck: 10s\n  mode: immediate\n")
    found = loaded(
        flag("stale.max_age", "1h"),
        environ={"DNSGUARD_STALE__MAX_AGE": "2h", "DNSGUARD_STALE__RECHECK": "20s"},
        file=file,
    )
    assert found.policy.zones[0].stale == StalePolicy(3600.0, 30, None, 20.0, "immediate")
    origins = {name: str(found.effective[name].origin) for name in KEYS if "stale" in name}
    assert origins == {
        "stale.max_age": "flag --set",
        "stale.answer_ttl": "default",
        "stale.client_timeout": "default",
        "stale.recheck": "env DNSGUARD_STALE__RECHECK",
        "stale.headless_max_age": "default",
        "stale.mode": f"file {file}:4",
    }


def test_a_stronger_list_replaces_a_weaker_one(tmp_path: Path) -> None:
    file = written(tmp_path, "listen: ['127.0.0.1:1', '127.0.0.1:2']\n")
    found = loaded(environ={"DNSGUARD_LISTEN": "127.0.0.1:3, 127.0.0.1:4"}, file=file)
    assert [address.port for address in found.listen] == [3, 4]
    found = loaded(
        Given("listen", "127.0.0.1:5", Origin("flag", "--listen")),
        Given("listen", "127.0.0.1:6", SET),
        environ={"DNSGUARD_LISTEN": "127.0.0.1:3"},
        file=file,
    )
    assert [address.port for address in found.listen] == [5, 6]
    assert str(found.effective["listen"].origin) == "flag --listen"


def test_the_last_flag_sets_a_single_value() -> None:
    found = loaded(flag("log.level", "debug"), flag("log.level", "error"))
    assert found.log_level == "error"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, "log.level: debug\n")
    other = tmp_path / "other.yaml"
    other.write_text("log.level: error\n")
    environ = {"DNSGUARD_CONFIG": str(file)}
    assert loaded(environ=environ).log_level == "debug"
    assert loaded(environ=environ, file=other).log_level == "error"
    assert loaded(environ={"DNSGUARD_CONFIG": ""}).log_level == "info"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DNSGUARD_SERVICE_HOST", "10.96.0.99"),
        ("DNSGUARD_SERVICE_PORT", "53"),
        ("DNSGUARD_SERVICE_PORT_DNS_TCP", "53"),
        ("DNSGUARD_PORT", "udp://10.96.0.99:53"),
        ("DNSGUARD_PORT_53_UDP", "udp://10.96.0.99:53"),
        ("DNSGUARD_PORT_53_TCP_ADDR", "10.96.0.99"),
        ("DNSGUARD_WEBHOOK_SERVICE_HOST", "10.96.0.98"),
        ("DNSGUARD_WEBHOOK_PORT", "tcp://10.96.0.98:443"),
        ("DNSGUARD_WEBHOOK_PORT_443_TCP_PROTO", "tcp"),
        ("DNSGUARDIAN_MODE", "x"),
        ("dnsguard_listen", "x"),
    ],
)
def test_variables_that_are_not_ours_are_left_alone(name: str, text: str) -> None:
    assert loaded(environ={name: text}) == loaded()


def test_no_key_is_taken_for_a_service_variable() -> None:
    for key in KEYS:
        name = env_name(key)
        assert from_env_name(name) == key
        assert mistakes_of(environ={name: "\x00"})[0].path == f"{key} (env {name})"


# -- zones


def test_zones_keep_their_dots_in_every_source(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "zones:\n"
        "  corp.example:\n"
        "    upstreams: [192.0.2.1, 'tcp://192.0.2.2']\n"
        "    stale:\n"
        "      max_age: 1h\n"
        "  Cluster.Local.:\n"
        "    upstreams: 192.0.2.3\n",
    )
    found = loaded(
        flag("zones.cluster.local.stale.max_age", "1d"),
        environ={
            "DNSGUARD_ZONES__CORP__EXAMPLE__STALE__MODE": "immediate",
            "DNSGUARD_ZONES______UPSTREAMS": "192.0.2.4",
        },
        file=file,
    )
    assert {zone.name: (zone.upstreams, zone.stale) for zone in found.policy.zones} == {
        ".": ((Upstream("192.0.2.4"),), StalePolicy()),
        "corp.example": (
            (Upstream("192.0.2.1"), Upstream("192.0.2.2", transport="tcp")),
            StalePolicy(max_age=3600.0, mode="immediate"),
        ),
        "cluster.local": ((Upstream("192.0.2.3"),), StalePolicy(max_age=86400.0)),
    }


def test_a_zone_starts_from_the_general_stale_settings() -> None:
    found = loaded(flag("stale.recheck", "1s"), flag("zones.a.example.stale.max_age", "2h"))
    assert found.policy.zones[1].stale == StalePolicy(max_age=7200.0, recheck=1.0)


def test_a_zone_without_upstreams_has_those_around_it() -> None:
    found = loaded(
        flag("zones.a.b.example.stale.max_age", "1h"),
        flag("zones.example.upstreams", "192.0.2.1"),
        flag("zones.other.stale.max_age", "1h"),
        flag("zones...stale.max_age", "2h"),
    )
    hosts = {zone.name: zone.upstreams[0].host for zone in found.policy.zones}
    assert hosts == {
        ".": RESOLVER,
        "example": "192.0.2.1",
        "a.b.example": "192.0.2.1",
        "other": RESOLVER,
    }
    assert found.policy.zones[0].stale.max_age == 7200.0
    origin = found.effective["zones.a.b.example.upstreams"].origin
    assert str(origin) == "default from the zone example"


@pytest.mark.parametrize("zone", ["upstreams", "stale.max_age", "stale.recheck.stale.mode"])
def test_a_zone_may_be_named_like_a_key(zone: str) -> None:
    found = loaded(flag(f"zones.{zone}.upstreams", "192.0.2.1"))
    assert found.policy.zones[1].name == zone


def test_flags_add_up_to_one_zone() -> None:
    found = loaded(flag("zones.A.example.upstreams", "192.0.2.1,192.0.2.2"),
                   flag("zones.a.example.upstreams", "192.0.2.3"))  # fmt: skip
    assert [up.host for up in found.policy.zones[1].upstreams] == [
        "192.0.2.1", "192.0.2.2", "192.0.2.3",
    ]  # fmt: skip


# -- the system's resolvers


@pytest.mark.parametrize(
    ("listen", "resolvers", "left"),
    [
        ("127.0.0.1:53", ("127.0.0.1", "10.96.0.10", "10.96.0.10"), ("10.96.0.10",)),
        ("127.0.0.1:5353", ("127.0.0.1",), ("127.0.0.1",)),
        ("127.0.0.1:53", ("127.0.0.53", "::1"), ("127.0.0.53", "::1")),
        ("0.0.0.0:53", ("127.0.0.53", "::1", "fd00::a"), ("fd00::a",)),
        ("[::]:53", ("127.0.0.1", "10.0.0.1"), ("10.0.0.1",)),
        ("[::1]:53", ("0:0::1", "10.0.0.1"), ("10.0.0.1",)),
    ],
)
def test_the_root_asks_the_systems_resolvers_but_not_ourselves(
    listen: str, resolvers: tuple[str, ...], left: tuple[str, ...]
) -> None:
    found = loaded(flag("listen", listen), resolvers=resolvers)
    assert tuple(up.host for up in found.policy.zones[0].upstreams) == left
    assert {up.port for up in found.policy.zones[0].upstreams} == {53}
    assert others(resolvers, found.listen) == left


def test_the_system_is_not_asked_when_an_upstream_is_given() -> None:
    def resolvers() -> tuple[str, ...]:
        raise AssertionError("nobody needs them")

    found = load([flag("zones...upstreams", "192.0.2.1")], {}, None, resolvers)
    assert found.policy.zones[0].upstreams == (Upstream("192.0.2.1"),)


@pytest.mark.parametrize(
    ("resolvers", "advice"),
    [((), "names no server; give --upstream"), (("127.0.0.1",), "only ourselves; give --upstream")],
)
@pytest.mark.parametrize("zone", [(), (flag("zones.corp.example.upstreams", "192.0.2.1"),)])
def test_without_an_upstream_for_the_root_there_is_no_start(
    resolvers: tuple[str, ...], advice: str, zone: tuple[Given, ...]
) -> None:
    (mistake,) = mistakes_of(flag("listen", "127.0.0.1:53"), *zone, resolvers=resolvers)
    assert mistake.path == "zones...upstreams (default)"
    assert advice in mistake.expected


def test_resolv_conf_is_read_as_libc_does(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(
        b"# nameserver 192.0.2.9\n"
        b"; nameserver 192.0.2.9\n"
        b" nameserver 192.0.2.9\n"
        b"nameserver\t192.0.2.1 # the first\n"
        b"nameserver\n"
        b"nameserver dns.example\n"
        b"nameserver 0.0.0.0\n"
        b"nameserver 192.0.2.9:53\n"
        b"nameservers 192.0.2.9\n"
        b"search \xff.example\n"
        b"nameserver fe80::1%eth0\n"
        b"options ndots:5\n"
        b"nameserver 192.0.2.3\n"
        b"nameserver 192.0.2.4\n"
    )
    assert resolv_conf(path) == ("192.0.2.1", "fe80::1%eth0", "192.0.2.3")


def test_without_a_resolv_conf_there_is_no_resolver(tmp_path: Path) -> None:
    assert resolv_conf(tmp_path / "none") == ()
