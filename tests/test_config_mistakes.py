"""Every kind of mistake: its path, its value, its advice; and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsguard.config.keys import KEYS, Key, nearest
from dnsguard.errors import Mistake
from tests.settings_from import flag, loaded, mistakes_of, written

BAD_FLAGS: list[tuple[str, str | tuple[str, ...] | None, str]] = [
    ("stale.max_age", "3", "a duration: a number and a unit"),
    ("stale.max_age", "-1s", "from 0s to 30d: no answer"),
    ("stale.max_age", "31d", "from 0s to 30d"),
    ("stale.max_age", "", "a duration"),
    ("stale.max_age", None, "a value: a duration from 0s to 30d"),
    ("stale.max_age", ("1d", "2d"), "one value: a duration"),
    ("stale.answer_ttl", "0s", "RFC 8767"),
    ("stale.answer_ttl", "2h", "from 1s to 1h"),
    ("stale.answer_ttl", "1500ms", "whole seconds"),
    ("stale.client_timeout", "0s", "from 1ms to 10s"),
    ("stale.client_timeout", "11s", "a duration or auto from 1ms to 10s"),
    ("stale.client_timeout", "soon", "; or auto"),
    ("stale.recheck", "0s", "storm"),
    ("stale.recheck", "2h", "from 100ms to 1h"),
    ("stale.mode", "Verify", "one of verify, immediate"),
    ("cache.max_bytes", "1023KiB", "a size, at least 1MiB: less would not hold"),
    ("cache.max_bytes", "64MB", "KiB, MiB"),
    ("cache.max_ttl", "8d", "RFC 8767"),
    ("cache.max_ttl", "0s", "from 1s to 7d"),
    ("cache.max_negative_ttl", "4h", "RFC 2308"),
    ("cache.max_negative_ttl", "-1s", "from 0s to 3h"),
    ("upstream.deadline", "0s", "from 10ms to 30s"),
    ("upstream.deadline", "-4s", "from 10ms to 30s"),
    ("upstream.deadline", "31s", "from 10ms to 30s"),
    ("upstream.attempts", "0", "RFC 9520"),
    ("upstream.attempts", "4", "RFC 9520"),
    ("upstream.policy", "random", "one of sequential, fastest, hedged"),
    ("upstream.case_randomization", "maybe", "on or off"),
    ("prefetch.fraction", "1.1", "a number from 0 to 1: it is a part"),
    ("prefetch.fraction", "-0.1", "from 0 to 1"),
    ("prefetch.fraction", "nan", "a number"),
    ("prefetch.min_hits", "0", "from 1 to 1000000"),
    ("limits.inflight", "0", "from 1 to"),
    ("limits.waiters_per_question", "0", "from 1 to"),
    ("limits.tcp_connections", "0", "RFC 7766"),
    ("limits.tcp_connections", "65537", "from 1 to 65536"),
    ("limits.tcp_idle", "0s", "RFC 7766"),
    ("limits.client_qps", "-1", "from 0 to"),
    ("keep_fresh.names", "a..b", "a domain name"),
    ("listen", "127.0.0.1", "the port is missing"),
    ("listen", "127.0.0.1:70000", "a port from 0 to 65535"),
    ("listen", "", "at least one item (list of ADDR:PORT): without a listener"),
    ("admin.listen", "9153", "or off"),
    ("access.allow", "friends", "loopback, link-local, private"),
    ("access.allow", "10.0.0.1/8", "10.0.0.0/8 may be meant"),
    ("access.allow", "", "0.0.0.0/0 and ::/0 admit everyone"),
    ("access.allow", (), "0.0.0.0/0 and ::/0 admit everyone"),
    ("zones...upstreams", "10.96.0.300", "an upstream, such as"),
    ("zones...upstreams", "", "at least one item (list of upstream URLs)"),
    ("zones.corp.example.upstreams", "https://x", "udp://, tcp:// or tls://"),
    ("zones.corp.example.stale.max_age", "99d", "from 0s to 30d"),
    ("zones.corp..example.upstreams", "192.0.2.1", "a domain name"),
    ("zones..upstreams", "192.0.2.1", "a domain name"),
    ("log.format", "xml", "one of text, json"),
    ("log.level", "loud", "one of debug, info, warning, error"),
]


@pytest.mark.parametrize(("key", "value", "advice"), BAD_FLAGS)
def test_a_mistake_says_where_what_and_what_would_be_right(
    key: str, value: str | tuple[str, ...] | None, advice: str
) -> None:
    (mistake,) = mistakes_of(flag(key, value))
    assert mistake.path == f"{key} (flag --set)"
    shown: dict[object, object] = {(): "", ("1d", "2d"): ["1d", "2d"]}
    assert mistake.value == shown.get(value, value)
    assert advice in mistake.expected


STEPS = {"a number": 0.1, "a duration": 0.001, "a duration or auto": 0.001}
RANGED = [key for key in KEYS.values() if key.low is not None]


@pytest.mark.parametrize("key", RANGED, ids=lambda key: str(key.name))
def test_a_range_holds_at_both_ends_and_says_why(key: Key) -> None:
    step = STEPS.get(key.kind.name, 1)
    for end, outside in ((key.low, -step), (key.high, step)):
        if end is not None:
            assert key.read(str(key.kind.show(end))) == end
            (mistake,) = mistakes_of(flag(key.name, str(key.kind.show(end + outside))))
            assert mistake.expected == f"{key.allowed}: {key.why}"


@pytest.mark.parametrize(
    ("unknown", "near"),
    [
        ("stale.maxage", "stale.max_age"),
        ("max_age", "stale.max_age"),
        ("cache.maxbytes", "cache.max_bytes"),
        ("listeners", "listen"),
        ("log", "log.level"),
        ("zones.cluster.local.stale.maxage", "zones.cluster.local.stale.max_age"),
        ("zones.cluster.local.upstream", "zones.cluster.local.upstreams"),
        ("zones.cluster.local", "zones.cluster.local.upstreams"),
        ("zones...upstream", "zones...upstreams"),
        ("zones.upstreams", "zones.upstreams.upstreams"),
        ("zone.corp.upstreams", "zones.<zone>.upstreams"),
        ("", "zones.<zone>.upstreams"),
    ],
)
def test_an_unknown_key_names_the_nearest(unknown: str, near: str) -> None:
    (mistake,) = mistakes_of(flag(unknown, "1"))
    assert mistake == Mistake(f"{unknown} (flag --set)", "1", f"no such key; the nearest is {near}")
    assert nearest(unknown) == near


def test_an_unknown_variable_names_the_nearest_variable() -> None:
    (mistake,) = mistakes_of(environ={"DNSGUARD_STALE_MAX_AGE": "1d"})
    assert mistake.path == "stale_max_age (env DNSGUARD_STALE_MAX_AGE)"
    assert mistake.expected == "no such key; the nearest is DNSGUARD_STALE__MAX_AGE"


def test_a_long_wrong_key_is_answered() -> None:
    assert nearest("zones." + "a." * 5000 + "upstream").startswith("zones.a")


@pytest.mark.parametrize(
    ("listen", "upstream", "ours"),
    [
        ("127.0.0.1:53", "127.0.0.1", True),
        ("127.0.0.1:53", "tcp://127.0.0.1:53", True),
        ("127.0.0.1:5353", "127.0.0.1", False),
        ("0.0.0.0:53", "127.0.0.9", True),
        ("[::]:53", "::1", True),
    ],
)
def test_an_upstream_may_not_be_ourselves(listen: str, upstream: str, ours: bool) -> None:
    flags = flag("listen", listen), flag("zones.corp.example.upstreams", upstream)
    if ours:
        (mistake,) = mistakes_of(*flags)
        assert mistake.path == "zones.corp.example.upstreams (flag --set)"
        assert "one of our own listeners" in mistake.expected
    else:
        assert loaded(*flags).policy.zones[1].upstreams[0].host == upstream


def test_admin_may_not_take_a_listeners_place() -> None:
    (mistake,) = mistakes_of(flag("admin.listen", "127.0.0.1:53"), flag("listen", "0.0.0.0:53"))
    assert mistake.path == "admin.listen (flag --set)"
    assert mistake.value == "127.0.0.1:53"
    assert loaded(flag("admin.listen", "127.0.0.1:0"), flag("listen", "127.0.0.1:0")).admin


@pytest.mark.parametrize(
    ("key", "text", "again"),
    [
        ("listen", "127.0.0.1:53,127.0.0.1:53", "127.0.0.1:53"),
        ("zones...upstreams", "10.96.0.10,10.96.0.10:53", "10.96.0.10:53"),
        ("access.allow", "private, PRIVATE", " PRIVATE"),
        ("keep_fresh.names", "a.example,A.example.", "A.example."),
    ],
)
def test_an_item_may_stand_once(key: str, text: str, again: str) -> None:
    (mistake,) = mistakes_of(flag(key, text))
    assert mistake.value == again
    assert "each item once" in mistake.expected


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "stale: {max_age: forever, recheck: 5s}\n"
        "guard.mood: enforce\n"
        "listen: [127.0.0.1:53, nowhere, 127.0.0.1]\n"
        "listen: 127.0.0.1:54\n",
    )
    found = mistakes_of(
        flag("stale.max_age", "1d"),  # hides the file's value, but not its mistake
        flag("upstream.attempts", "9"),
        environ={"DNSGUARD_LOG__LEVEL": "loud"},
        file=file,
        resolvers=(),
    )
    assert [mistake.path for mistake in found] == [
        f"listen (file {file}:4)",
        f"stale.max_age (file {file}:1)",
        f"guard.mood (file {file}:2)",
        f"listen (file {file}:3)",
        f"listen (file {file}:3)",
        "log.level (env DNSGUARD_LOG__LEVEL)",
        "upstream.attempts (flag --set)",
        "zones...upstreams (default)",
    ]
    assert [mistake.value for mistake in found][3:5] == ["nowhere", "127.0.0.1"]


def test_a_canary_outside_of_its_zone_is_a_mistake() -> None:
    (mistake,) = mistakes_of(
        flag("zones.corp.upstreams", "10.0.0.54"),
        flag("zones.corp.guard.canaries", "db.corp, corp, www.example"),
    )
    assert str(mistake).startswith("zones.corp.guard.canaries (flag")
    assert "www.example" in str(mistake)
    assert "a name in the zone corp" in str(mistake)
    found = loaded(flag("zones...guard.canaries", "www.example"), flag("guard.mass_min", "9"))
    assert found.policy.zones[0].guard.canaries == ("www.example",)
    assert found.policy.zones[0].guard.mass_min == 9


def test_a_search_list_begins_with_a_namespace() -> None:
    (mistake,) = mistakes_of(flag("kubernetes.autopath", "on"))
    assert mistake.path == "kubernetes.autopath (flag --set)"
    assert "kubernetes.namespace" in mistake.expected
    (mistake,) = mistakes_of(flag("kubernetes.namespace", "Shop"))
    assert "lower-case" in mistake.expected
