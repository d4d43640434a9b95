"""What a scrape says of a driver that has served real queries, read by Prometheus's own parsers."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from dnsguard import __version__, clock
from dnsguard.admin.metrics import Exporter
from dnsguard.admin.status import Reading
from dnsguard.admin.watching import Watch
from dnsguard.core.counters import StoreCounts
from tests.net.asking import ask
from tests.net.running import ONCE, Scene, later, on_a_loop, scene, stand_still
from tests.net.upstream import HELD

PYTHON = platform.python_version()
SHORT = ("stale.client_timeout=10s", "upstream.deadline=20s", "stale.max_age=30m")
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
FORMATS: dict[str, tuple[str, Callable[[str], Iterable[Any]]]] = {
    "text": ("text/plain", read_text),
    "openmetrics": (ACCEPT, read_openmetrics),
}

# The names that dashboards and alerts may rely on, with their labels.
PROMISED = {
    "dnsguard_queries_total": {"transport"},
    "dnsguard_answers_total": {"source", "rcode"},
    "dnsguard_stale_answers_total": {"reason"},
    "dnsguard_answer_seconds_bucket": {"le"},
    "dnsguard_answer_seconds_sum": set(),
    "dnsguard_answer_seconds_count": set(),
    "dnsguard_upstream_queries_total": {"upstream", "transport", "outcome"},
    "dnsguard_upstream_up": {"upstream"},
    "dnsguard_upstream_rtt_seconds": {"upstream"},
    "dnsguard_zone_state": {"zone", "state"},
    "dnsguard_drill_running": set(),
    "dnsguard_drill_lookups_total": {"result"},
    "dnsguard_drills_total": {"ended"},
    "dnsguard_cache_entries": {"kind"},
    "dnsguard_cache_bytes": set(),
    "dnsguard_cache_evictions_total": {"reason"},
    "dnsguard_stale_age_seconds": set(),
    "dnsguard_runway_seconds": set(),
    "dnsguard_covered_ratio": set(),
    "dnsguard_recent_questions": set(),
    "dnsguard_uncovered_questions": {"reason"},
    "dnsguard_build_info": {"version", "python"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}


class Scrape:
    """One scrape, parsed."""

    def __init__(self, stage: Scene, accept: str = "text/plain",
                 read: Callable[[str], Iterable[Any]] = read_text,
                 store: StoreCounts | None = None) -> None:  # fmt: skip
        driver = stage.proxy.driver
        watch = Watch(driver.engine)
        driver.engine.fold(clock.now())
        watch.census.take(clock.now())
        reading = Reading(driver.engine, watch, driver.numbers, store)
        body, self.content_type = Exporter(reading).render(accept)
        self.text = body.decode()
        self.families = list(read(self.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The value of the only sample with this name and these labels."""
        (found,) = (s for s in self.samples if s.name == name and s.labels == labels)
        return float(found.value)

    def all(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """All samples with this name, by the values of these labels."""
        found = [s for s in self.samples if s.name == name]
        assert all(set(s.labels) == set(labels) for s in found)
        return {tuple(s.labels[label] for label in labels): s.value for s in found}


async def everything(stage: Scene) -> None:
    """A bit of all that can happen: misses, hits, stale answers, failures, bad input."""
    stage.upstream.behave("short-lived")
    for client in stage.clients:
        for _ in range(3):
            await client.resolve("secret-name.test")
    await stage.udp.ask(b"\1\2\1\0\0\2" + bytes(6))
    stage.upstream.stop()
    later(2.0)
    await stage.udp.resolve("secret-name.test")
    await stage.udp.resolve("cold-secret.test")


@pytest.mark.parametrize("form", FORMATS)
@on_a_loop
async def test_every_promised_name_is_there_with_its_labels(form: str) -> None:
    accept, read = FORMATS[form]
    async with scene(*SHORT) as stage:
        await everything(stage)
        scrape = Scrape(stage, accept, read)
    assert form in scrape.content_type
    labels: dict[str, set[str]] = {}
    for sample in scrape.samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    assert {name: labels.get(name) for name in PROMISED} == PROMISED
    assert "secret" not in scrape.text, "a label carries a query name"


@on_a_loop
async def test_names_and_texts_are_as_prometheus_wants_them() -> None:
    async with scene(*SHORT) as stage:
        await everything(stage)
        scrape = Scrape(stage)
    for family in scrape.families:
        assert family.documentation, family.name
        if family.name.startswith("dnsguard_"):
            assert re.fullmatch(r"[a-z_]+", family.name)
            assert family.documentation.endswith("."), family.name
        counters = [s.name for s in family.samples if family.type == "counter"]
        assert all(name.endswith(("_total", "_created")) for name in counters), counters


@on_a_loop
async def test_queries_and_answers_are_counted_by_where_they_came_from() -> None:
    async with scene(*SHORT) as stage:
        stand_still()
        await everything(stage)
        scrape = Scrape(stage)
        # Three over UDP, one malformed, one stale, one in vain; three over TCP.
        assert scrape.all("dnsguard_queries_total", "transport") == {("udp",): 6, ("tcp",): 3}
        answers = scrape.all("dnsguard_answers_total", "source", "rcode")
        assert answers == {
            ("upstream", "NOERROR"): 1,
            ("hit", "NOERROR"): 5,
            ("stale", "NOERROR"): 1,
            ("failure", "FORMERR"): 1,
            ("failure", "SERVFAIL"): 1,
        }
        assert scrape("dnsguard_malformed_queries_total") == 1
        stale = scrape.all("dnsguard_stale_answers_total", "reason")
        assert stale.pop(("unreachable",)) == 1
        assert set(stale.values()) == {0}
        assert scrape("dnsguard_stale_age_seconds") == 1.0
        count = scrape("dnsguard_answer_seconds_count")
        assert count == scrape("dnsguard_answer_seconds_bucket", le="+Inf") > 0
        bounds = scrape.all("dnsguard_answer_seconds_bucket", "le")
        assert list(bounds.values()) == sorted(bounds.values())
        # Nothing is counted twice because someone looks.
        assert Scrape(stage).all("dnsguard_answers_total", "source", "rcode") == answers


@on_a_loop
async def test_the_upstream_and_its_zone_are_shown_as_they_are() -> None:
    async with scene(*SHORT) as stage:
        await stage.udp.resolve("www.test")
        well = Scrape(stage)
        label = stage.upstream.url
        assert well("dnsguard_upstream_up", upstream=label) == 1
        assert 0 < well("dnsguard_upstream_rtt_seconds", upstream=label) < 10
        assert well.all("dnsguard_zone_state", "zone", "state") == {
            (".", "normal"): 1,
            (".", "outage"): 0,
            (".", "doubt"): 0,
        }
        stage.upstream.stop()
        await stage.udp.resolve("cold.test")
        dead = Scrape(stage)
        assert dead("dnsguard_upstream_up", upstream=label) == 0
        assert dead("dnsguard_zone_state", zone=".", state="outage") == 1
        asked = dead.all("dnsguard_upstream_queries_total", "upstream", "transport", "outcome")
        assert asked[label, "udp", "ok"] == 1
        assert asked[label, "udp", "refused"] >= 1


@on_a_loop
async def test_what_upstreams_send_in_vain_is_counted() -> None:
    async with scene() as stage:
        stage.upstream.behave("wrong question", "wrong id", "garbage", "ok")
        await stage.udp.resolve("www.test")
        ignored = Scrape(stage).all("dnsguard_upstream_ignored_total", "reason")
        assert ignored[("question",)] == ignored[("id",)] == 1
        assert sum(ignored.values()) == 3


@on_a_loop
async def test_what_is_held_at_this_moment_is_shown() -> None:
    async with scene(ONCE, *SHORT) as stage:
        for name in ("one.test", "two.test"):
            await stage.tcp.resolve(name)
        await stage.udp.resolve("one.test", "AAAA")
        stage.upstream.behave(HELD)
        stage.udp.send(ask("three.test"), ask("three.test"))
        await stage.upstream.until(4)
        scrape = Scrape(stage)
        assert sum(scrape.all("dnsguard_cache_entries", "kind").values()) == 3
        assert scrape("dnsguard_cache_bytes") > 1000
        assert scrape("dnsguard_flights") == 1
        assert scrape("dnsguard_coalesced_queries_total") == 1
        assert scrape("dnsguard_tcp_connections") == 1
        assert scrape("dnsguard_upstream_sockets") == 1
        assert scrape("dnsguard_tcp_refused_total") == scrape("dnsguard_unsent_replies_total") == 0
        assert scrape("dnsguard_build_info", version=__version__, python=PYTHON) == 1


@on_a_loop
async def test_the_runway_is_the_time_until_the_first_name_is_lost() -> None:
    async with scene(*SHORT) as stage:
        stand_still()
        assert Scrape(stage)("dnsguard_runway_seconds") == 0
        assert Scrape(stage)("dnsguard_covered_ratio") == 1
        await stage.udp.resolve("long.test")  # 60 s to live, half an hour stale
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("short.test")
        assert Scrape(stage)("dnsguard_runway_seconds") == pytest.approx(1801)
        later(100.0)
        assert Scrape(stage)("dnsguard_runway_seconds") == pytest.approx(1701)
        later(1702.0)
        assert Scrape(stage)("dnsguard_runway_seconds") == pytest.approx(58)
        scrape = Scrape(stage)
        assert scrape("dnsguard_covered_ratio") == 0.5
        assert scrape("dnsguard_recent_questions") == 2
        assert scrape("dnsguard_uncovered_questions", reason="too_old") == 1


@on_a_loop
async def test_a_store_has_its_own_numbers() -> None:
    async with scene() as stage:
        assert not [s for s in Scrape(stage).samples if s.name.startswith("dnsguard_store_")]
        store = StoreCounts(clock.now())
        store.errors["full"] += 2
        scrape = Scrape(stage, store=store)
        assert scrape("dnsguard_store_errors_total", kind="full") == 2
        names = {s.name for s in scrape.samples if s.name.startswith("dnsguard_store_")}
        assert {"dnsguard_store_up", "dnsguard_store_rows", "dnsguard_store_bytes"} <= names
