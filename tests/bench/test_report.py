"""The report has every number that was asked for, and says what the reader should know besides."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dnsguard.bench import report
from dnsguard.bench.meter import POINTS
from tests.bench.results import LOAD, OUTCOME, outcome


def test_the_text_has_one_fact_a_line() -> None:
    lines = {line[:10].strip(): line[11:] for line in report.as_text(OUTCOME).splitlines()[2:]}
    assert lines["sent"] == "100,000 queries in 10.00 s"
    assert lines["answered"] == "99,900, 9,990 a second"
    assert lines["lost"] == "100 (0.100%) without an answer within 2 s"
    assert lines["rcodes"] == "NOERROR 99,000 (99.10%), NXDOMAIN 900 (0.90%)"
    assert lines["latency"] == "p50 0.075  p90 0.090  p99 0.412  p99.9 3.210  max 15.4  ms"
    assert lines["sent late"] == "p50 0.003  p90 0.009  p99 0.030  p99.9 0.090  max 0.300  ms"
    assert lines["server CPU"] == (
        "8.01 µs a query (user 2.00, system 6.01), busy 8% of one processor"
    )
    assert lines["memory"] == "34.3 MiB resident"
    assert lines["generator"].endswith("busy 20%")
    assert lines["ceiling"] == "300,000 qps from a bare C echo; this load came to 3% of it"


def test_the_title_says_what_was_done() -> None:
    assert report.title(LOAD) == (
        "127.0.0.1:5353 over UDP: zipf:1000, at 10,000 qps, 8 sockets, 10 s after 1 s of warm-up"
    )
    other = dataclasses.replace(LOAD, host="::1", tcp=True, qps=None, connections=1, warmup=0)
    assert report.title(other) == (
        "[::1]:5353 over TCP: zipf:1000, flat out, 100 outstanding, 1 connection, "
        "10 s after 0 s of warm-up"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"interrupted": True}, "Interrupted"),
        ({"unsent": 5}, "5 queries were due and never left"),
        ({"late_us": dict.fromkeys(POINTS, 5000)}, "Queries left late"),
        ({"dropped_here": 7}, "7 answers found no room"),
        ({"strays": 3}, "3 answers came that nobody waited for"),
        ({"refused": 2}, "closed 2 times"),
        ({"reconnects": 4}, "4 were opened again"),
        ({"truncated": 9}, "9 answers were truncated"),
        ({"not_replies": 1}, "1 answers did not have the QR bit"),
    ],
)
def test_what_is_odd_is_said(changes: dict[str, object], told: str) -> None:
    (line,) = report.observations(LOAD, outcome(**changes).measured)
    assert told in line
    assert report.as_text(outcome(**changes)).endswith(line)


def test_nothing_odd_is_nothing_said() -> None:
    assert report.observations(LOAD, OUTCOME.measured) == []


def test_a_load_without_answers_can_be_told() -> None:
    text = report.as_text(outcome(answered=0, qps=0.0, rcodes={}, latency_us={}))
    assert "\nlatency    none\n" in text
    assert "\nrcodes     none\n" in text


def test_a_generator_near_its_limit_says_so() -> None:
    assert "near its own limit" in report.as_text(outcome(cpu_system=9.0))


def test_json_has_every_number() -> None:
    found = json.loads(report.as_json(OUTCOME))
    assert found["load"]["qps"] == 10_000
    assert found["measured"]["latency_us"]["p99.9"] == 3_210
    assert found["measured"]["histogram"][1] == [75, 90_000]
    assert found["measured"]["timeline"][1]["lost"] == 100
    assert found["usage"]["user_us_per_query"] == pytest.approx(0.2e6 / 99_900)
    assert found["usage"]["system_us_per_query"] == pytest.approx(0.6e6 / 99_900)
    assert found["usage"]["resident"] == 36_000_000
    assert found["ceiling"] == {"qps": 300_000, "language": "C"}
