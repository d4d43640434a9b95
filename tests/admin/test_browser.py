"""The page in a real browser, in short: whole, quiet, asking nobody else, and live.

The rest of what a browser can tell is in `test_page_seen` (`make browser`). Skipped where there is
no Chromium.
"""

from __future__ import annotations

import asyncio
from functools import partial

from tests.admin.browser import Browser, chromium, there, until
from tests.net.asking import datagrams
from tests.net.running import HOST, on_a_loop, serve
from tests.net.upstream import Upstream

__all__ = ["chromium"]
QUICK = ("--set=cache.max_ttl=1s", "--set=stale.recheck=1s")


@on_a_loop
async def test_a_browser_shows_an_outage_as_it_comes_and_goes(chromium: Browser) -> None:
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *QUICK) as running,
        datagrams(running.port) as client,
    ):
        page = f"http://{HOST}:{running.admin}/"
        await client.resolve("www.test")
        await there(chromium.begin)
        await there(partial(chromium.driver.get, page))
        await there(partial(chromium.js, "window.loaded = 'once'"))

        async def ask() -> None:
            await client.resolve("www.test")
            await asyncio.sleep(0.05)

        async def shows(text: str) -> None:
            await until(lambda: text in chromium.text(), ask)

        await shows("Live.")
        assert "✓" in await there(lambda: chromium.driver.title)
        upstream.behave("servfail")
        await shows("outage for")
        assert "■ OUTAGE" in await there(lambda: chromium.driver.title)
        upstream.behave("ok")
        await shows("✓ normal")
        assert await there(partial(chromium.js, "return window.loaded")) == "once", "reloaded"
        await there(chromium.note)
        assert chromium.console == []
        assert chromium.blocked == []
        assert sorted(set(chromium.requests)) == [page, f"{page}api/v1/events"]
