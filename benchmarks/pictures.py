"""Makes the pictures of the README anew, from real runs: the page in an outage, the demo's end.

The page is that of a dnsguard between a cluster DNS that dies and clients, after a calm time and a
drill; Debian's Chromium takes its picture. The demo is `dnsguard demo --once`, and its summary is
drawn as it stands in a terminal of 112 columns. Knows nothing of what is in them.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console

from benchmarks.watched import HOST, Stage, stage
from dnsguard.cli.demo import perform, proxy_command
from dnsguard.config import Address
from dnsguard.demo.show import Settings, Show
from dnsguard.demo.tally import Summary
from dnsguard.demo.timeline import Mode, timeline
from dnsguard.demo.view import View
from dnsguard.demo.zone import DOMAIN

IMAGES = Path(__file__).parent.parent / "docs" / "images"
BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--blink-settings=preferredColorScheme=1", "--window-size=1280,1562",
)  # fmt: skip
COLUMNS = 112
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


class Drawn(View):
    """The live view, which keeps a drawing of its summary."""

    drawing = ""

    def summary(self, show: Show, summaries: dict[str, Summary]) -> None:
        super().summary(show, summaries)
        paper = Console(
            record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
        )
        View(paper).summary(show, summaries)
        drawing = paper.export_svg(title="dnsguard demo", unique_id="demo")
        # Fonts of this machine: a picture that is looked at asks nobody else.
        drawing = re.sub(r"\s*@font-face \{.*?\}", "", drawing, flags=re.DOTALL)
        self.drawing = drawing.replace("font-family: Fira Code, monospace", f"font-family: {FONT}")


def demo(path: Path) -> None:
    """Run the demo and draw its end."""
    with socket.create_server((HOST, 0)) as sock:
        free = Address(HOST, sock.getsockname()[1])
    view = Drawn(Console(highlight=False))
    settings = Settings(timeline(8, 12, 8, 8), proxy_command, free, once=True)
    if perform(settings, view) or not view.drawing:
        sys.exit("the demo did not go well: no picture of it")
    path.write_text(view.drawing + "\n", encoding="utf-8")
    print(path)


async def command(running: Stage, *words: str) -> None:
    """Run one of dnsguard's commands on the instance."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dnsguard", *words, "--control", running.control
    )
    await process.wait()


async def page(path: Path, calm: float, drilled: float, dead: float) -> None:
    """Let there be a calm time, a drill and an outage, and take a picture of the page."""
    async with stage() as running:
        await asyncio.sleep(calm)
        await command(running, "drill", DOMAIN, f"--for={drilled:.0f}s", "--fraction=30%")
        await command(running, "pin", f"db.shop.svc.{DOMAIN}", "10.96.7.20", "--for=2h")
        await asyncio.sleep(calm / 3)
        running.behave(Mode.DEAD, "first")
        await asyncio.sleep(dead / 4)
        running.behave(Mode.DEAD)
        await asyncio.sleep(dead)
        await picture(running.admin, path)


async def picture(admin: int, path: Path) -> None:
    """Have Chromium take a picture of the page, down to the pins."""
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            "chromium", *BROWSER, f"--user-data-dir={profile}", f"--screenshot={path}",
            f"http://{HOST}:{admin}/", stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await process.wait()
    with Image.open(path) as taken:
        taken.convert("RGB").quantize(256).save(path, optimize=True)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of the README anew.")
    parser.add_argument("--folder", type=Path, default=IMAGES)
    parser.add_argument("--calm", type=float, default=240.0, help="seconds before the drill")
    parser.add_argument("--drill", type=float, default=60.0, help="seconds of it")
    parser.add_argument("--dead", type=float, default=90.0, help="seconds of the outage")
    parser.add_argument("only", nargs="?", choices=("page", "demo"))
    given = parser.parse_args()
    if given.only != "demo" and shutil.which("chromium") is None:
        sys.exit("chromium is not there (Debian: apt-get install chromium)")
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.only != "page":
        demo(given.folder / "demo.svg")
    if given.only != "demo":
        asyncio.run(page(given.folder / "page.png", given.calm, given.drill, given.dead))


if __name__ == "__main__":
    main()
