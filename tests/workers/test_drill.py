"""A drill on two workers: one for whoever asks for it, whatever becomes of either of them.

Processes are real. Where questions are asked from ports of their own, both workers get some.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
from array import array
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dnsguard.admin.control import Arguments
from dnsguard.admin.drill_verbs import GONE
from dnsguard.admin.merged_drill import SUMS, Part, merged_drill_verbs, merged_report
from dnsguard.admin.merged_verbs import Group
from dnsguard.admin.socket_file import NAME
from dnsguard.cli import status
from dnsguard.cli.drill import lines
from dnsguard.cli.instance import reach
from dnsguard.core.drill import NAMES_MAX
from dnsguard.errors import ControlError
from tests.cli.test_drill import ALL, SHORT, ask, begin, run
from tests.net.asking import datagrams
from tests.net.running import Serve, on_a_loop, serve
from tests.net.upstream import Upstream, address_of
from tests.store.test_serve import http
from tests.workers.test_supervisor import TWO, children, samples

QUICK = "from dnsguard.admin import merged_drill; merged_drill.PATIENCE = 2.0; "
PROGRAM = ("-c", QUICK + "from dnsguard.cli.main import main; main()")


async def from_ports_of_their_own(running: Serve, name: str, count: int = 12) -> list[str]:
    """Ask so often that both workers are asked; returns the rcodes."""
    rcodes = []
    for _ in range(count):
        async with datagrams(running.port) as client:
            rcodes.append((await client.resolve(name)).rcode)
    return rcodes


async def both_have_begun(running: Serve) -> None:
    await running.said("drill: all names", 2)


@on_a_loop
async def test_both_take_part_and_the_report_is_of_both(tmp_path: Path) -> None:
    there = f"--state-dir={tmp_path}"
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, SHORT, there) as running,
    ):
        await from_ports_of_their_own(running, "www.test")
        drill = await begin(".", "--kind=failing", "--for=4s", *ALL, "--json", there)
        await both_have_begun(running)
        asked = await from_ports_of_their_own(running, "www.test")
        failed = await from_ports_of_their_own(running, "new.test")
        assert set(asked) == {"NOERROR"}
        assert set(failed) == {"SERVFAIL"}, "whichever of them is asked"
        assert "new.test" not in {seen.name for seen in upstream.seen}
        with pytest.raises(ControlError, match="a drill runs already: all names as if"):
            await asyncio.to_thread(ask, tmp_path, "drill", zone=".", lasts=1.0)
        shown = json.loads((await run("--json", there, what=status.command)).output)
        assert shown["drill"]["failed"] == len(failed), "the status is of both as well"
        assert (await samples(running))["dnsguard_drill_running"] == 1
        assert "A drill runs" in (await http(running, "/"))[1]
        report = json.loads((await drill.communicate())[0])
        assert drill.returncode == 0
        assert (report["ended"], report["workers"]) == ("its time is over", 2)
        assert report["lookups"] == len(asked) + len(failed)
        assert (report["failed"], report["names"]) == (len(failed), 2)
        assert sum(report["sources"].values()) == report["lookups"]
        assert [(one["name"], one["times"]) for one in report["to_fix"]] == [
            ("new.test.", len(failed))
        ]
        last = await asyncio.to_thread(ask, tmp_path, "drill.report")
        assert last == {"report": report}
        async with datagrams(running.port) as client:
            assert (await client.resolve("new.test")).addresses == [address_of("new.test")]
        found = await samples(running)
        assert found["dnsguard_drill_running"] == 0
        assert found['dnsguard_drills_total{ended="finished"}'] == 2


@on_a_loop
async def test_ctrl_c_and_a_lost_connection_end_it_in_both(tmp_path: Path) -> None:
    there = f"--state-dir={tmp_path}"
    async with Upstream() as upstream, serve("--upstream", upstream.url, *TWO, there) as running:
        process = await begin("test", "--for=1h", *ALL, there)
        await both_have_begun(running)
        process.send_signal(signal.SIGINT)
        output = (await process.communicate())[0].decode()
        assert process.returncode == 1
        assert output.startswith("ENDED EARLY: all names in test as if every upstream were silent")
        assert f"in 2 workers: {GONE}" in output
        process = await begin("test", "--for=1h", *ALL, there)
        await running.said("drill: all names", 4)
        process.kill()
        await process.wait()
        await running.said(GONE, 4)


@on_a_loop
async def test_who_is_gone_before_all_have_begun_ends_it_in_those_that_have(tmp_path: Path) -> None:
    said: list[str] = []
    begun, hung_up = asyncio.Event(), asyncio.Event()

    async def prompt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            said.append(json.loads(line)["verb"])
            key = "running" if said[-1] == "drill" else "report"
            writer.write(json.dumps({"item": {key: told()}}).encode() + b"\n")
            begun.set()
        hung_up.set()
        writer.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    group = Group(2, lambda: (1, 2), lambda: (1, 2), lambda number: str(tmp_path / str(number)))
    plan = {"zone": "test", "kind": "silent", "lasts": 3600.0, "fraction": 1.0, "abort_above": 0.5}
    drill = merged_drill_verbs(group)["drill"].run(Arguments("drill", plan))
    assert isinstance(drill, AsyncGenerator)
    with contextlib.ExitStack() as undo:
        for number, worker in enumerate((prompt, mute), 1):
            (tmp_path / str(number)).mkdir()
            server = await asyncio.start_unix_server(worker, tmp_path / str(number) / NAME)
            undo.callback(server.close)
        async with asyncio.timeout(10):
            first = asyncio.ensure_future(anext(drill))
            await begun.wait()
            await asyncio.sleep(0.05)  # until it is heard; before that it is hung up on as well
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await hung_up.wait()
    assert said[0] == "drill"


@pytest.mark.chaos
@on_a_loop
async def test_it_ends_with_a_worker_and_none_begins_without_all(tmp_path: Path) -> None:
    there = f"--state-dir={tmp_path}"
    async with (
        Upstream() as upstream,
        serve("--upstream", upstream.url, *TWO, there, program=PROGRAM) as running,
    ):
        process = await begin(".", "--for=1h", *ALL, there)
        await both_have_begun(running)
        victim = children(running.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        output = (await process.communicate())[0].decode()
        assert process.returncode == 1
        assert "in 2 workers: worker 1 does not answer any more" in output
        await running.said(GONE)
        await running.said("serves in place of the former")
        still = children(running.process.pid)[-1]
        os.kill(still, signal.SIGSTOP)
        try:
            with pytest.raises(ControlError, match="worker 1 does not answer"):
                await asyncio.to_thread(ask, tmp_path, "drill", zone="test", lasts=3600.0)
            await running.said("drill: all names in test")  # the other had begun
        finally:
            os.kill(still, signal.SIGCONT)
        while (await samples(running))["dnsguard_drill_running"]:
            pass


@on_a_loop
async def test_few_look_ups_in_each_are_enough_in_all(tmp_path: Path) -> None:
    """Neither of two workers with a dozen look-ups would say anything by itself."""
    there = f"--state-dir={tmp_path}"
    plan: dict[str, Any] = {"zone": ".", "lasts": 3600.0}
    async with Upstream() as upstream, serve("--upstream", upstream.url, *TWO, there) as running:
        for wrong, text in (
            (plan | {"kind": "slow"}, "write one of silent, failing, wrong"),
            ({"zone": "."}, "drill needs the argument 'lasts'"),
            (plan | {"force": True}, "drill knows no argument 'force'"),
        ):
            with pytest.raises(ControlError, match=text):
                await asyncio.to_thread(ask, tmp_path, "drill", **wrong)
        with pytest.raises(ControlError, match="there was no drill"):
            await asyncio.to_thread(ask, tmp_path, "drill.report")
        assert " drill: " not in "".join(running.lines), "nobody has begun"
        with reach(None, str(tmp_path)) as instance:
            news = instance.follow("drill", kind="failing", **plan)
            assert (await asyncio.to_thread(next, news))["running"]["lookups"] == 0
            await from_ports_of_their_own(running, "new.test", 20)
            found: dict[str, Any] = {"running": {}}
            while "running" in found:
                found = await asyncio.to_thread(next, news)
        report = found["report"]
        assert report["aborted"]
        assert report["lookups"] == 20
        assert report["ended"].endswith("20 of 20 look-ups failed, more than 5%")
        assert report["to_fix"][0]["times"] == 20


# -- what they say, put together ----------------------------------------------------------------


def told(names: Sequence[int] = (), **changed: Any) -> dict[str, Any]:
    """The report of one worker."""
    return {
        "words": "w", "zone": ".", "kind": "silent", "fraction": 1.0, "abort_above": 0.05,
        "lasted": 60.0, "left": 0.0, "lookups": 10, "answered": 7, "failed": 2, "broken": 1,
        "names": len(names), "ended": "its time is over", "aborted": False,
        "sources": {"stale": 7, "failure": 3}, "longest_wait": 0.1, "events": [], "to_fix": [],
        "unnamed": 0, "marks": base64.b64encode(array("I", names)).decode(),
    } | changed  # fmt: skip


def part(number: int, report: dict[str, Any] | None, trouble: str = "") -> Part:
    """A worker whose drill is over, without the worker."""
    found = object.__new__(Part)
    found.number, found.report, found.trouble = number, report, trouble
    found.running = {key: told()[key] for key in (*SUMS[:4], "lasted", "left", "words")}
    found.running = found.running | {"names": 3}
    return found


def fix(name: str, times: int) -> dict[str, Any]:
    return {"name": name, "type": "A", "times": times, "why": "w", "words": "w"}


def test_counts_add_up_and_a_name_that_both_were_asked_for_counts_once() -> None:
    down, outage = "upstream u is down", "zone .: outage"
    one = told(
        (1, 2, 3), events=[{"at": 1.0, "text": down}, {"at": 2.0, "text": outage}],
        to_fix=[fix("a.", 3), fix("b.", 2)], longest_wait=0.4, unnamed=1,
    )  # fmt: skip
    two = told((3, 4), events=[{"at": 1.5, "text": down}], to_fix=[fix("b.", 5)], lasted=60.2)
    found = merged_report([part(1, one), part(2, two)], "")
    assert (found["lookups"], found["answered"], found["failed"], found["broken"]) == (20, 14, 4, 2)
    assert (found["names"], found["lasted"], found["longest_wait"]) == (4, 60.2, 0.4)
    assert found["sources"] == {"stale": 14, "failure": 6}
    assert [event["text"] for event in found["events"]] == [down, outage]
    assert [(one["name"], one["times"]) for one in found["to_fix"]] == [("b.", 7), ("a.", 3)]
    assert (found["aborted"], found["ended"]) == (False, "its time is over")
    assert "marks" not in found
    assert "over after 60 s in 2 workers: its time is over" in "\n".join(lines(found))


def test_names_beyond_those_that_are_told_are_counted() -> None:
    many = [[fix(f"n{number}.", 1) for number in range(k, k + NAMES_MAX)] for k in (0, 30)]
    found = merged_report([part(n, told(to_fix=names)) for n, names in enumerate(many)], "")
    assert len(found["to_fix"]) == NAMES_MAX
    assert found["unnamed"] == 30


@pytest.mark.parametrize(
    ("ends", "why", "ended"),
    [
        (("the settings have changed",) * 2, "", "the settings have changed"),
        ((GONE, "zone . is in outage for real"), "", "worker 2: zone . is in outage for real"),
        ((GONE, GONE), "", GONE),
        ((GONE, GONE), "20 of 20 look-ups failed", "20 of 20 look-ups failed"),
        (("", GONE), "", "worker 1 does not answer any more"),
        (("its time is over", GONE), "", GONE),
    ],
    ids=str,
)
def test_one_reason_is_told_for_all(ends: tuple[str, str], why: str, ended: str) -> None:
    parts = [
        part(n, told(ended=text, aborted=text != "its time is over") if text else None,
             "" if text else "does not answer any more")
        for n, text in enumerate(ends, 1)
    ]  # fmt: skip
    found = merged_report(parts, why)
    assert (found["ended"], found["aborted"]) == (ended, True)
    assert found["lookups"] == 20, "what is known of one that does not answer counts"
