"""What dnsperf reports is read right; the texts are captured from real runs."""

from __future__ import annotations

import math

import pytest

from benchmarks import dnsperf
from benchmarks.dnsperf import Load

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


def test_dnsperf_report_is_read() -> None:
    load = dnsperf.parse_dnsperf(VERBOSE_RUN)
    assert load == Load(9, 8, 1, {"NOERROR": 6, "SERVFAIL": 2}, 1.203935, 6.644877)


def test_dnsperf_report_of_a_silent_server_is_read() -> None:
    load = dnsperf.parse_dnsperf(INTERRUPTED_RUN)
    assert (load.sent, load.completed, load.lost, load.interrupted) == (8, 0, 3, 5)
    assert load.rcodes == {}


def test_dnsperf_that_failed_shows_its_own_words() -> None:
    with pytest.raises(SystemExit, match="unable to open file: nosuch"):
        dnsperf.parse_dnsperf("", "Error: unable to open file: nosuch")


def test_latencies_are_put_into_sending_order() -> None:
    order = {f"svc{n}.default.svc.cluster.local": n - 1 for n in (1, 2, 3)}
    found = dict(dnsperf.parse_latencies(VERBOSE_RUN.splitlines(), order))
    assert sorted(found) == list(range(9))
    assert found[0] == 0.000236
    assert found[5] == 0.000023
    assert found[6] == math.inf  # lost
    assert found[8] == 0.000140


def test_answers_out_of_order_keep_their_place() -> None:
    order = {"a.test": 0, "b.test": 1}
    lines = ["> NOERROR b.test A 0.001", "> NOERROR a.test A 0.009", "> NOERROR b.test A 0.002"]
    assert dnsperf.parse_latencies(lines, order) == [(1, 0.001), (0, 0.009), (3, 0.002)]


def test_plain_latencies_keep_what_was_lost() -> None:
    found = dnsperf.plain_latencies(VERBOSE_RUN)
    assert len(found) == 9
    assert found[0] == 0.000236
    assert found[6] == math.inf
