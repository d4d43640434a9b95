"""What the kernel says is read right; the texts are captured from a real machine."""

from __future__ import annotations

import os

import pytest

from benchmarks import accounting

STAT = (
    "16021 (python3) R 15915 15915 3107 0 -1 4194304 76098 6559 0 0 85 112 3 2 20 0 1 0 289861 "
    "16965632 3381 18446744073709551615 94788565028864 94788565029205 140730539189344 0 0 0 0 "
    "16781312 2 0 0 0 17 0 0 0 0 0 0 94788565040560 94788565041176 94788722663424 0"
)
STATUS = """\
Name:\tpython3
State:\tR (running)
VmPeak:\t  309540 kB
VmSize:\t   16568 kB
VmHWM:\t  306432 kB
VmRSS:\t   13608 kB
RssAnon:\t    6868 kB
Threads:\t1
"""
CPU_TIMES = """\
cpu  41027 0 29720 495658 1876 0 6381 260 0 0
cpu0 14533 0 13249 255324 256 0 3679 132 0 0
cpu1 26494 0 16470 240333 1620 0 2702 128 0 0
intr 4252151 0 0 0 0
"""


@pytest.mark.parametrize("name", ["nsd: xfrd", "a) S 1 2 (b", ""])
def test_cpu_time_is_read_behind_any_name(name: str) -> None:
    line = STAT.replace("python3", name)
    assert accounting.parse_stat(line, ticks=100) == pytest.approx(2.02)


def test_memory_is_read_in_kib() -> None:
    assert accounting.parse_status(STATUS)["VmRSS"] == 13608


def test_busy_time_leaves_out_idle_and_waiting() -> None:
    assert accounting.parse_busy(CPU_TIMES, ticks=100) == pytest.approx(773.88)


def test_this_process_is_accounted_for() -> None:
    pid = os.getpid()
    assert accounting.resident_kib(pid) > 1000
    before = accounting.cpu_seconds(pid)
    while accounting.cpu_seconds(pid) == before:  # the clock ticks while we work
        sum(range(10_000))
    assert accounting.group_cpu_seconds({os.getpgid(pid)}) > before
    assert accounting.busy_seconds() > 0
