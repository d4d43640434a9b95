"""An operator's pins on disk, so that a restart does not undo what was pinned by hand.

One small JSON file in the instance's directory, written whole beside its place and moved there. It
is read as a stranger's: what is no pin is left out. Ends are in wall-clock time, and no step of
that clock lets a pin last longer than it was meant to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import threading
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from dnsguard import clock
from dnsguard.clock import Clocks
from dnsguard.core.engine import Engine
from dnsguard.core.pins import ADDRESSES_MAX, PINS_MAX, Pin
from dnsguard.core.wire import name_octets
from dnsguard.errors import WireError

FILE = "pins.json"
OCTETS_MAX = 4 << 20  # more than so many pins can take
TTL_MAX = 3600
DISK_SECONDS = 2.0


class KeptPins:
    """The pins of one engine, in one directory. Nothing waits longer for a disk than it must."""

    def __init__(self, directory: str, engine: Engine) -> None:
        self._directory = directory
        self._engine = engine

    async def take_back(self) -> str:
        """Set the pins of an earlier run again; return what went wrong, if anything."""
        found: list[Pin] = []
        trouble = await _apart(lambda: found.extend(load(self._directory, clock.read())))
        for pin in found if not trouble else ():
            self._engine.pin(pin)
        return trouble

    async def keep(self) -> str:
        """Write down the pins of now; return what went wrong, if anything."""
        clocks = clock.read()
        pins = self._engine.pins.operators(clocks.now)
        return await _apart(lambda: save(self._directory, pins, clocks))


async def _apart(do: Callable[[], None]) -> str:
    """Do something with a disk in a thread that nobody waits for at the end; return the trouble."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def thread() -> None:
        try:
            do()
            trouble = ""
        except (OSError, ValueError, RecursionError) as error:
            trouble = str(error)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody wants to know
            loop.call_soon_threadsafe(_settle, done, trouble)

    threading.Thread(target=thread, daemon=True).start()
    try:
        async with asyncio.timeout(DISK_SECONDS):
            return await done
    except TimeoutError:
        return "the disk does not answer"


def _settle(done: asyncio.Future[str], trouble: str) -> None:
    if not done.done():
        done.set_result(trouble)


def save(directory: str, pins: Sequence[Pin], clocks: Clocks) -> None:
    """Write these pins in place of the former. Raises OSError."""
    rows = [
        {
            "name": pin.name,
            "addresses": list(pin.addresses),
            "ttl": pin.ttl,
            "since": clocks.wall - (clocks.now - pin.since),
            "until": clocks.wall + (pin.until - clocks.now),
        }
        for pin in pins
    ]
    path = os.path.join(directory, FILE)
    beside = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(beside, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(rows, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load(directory: str, clocks: Clocks) -> list[Pin]:
    """Return the pins that have not ended. Raises OSError; ValueError for what is no such file."""
    path = os.path.join(directory, FILE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with open(fd, encoding="utf-8") as file:
        text = file.read(OCTETS_MAX + 1)
    rows = json.loads(text) if len(text) <= OCTETS_MAX else None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: not a list of pins")
    found = [pin for row in rows[:PINS_MAX] if (pin := _pin(row, clocks)) is not None]
    return [pin for pin in found if clocks.now < pin.until]


def _pin(row: Any, clocks: Clocks) -> Pin | None:
    try:
        addresses = tuple(str(ipaddress.ip_address(text)) for text in row["addresses"])
        since, until, ttl = float(row["since"]), float(row["until"]), int(row["ttl"])
        name_octets(row["name"])
        lasts = min(until - clocks.wall, until - since)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, WireError):
        return None
    if not 0 < len(addresses) <= ADDRESSES_MAX or not 0 <= ttl <= TTL_MAX or not lasts > 0:
        return None
    if not (isfinite(since) and isfinite(lasts)):
        return None  # Python's JSON has infinite numbers, and none that is a number no more
    began = clocks.now - max(0.0, clocks.wall - since)
    return Pin(row["name"], addresses, ttl, began, clocks.now + lasts)
