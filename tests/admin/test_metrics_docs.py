"""docs/metrics.md has every metric that there is, and no other.

Run as a program, this writes its tables. The meanings are the help texts, so what a Prometheus
shows beside a metric and what one reads there are the same words.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import Metric

from dnsguard.admin.coredns import CorednsCollector
from dnsguard.admin.merged import Merged
from dnsguard.admin.metrics import EngineCollector
from dnsguard.admin.status import Reading
from dnsguard.admin.watching import Watch
from dnsguard.core.counters import SharedCounts, StoreCounts
from dnsguard.core.engine import Engine
from tests.core.world import START, one_zone

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
SOCKETS = ("tcp_connections", "tcp_refused", "upstream_sockets", "unsent_replies")
PARTS = ("of a store", "of several workers", "under CoreDNS's names")


def groups() -> Iterator[tuple[str, list[Metric]]]:
    """Every metric family, by the heading that it stands below."""
    engine, store = Engine(one_zone(), random.Random(1), START), StoreCounts(START)
    numbers = dict.fromkeys(SOCKETS, 0)
    plain = list(EngineCollector(Reading(engine, Watch(engine), lambda: numbers)).collect())
    store.shared = SharedCounts()
    all_ = EngineCollector(Reading(engine, Watch(engine), lambda: numbers, store)).collect()
    known = {family.name for family in plain}
    yield "always", plain
    yield PARTS[0], [family for family in all_ if family.name not in known]
    yield PARTS[1], list(Merged().collect())
    yield PARTS[2], list(CorednsCollector(engine, "dns://:53").collect())


def row(family: Metric) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = set(getattr(family, "_labelnames", ()))
    for sample in family.samples:
        labels |= set(sample.labels)
    labels -= {"le"}
    words = f"{{{','.join(sorted(labels))}}}" if labels else ""
    return f"| `{name}{words}` | {family.type} | {family.documentation} |"


def tables() -> Iterator[str]:
    for title, families in groups():
        yield f"## {title[0].upper()}{title[1:]}"
        yield ""
        yield "| Metric | Type | Meaning |"
        yield "|---|---|---|"
        yield from sorted(map(row, families))
        yield ""


def parts(text: str) -> tuple[str, str]:
    """What people have written, and the tables below it."""
    head, mark, rest = text.partition("## Always")
    return head, mark + rest


def lines(text: Iterable[str]) -> str:
    return "\n".join(text)


def test_the_page_has_every_metric_and_no_other() -> None:
    there = parts(PAGE.read_text(encoding="utf-8"))[1]
    assert there == lines(tables()), "run python -m tests.admin.test_metrics_docs"
    assert there.count("| `") > 60


if __name__ == "__main__":
    head = parts(PAGE.read_text(encoding="utf-8"))[0]
    PAGE.write_text(head + lines(tables()), encoding="utf-8")
