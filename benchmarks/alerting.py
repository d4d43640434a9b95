"""A real Prometheus scrapes a real dnsguard through an outage, with the alert rules of deploy/.

Prints what happened when, as it happens, and ends with an error if the alert did not fire, or did
not end after the upstreams were well again. Needs the Debian package `prometheus`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.watched import HOST, stage
from dnsguard.demo.timeline import Mode

RULES = Path(__file__).parent.parent / "deploy" / "alerts" / "dnsguard.yaml"
ALERT = "DnsguardOutageServed"
CALM_SECONDS = 20.0
PATIENCE = 150.0  # the rule itself waits a minute
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: dnsguard
    static_configs: [{{targets: ["{host}:{port}"]}}]
"""


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def asked(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as reply:
        return json.loads(reply.read())["data"]


def written(folder: str, target: int) -> Path:
    """Write the configuration of Prometheus."""
    path = Path(folder, "prometheus.yml")
    path.write_text(CONFIG.format(rules=RULES, host=HOST, port=target))
    return path


class Clock:
    """Says things with the seconds since the beginning."""

    def __init__(self) -> None:
        self.begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:7.1f} s  {text}", flush=True)


async def until(port: int, wanted: str | None, clock: Clock) -> bool:
    """Wait until the alert is in this state (None: gone), and tell every change."""
    state: str | None = ""
    for _ in range(int(PATIENCE)):
        await asyncio.sleep(1)
        alerts = (await asyncio.to_thread(asked, port, "/api/v1/alerts"))["alerts"]
        found = [one for one in alerts if one["labels"]["alertname"] == ALERT]
        states = {one["state"] for one in found}
        now = "firing" if "firing" in states else next(iter(states), None)
        if now != state:
            clock.say(f"{ALERT}: {now or 'inactive'}")
            for one in found if now == "firing" else ():
                clock.say(f"  {one['annotations']['summary']}")
            state = now
        if now == wanted:
            return True
    return False


async def run() -> bool:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        async with stage() as running:
            port = free_port()
            config = written(folder, running.admin)
            process = await asyncio.create_subprocess_exec(
                "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={HOST}:{port}", "--log.level=error",
            )  # fmt: skip
            try:
                clock.say("dnsguard and Prometheus run")
                await asyncio.sleep(CALM_SECONDS)
                (up,) = asked(port, "/api/v1/query?query=up")["result"]
                clock.say(f"scraped: up = {up['value'][1]}")
                running.behave(Mode.DEAD)
                clock.say("both upstreams fall silent")
                if not await until(port, "firing", clock):
                    return False
                running.behave(Mode.HEALTHY)
                clock.say("both upstreams answer again")
                return await until(port, None, clock)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


def main() -> None:
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not there (Debian: apt-get install prometheus)")
    if not asyncio.run(run()):
        sys.exit(f"{ALERT} did not do what it should")


if __name__ == "__main__":
    main()
