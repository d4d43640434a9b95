"""Alert rules and dashboards ask for what is really there: each name, label and state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dnsguard import clock
from dnsguard.core.counters import StoreCounts
from tests.admin.test_metrics import Scrape
from tests.net.running import on_a_loop, scene

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/alerts/dnsguard.yaml"
DASHBOARDS = sorted((ROOT / "deploy/dashboards").glob("*.json"))
NAME = re.compile(r"\b((?:dnsguard|process)_\w+)(?:\{([^}]*)\})?")
# What Prometheus itself puts on a series, and what exists only once there is something to count.
FROM_OUTSIDE = {"job", "instance"}
VALUES = {"dnsguard_zone_state": ("state", {"normal", "outage", "doubt"})}


def alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def dashboard_expressions(path: Path) -> Iterator[str]:
    board = json.loads(path.read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


@on_a_loop
async def test_every_query_is_for_a_metric_that_is_there() -> None:
    async with scene() as stage:
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        store = StoreCounts(clock.now())
        store.errors["full"] += 1
        scrape = Scrape(stage, store=store)
    there: dict[str, set[str]] = {}
    for sample in scrape.samples:
        there.setdefault(sample.name, set()).update(sample.labels)
    expressions = [*alert_expressions()]
    for path in DASHBOARDS:
        expressions += dashboard_expressions(path)
    asked = 0
    for expression in expressions:
        for name, selector in NAME.findall(expression):
            asked += 1
            assert name in there, f"{name} in {expression}"
            for label, value in re.findall(r'(\w+)[=!~]+"([^"]*)"', selector):
                assert label in there[name] | FROM_OUTSIDE, f"{label} in {expression}"
                if name in VALUES and label == VALUES[name][0]:
                    assert value in VALUES[name][1]
    assert asked > 40


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"


def test_every_alert_has_its_page_in_the_runbook() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("### ").strip() for line in text.splitlines() if "### " in line}
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            link = rule["annotations"]["runbook_url"]
            assert link.rpartition("#")[2] == rule["alert"].lower()
            assert rule["alert"] in headings
