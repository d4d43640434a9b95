"""Values files and the mistakes in them."""

from __future__ import annotations

from typing import Any

import pytest

from dnsguard.errors import ConfigError
from dnsguard.kube.profile import Profile, answers_libc, read_values, upstream_ip


def test_the_charts_values_file_will_do() -> None:
    values = {"replicas": 2, "injection": {"upstream": ["10.96.0.10"], "adminPort": 9154}}
    assert read_values(values, "v.yaml") == Profile(upstream=("10.96.0.10",), admin_port=9154)


def test_an_empty_file_changes_nothing() -> None:
    assert read_values(None, "v.yaml") == Profile()


def test_settings_of_both_layers_hold() -> None:
    base = read_values({"config": {"stale.max_age": "1d", "log.format": "json"}}, "v.yaml")
    found = read_values({"config": {"stale.max_age": "2d", "keep": True}}, "w.yaml", base)
    assert found.config == {"stale.max_age": "2d", "log.format": "json", "keep": "on"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "keys with values"),
        ({"image": 5, "runAsUser": 0, "upstrem": "x"}, "upstrem"),
        ({"runAsUser": 0}, "above 0"),
        ({"config": {"stale": {"max_age": "1d"}}}, "dotted keys"),
        ({"upstream": [10]}, "a list"),
        ({"unprivilegedPortSysctl": "perhaps"}, "true or false"),
        ({"clusterDomain": "no dots here"}, "cluster.local"),
        ({"adminPort": True}, "1024"),
    ],
)
def test_mistakes_say_what_would_be_right(values: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_values(values, "v.yaml")
    assert "v.yaml" in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "address", "libc"),
    [
        ("10.96.0.10", "10.96.0.10", True),
        ("udp://10.96.0.10:53", "10.96.0.10", True),
        ("10.96.0.10:5353", "10.96.0.10", False),
        ("tls://192.0.2.1:853#dns.example", "192.0.2.1", False),
        ("fd00::a", "fd00::a", True),
        ("tcp://[fd00::a]:53", "fd00::a", True),
        ("dns.example", "None", True),
        ("", "None", False),
    ],
)
def test_addresses_of_upstreams(text: str, address: str, libc: bool) -> None:
    assert str(upstream_ip(text)) == address
    assert answers_libc(text) is libc
