"""The numbers of dnsguard under the names that CoreDNS gives to its own, for existing dashboards.

Those of the plugins health, cache and forward that dashboards and alerts ask for by name, as far as
dnsguard counts what they mean; what it does not count is missing here and not made up. All queries
are of the type `other`, as CoreDNS itself calls what it does not tell apart, and of the zone `.`;
an answer counts as a denial if its rcode is NXDOMAIN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dnsguard import __version__, clock
from dnsguard.admin.metrics import buckets_of
from dnsguard.core.cache import NEGATIVE, PROBATION, PROTECTED
from dnsguard.core.counters import DOUBLED
from dnsguard.core.engine import Engine
from dnsguard.core.wire import NXDOMAIN, RCODE_NAMES

REVISION = "dnsguard"  # in the place of CoreDNS's commit, for whoever wonders
ALL, OTHER = ".", "other"
# Which plugin would have given an answer of this source.
PLUGINS = {
    "hit": "cache", "stale": "cache", "upstream": "forward", "failure": "forward",
    "pin": "hosts", "synthesized": "template",
}  # fmt: skip
KEPT = ("hit", "stale")


class CorednsCollector(Collector):
    """Samples of one engine; `server` is the label that CoreDNS gives to a listener."""

    def __init__(self, engine: Engine, server: str) -> None:
        self._engine = engine
        self._server = server

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are only known once there are numbers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present value."""
        self._engine.fold(clock.now())
        info = GaugeMetricFamily(
            "coredns_build_info", "Not CoreDNS, but dnsguard under its names; always 1.",
            labels=("version", "revision", "goversion"),
        )  # fmt: skip
        info.add_metric((__version__, REVISION, ""), 1)
        yield info
        yield from self._dns()
        yield from self._cache()
        yield from self._forward()

    def _dns(self) -> Iterator[Metric]:
        counters, server = self._engine.counters, self._server
        queries = CounterMetricFamily(
            "coredns_dns_requests", "Queries received.",
            labels=("server", "zone", "view", "proto", "type"),
        )  # fmt: skip
        for proto, count in counters.queries.items():
            queries.add_metric((server, ALL, "", proto, OTHER), count)
        yield queries
        answers = CounterMetricFamily(
            "coredns_dns_responses", "Replies sent.",
            labels=("server", "zone", "view", "rcode", "plugin"),
        )  # fmt: skip
        by_plugin: dict[tuple[str, str], int] = {}
        for (source, rcode), count in sorted(counters.answers.items()):
            key = RCODE_NAMES.get(rcode, str(rcode)), PLUGINS[source]
            by_plugin[key] = by_plugin.get(key, 0) + count
        for (name, plugin), count in by_plugin.items():
            answers.add_metric((server, ALL, "", name, plugin), count)
        yield answers
        took = HistogramMetricFamily(
            "coredns_dns_request_duration_seconds", "Time until a query was answered.",
            labels=("server", "zone", "view", "type"),
        )  # fmt: skip
        buckets = buckets_of(counters.latency, DOUBLED)
        took.add_metric((server, ALL, "", OTHER), buckets, counters.latency.total)
        yield took

    def _cache(self) -> Iterator[Metric]:
        cache, counters = self._engine.cache, self._engine.counters
        labels = ("server", "type", "zones", "view")
        success = cache.live(PROBATION) + cache.live(PROTECTED)
        gone = cache.evicted[PROBATION] + cache.evicted[PROTECTED]
        hits = {"success": 0, "denial": 0}
        asked = 0
        for (source, rcode), count in counters.answers.items():
            if source in KEPT:
                hits["denial" if rcode == NXDOMAIN else "success"] += count
            asked += count
        entries = {"success": success, "denial": cache.live(NEGATIVE)}
        evicted = {"success": gone, "denial": cache.evicted[NEGATIVE]}
        kept = GaugeMetricFamily("coredns_cache_entries", "Answers kept.", labels=labels)
        for kind, count in entries.items():
            kept.add_metric((self._server, kind, ALL, ""), count)
        yield kept
        for name, text, values in (
            ("hits", "Replies from the cache, stale ones too.", hits),
            ("evictions", "Answers that had to make room.", evicted),
        ):
            family = CounterMetricFamily(f"coredns_cache_{name}", text, labels=labels)
            for kind, count in values.items():
                family.add_metric((self._server, kind, ALL, ""), count)
            yield family
        for name, text, count in (
            ("requests", "Replies sent, from the cache or not.", asked),
            ("misses", "Replies that did not come from the cache.", asked - sum(hits.values())),
            ("prefetch", "Answers that were refreshed before they expired.", counters.prefetches),
            ("served_stale", "Stale replies.", sum(counters.stale.values())),
            ("drops", "Answers to another question.", counters.ignored.get("question", 0)),
        ):
            family = CounterMetricFamily(
                f"coredns_cache_{name}", text, labels=("server", "zones", "view")
            )
            family.add_metric((self._server, ALL, ""), count)
            yield family

    def _forward(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "coredns_forward_max_concurrent_rejects", "Queries turned away because of a limit.",
            value=self._engine.counters.shed,
        )  # fmt: skip
        asked = CounterMetricFamily(
            "coredns_forward_requests", "Questions sent to an upstream.", labels=("to",)
        )
        for server in {id(s): s for z in self._engine.zones.all for s in z.servers}.values():
            outcomes = (server.health.outcomes, server.stream_health.outcomes)
            asked.add_metric((server.label,), sum(sum(one.values()) for one in outcomes))
        yield asked
