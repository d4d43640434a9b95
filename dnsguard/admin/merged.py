"""The metrics of several processes as those of one.

Counters and histograms are summed, and go on from where they were when a process dies; gauges
follow the rule of their name: an upstream is up, and a zone is well, only where all processes say
so. What the operating system knows of a process stands beside its number. Where the texts come from
is not known here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]  # a sample's name, which for a histogram is not the family's
SUMMED = ("counter", "histogram")
STATES = ("normal", "doubt", "outage")  # of a zone, from the best to the worst


def _soonest(values: Sequence[float]) -> float:
    """Return the least that is not zero: zero says that there is nothing to run out."""
    return min((value for value in values if value > 0), default=0.0)


# How the gauges of several processes become one; any other gauge is summed.
RULES: dict[str, Callable[[Sequence[float]], float]] = {
    "coredns_build_info": max,
    "dnsguard_build_info": max,
    "dnsguard_covered_ratio": min,
    "dnsguard_drill_running": max,
    "dnsguard_runway_seconds": _soonest,
    "dnsguard_stale_age_seconds": max,
    # One process at a time holds the disk, for all.
    "dnsguard_store_bytes": max,
    "dnsguard_store_last_flush_seconds": min,
    "dnsguard_store_loaded": max,
    "dnsguard_store_peers": min,
    "dnsguard_store_rows": max,
    "dnsguard_store_shared_up": min,
    "dnsguard_store_up": max,
    "dnsguard_upstream_rtt_seconds": max,
    "dnsguard_upstream_up": min,
}


class Family(NamedTuple):
    """What a metric is, without its values."""

    kind: str
    text: str


class Merged:
    """What all processes have said last, by their numbers."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._of_family: dict[str, dict[Series, None]] = {}  # a dictionary keeps the order
        self._last: dict[int, dict[Series, float]] = {}
        self._before: defaultdict[Series, float] = defaultdict(float)  # of processes that are gone
        self._present: set[int] = set()
        self.restarts = 0
        self.serving = self.wanted = 0
        self._registry = CollectorRegistry()
        self._registry.register(_All(self))
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)

    def take(self, texts: Mapping[int, str]) -> None:
        """Take what those say that answer; of the others the counters stay, the gauges do not."""
        self._present = set(texts)
        for number, text in texts.items():
            values: dict[Series, float] = {}
            for family in text_string_to_metric_families(text):
                self._families[family.name] = Family(family.type, family.documentation)
                known = self._of_family.setdefault(family.name, {})
                for sample in family.samples:
                    series = sample.name, tuple(sorted(sample.labels.items()))
                    known[series] = None
                    values[series] = sample.value
            self._last[number] = values

    def ended(self, number: int) -> None:
        """A process is gone; what it has counted is not."""
        last = self._last.pop(number, {})
        for name, family in self._families.items():
            if family.kind in SUMMED and not name.startswith("process_"):
                for series in self._of_family[name]:
                    self._before[series] += last.get(series, 0.0)
        self._present.discard(number)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return (body, content type) for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of all processes together."""
        for name, family in self._families.items():
            metric = Metric(name, family.text, family.kind)
            if name.startswith("process_"):
                metric.samples += self._each(name)
            elif name == "dnsguard_zone_state":
                metric.samples += self._states(name)
            else:
                metric.samples += self._together(name, family.kind)
            yield metric
        workers = GaugeMetricFamily(
            "dnsguard_workers", "Processes that answer, and that are missing.", labels=("state",)
        )
        workers.add_metric(("serving",), self.serving)
        workers.add_metric(("missing",), self.wanted - self.serving)
        yield workers
        yield CounterMetricFamily(
            "dnsguard_worker_restarts", "Processes started again.", value=self.restarts
        )

    def _together(self, name: str, kind: str) -> Iterable[Sample]:
        summed = kind in SUMMED
        rule = RULES.get(name, sum)
        for series in self._of_family[name]:
            if summed:
                value = self._before[series] + sum(v.get(series, 0.0) for v in self._last.values())
                yield Sample(series[0], dict(series[1]), value)
            elif found := self._values(series):
                yield Sample(series[0], dict(series[1]), rule(found))

    def _values(self, series: Series) -> list[float]:
        return [self._last[n][series] for n in self._present if series in self._last[n]]

    def _states(self, name: str) -> Iterable[Sample]:
        """Each zone is in the worst of the states that it is in anywhere."""
        worst: dict[str, str] = {}
        for series in self._of_family[name]:
            labels = dict(series[1])
            if any(self._values(series)):
                before = worst.get(labels["zone"], STATES[0])
                worst[labels["zone"]] = max(before, labels["state"], key=STATES.index)
        for series in self._of_family[name]:
            labels = dict(series[1])
            if labels["zone"] in worst:
                yield Sample(series[0], labels, float(worst[labels["zone"]] == labels["state"]))

    def _each(self, name: str) -> Iterable[Sample]:
        """What is known of each process, and of the one above them, which has the number 0."""
        for family in self._own.collect():
            if family.name == name:
                for sample in family.samples:
                    yield Sample(sample.name, {**sample.labels, "worker": "0"}, sample.value)
        for number in sorted(self._present):
            for (sample_name, labels), value in self._last[number].items():
                if (sample_name, labels) in self._of_family[name]:
                    yield Sample(sample_name, {**dict(labels), "worker": str(number)}, value)


class _All(Collector):
    def __init__(self, merged: Merged) -> None:
        self._merged = merged

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._merged.collect()
