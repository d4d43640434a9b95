"""README's table of what survives what: each row, and each column, is shown by a test that exists.

A volume that goes with its pod (`emptyDir`) is a directory that is deleted with it; one that stays
(`hostPath`) is a directory that the next pod finds.
"""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream
from tests.store.test_serve import NAMES, arguments, is_stale, on_disk

ROOT = Path(__file__).resolve().parent.parent
SHARED = "tests/store/test_shared.py"
SHOWN_BY = {
    "one worker of several is killed": (
        "tests/workers/test_supervisor.py::test_a_worker_that_is_killed_is_replaced_and_no_name_is_lost",
        "tests/store/test_peers.py::test_a_newcomer_is_told_everything_before_it_is_ready",
    ),
    "the process is killed (OOM, `kill -9`)": (
        "tests/store/test_serve.py::test_a_kill_in_the_middle_of_an_outage_costs_no_answer",
        "tests/store/test_serve.py::test_without_state_nothing_is_left",
        f"{SHARED}::test_a_node_that_starts_empty_in_an_outage_answers_what_the_fleet_knew",
    ),
    "the container restarts": (
        "tests/test_survival_table.py::test_a_restart_finds_the_directory_and_a_new_pod_what_is_left",
    ),
    "the pod is deleted": (
        "tests/test_survival_table.py::test_a_restart_finds_the_directory_and_a_new_pod_what_is_left",
    ),
    "the pod is replaced with `--takeover`": (
        "tests/test_takeover.py::test_no_query_is_lost_and_what_the_old_one_knew_the_new_one_knows",
    ),
    "the node reboots": (
        "tests/store/test_keeper.py::test_after_a_reboot_the_wall_clock_tells_the_age",
    ),
    "the node is lost": (f"{SHARED}::test_the_fleets_answers_outlive_a_lost_node_and_its_disk",),
}


def rows() -> list[list[str]]:
    table = (ROOT / "README.md").read_text().partition("### What survives what")[2]
    lines = re.findall(r"^\| (.+) \|$", table.partition("\n\nA name takes")[0], re.MULTILINE)
    return [line.split(" | ") for line in lines]


def test_each_row_has_a_test() -> None:
    head, *events = rows()
    assert head[1:] == ["`--no-state`", "`emptyDir`", "`hostPath`", "`store.shared` beside it"]
    assert {event[0] for event in events} == set(SHOWN_BY)
    for event, tests in SHOWN_BY.items():
        for test in tests:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(), f"{event}: {test} is gone"


@pytest.mark.parametrize("volume", ["emptyDir", "hostPath"])
@on_a_loop
async def test_a_restart_finds_the_directory_and_a_new_pod_what_is_left(
    tmp_path: Path, volume: str
) -> None:
    async with Upstream() as upstream:
        quick = arguments(upstream, tmp_path, "--set", "store.flush_interval=100ms")
        async with serve(*quick) as first, datagrams(first.port) as client:
            for name in NAMES:
                await client.resolve(name)
            await on_disk(first, len(NAMES))
            first.signal(signal.SIGKILL)
            await first.ended()
        upstream.stop()
        async with serve(*quick) as again, datagrams(again.port) as client:
            for name in NAMES:  # the container's restart
                assert await is_stale(client, name)
            again.signal(signal.SIGTERM)
            assert await again.ended() == 0
        if volume == "emptyDir":  # the pod's end
            shutil.rmtree(tmp_path)
        async with serve(*quick) as anew, datagrams(anew.port) as client:
            for name in NAMES:
                if volume == "hostPath":
                    assert await is_stale(client, name)
                else:
                    assert (await client.resolve(name)).rcode == "SERVFAIL"
