"""The benchmarks' own parts: what they read is read right, what they start is gone afterwards.

The texts of dnsperf and the kernel are captured from real runs. The servers started here are small
Python ones on the loopback address, so that nothing needs NSD, Unbound or dnsperf, and nothing
depends on how fast the machine is.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from benchmarks import asking, harness, servers
from benchmarks.harness import Bench, Load

VERBOSE_RUN = """\
DNS Performance Testing Tool
Version 2.10.0

[Status] Command line: dnsperf -s 127.0.0.1 -p 15399 -d names -n 3 -t 1 -v -W -q 1
[Status] Sending queries (to 127.0.0.1:15399)
[Status] Started at: Mon Nov 23 10:23:52 2026
[Status] Stopping after 3 runs through file
> NOERROR svc1.default.svc.cluster.local A 0.000236
> NOERROR svc2.default.svc.cluster.local A 0.000084
> NOERROR svc3.default.svc.cluster.local A 0.000158
> SERVFAIL svc1.default.svc.cluster.local A 0.000028
> NOERROR svc2.default.svc.cluster.local A 0.000142
> NOERROR svc3.default.svc.cluster.local A 0.000023
> T svc1.default.svc.cluster.local A
> SERVFAIL svc2.default.svc.cluster.local A 0.000216
> NOERROR svc3.default.svc.cluster.local A 0.000140
[Status] Testing complete (end of file)

Statistics:

  Queries sent:         9
  Queries completed:    8 (88.89%)
  Queries lost:         1 (11.11%)

  Response codes:       NOERROR 6 (75.00%), SERVFAIL 2 (25.00%)
  Average packet size:  request 48, response 48
  Run time (s):         1.203935
  Queries per second:   6.644877

  Average Latency (s):  0.000128 (min 0.000023, max 0.000236)
  Latency StdDev (s):   0.000079

"""
INTERRUPTED_RUN = (
    """\
[Status] Stopping after 2.000000 seconds
[Timeout] Query timed out: msg id 0
[Timeout] Query timed out: msg id 1
[Timeout] Query timed out: msg id 2
[Status] Testing complete (interruption)

Statistics:

  Queries sent:         8
  Queries completed:    0 (0.00%)
  Queries lost:         3 (37.50%)
  Queries interrupted:  5 (62.50%)

"""
    "  Response codes:       \n"
    """\
  Average packet size:  request 48, response 0
  Run time (s):         1.589998
  Queries per second:   0.000000

  Average Latency (s):  0.000000 (min 0.000000, max 0.000000)
