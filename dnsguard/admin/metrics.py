"""The engine's numbers as Prometheus metrics, read at the moment of a scrape.

One collector turns plain integers into samples, in a registry of its own, so that counting costs
the way of a query nothing and two servers fit in one process. No label carries a query name.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dnsguard import __version__, clock
from dnsguard.admin.status import LOST, Reading
from dnsguard.core.cache import SEGMENT_NAMES
from dnsguard.core.census import Coverage
from dnsguard.core.counters import (
    BUCKETS,
    ENDS,
    RESULTS,
    VERDICTS,
    Histogram,
    SharedCounts,
    StoreCounts,
)
from dnsguard.core.engine import Engine
from dnsguard.core.wire import RCODE_NAMES


class EngineCollector(Collector):
    """Samples of one engine, of its store, and of the sockets: see `_sockets` for their names."""

    def __init__(self, reading: Reading) -> None:
        self._engine = reading.engine
        self._numbers = reading.numbers
        self._store = reading.store
        self._census = reading.watch.census

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are only known once there are numbers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present value."""
        engine = self._engine
        now = clock.now()
        engine.fold(now)
        yield from _queries(engine, now)
        yield from _upstreams(engine)
        yield from _drill(engine)
        yield from _cache(engine)
        yield from _readiness(self._census.seen(now), now)
        yield from _sockets(self._numbers())
        if self._store is not None:
            yield from _store(self._store, now)
        info = GaugeMetricFamily(
            "dnsguard_build_info", "Version of dnsguard and of Python; always 1.",
            labels=("version", "python"),
        )  # fmt: skip
        info.add_metric((__version__, platform.python_version()), 1)
        yield info


def _queries(engine: Engine, now: float) -> Iterator[Metric]:
    counters = engine.counters
    queries = CounterMetricFamily(
        "dnsguard_queries", "Queries received, by transport.", labels=("transport",)
    )
    for transport, count in counters.queries.items():
        queries.add_metric((transport,), count)
    yield queries
    answers = CounterMetricFamily(
        "dnsguard_answers",
        "Replies sent, by where they came from (hit, stale, upstream, pin, synthesized, failure) "
        "and rcode.",
        labels=("source", "rcode"),
    )
    for (source, rcode), count in sorted(counters.answers.items()):
        answers.add_metric((source, RCODE_NAMES.get(rcode, str(rcode))), count)
    yield answers
    stale = CounterMetricFamily(
        "dnsguard_stale_answers", "Stale replies sent, by reason.", labels=("reason",)
    )
    for reason in ("timeout", "servfail", "refused", "unreachable", "outage", "invalid", "guard"):
        stale.add_metric((reason,), counters.stale.get(reason, 0))
    yield stale
    yield HistogramMetricFamily(
        "dnsguard_answer_seconds", "Time from reading a query to handing over its reply.",
        buckets=buckets_of(counters.latency, BUCKETS), sum_value=counters.latency.total,
    )  # fmt: skip
    yield GaugeMetricFamily(
        "dnsguard_stale_age_seconds",
        "Age past its TTL of the oldest answer served in the last minute.",
        value=counters.stale_age(now),
    )
    plain = (
        ("dnsguard_malformed_queries", "Queries that were no usable messages.", counters.malformed),
        ("dnsguard_coalesced_queries", "Queries that joined one under way.", counters.coalesced),
        ("dnsguard_prefetches", "Refreshes begun before expiry.", counters.prefetches),
        ("dnsguard_shed_queries", "Queries turned away because a limit was met.", counters.shed),
        ("dnsguard_searches", "Names looked for elsewhere before a failure.", counters.searches),
        ("dnsguard_searches_found", "Names looked for elsewhere that others knew.", counters.found),
        ("dnsguard_loops", "Own queries that came back: forwarding loops.", counters.loops),
    )
    for name, text, value in plain:
        yield CounterMetricFamily(name, text, value=value)


