"""The same numbers under CoreDNS's names: names, labels and bounds as dashboards ask for them."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families as read_text

from dnsguard.admin.metrics import Exporter
from dnsguard.admin.status import Reading
from dnsguard.admin.watching import Watch
from dnsguard.core.counters import DOUBLED
from tests.admin.test_metrics import SHORT, everything
from tests.net.running import Scene, on_a_loop, scene

SERVER = "dns://127.0.0.1:53"
# Names and labels as in the READMEs of CoreDNS's plugins metrics, cache and forward.
PROMISED = {
    "coredns_build_info": {"version", "revision", "goversion"},
    "coredns_dns_requests_total": {"server", "zone", "view", "proto", "type"},
    "coredns_dns_responses_total": {"server", "zone", "view", "rcode", "plugin"},
    "coredns_dns_request_duration_seconds_bucket": {"server", "zone", "view", "type", "le"},
    "coredns_dns_request_duration_seconds_sum": {"server", "zone", "view", "type"},
    "coredns_dns_request_duration_seconds_count": {"server", "zone", "view", "type"},
    "coredns_cache_entries": {"server", "type", "zones", "view"},
    "coredns_cache_hits_total": {"server", "type", "zones", "view"},
    "coredns_cache_evictions_total": {"server", "type", "zones", "view"},
    "coredns_cache_requests_total": {"server", "zones", "view"},
    "coredns_cache_misses_total": {"server", "zones", "view"},
    "coredns_cache_prefetch_total": {"server", "zones", "view"},
    "coredns_cache_served_stale_total": {"server", "zones", "view"},
    "coredns_cache_drops_total": {"server", "zones", "view"},
    "coredns_forward_max_concurrent_rejects_total": set(),
    "coredns_forward_requests_total": {"to"},
}


def scraped(stage: Scene, coredns: str) -> list[tuple[str, dict[str, str], float]]:
    driver = stage.proxy.driver
    reading = Reading(driver.engine, Watch(driver.engine), driver.numbers)
    body, _ = Exporter(reading, coredns).render("text/plain")
    families = read_text(body.decode())
    return [(s.name, s.labels, s.value) for family in families for s in family.samples]


@on_a_loop
async def test_every_name_is_there_with_its_labels_and_its_number() -> None:
    async with scene(*SHORT) as stage:
        await everything(stage)
        found = scraped(stage, SERVER)
        counters = stage.proxy.driver.engine.counters
    labels: dict[str, set[str]] = {}
    total: Counter[str] = Counter()
    for name, has, value in found:
        labels.setdefault(name, set()).update(has)
        total[name] += value  # type: ignore[assignment]
    theirs = {name: has for name, has in labels.items() if name.startswith("coredns_")}
    assert theirs == PROMISED
    assert {has["server"] for name, has, _ in found if "server" in has} == {SERVER}
    answers = sum(counters.answers.values())
    assert total["coredns_dns_requests_total"] == sum(counters.queries.values())
    assert total["coredns_dns_responses_total"] == answers
    assert total["coredns_cache_requests_total"] == answers
    kept = sum(n for (source, _), n in counters.answers.items() if source in ("hit", "stale"))
    assert total["coredns_cache_hits_total"] == kept > 0
    assert total["coredns_cache_misses_total"] == answers - kept
    assert total["coredns_cache_served_stale_total"] == sum(counters.stale.values()) > 0
    assert total["coredns_forward_requests_total"] > 0
    assert "secret" not in str(found), "a label carries a query name"


@on_a_loop
async def test_nobody_sees_them_unless_they_are_switched_on() -> None:
    async with scene() as stage:
        assert not [name for name, _, _ in scraped(stage, "") if name.startswith("coredns_")]


@on_a_loop
async def test_bounds_are_those_of_coredns_and_counts_are_exact_for_both() -> None:
    async with scene() as stage:
        latency = stage.proxy.driver.engine.counters.latency
        for seconds in (0.0002, 0.0019, 0.0021, 0.3, 9.0):
            latency.observe(seconds)
        name = "coredns_dns_request_duration_seconds_bucket"
        found = {has["le"]: value for n, has, value in scraped(stage, SERVER) if n == name}
        assert list(found) == [*map(str, DOUBLED), "+Inf"]
        assert DOUBLED[:4] == (0.00025, 0.0005, 0.001, 0.002)
        assert (len(DOUBLED), DOUBLED[-1]) == (16, 8.192)
        assert [found[le] for le in ("0.00025", "0.002", "0.004", "0.512", "8.192", "+Inf")] == [
            1, 2, 3, 4, 4, 5,
        ]  # fmt: skip