"""
)
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


def test_dnsperf_report_is_read() -> None:
    load = harness.parse_dnsperf(VERBOSE_RUN)
    assert load == Load(9, 8, 1, {"NOERROR": 6, "SERVFAIL": 2}, 1.203935, 6.644877)


def test_dnsperf_report_of_a_silent_server_is_read() -> None:
    load = harness.parse_dnsperf(INTERRUPTED_RUN)
    assert (load.sent, load.completed, load.lost, load.interrupted) == (8, 0, 3, 5)
    assert load.rcodes == {}


def test_dnsperf_that_failed_shows_its_own_words() -> None:
    with pytest.raises(SystemExit, match="unable to open file: nosuch"):
        harness.parse_dnsperf("", "Error: unable to open file: nosuch")


def test_latencies_are_put_into_sending_order() -> None:
    order = {f"svc{n}.default.svc.cluster.local": n - 1 for n in (1, 2, 3)}
    found = dict(harness.parse_latencies(VERBOSE_RUN.splitlines(), order))
    assert sorted(found) == list(range(9))
    assert found[0] == 0.000236
    assert found[5] == 0.000023
    assert found[6] == math.inf  # lost
    assert found[8] == 0.000140


def test_answers_out_of_order_keep_their_place() -> None:
    order = {"a.test": 0, "b.test": 1}
    lines = ["> NOERROR b.test A 0.001", "> NOERROR a.test A 0.009", "> NOERROR b.test A 0.002"]
    assert harness.parse_latencies(lines, order) == [(1, 0.001), (0, 0.009), (3, 0.002)]


@pytest.mark.parametrize("name", ["nsd: xfrd", "a) S 1 2 (b", ""])
def test_cpu_time_is_read_behind_any_name(name: str) -> None:
    line = STAT.replace("python3", name)
    assert harness.parse_stat(line, ticks=100) == pytest.approx(1.97)


def test_memory_is_read_in_kib() -> None:
    assert harness.parse_status(STATUS)["VmRSS"] == 13608


def test_busy_time_leaves_out_idle_and_waiting() -> None:
    assert harness.parse_busy(CPU_TIMES, ticks=100) == pytest.approx(773.88)


def test_this_process_is_accounted_for() -> None:
    pid = os.getpid()
    assert harness.resident_kib(pid) > 1000
    before = harness.cpu_seconds(pid)
    while harness.cpu_seconds(pid) == before:  # the clock ticks while we work
        sum(range(10_000))
    assert harness.group_cpu_seconds({os.getpgid(pid)}) > before
    assert harness.busy_seconds() > 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_percentile_is_a_measured_value(share: float, expected: float) -> None:
    assert harness.percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_percentile_counts_a_lost_query_as_the_slowest() -> None:
    latencies = [0.001] * 98 + [math.inf] * 2
    assert harness.percentile(latencies, 0.98) == 0.001
    assert harness.percentile(latencies, 0.99) == math.inf


def test_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        harness.percentile([], 0.5)


def test_table_aligns_its_columns() -> None:
    text = harness.table(["name", "qps"], [["a", "1,000"], ["longer", "7"]])
    assert text.splitlines() == [
        "name      qps",
        "------  -----",
        "a       1,000",
        "longer      7",
    ]


def test_json_has_no_infinity(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    harness.write_json(path, {"load": Load(1, 0, 1, {}, 1.0, 0.0), "worst": [math.inf, 1.5]})
    read = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert read["worst"] == [None, 1.5]
    assert read["load"]["lost"] == 1


def test_missing_program_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.PACKAGES, "no-such-program", "its-package")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    with pytest.raises(SystemExit, match=r"no-such-program.*apt-get install its-package"):
        harness.require("no-such-program")


# --- processes ---------------------------------------------------------------------------------


def await_servfail(program: harness.Program, sock: socket.socket) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and program.process.poll() is None:
        reply = asking.ask(sock, "a.test")
        if reply and reply.rcode == "SERVFAIL":
            return
    pytest.fail(f"no SERVFAIL came; the server said: {program.output()}")


def test_servfail_takes_a_port_when_it_is_free() -> None:
    port = harness.free_port()
    with Bench() as bench, asking.stub(port, timeout=0.05) as sock:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            holder.bind((asking.LOOPBACK, port))
            program = servers.start_servfail(bench, port)
            assert asking.ask(sock, "a.test") is None
        await_servfail(program, sock)
        query = asking.query("a.test", 99)
        with socket.create_connection((asking.LOOPBACK, port), timeout=10) as tcp:
            tcp.sendall(len(query).to_bytes(2, "big") + query)
            with tcp.makefile("rb") as stream:
                reply = stream.read(int.from_bytes(stream.read(2), "big"))
        assert asking.parse_reply(reply) == asking.Reply(99, "SERVFAIL")


def test_everything_is_gone_after_a_run_even_what_is_paused() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with Bench() as bench:
        port = harness.free_port()
        paused = servers.start_servfail(bench, port)
        killed = bench.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
        crashed = bench.start("crasher", [sys.executable, "-c", "raise SystemExit('it broke')"])
        with asking.stub(port, timeout=0.05) as sock:
            await_servfail(paused, sock)
            paused.signal(signal.SIGSTOP)
            assert asking.ask(sock, "a.test") is None
        killed.kill()
        crashed.process.wait()
        assert "it broke" in crashed.output()
        with pytest.raises(SystemExit):  # a termination unwinds the run like Ctrl-C does
            os.kill(os.getpid(), signal.SIGTERM)
    for program in (paused, killed, crashed):
        assert program.process.poll() is not None
    assert not bench.directory.exists()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_waiting_for_a_server_that_broke_shows_what_it_said() -> None:
    with Bench() as bench:
        command = [sys.executable, "-c", "raise SystemExit('no such option')"]
        program = bench.start("broken", command, harness.free_port())
        with pytest.raises(SystemExit, match="no such option"):
            harness.await_answer(program, "a.test")


def test_script_passes_on_its_verdict() -> None:
    with pytest.raises(SystemExit) as verdict:
        harness.run_script(lambda: 1)
    assert verdict.value.code == 1
