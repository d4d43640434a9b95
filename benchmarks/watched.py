"""An outage as its operator sees it: a real dnsguard between a cluster DNS that dies and clients.

The cluster DNS is the demo's, in this process; dnsguard is a process of its own. Whoever uses a
`Stage` lets time pass and looks: a browser takes pictures, a Prometheus scrapes and alerts.
Everything is on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator

from dnslib import DNSRecord

from dnsguard.demo.cluster import ClusterDns, listening
from dnsguard.demo.timeline import Mode
from dnsguard.demo.zone import DOMAIN, questions

HOST = "127.0.0.1"
TTL = 5  # short, so that an outage shows within seconds
QUERIES_A_SECOND = 60
READY_SECONDS = 30.0


class Stage:
    """A running dnsguard, its two upstreams and its clients."""

    def __init__(self, doors: dict[str, ClusterDns], admin: int, port: int, control: str) -> None:
        self.doors = doors
        self.admin = admin
        self.port = port
        self.control = control

    def behave(self, mode: Mode, *doors: str) -> None:
        """Let the named upstreams, or both, behave so from now on."""
        for name in doors or tuple(self.doors):
            self.doors[name].mode = mode


async def ask_on(port: int) -> None:
    """Ask the demo's questions for ever, popular ones often, and take no notice of answers."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(HOST, port)
    )
    wires = [bytes(DNSRecord.question(one.name, one.qtype).pack()) for one in questions()]
    try:
        for number in range(sys.maxsize):
            transport.sendto(wires[(number * number // 7) % len(wires)])
            await asyncio.sleep(1 / QUERIES_A_SECOND)
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def stage(*settings: str) -> AsyncIterator[Stage]:
    """Set it all up; everything ends with the block."""
    begun = time.monotonic()
    doors = {name: ClusterDns(TTL, begun, [name]) for name in ("first", "second")}
    async with contextlib.AsyncExitStack() as undo:
        urls = []
        for name, dns in doors.items():
            ports = await undo.enter_async_context(listening(dns))
            urls.append(f"{HOST}:{ports[name]}")
        state = undo.enter_context(tempfile.TemporaryDirectory())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dnsguard", "serve", "--listen", f"{HOST}:0",
            "--admin", f"{HOST}:0", "--state-dir", state, "--upstream", urls[1],
            "--zone", f"{DOMAIN}={','.join(urls)}",
            *(word for setting in settings for word in ("--set", setting)),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        undo.callback(_end, process)
        assert process.stderr is not None
        line = ""
        async with asyncio.timeout(READY_SECONDS):
            while " ready " not in line:
                line = (await process.stderr.readline()).decode()
                assert line, "dnsguard ended before it was ready"
        draining = asyncio.create_task(_drain(process.stderr))
        undo.callback(draining.cancel)
        admin = re.search(r"admin http://\S+:(\d+)", line)
        listens = re.search(r"listening on \S+:(\d+)", line)
        assert admin is not None
        assert listens is not None
        asking = asyncio.create_task(ask_on(int(listens[1])))
        undo.callback(asking.cancel)
        control = line.rpartition("control ")[2].strip()
        yield Stage(doors, int(admin[1]), int(listens[1]), control)


def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


async def _drain(reader: asyncio.StreamReader) -> None:
    """Show what dnsguard says."""
    while line := await reader.readline():
        print(line.decode().rstrip(), file=sys.stderr)
