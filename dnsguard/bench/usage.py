"""What the kernel says of processes: CPU time, user and system apart, and resident memory.

Read from /proc (proc(5)): `stat` has the times of all threads of a process in clock ticks, `status`
the memory. A process that has ended is not counted: what it used nobody can say any more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dnsguard.errors import DnsguardError

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


class NoProcess(DnsguardError):
    """There is no process with this id, or it has ended."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server used during the measurement."""

    user: float  # seconds
    system: float
    seconds: float  # that these were measured over
    resident: int  # octets at the end, all processes together
    processes: int


@dataclass(frozen=True, slots=True)
class _Process:
    group: int
    user: int  # ticks
    system: int


class Processes:
    """The processes `pids`; with `groups`, all that are in one process group with one of them.

    Raises NoProcess.
    """

    def __init__(self, pids: Collection[int], groups: bool) -> None:
        self._pids = set(pids)
        self._groups: set[int] = set()
        for pid in pids:
            found = _read(pid)
            if found is None:
                raise NoProcess(f"There is no process {pid}.")
            if groups:
                self._groups.add(found.group)
        self._before = self._now()

    def begin(self) -> None:
        """Measure from now on."""
        self._before = self._now()

    def usage(self, seconds: float) -> Usage:
        """Return what was used since `begin`, `seconds` ago. Raises NoProcess if all have ended."""
        after = self._now()
        if not after:
            raise NoProcess("The server's process has ended during the measurement.")
        none = _Process(0, 0, 0)
        pairs = [(self._before.get(pid, none), process) for pid, process in after.items()]
        return Usage(
            user=sum(new.user - old.user for old, new in pairs) / _TICKS,
            system=sum(new.system - old.system for old, new in pairs) / _TICKS,
            seconds=seconds,
            resident=sum(map(_resident, after)),
            processes=len(after),
        )

    def _now(self) -> dict[int, _Process]:
        pids = set(self._pids)
        if self._groups:
            pids.update(int(path.name) for path in PROC.glob("[0-9]*"))
        found = {pid: process for pid in sorted(pids) if (process := _read(pid)) is not None}
        return {
            pid: process
            for pid, process in found.items()
            if pid in self._pids or process.group in self._groups
        }


def _read(pid: int) -> _Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # After the name, which may hold blanks and parentheses: state, parent, group, …
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":  # dead, and waiting for its parent to notice
        return None
    return _Process(int(fields[2]), int(fields[11]), int(fields[12]))


def _resident(pid: int) -> int:
    try:
        found = _RESIDENT.search((PROC / str(pid) / "status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0
