"""Compressing a scenario shortens what it says, leaves what it must, and loses nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from dnsguard.bench import outage_plan
from dnsguard.bench.outage_plan import Plan, arrivals, compressed, factor_for, facts, plan
from dnsguard.sim.cluster import Cluster
from tests.bench.outage_scenarios import LONG, scenario

FACTOR = 60.0


def made(folder: Path) -> Plan:
    return plan(scenario(folder, LONG), FACTOR, 7, 20.0, ["one", "other"])


def test_time_is_shorter_and_ttls_are_whole_seconds(tmp_path: Path) -> None:
    short = compressed(scenario(tmp_path, LONG), FACTOR)
    assert short.length == pytest.approx(120.0)
    assert [round(phase.begin) for phase in short.phases] == [0, 30, 90]
    assert short.phases[1].does[0].every == pytest.approx(2.0)
    assert (short.names.ttl, short.names.external_ttl, short.names.negative_ttl) == (1, 1, 1)
    assert short.names.churn == pytest.approx(1.0)
    assert [round(at) for at, _ in short.events] == [40, 50, 60, 70]
    assert short.events[2][1].seconds == pytest.approx(1.0)
    assert short.clients == scenario(tmp_path, LONG).clients, "programs do not hurry"


def test_a_little_compression_keeps_the_proportions_of_ttls(tmp_path: Path) -> None:
    names = compressed(scenario(tmp_path, LONG), 4.0).names
    assert (names.ttl, names.external_ttl, names.negative_ttl) == (8, 15, 1)


def test_a_ttl_of_nothing_stays_nothing(tmp_path: Path) -> None:
    assert compressed(scenario(tmp_path, LONG.replace("ttl: 30s", "ttl: 0s")), 4.0).names.ttl == 0


def test_the_factor_fits_a_budget_and_stretches_nothing(tmp_path: Path) -> None:
    long = scenario(tmp_path, LONG)
    assert factor_for(long, 120.0) == pytest.approx(60.0)
    assert factor_for(long, 10 * long.length) == 1.0


def test_a_plan_goes_through_json(tmp_path: Path) -> None:
    one = made(tmp_path)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(one)), Plan) == one
    # 20 of 100 look-ups a second, of one cache in ten, whose names run out 60 times as often.
    assert one.scale == pytest.approx(0.02 * FACTOR)


def test_the_report_says_what_was_run(tmp_path: Path) -> None:
    found = facts(made(tmp_path).scenario, FACTOR, 20.0)
    assert [phase.name for phase in found.phases] == ["well", "ill", "after"]
    assert [phase.outage for phase in found.phases] == [False, True, False]
    assert (found.compression, found.date) == (60.0, "2024-12-11")
    assert any("TTLs as run: 1 s in the cluster" in note for note in found.notes)


def test_look_ups_come_at_their_rate_and_alike_every_time(tmp_path: Path) -> None:
    one = made(tmp_path)
    cluster = Cluster(one.scenario, one.seed)
    found = list(arrivals(one, cluster))
    assert [a.at for a in found] == sorted(a.at for a in found)
    assert len(found) == pytest.approx(20 * 120, rel=0.1)
    again = arrivals(one, Cluster(one.scenario, one.seed))
    assert [(a.at, a.client, a.name.text) for a in found] == [
        (a.at, a.client, a.name.text) for a in again
    ]
    assert max(a.client for a in found) < outage_plan.CLIENTS_MAX


def test_nobody_asks_for_what_was_never_there(tmp_path: Path) -> None:
    one = made(tmp_path)
    cluster = Cluster(one.scenario, one.seed)
    for arrival in arrivals(one, cluster):
        assert arrival.name.ever(arrival.at)
    before = {name.text for name in outage_plan.warm_names(cluster)}
    assert before == {name.text for name in cluster.names if name.at(0.0)}
    assert len(before) < len(cluster.names)


def test_a_known_name_was_there_before_and_still_is(tmp_path: Path) -> None:
    one = made(tmp_path)
    cluster, begin = Cluster(one.scenario, one.seed), one.scenario.outage[0]
    end = one.scenario.length
    kinds = Counter(
        (bool(name.at(0.0)), bool(name.at(end)), outage_plan.known(name, begin, end))
        for name in cluster.names
    )
    assert set(kinds) == {(True, True, True), (True, False, False), (False, True, False)}


def test_programs_are_mixed_in_their_proportions(tmp_path: Path) -> None:
    found = outage_plan.models(scenario(tmp_path, LONG))
    assert Counter(found) == {"glibc": 50, "musl": 20, "go": 20, "java": 10}
    assert set(found[:10]) == {"glibc", "musl", "go", "java"}
