"""An outage as its operator sees it: a real dnsguard between a cluster DNS that dies and clients.

The cluster DNS is the demo's, in this process; dnsguard is a process of its own. Whoever uses a
`Stage` lets time pass and looks: a browser takes pictures, a Prometheus scrapes and alerts. Run as
a program it takes the pictures of the page with Debian's Chromium. Everything is on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from dnslib import DNSRecord

from dnsguard.demo.cluster import ClusterDns, listening
from dnsguard.demo.timeline import Mode
from dnsguard.demo.zone import DOMAIN, questions

HOST = "127.0.0.1"
TTL = 5  # short, so that an outage shows within seconds
QUERIES_A_SECOND = 60
READY_SECONDS = 30.0
BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
LOOKS = {
    "light": ("--window-size=1280,1480", "--blink-settings=preferredColorScheme=1"),
    "dark": ("--window-size=1280,1480", "--blink-settings=preferredColorScheme=0"),
    "phone": ("--window-size=500,2600", "--blink-settings=preferredColorScheme=1"),
}


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


async def picture(admin: int, look: str, path: Path) -> None:
    """Have Chromium take a picture of the page."""
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            "chromium", *BROWSER, *LOOKS[look], f"--user-data-dir={profile}",
            f"--screenshot={path}", f"http://{HOST}:{admin}/",
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await process.wait()
    print(f"{path}", flush=True)


async def pictures(folder: Path, calm: float, dead: float) -> None:
    """Take pictures of calm, of half an outage, of a whole one."""
    async with stage() as running:
        await asyncio.sleep(calm)
        for look in LOOKS:
            await picture(running.admin, look, folder / f"well-{look}.png")
        running.behave(Mode.DEAD, "first")
        await asyncio.sleep(dead / 4)
        await picture(running.admin, "light", folder / "half-light.png")
        running.behave(Mode.DEAD)
        await asyncio.sleep(dead)
        for look in LOOKS:
            await picture(running.admin, look, folder / f"outage-{look}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of the status page.")
    parser.add_argument("--folder", type=Path, default=Path("pictures"))
    parser.add_argument("--calm", type=float, default=90.0, help="seconds before the outage")
    parser.add_argument("--dead", type=float, default=60.0, help="seconds of it")
    given = parser.parse_args()
    if shutil.which("chromium") is None:
        sys.exit("chromium is not there (Debian: apt-get install chromium)")
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(pictures(given.folder, given.calm, given.dead))


if __name__ == "__main__":
    main()
