"""Alert rules as Prometheus reads them, and a real Prometheus on a real dnsguard in an outage.

The rules' waits are cut to a second here; `python -m benchmarks.alerting` waits for them as they
are. `make alerts` runs all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.deploy.test_observed import ALERTS, DASHBOARDS, dashboard_expressions
from tests.net.asking import datagrams
from tests.net.running import HOST, on_a_loop, serve
from tests.net.upstream import Upstream

TESTS = ALERTS.with_name("dnsguard_test.yaml")
CONFIG = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: dnsguard
    static_configs: [{{targets: ["{host}:{port}"]}}]
"""
VARIABLES = {"$job": "dnsguard", "$instance": ".*", "$__rate_interval": "10s"}


def names_of_alerts() -> set[str]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_each_alert_is_fired_by_its_tests() -> None:
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    fired = set()
    for test in tests:
        for one in test.get("alert_rule_test", ()):
            fired |= {one["alertname"]} if one["exp_alerts"] else set()
        for one in test.get("promql_expr_test", ()):
            words = [one["expr"] if sample["labels"] == "{}" else sample["labels"]
                     for sample in one["exp_samples"]]  # fmt: skip
            fired |= set(re.findall(r'alertname="(\w+)"', " ".join(words)))
    assert fired == names_of_alerts()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="takes promtool (Debian: prometheus)")
@pytest.mark.parametrize("words", [("check", "rules", ALERTS.name), ("test", "rules", TESTS.name)])
def test_promtool_finds_nothing_wrong(words: tuple[str, ...]) -> None:
    found = subprocess.run(
        ["promtool", *words], cwd=ALERTS.parent, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "SUCCESS" in found.stdout


# -- a real one ---------------------------------------------------------------------------------


class Prometheus:
    """A Prometheus that scrapes one dnsguard twice a second."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def get(self, path: str) -> Any:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert b" 200 " in head.split(b"\r\n")[0], body
        return json.loads(body)["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(f"/api/v1/query?query={quote(expression)}"))[
            "result"
        ]
        return found

    async def firing(self) -> set[str]:
        alerts = (await self.get("/api/v1/alerts"))["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


@contextlib.asynccontextmanager
async def prometheus(folder: Path, admin: int) -> AsyncIterator[Prometheus]:
    rules = folder / "rules.yaml"
    text = ALERTS.read_text(encoding="utf-8")
    rules.write_text(re.sub(r"for: \w+", "for: 1s", text), encoding="utf-8")
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, host=HOST, port=admin), encoding="utf-8")
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}", "--log.level=error",
    )  # fmt: skip
    try:
        while True:
            with contextlib.suppress(OSError, AssertionError):  # not there, or not ready
                if [one["value"][1] for one in await Prometheus(port).query("up")] == ["1"]:
                    break
            await asyncio.sleep(0.05)
        yield Prometheus(port)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.alerts
@on_a_loop
async def test_an_outage_and_a_drill_are_alerted_and_every_panel_has_its_data(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    quick = ("--set=stale.recheck=1s", "--set=cache.max_ttl=1s", f"--state-dir={state}")
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *quick) as running,
        datagrams(running.port) as client,
        prometheus(tmp_path, running.admin) as seen,
    ):

        async def until(alert: str, firing: bool) -> None:
            while (alert in await seen.firing()) is not firing:
                await client.resolve("www.test")
                await asyncio.sleep(0.1)

        await client.resolve("www.test")
        drill = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dnsguard", "drill", "other", "--for=1h", f"--state-dir={state}",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await until("DnsguardDrillRunning", True)
        assert "DnsguardOutageServed" not in await seen.firing()
        drill.send_signal(signal.SIGINT)
        await drill.wait()
        await until("DnsguardDrillRunning", False)
        upstream.behave("silent")
        await until("DnsguardOutageServed", True)
        await until("DnsguardUpstreamDown", True)
        for path in DASHBOARDS:
            for expression in dashboard_expressions(path):
                if not expression.startswith("label_values"):
                    for name, value in VARIABLES.items():
                        expression = expression.replace(name, value)
                    assert await seen.query(expression), f"nothing to draw: {expression}"
        upstream.behave("ok")
        await until("DnsguardOutageServed", False)
