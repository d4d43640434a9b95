"""Does it slow names down when a hundred slow clients hang on the admin address? A measurement.

Rounds with and without them take turns, so that what else the machine does hits both alike. The
clients open a connection, send one octet of a request every 100 ms, and come back when they are
dropped; every tenth asks for the stream of news and does not read it. They cost processor time
themselves, on the same machine; so in a third kind of round they hang on a process that only throws
away what they send. Run it with `chrt -r 10` where the machine has other work to do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
from collections.abc import AsyncIterator
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


async def hang_on_all(port: int) -> None:
    """Be all of them."""
    await asyncio.gather(*(hang_on(number, port) for number in range(CLIENTS)))


@contextlib.asynccontextmanager
async def clients(port: int) -> AsyncIterator[None]:
    """Run all of them in a process of their own, beside the upstream in this one; none at 0."""
    if not port:
        yield
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.slow_http", "--hang-on", str(port)
    )
    try:
        await asyncio.sleep(1)
        yield
    finally:
        process.kill()
        await process.wait()


THROWS_AWAY = """
import asyncio
async def each(reader, writer):
    while await reader.read(4096):
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(each, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def another() -> AsyncIterator[int]:
    """Run a process that throws away what it is sent; yields its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", THROWS_AWAY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


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
    async with stage() as running, another() as elsewhere:
        kinds = {
            "alone": 0,
            f"with {CLIENTS} slow clients elsewhere": elsewhere,
            f"with {CLIENTS} slow clients on it": running.admin,
        }
        p99: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, port in kinds.items():
                async with clients(port):
                    found = (await measured(running.port, seconds, qps))["measured"]
                assert found["lost"] == 0, found
                p99[kind].append(found["latency_us"]["p99"])
    for name, values in p99.items():
        shown = ", ".join(f"{value:.0f}" for value in values)
        print(f"p99 {name}: median {statistics.median(values):.0f} us of {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure names while slow clients hang on HTTP.")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="a round")
    parser.add_argument("--qps", type=int, default=2000)
    parser.add_argument("--hang-on", type=int, metavar="PORT", help="only be the clients")
    given = parser.parse_args()
    if given.hang_on:
        asyncio.run(hang_on_all(given.hang_on))
    asyncio.run(run(given.rounds, given.seconds, given.qps))


if __name__ == "__main__":
    main()
