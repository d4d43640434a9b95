"""Scenarios read from files: what they say, and what is said of their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsguard.errors import ConfigError
from dnsguard.sim.cluster import Cluster
from dnsguard.sim.scenario import Scenario, read

LIBRARY = Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios"
SMALL = """\
title: A small one
date: none
summary: two minutes
known: nothing
assumed: all of it
sources: [https://example.com/]
names: {services: 5, headless: 4, pods: 2, external: 3, absent: 1, churn: 5s}
upstreams:
  dns: {serves: all, replicas: 2, service: off}
phases:
  - {name: good, for: 1m, what: well}
  - name: bad
    for: 1m
    what: ill
    outage: on
    does:
      - {upstream: dns, does: servfail, names: cluster, share: 0%..100%}
    events:
      - {at: 30s, do: delete, names: services}
      - {at: 10s, do: kill}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def small(folder: Path, text: str = SMALL) -> Scenario:
    return read(written(folder, text))


def test_a_file_becomes_a_scenario(tmp_path: Path) -> None:
    found = small(tmp_path)
    assert (found.name, found.length, found.clients.count) == ("small", 120.0, 100)
    assert [(p.name, p.begin, p.end, p.outage) for p in found.phases] == [
        ("good", 0.0, 60.0, False),
        ("bad", 60.0, 120.0, True),
    ]
    (does,) = found.phases[1].does
    assert (does.does, does.names, does.share) == ("servfail", "cluster", (0.0, 1.0))
    assert [(at, event.do) for at, event in found.events] == [(70.0, "kill"), (90.0, "delete")]
    assert (found.phase(60.0).name, found.phase(500.0).name) == ("bad", "bad")
    assert found.upstreams[0].service is False


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("title: A", "titel: A", 1, "the nearest is title"),
        ("date: none\n", "", 1, "when it was"),
        ("date: none", "date: today", 2, "a date such as 2024-12-11"),
        ("date: none", "date: 2024-12-11\nsources: []\nx: 1", 3, "at least one: it has a date"),
        ("https://example.com/", "example.com", 6, "a URL"),
        ("services: 5, headless: 4, pods: 2, external: 3", "services: 0, headless: 0, external: 0",
         7, "services, headless or external names"),
        ("absent: 1", "hosts: [db]", 7, "a whole domain name"),
        ("service: off", "service: off, queue: 5", 9, "a capacity beside it"),
        ("service: off", "service: off, p99: 1ms, median: 5ms", 9, "at least the median"),
        ("  dns: {", "  DNS: {", 9, "a name of a-z"),
        ("outage: on", "outage: off", 11, "a phase with 'outage: on'"),
        ("what: well", "what: well, outage: on", 11, "a phase before the outage"),
        ("name: bad", "name: good", 12, "a name that no phase above has"),
        ("names: cluster, share", "names: clusters, share", 17, "one of all, cluster, services"),
        ("names: cluster, share", "replicas: 3, share", 17, "at most 2: dns has no more"),
        ("names: cluster, share", "every: 3s, share", 17, "this key only beside crashloop"),
        ("does: servfail", "does: silent, loss: 50%", 17, "this key only beside ok or refused"),
        ("do: kill", "do: roll", 20, "one of the upstreams: dns"),
        ("do: kill", "do: kill, share: 50%", 20, "this key only beside create"),
        ("do: delete", "do: scale-down", 19, "headless: the names of others stay"),
        ("date: none", "date: none\nclients: {glibc: 0, musl: 0, go: 0, java: 0}", 3, "above 0"),
        ("services: 5", "services: many", 7, "a whole number"),
        ("services: 5", "services: 5, services: 6", 7, "a key once"),
        ("churn: 5s", "chrun: 5s", 7, "the nearest is churn"),
        ("serves: all", "serves: some", 9, "one of all, cluster, external"),
        ("serves: all", "serves: cluster", 9, "serves the external names"),
        ("for: 1m, what", "for: 1, what", 11, "a duration"),
        ("for: 1m, what", "what", 11, "it must be given"),
        ("name: bad", "nmae: bad", 12, "the nearest is name"),
        ("upstream: dns", "upstream: dms", 17, "one of the upstreams: dns"),
        ("does: servfail", "does: fail", 17, "one of ok, silent"),
        ("share: 0%..100%", "share: 120%", 17, "a share such as"),
        ("at: 30s", "at: 2m", 19, "within the phase"),
        ("do: kill", "do: explode", 20, "one of create, delete"),
        ("sources: [https://example.com/]", "sources: web", 6, "a list"),
        ("names: {services: 5, headless: 4, pods: 2, external: 3, absent: 1, churn: 5s}",
         "names: 5", 7, "keys with values"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    assert old in SMALL
    path = written(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read(path)
    texts = [str(mistake) for mistake in caught.value.mistakes]
    assert any(said in text and f"{path}:{line})" in text for text in texts), texts


def test_every_kind_of_key_is_read(tmp_path: Path) -> None:
    text = SMALL.replace("absent: 1", "hosts: [a.example.org, b.example.org]").replace(
        "does: servfail, names: cluster, share: 0%..100%}",
        "does: crashloop, every: 30s, up: 20%, together: off}\n"
        "      - {upstream: dns, does: partial, names: a.example.org, keep: 10%, loss: 5%}\n"
        "      - {upstream: dns, does: frozen, replicas: 1, median: 5ms}",
    )
    text = text.replace("do: kill", "do: roll, upstream: dns, for: 3s").replace(
        "what: ill", "what: ill\n    load: 3\n    still: on"
    )
    found = small(tmp_path, text)
    assert found.names.hosts == ("a.example.org", "b.example.org")
    crashing, partial, frozen = found.phases[1].does
    assert (crashing.every, crashing.up, crashing.together) == (30.0, 0.2, False)
    assert (partial.names, partial.keep, partial.loss) == ("a.example.org", 0.1, 0.05)
    assert (frozen.replicas, frozen.median, frozen.p99) == (1, 0.005, None)
    assert (found.phases[1].load, found.still) == (3.0, ((60.0, 120.0),))
    assert found.events[0][1].seconds == 3.0
    assert found.outage == (60.0, 120.0)


def test_phases_in_a_row_are_one_frost(tmp_path: Path) -> None:
    text = SMALL.replace("does: servfail, names: cluster, share: 0%..100%", "does: frozen")
    text = text.replace("phases:", "phases:\n  - {name: first, for: 1m, what: well}")
    frost = "  - {name: NAME, for: 1m, what: ill, does: [{upstream: dns, does: frozen}]}\n"
    text += frost.replace("NAME", "worse") + "  - {name: well, for: 1m, what: well}\n"
    text += frost.replace("NAME", "again")
    found = small(tmp_path, text)
    _, _, bad, worse, _, again = found.phases
    assert [found.frozen_at(phase) for phase in (bad, worse, again)] == [120.0, 120.0, 300.0]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("services: 5", "services: -1").replace("do: kill", "do: nothing")
    with pytest.raises(ConfigError) as caught:
        small(tmp_path, text)
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a: [", "valid YAML"),
        ("a: &x 1\nb: *x", "alias"),
        ("- 1", "keys with values"),
        ("x" * (1 << 20) + "xx", "at most"),
        ('a: "\\UFFFFFFFF"', "valid YAML"),
    ],
)
def test_what_is_no_scenario_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable file"):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_library_can_be_read(path: Path) -> None:
    found = read(path)
    assert found.phases[0].outage is False, "names must be known before they are lost"
    assert any(phase.outage for phase in found.phases)
    assert all(source.startswith("https://") for source in found.sources)
    assert Cluster(found, 1).names


# -- what is true


def test_the_same_seed_is_the_same_cluster(tmp_path: Path) -> None:
    found = small(tmp_path)
    one, two, other = (Cluster(found, seed).names for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_names_have_addresses_of_their_own(tmp_path: Path) -> None:
    cluster = Cluster(small(tmp_path), 3)
    groups = {name.group for name in cluster.names}
    assert groups == {"services", "headless", "external", "absent"}
    seen: set[bytes] = set()
    for name in cluster.names:
        for addresses in name.addresses:
            assert len(addresses) in ((0, 2) if name.group == "headless" else (0, 1))
        every = {address for addresses in name.addresses for address in addresses}
        assert not every & seen
        seen |= every


def test_what_is_deleted_is_gone_from_then_on(tmp_path: Path) -> None:
    cluster = Cluster(small(tmp_path), 3)
    for name in cluster.names:
        if name.group == "services":
            assert (bool(name.at(89.9)), bool(name.at(90.0)), name.ever(90.0)) == (
                True,
                False,
                True,
            )
            assert name.since(95.0) == 90.0
        elif name.group == "absent":
            assert not name.ever(120.0)
        else:
            assert name.at(120.0)


def test_a_pod_at_a_time_moves(tmp_path: Path) -> None:
    cluster = Cluster(small(tmp_path), 3)
    moved = 0
    for name in cluster.names:
        for before, after in zip(name.addresses, name.addresses[1:], strict=False):
            if name.group == "headless":
                assert len(set(before) & set(after)) == 1
                moved += 1
    assert 10 < moved < 50


def test_created_scaled_and_moved(tmp_path: Path) -> None:
    text = SMALL.replace("churn: 5s", "churn: 0s").replace(
        "do: delete, names: services", "do: create, names: services"
    )
    text = text.replace("do: kill", "do: scale-down, names: headless") + (
        "      - {at: 40s, do: scale-up, names: headless}\n"
        "      - {at: 50s, do: move, names: external}\n"
    )
    for name in Cluster(small(tmp_path, text), 3).names:
        if name.group == "services":
            assert [bool(name.at(at)) for at in (0.0, 89.0, 90.0)] == [False, False, True]
        elif name.group == "headless":
            assert [bool(name.at(at)) for at in (69.0, 70.0, 99.0, 100.0)] == [
                True,
                False,
                False,
                True,
            ]
            assert not set(name.at(0.0)) & set(name.at(100.0))
        elif name.group == "external":
            assert name.at(109.0) != name.at(110.0)


def test_popular_names_are_drawn_more_often(tmp_path: Path) -> None:
    import random

    cluster = Cluster(small(tmp_path), 3)
    chance = random.Random(1)
    drawn = [cluster.draw(chance).text for _ in range(2000)]
    counts = [drawn.count(name.text) for name in cluster.names]
    assert counts[0] > 3 * counts[-1] > 0
