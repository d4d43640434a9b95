"""CPU time and memory of real processes: this one, a group of two, and one that has ended."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from dnsguard.bench.usage import NoProcess, Processes


def test_own_work_is_found_again() -> None:
    processes = Processes([os.getpid()], groups=False)
    processes.begin()
    before = os.times()
    while (now := os.times()).user + now.system < before.user + before.system + 0.1:
        sum(range(1000))
    found = processes.usage(0.5)
    # In whole ticks of the clock, and rounded on both sides.
    assert found.user + found.system >= 0.05
    assert found.seconds == 0.5
    assert found.processes == 1
    assert found.resident > 5_000_000


def test_a_group_is_all_of_its_processes() -> None:
    with subprocess.Popen(
        ["sh", "-c", "cat; true"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as shell:
        assert shell.stdin
        assert shell.stdout
        shell.stdin.write(b"there\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"there\n"  # both run
        alone = Processes([shell.pid], groups=False).usage(1)
        together = Processes([shell.pid], groups=True).usage(1)
        shell.stdin.close()
    assert (alone.processes, together.processes) == (1, 2)
    assert together.resident > alone.resident > 0


def test_a_process_that_ended_is_told() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        processes = Processes([process.pid], groups=False)
        assert process.stdin
        process.stdin.close()
        # It is a zombie now, or will be at once, until somebody waits for it.
        deadline = time.monotonic() + 60
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT) is None:
            assert time.monotonic() < deadline
        with pytest.raises(NoProcess, match="has ended"):
            processes.usage(1)
        with pytest.raises(NoProcess, match=f"no process {process.pid}"):
            Processes([process.pid], groups=False)


def test_no_such_process_is_told() -> None:
    with pytest.raises(NoProcess, match="There is no process 4194304"):
        Processes([4_194_304], groups=True)  # above the kernel's own limit
