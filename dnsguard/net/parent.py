"""A process that is to end with its parent, however that ends: see prctl(2), PR_SET_PDEATHSIG."""

from __future__ import annotations

import os
import signal
from typing import Any

from dnsguard.net._libc import ffi

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> bool:
    """Have the kernel send us SIGTERM when `parent` is gone; False if it is gone already."""
    libc: Any = ffi.dlopen(None)  # declared in libc_build.py
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == parent
