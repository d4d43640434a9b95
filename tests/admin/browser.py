"""A real browser on the status page: Chromium without a window, led by its driver.

It notes what a person would see in the developers' tools: every request, every line of the console,
every breach of the security policy. Asks for nothing by itself; what needs the network beyond
loopback fails. Knows nothing of what the page says.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PATIENCE = 60.0  # seconds for something to show; nothing takes a tenth of it
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--disable-quic", "--no-proxy-server",
    "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
DESK, PHONE, SMALL = (1280, 900), (390, 844), (320, 640)  # the last one: WCAG 2.2, 1.4.10
Look = Callable[["Browser"], Any]


def missing() -> str:
    """Return what has to be installed before there is a browser, in words; nothing if all is."""
    lacks = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    told = f"{' and '.join(lacks)} (Debian: apt-get install chromium chromium-driver)"
    if lacks:
        return told
    return "" if importlib.util.find_spec("selenium") else "selenium (pip install 'dnsguard[dev]')"


class Browser:
    """One browser with one page. Its methods block: call them by `there`."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.requests: list[str] = []
        self.blocked: list[str] = []
        self.console: list[str] = []

    def begin(self) -> None:
        """Be as new: a large window, light, with scripts, nothing noted."""
        self.driver.get("about:blank")
        self.scripts(True)
        self.look_like(DESK, "light")
        self.note()
        self.requests, self.blocked, self.console = [], [], []

    def cdp(self, method: str, **parameters: Any) -> Any:
        """Say something to the browser's own protocol (Chrome DevTools)."""
        return self.driver.execute_cdp_cmd(method, parameters)

    def look_like(self, size: tuple[int, int], scheme: str = "light") -> None:
        """Have a screen of this size, and wish for this colour scheme."""
        width, height = size
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 700,
        )  # fmt: skip
        wish = [{"name": "prefers-color-scheme", "value": scheme}]
        self.cdp("Emulation.setEmulatedMedia", media="screen", features=wish)

    def scripts(self, run: bool) -> None:
        """Let the page's scripts run from the next page on, or not."""
        self.cdp("Emulation.setScriptExecutionDisabled", value=not run)

    def js(self, text: str, *arguments: Any) -> Any:
        """Evaluate a function's body beside the page, as the developers' tools do."""
        return self.driver.execute_script(text, *arguments)

    def text(self, part: str = "body") -> str:
        """Return what one reads there."""
        return str(self.js("return document.querySelector(arguments[0]).innerText", part))

    def focused(self) -> str:
        """Return what has the focus, in words."""
        told = "const e = document.activeElement; return e.tagName + ' ' + e.innerText.trim()"
        return str(self.js(told))

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "char", "keyUp") if text else ("rawKeyDown", "keyUp"):
            self.cdp(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, **({"text": text} if kind == "char" else {}),
            )  # fmt: skip

    def note(self) -> None:
        """Take what the browser has logged since the last time."""
        for line in self.driver.get_log("browser"):  # type: ignore[no-untyped-call]
            self.console.append(line["message"])
        for line in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            event = json.loads(line["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.loadingFailed":
                self.blocked.append(event["params"].get("blockedReason", ""))

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page, if somebody wants to look at them."""
        folder = os.environ.get("DNSGUARD_PICTURES")
        if folder is None:
            return
        size = self.js("const e = document.documentElement; return [e.clientWidth, e.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        made = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.png").write_bytes(base64.b64decode(made["data"]))


@contextlib.contextmanager
def running() -> Iterator[Browser]:
    """Run a browser; it and all it has written are gone at the end."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # Both paths are given, or Selenium would look for them in the world.
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of a file; each begins with `begin`."""
    if lacks := missing():
        pytest.skip(f"this takes {lacks}")
    with running() as browser:
        yield browser


async def there(look: Callable[[], Any]) -> Any:
    """Call a method that blocks, while the test's own servers go on."""
    return await asyncio.to_thread(look)


async def until(look: Callable[[], Any], meanwhile: Callable[[], Awaitable[Any]]) -> Any:
    """Look until there is something, and do this in between; returns what there is."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await there(look)):
            await meanwhile()
    return found


if __name__ == "__main__" and missing():
    sys.exit(f"make browser takes {missing()}")
