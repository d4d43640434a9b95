"""What a person sees of the page in a real browser, with fingers, keys, ears and small screens.

Every dnsguard and every upstream is real and on loopback. `make browser` runs these and keeps
pictures of what they have seen; `test_browser` is the short part that always runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.admin.browser import DESK, PHONE, SMALL, Browser, chromium, there, until
from tests.net.asking import Datagrams, datagrams
from tests.net.running import HOST, Serve, on_a_loop, serve
from tests.net.upstream import Upstream
from tests.workers.test_supervisor import children

__all__ = ["chromium"]
pytestmark = pytest.mark.browser
LONG = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 50, "test"))
NAMES = [f"n{number}.{space}.test" for space in ("one", "two") for number in range(3)]
DRILL = ("drill", "corp", "--for=1h", "--fraction=100%", "--abort-above=100%")
CONTRAST = """
const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92
  : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ground = e => { for (; e; e = e.parentElement) {
  const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
  return parse(getComputedStyle(document.documentElement).backgroundColor); };
const poor = [];
for (const e of document.body.querySelectorAll('*')) {
  const own = [...e.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
  if (!own.length || e.closest('script, style, .quiet, .skip:not(:focus)')) continue;
  const style = getComputedStyle(e), size = parseFloat(style.fontSize);
  const a = light(parse(style.color)), b = light(ground(e));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) poor.push(ratio.toFixed(2) + ' ' + own[0].data.trim());
}
return poor;
"""
TOO_WIDE = """
const wide = document.documentElement.clientWidth, root = document.documentElement;
const out = root.scrollWidth > wide ? ['the page: ' + root.scrollWidth] : [];
for (const e of document.body.querySelectorAll('*')) {
  if (e.closest('.quiet, .skip, thead')) continue;
  const box = e.getBoundingClientRect();
  if (box.width && box.right > wide + 1)
    out.push(e.tagName + ' ' + box.right + ' ' + e.textContent.slice(0, 40));
}
return out;
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser, a dnsguard and its commands: on a busy machine that takes its time."""
    monkeypatch.setattr("tests.net.running.SECONDS_MAX", 150.0)


class Scene(NamedTuple):
    """A dnsguard with two zones, its upstreams, a client and a browser that shows its page."""

    test: Upstream  # of all names but those of corp
    corp: Upstream
    running: Serve
    client: Datagrams
    browser: Browser
    state: Path

    @property
    def page(self) -> str:
        return f"http://{HOST}:{self.running.admin}/"

    async def ask(self) -> None:
        """What clients do meanwhile."""
        for name in (*NAMES, "www.corp"):
            await self.client.resolve(name)
        await asyncio.sleep(0.05)

    async def load(self) -> None:
        await there(partial(self.browser.driver.get, self.page))

    async def shows(self, text: str, part: str = "body") -> None:
        await until(lambda: text in self.browser.text(part), self.ask)

    async def command(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dnsguard", *words, f"--state-dir={self.state}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def done(self, *words: str) -> None:
        """Run a command to its end."""
        process = await self.command(*words)
        out, err = await process.communicate()
        assert process.returncode == 0, (out, err)

    async def quiet(self) -> None:
        """Nothing was logged, blocked, or asked of anybody else."""
        await there(self.browser.note)
        assert self.browser.console == []
        assert self.browser.blocked == []
        assert self.browser.requests
        assert [one for one in self.browser.requests if not one.startswith(self.page)] == []

    async def looks(self, name: str) -> None:
        """Keep pictures: large, light and dark, and that of a phone."""
        for size, scheme in ((DESK, "light"), (DESK, "dark"), (PHONE, "light")):
            await there(partial(self.browser.look_like, size, scheme))
            await asyncio.sleep(0.5)  # colours fade into each other
            word = "phone" if size == PHONE else scheme
            await there(partial(self.browser.picture, f"{name}-{word}"))
        await there(partial(self.browser.look_like, DESK, "light"))


@contextlib.asynccontextmanager
async def scene(browser: Browser, state: Path, *settings: str) -> AsyncIterator[Scene]:
    quick = ("--set=cache.max_ttl=1s", "--set=stale.recheck=1s", "--set=guard.canaries=n0.one.test")
    async with (
        Upstream() as test,
        Upstream() as corp,
        serve(
            "--upstream", test.url, "--zone", f"corp={corp.url}", *quick, *settings,
            environ={"DNSGUARD_STORE__DIR": str(state)},
        ) as running,
        datagrams(running.port) as client,
    ):  # fmt: skip
        set_up = Scene(test, corp, running, client, browser, state)
        await set_up.ask()
        await there(browser.begin)
        await set_up.load()
        yield set_up


@contextlib.asynccontextmanager
async def worst(browser: Browser, state: Path) -> AsyncIterator[Scene]:
    """Everything that the page can show at once: doubt, a drill, pins, names of 253 octets."""
    async with scene(browser, state) as stage:
        await stage.client.resolve(LONG)
        stage.test.behave("servfail", name="never.test")
        await stage.client.resolve("never.test")
        await stage.done("pin", "db.test", "10.1.2.3", "fd00::1", "--for=2h")
        await stage.done("pin", LONG, "10.1.2.4", "--for=2h")
        drill = await stage.command(*DRILL)
        await stage.shows("A drill runs", "#drill")
        stage.test.behave("denied")
        await stage.shows("doubt for", "#zones")
        await stage.done("status", "--what-if")  # so that the page need not wait for its census
        await stage.shows("never.test", "#readiness")
        yield stage
        drill.send_signal(signal.SIGINT)
        await drill.communicate()


@on_a_loop
async def test_it_follows_a_silent_upstream_and_its_return(
    chromium: Browser, tmp_path: Path
) -> None:
    async with scene(chromium, tmp_path) as stage:
        await there(partial(chromium.js, "window.loaded = 'once'"))
        await stage.shows("Live.", "#connection")
        await stage.looks("well")
        stage.test.behave("silent")
        await stage.shows("outage for", "#zones")
        await stage.shows("it does not answer", "#upstreams")
        await stage.shows("last known good", "#answers")
        await stage.shows("zone .: outage", "#live")
        assert "✓ normal" in await there(lambda: chromium.text("#zones")), "corp is well"
        await stage.looks("outage")
        assert "serving last-known-good to 6 of 6" in await there(
            lambda: chromium.text("#headline")
        )
        stage.test.behave("ok")
        await until(lambda: "outage" not in chromium.text("#zones"), stage.ask)
        await stage.shows("All well", "#headline")
        assert await there(partial(chromium.js, "return window.loaded")) == "once", "reloaded"
        await stage.quiet()


@on_a_loop
async def test_it_says_that_dnsguard_is_gone_and_goes_on_when_it_is_back(
    chromium: Browser, tmp_path: Path
) -> None:
    async with scene(chromium, tmp_path) as stage:
        await stage.shows("Live.", "#connection")
        stage.running.signal(signal.SIGKILL)
        await stage.running.ended()
        lost = "No connection to dnsguard: this is how it was at "
        await until(lambda: lost in chromium.text("#connection"), partial(asyncio.sleep, 0.05))
        assert "✓ normal" in await there(lambda: chromium.text("#zones")), "the last that was known"
        faded = "return getComputedStyle(document.querySelector('main')).filter"
        assert await there(partial(chromium.js, faded)) == "grayscale(1)", "what is old looks old"
        said = await there(lambda: chromium.text("#connection"))
        await asyncio.sleep(4)  # the browser tries again and again, and the hour stays
        assert await there(lambda: chromium.text("#connection")) == said
        await there(partial(chromium.picture, "lost"))
        again = ("--upstream", stage.test.url, "--admin", f"{HOST}:{stage.running.admin}")
        async with serve(*again):
            await until(
                lambda: "Live." in chromium.text("#connection"), partial(asyncio.sleep, 0.05)
            )
            assert "corp" not in await there(lambda: chromium.text("#zones"))


@on_a_loop
async def test_doubt_drill_and_pins_are_shown_and_go(chromium: Browser, tmp_path: Path) -> None:
    async with worst(chromium, tmp_path) as stage:
        drill = await there(lambda: chromium.text("#drill"))
        assert "all names in corp as if every upstream were silent" in drill
        await stage.shows("held", "#guard")
        await stage.shows("10.1.2.3, fd00::1", "#pins")
        assert "doubt" in await there(lambda: chromium.text("#headline"))
        await stage.looks("worst")
        await stage.quiet()
        await stage.done("unpin", "db.test")
        await until(lambda: "db.test" not in chromium.text("#pins"), stage.ask)
        await stage.done("doubt", "--accept")
        await until(lambda: "doubt for" not in chromium.text("#zones"), stage.ask)
    # and with its block, the drill has ended


@on_a_loop
async def test_without_scripts_it_is_the_same_as_tables(chromium: Browser, tmp_path: Path) -> None:
    async with worst(chromium, tmp_path) as stage:
        await there(partial(chromium.scripts, False))
        await stage.load()
        await there(chromium.note)
        chromium.requests.clear()
        await stage.load()
        text = await there(chromium.text)
        for word in ("doubt for", "A drill runs", "db.test", "never.test", "reload it for news"):
            assert word in text
        assert await there(partial(chromium.js, "return document.querySelectorAll('table').length"))
        await there(partial(chromium.picture, "without-scripts"))
        before = await there(lambda: chromium.text("#headline"))
        await asyncio.sleep(2.5)  # longer than news take
        assert await there(lambda: chromium.text("#headline")) == before, "nothing moves by itself"
        await stage.load()
        assert await there(lambda: chromium.text("#headline")) != before, "a reload is news"
        await there(chromium.note)
        assert set(chromium.requests) == {stage.page}


@on_a_loop
async def test_keys_reach_everything_in_order_and_show_where_they_are(
    chromium: Browser, tmp_path: Path
) -> None:
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    seen = "const b = document.activeElement.getBoundingClientRect(); return b.width * b.height"
    async with worst(chromium, tmp_path) as stage:
        await stage.shows("Live.", "#connection")
        order = []
        for number in range(3):
            await there(partial(chromium.press, "Tab", 9))
            order.append(await there(chromium.focused))
            assert await there(partial(chromium.js, outline)) != "none", order[-1]
            assert await there(partial(chromium.js, seen)) > 200, "it can be seen"
            if number == 0:
                await there(partial(chromium.picture, "skip-link"))
        assert order == ["A Skip to the zones", "A /api/v1/status", "A /metrics"]
        await stage.load()
        await there(partial(chromium.press, "Tab", 9))
        await there(partial(chromium.press, "Enter", 13, "\r"))
        await until(lambda: chromium.driver.current_url.endswith("#zones"), stage.ask)
        # News replace what stands around it; who has walked to a link is not thrown back.
        for _ in range(2):
            await there(partial(chromium.press, "Tab", 9))
        at = await there(chromium.focused)
        assert at.startswith("A /")
        shown = await there(lambda: chromium.text("#headline"))
        await until(lambda: chromium.text("#headline") != shown, stage.ask)
        assert await there(chromium.focused) == at


@pytest.mark.parametrize("scheme", ["light", "dark"])
@on_a_loop
async def test_every_word_stands_out_from_its_ground(
    scheme: str, chromium: Browser, tmp_path: Path
) -> None:
    async with worst(chromium, tmp_path):
        await there(partial(chromium.look_like, DESK, scheme))
        ground = "return getComputedStyle(document.body).backgroundColor"
        shown = await there(partial(chromium.js, ground))
        assert (shown == "rgb(16, 19, 23)") is (scheme == "dark")
        await asyncio.sleep(0.5)  # colours fade into each other
        assert await there(partial(chromium.js, CONTRAST)) == []
        await there(
            partial(chromium.js, "document.querySelector('h2').style.color = 'rgb(128,128,128)'")
        )
        assert len(await there(partial(chromium.js, CONTRAST))) == 1, "a planted fault is found"


@pytest.mark.parametrize("size", [PHONE, SMALL, (700, 900), DESK], ids=str)
@on_a_loop
async def test_nothing_is_wider_than_the_screen(
    size: tuple[int, int], chromium: Browser, tmp_path: Path
) -> None:
    async with worst(chromium, tmp_path) as stage:
        await there(partial(chromium.look_like, size, "light"))
        await stage.shows("Live.", "#connection")
        await there(partial(chromium.picture, f"width-{size[0]}"))
        assert await there(partial(chromium.js, TOO_WIDE)) == []


@on_a_loop
async def test_who_listens_hears_names_for_everything(chromium: Browser, tmp_path: Path) -> None:
    async with worst(chromium, tmp_path) as stage:
        await there(partial(chromium.cdp, "Accessibility.enable"))
        tree = (await there(partial(chromium.cdp, "Accessibility.getFullAXTree")))["nodes"]
        await there(partial(chromium.cdp, "Accessibility.disable"))
        heard: dict[str, list[str]] = {}
        for node in tree:
            if not node.get("ignored"):
                role = node["role"]["value"]
                heard.setdefault(role, []).append(node.get("name", {}).get("value", ""))
        for role in ("table", "image", "heading", "meter", "link"):
            assert heard[role], role
            assert all(heard[role]), f"a {role} without a name: {heard[role]}"
        assert len(set(heard["table"])) == len(heard["table"])
        assert heard["main"]
        assert heard["heading"][0].startswith("dnsguard ")
        assert "Zones" in heard["heading"]
        assert len(heard["status"]) == 2, "the states, and whether they are those of now"
        # What is said unasked changes with a state and not with every second.
        said = await there(lambda: chromium.text("#live"))
        assert "doubt" in said
        assert "a drill runs" in said
        shown = await there(lambda: chromium.text("#headline"))
        await until(lambda: chromium.text("#headline") != shown, stage.ask)
        assert await there(lambda: chromium.text("#live")) == said


@on_a_loop
async def test_what_gets_into_the_page_can_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    """The policy itself: a script, a style, a picture and a request, had someone got them in."""
    plant = """
    const add = (tag, make) => { const e = document.createElement(tag); make(e);
      document.body.append(e); };
    add('script', e => { e.textContent = 'window.broken = 1'; });
    add('img', e => { e.src = arguments[0] + 'pixel.png'; });
    add('style', e => { e.textContent = 'h1 { color: rgb(1, 2, 3) }'; });
    fetch(arguments[0]).catch(() => {});
    """
    async with scene(chromium, tmp_path), Upstream() as stranger:
        await there(partial(chromium.js, plant, f"http://{stranger.url}/"))

        async def noted() -> None:
            await there(chromium.note)

        await until(lambda: len(chromium.console) >= 5, noted)
        assert chromium.blocked == ["csp"], "the picture; a request of a script is not even made"
        assert not stranger.streams
        assert await there(partial(chromium.js, "return window.broken")) is None
        shown = "return getComputedStyle(document.querySelector('h1')).color"
        assert await there(partial(chromium.js, shown)) != "rgb(1, 2, 3)"
        assert all("Content Security Policy" in line for line in chromium.console)


@on_a_loop
async def test_the_page_of_two_workers_is_one_and_says_who_is_missing(
    chromium: Browser, tmp_path: Path
) -> None:
    async with scene(chromium, tmp_path, "--set=workers=2") as stage:
        for _ in range(12):  # each from a port of its own, so that both get some
            async with datagrams(stage.running.port) as client:
                for name in NAMES:
                    await client.resolve(name)
        await stage.done("pin", "db.test", "10.1.2.3", "--for=2h")
        await stage.shows("10.1.2.3", "#pins")
        stage.test.behave("silent")
        await stage.shows("outage for", "#zones")
        await stage.looks("two-workers")
        await stage.quiet()
        victim = children(stage.running.process.pid)[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            # Not asked meanwhile: a question to the one that stands still would wait for its end.
            told = "1 of 2 workers answered: worker 1 does not answer"
            await until(lambda: told in chromium.text("#headline"), partial(asyncio.sleep, 0.05))
            await stage.looks("one-of-two")
        finally:
            with contextlib.suppress(ProcessLookupError):  # its supervisor may have had enough
                os.kill(victim, signal.SIGCONT)
        await until(lambda: "1 of 2" not in chromium.text("#headline"), stage.ask)
