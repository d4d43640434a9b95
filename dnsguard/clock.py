"""The two clocks: one that only ever moves forward, one that people and disks understand.

Ages are measured on the boot-time clock, which goes on through a suspended virtual machine and is
never set; the wall clock is only for what outlives the process.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import NamedTuple

BOOT_ID = "/proc/sys/kernel/random/boot_id"  # see proc(5): drawn anew at every boot
BOOT_OCTETS = 16
_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def _boot_time() -> float:
    """Return seconds since an arbitrary start; never goes back, counts time spent suspended."""
    return time.clock_gettime(_BOOT)  # type: ignore[arg-type]


# Where the kernel has no such clock, the monotonic one is the next best: it stops in suspension.
now = _boot_time if _BOOT is not None else time.monotonic


def wall() -> float:
    """Return seconds since 1970-01-01 UTC, as the machine believes."""
    return time.time()


class Clocks(NamedTuple):
    """What all clocks show at one moment; `boot` says since which boot `now` counts."""

    boot: bytes
    now: float
    wall: float


def read() -> Clocks:
    """Return what all clocks show."""
    return Clocks(boot(), now(), wall())


@cache
def boot() -> bytes:
    """Return the sixteen octets that name this boot; where there are none, some of our own.

    Then every start counts as a boot, and ages are taken from the wall clock.
    """
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            found = bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        found = b""
    return found if len(found) == BOOT_OCTETS else os.urandom(BOOT_OCTETS)