def buckets_of(histogram: Histogram, bounds: tuple[float, ...]) -> list[tuple[str, float]]:
    """Return (le, observations up to it) for these bounds and for all of them."""
    names = [*map(str, bounds), "+Inf"]
    return list(zip(names, map(float, histogram.below(bounds)), strict=True))


def _upstreams(engine: Engine) -> Iterator[Metric]:
    asked = CounterMetricFamily(
        "dnsguard_upstream_queries", "Outcomes of queries sent upstream.",
        labels=("upstream", "transport", "outcome"),
    )  # fmt: skip
    up = GaugeMetricFamily(
        "dnsguard_upstream_up", "1 unless the upstream is believed down.", labels=("upstream",)
    )
    trip = GaugeMetricFamily(
        "dnsguard_upstream_rtt_seconds", "Present round trip, smoothed.", labels=("upstream",)
    )
    ignored = CounterMetricFamily(
        "dnsguard_upstream_ignored", "Messages from upstreams that answered nothing we asked.",
        labels=("reason",),
    )  # fmt: skip
    servers = {id(s): s for zone in engine.zones.all for s in zone.servers}
    for server in servers.values():
        for transport, health in (
            (server.upstream.transport, server.health), ("tcp", server.stream_health),
        ):  # fmt: skip
            for outcome, count in sorted(health.outcomes.items()):
                asked.add_metric((server.label, transport, outcome), count)
        up.add_metric((server.label,), 0 if server.health.dead else 1)
        trip.add_metric((server.label,), server.health.trip.present)
    for reason, count in sorted(engine.counters.ignored.items()):
        ignored.add_metric((reason,), count)
    state = GaugeMetricFamily(
        "dnsguard_zone_state", "1 for the state that a zone is in.", labels=("zone", "state")
    )
    for zone in engine.zones.all:
        for name in ("normal", "outage", "doubt"):
            state.add_metric((zone.name, name), int(zone.state == name))
    flips = CounterMetricFamily(
        "dnsguard_guard_flips", "Names that were good and are denied, by what became of it.",
        labels=("verdict",),
    )  # fmt: skip
    for verdict in VERDICTS:
        flips.add_metric((verdict,), engine.counters.guard.get(verdict, 0))
    yield from (asked, up, trip, ignored, state, flips)


def _drill(engine: Engine) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "dnsguard_drill_running", "1 while a drill makes upstreams look worse than they are.",
        value=int(engine.drill is not None),
    )  # fmt: skip
    for name, text, label, values, counts in (
        ("drill_lookups", "Look-ups that drills have taken, by what became of them.", "result",
         RESULTS, engine.counters.drill),
        ("drills", "Drills that are over, by how they ended; each worker has its own.", "ended",
         ENDS, engine.counters.drills),
    ):  # fmt: skip
        family = CounterMetricFamily(f"dnsguard_{name}", text, labels=(label,))
        for value in values:
            family.add_metric((value,), counts.get(value, 0))
        yield family


def _cache(engine: Engine) -> Iterator[Metric]:
    cache = engine.cache
    entries = GaugeMetricFamily("dnsguard_cache_entries", "Answers kept.", labels=("kind",))
    evicted = CounterMetricFamily(
        "dnsguard_cache_evictions", "Answers evicted to make room, by segment.",
        labels=("reason",),
    )  # fmt: skip
    for segment, name in enumerate(SEGMENT_NAMES):
        entries.add_metric((name,), cache.live(segment))
        evicted.add_metric((name,), cache.evicted[segment])
    entries.add_metric(("failure",), len(engine.failures))
    yield entries
    yield evicted
    octets = cache.total + engine.datagrams.octets + engine.streams.octets
    yield GaugeMetricFamily("dnsguard_cache_bytes", "Memory charged to the cache.", value=octets)
    yield GaugeMetricFamily(
        "dnsguard_flights", "Questions under way.", value=len(engine.asking.flights)
    )


