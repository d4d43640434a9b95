"""The two clocks: one that only ever moves forward, one that people and disks understand.

Ages are measured on the boot-time clock, which goes on through a suspended virtual machine and is
never set; the wall clock is only for what outlives the process.
"""

from __future__ import annotations

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def _boot_time() -> float:
    """Return seconds since an arbitrary start; never goes back, counts time spent suspended."""
    return time.clock_gettime(_BOOT)  # type: ignore[arg-type]


# Where the kernel has no such clock, the monotonic one is the next best: it stops in suspension.
now = _boot_time if _BOOT is not None else time.monotonic


def wall() -> float:
    """Return seconds since 1970-01-01 UTC, as the machine believes."""
    return time.time()
