"""What the kernel says of processes and of the whole machine: time, memory, wake-ups, strangers.

Read from /proc (proc(5)). A server is a process group, because some answer from children of the one
that was started. It does not know what is measured or why.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def parse_stat(text: str, ticks: int) -> float:
    """CPU seconds in a /proc/PID/stat line; the name may hold blanks and ).

    User and system time of the process and of its ended children: dnsmasq has one for each TCP
    connection.
    """
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / ticks


def parse_status(text: str) -> dict[str, int]:
    """The sizes in /proc/PID/status, in KiB."""
    return {key: int(kib) for key, kib in re.findall(r"^(Vm\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def parse_busy(text: str, ticks: int) -> float:
    """CPU seconds that all processors together spent on work since boot, from /proc/stat.

    The first line is user, nice, system, idle, iowait, irq, softirq, steal (then guest, which user
    holds already). Time stolen by other virtual machines counts as busy: it was not ours.
    """
    user, nice, system, _idle, _iowait, *rest = map(int, text.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / ticks


def cpu_seconds(pid: int) -> float:
    return parse_stat(Path(f"/proc/{pid}/stat").read_text(), TICKS)


def members(groups: Collection[int]) -> Iterator[Path]:
    """The /proc directories of every process in these groups."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(path.name)) in groups:
                yield path


def children(parent: int) -> list[int]:
    """The processes that `parent` has started and not buried yet; none if it is gone."""
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(pid) for pid in text.split()]


def is_alive(pid: int) -> bool:
    """False once a process has closed what it had open, whether or not its parent knows.

    That is when its last thread has ended: one that waits for a disk may outlive the first.
    """
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False


def tree_cpu_seconds(pid: int) -> float:
    """Processor seconds of a process and its children, the ended ones included."""
    found = 0.0
    for one in [pid, *children(pid)]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += cpu_seconds(one)
    return found


def group_cpu_seconds(groups: Collection[int]) -> float:
    """CPU seconds of every process in these groups: NSD answers from a child of the one started."""
    used = 0.0
    for path in members(groups):
        with contextlib.suppress(OSError):
            used += cpu_seconds(int(path.name))
    return used


def group_run_seconds(group: int) -> float:
    """The same to the nanosecond (schedstat), for what is less than a tick; ended threads lack."""
    used = 0
    for path in members({group}):
        for task in path.glob("task/*/schedstat"):
            with contextlib.suppress(OSError):
                used += int(task.read_text().split()[0])
    return used / 1e9


def parse_wake_ups(text: str) -> int:
    """Voluntary context switches in a /proc/PID/status."""
    match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else 0


def group_wake_ups(group: int) -> int:
    """How often the threads of a group went to sleep of their own accord, and so were woken."""
    found = 0
    for path in members({group}):
        for task in path.glob("task/*/status"):
            with contextlib.suppress(OSError):
                match = re.search(
                    r"^voluntary_ctxt_switches:\s+(\d+)$", task.read_text(), re.MULTILINE
                )
                found += int(match[1]) if match else 0
    return found


def busy_seconds() -> float:
    return parse_busy(Path("/proc/stat").read_text(), TICKS)


def resident_kib(pid: int) -> int:
    return parse_status(Path(f"/proc/{pid}/status").read_text())["VmRSS"]


def group_resident_kib(group: int) -> int:
    """Memory of all processes of a group; what they share counts for each."""
    found = 0
    for path in members({group}):
        with contextlib.suppress(OSError):
            found += resident_kib(int(path.name))
    return found


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model[1] if model else "unknown",
        "cpus": str(os.cpu_count()),
        "memory": f"{pages * size / 2**30:.0f} GiB",
        "kernel": os.uname().release,
        "system": system_name(),
        "python": python_build(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def system_name() -> str:
    """The distribution, by os-release(5)."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown"


def python_build() -> str:
    """Version, place and compiler: builds of the same version may differ by a quarter in speed.

    Whether a build was optimised by a profile cannot be asked: Debian's is and does not say so.
    """
    place = os.path.realpath(sys.executable).replace(str(Path.home()), "~")
    return f"{platform.python_version()} ({place}, {platform.python_compiler()})"


class Noise:
    """How many processors strangers used since this was made: what spoils a measurement."""

    def __init__(self, own_cpu_seconds: Callable[[], float]) -> None:
        self._own = own_cpu_seconds
        self._start = time.monotonic()
        self._before = self._strangers()

    def processors(self) -> float:
        used = self._strangers() - self._before
        return max(0.0, used / (time.monotonic() - self._start))

    def _strangers(self) -> float:
        return busy_seconds() - self._own()