def _readiness(coverage: Coverage, now: float) -> Iterator[Metric]:
    """Yield what would be if the upstream died now; the walk behind it may be seconds old."""
    whole = coverage.whole
    for name, text, value in (
        ("covered_ratio", "Share of the last hour's questions that an outage would leave answered.",
         coverage.ratio),
        ("recent_questions", "Different questions of the last hour.", whole.asked),
        ("runway_seconds", "Time until the first recently asked name runs out of stale life.",
         whole.runway(now)),
    ):  # fmt: skip
        yield GaugeMetricFamily(f"dnsguard_{name}", text, value=value)
    lost = GaugeMetricFamily(
        "dnsguard_uncovered_questions",
        "Questions of the last hour that an outage would leave unanswered, by reason.",
        labels=("reason",),
    )  # fmt: skip
    for reason in LOST:
        lost.add_metric((reason,), coverage.lost.get(reason, 0))
    yield lost


def _sockets(numbers: Mapping[str, int]) -> Iterator[Metric]:
    for name, text in (
        ("tcp_connections", "Connections from clients."),
        ("upstream_sockets", "Open UDP sockets towards upstreams."),
    ):
        yield GaugeMetricFamily(f"dnsguard_{name}", text, value=numbers[name])
    for name, text in (
        ("tcp_refused", "Connections from clients turned away."),
        ("unsent_replies", "Replies that the kernel would not send."),
    ):
        yield CounterMetricFamily(f"dnsguard_{name}", text, value=numbers[name])


def _store(store: StoreCounts, now: float) -> Iterator[Metric]:
    for name, text, value in (
        ("up", "1 while answers are written to disk.", int(store.up)),
        ("rows", "Answers on disk.", store.rows),
        ("bytes", "Disk that the answers take.", store.octets),
        ("loaded", "Answers of an earlier run taken back.", store.loaded),
        ("last_flush_seconds", "Time since all that was due was on disk.", now - store.flushed),
        ("peers", "Other processes of this address that share what they learn.", store.peers),
    ):
        yield GaugeMetricFamily(f"dnsguard_store_{name}", text, value=value)
    yield CounterMetricFamily(
        "dnsguard_store_writes", "Answers written to disk or deleted there.", value=store.writes
    )
    yield CounterMetricFamily(
        "dnsguard_store_received", "Answers that other processes have told.", value=store.received
    )
    if store.shared is not None:
        yield from _shared(store.shared)
    errors = CounterMetricFamily(
        "dnsguard_store_errors", "Failures of the store, by kind.", labels=("kind",)
    )
    for kind, count in sorted(store.errors.items()):
        errors.add_metric((kind,), count)
    yield errors


def _shared(shared: SharedCounts) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "dnsguard_store_shared_up", "1 while the shared store answers.", value=int(shared.up)
    )
    reads = CounterMetricFamily(
        "dnsguard_store_shared_reads", "Names looked for in the shared store, by result.",
        labels=("result",),
    )  # fmt: skip
    for result, count in (("found", shared.found), ("missed", shared.missed)):
        reads.add_metric((result,), count)
    yield reads
    for name, text, value in (
        ("writes", "Answers written to the shared store.", shared.writes),
        ("taken", "Answers of others taken at an empty start.", shared.taken),
    ):
        yield CounterMetricFamily(f"dnsguard_store_shared_{name}", text, value=value)
    errors = CounterMetricFamily(
        "dnsguard_store_shared_errors", "Failures of the shared store, by kind.", labels=("kind",)
    )
    for kind, count in sorted(shared.errors.items()):
        errors.add_metric((kind,), count)
    yield errors


class Exporter:
    """Renders the metrics of one engine in the format that a scraper prefers."""

    def __init__(self, reading: Reading, coredns: str = "") -> None:
        """`coredns` is the server of `coredns_*` names (`dns://:53`), or empty for none of them."""
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(reading))
        if coredns:
            from dnsguard.admin.coredns import CorednsCollector

            self.registry.register(CorednsCollector(reading.engine, coredns))
        ProcessCollector(registry=self.registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return (body, content type) for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
