"""Does it slow names down when a hundred slow clients hang on the admin address? A measurement.

Rounds with and without them take turns, so that what else the machine does hits both alike. The
clients open a connection, send one octet of a request every 100 ms, and come back when they are
dropped; every tenth asks for the stream of news and does not read it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
from typing import Any

from benchmarks.watched import HOST, stage

CLIENTS = 100
REQUEST = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200
NEWS = b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"


async def hang_on(number: int, port: int) -> None:
    """Be one slow client for ever."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            try:
                if number % 10 == 0:
                    writer.write(NEWS)
                    await asyncio.sleep(60)
                for octet in REQUEST:
                    writer.write(bytes((octet,)))
                    await writer.drain()
                    await asyncio.sleep(0.1)
            finally:
                writer.close()
        await asyncio.sleep(0.1)


async def measured(port: int, seconds: float, qps: int) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dnsguard", "bench", "load", "--server", f"{HOST}:{port}",
        "--names", "list:50", "--qps", str(qps),
        "--duration", f"{seconds:g}s", "--json", "-",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


async def run(rounds: int, seconds: float, qps: int) -> None:
    p99: dict[str, list[float]] = {"alone": [], "with 100 slow clients": []}
    async with stage() as running:
        for number in range(2 * rounds):
            slow = number % 2 == 1
            tasks = [
                asyncio.create_task(hang_on(n, running.admin))
                for n in range(CLIENTS if slow else 0)
            ]
            await asyncio.sleep(1)
            found = await measured(running.port, seconds, qps)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            p99["with 100 slow clients" if slow else "alone"].append(
                found["measured"]["latency_us"]["p99"]
            )
    for name, values in p99.items():
        shown = ", ".join(f"{value:.0f}" for value in values)
        print(f"p99 {name}: median {statistics.median(values):.0f} us of {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure names while slow clients hang on HTTP.")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="a round")
    parser.add_argument("--qps", type=int, default=2000)
    given = parser.parse_args()
    asyncio.run(run(given.rounds, given.seconds, given.qps))


if __name__ == "__main__":
    main()
