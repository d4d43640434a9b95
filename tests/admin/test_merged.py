"""Metrics of several processes as those of one: sums that never fall, gauges by their rules."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dnsguard.admin.merged import Merged
from dnsguard.admin.metrics import EngineCollector
from dnsguard.admin.status import Reading
from dnsguard.admin.watching import Watch
from dnsguard.core.counters import StoreCounts
from dnsguard.core.engine import Engine
from tests.core.world import START, one_zone


def process() -> tuple[Engine, StoreCounts]:
    return Engine(one_zone(), random.Random(1), START), StoreCounts(START)


def text(engine: Engine, store: StoreCounts) -> str:
    """What one process says of itself."""
    registry = CollectorRegistry()
    sockets = {"tcp_connections": 2, "upstream_sockets": 1, "tcp_refused": 3, "unsent_replies": 0}
    reading = Reading(engine, Watch(engine), lambda: sockets, store)
    registry.register(EngineCollector(reading))
    own = "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 5.0\n"
    return generate_latest(registry).decode() + own


def values(merged: Merged) -> dict[str, float]:
    """Every sample that is shown, by its name and labels."""
    body, _ = merged.render("text/plain")
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_counters_and_histograms_are_summed() -> None:
    merged = Merged()
    (one, a), (two, b) = process(), process()
    one.counters.queries["udp"] = 3
    two.counters.queries["udp"] = 4
    one.counters.latency.observe(0.001)
    two.counters.latency.observe(1.0, 2)
    merged.take({1: text(one, a), 2: text(two, b)})
    found = values(merged)
    assert found["dnsguard_queries_total{transport=udp}"] == 7
    assert found["dnsguard_answer_seconds_count"] == 3
    assert found["dnsguard_answer_seconds_bucket{le=0.5}"] == 1
    assert found["dnsguard_answer_seconds_sum"] == 2.001


def test_no_sum_ever_falls_whoever_dies() -> None:
    chance = random.Random(3)
    merged = Merged()
    living = {number: process() for number in (1, 2, 3)}
    before = 0.0
    for _ in range(60):
        for engine, _ in living.values():
            engine.counters.queries["udp"] += chance.randrange(10)
        if chance.random() < 0.3:
            number = chance.choice((1, 2, 3))
            merged.ended(number)
            living[number] = process()
        heard = [number for number in living if chance.random() < 0.8]  # some do not answer in time
        merged.take({number: text(*living[number]) for number in heard})
        now = values(merged).get("dnsguard_queries_total{transport=udp}", 0.0)
        assert now >= before
        before = now
    assert before > 100


def test_gauges_follow_their_rules() -> None:
    merged = Merged()
    (one, a), (two, b) = process(), process()
    a.up, a.rows, a.octets, a.peers = True, 9, 4096, 1
    b.peers = 1
    two.zones.root.outage = True
    two.zones.root.servers[0].health.state = type(two.zones.root.servers[0].health.state).DOWN
    merged.take({1: text(one, a), 2: text(two, b)})
    found = values(merged)
    assert found["dnsguard_zone_state{state=outage,zone=.}"] == 1
    assert found["dnsguard_zone_state{state=normal,zone=.}"] == 0
    assert found["dnsguard_upstream_up{upstream=10.0.0.53:53}"] == 0
    assert found["dnsguard_store_up"] == 1
    assert found["dnsguard_store_rows"] == 9
    assert found["dnsguard_store_peers"] == 1
    assert found["dnsguard_runway_seconds"] == 0
    assert found["dnsguard_tcp_connections"] == 4
    assert found["process_resident_memory_bytes{worker=1}"] == 5
    assert found["process_resident_memory_bytes{worker=0}"] > 5
    assert "process_resident_memory_bytes" not in found


def test_the_gauges_of_who_does_not_answer_are_not_shown() -> None:
    merged = Merged()
    (one, a), (two, b) = process(), process()
    two.zones.root.outage = True
    merged.take({1: text(one, a), 2: text(two, b)})
    merged.wanted, merged.serving, merged.restarts = 2, 1, 4
    merged.take({1: text(one, a)})
    found = values(merged)
    assert found["dnsguard_zone_state{state=outage,zone=.}"] == 0
    assert found["dnsguard_tcp_refused_total"] == 6
    assert found["dnsguard_workers{state=serving}"] == 1
    assert found["dnsguard_workers{state=missing}"] == 1
    assert found["dnsguard_worker_restarts_total"] == 4


def test_nobody_at_all_is_no_error() -> None:
    merged = Merged()
    merged.ended(1)
    merged.take({})
    assert values(merged)["dnsguard_workers{state=serving}"] == 0
