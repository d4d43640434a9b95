"""A result as a load may have it, for those who only tell of results."""

from __future__ import annotations

import dataclasses
from typing import Any

from dnsguard.bench.conduct import Ceiling, Outcome
from dnsguard.bench.load import Load
from dnsguard.bench.meter import Measured, Slice
from dnsguard.bench.usage import Usage

LOAD = Load(host="127.0.0.1", port=5353, names="zipf:1000", qps=10_000.0)
MEASURED = Measured(
    seconds=10.0,
    qps=9_990.0,
    sent=100_000,
    answered=99_900,
    lost=100,
    unsent=0,
    rcodes={"NOERROR": 99_000, "NXDOMAIN": 900},
    truncated=0,
    not_replies=0,
    strays=0,
    reply_octets=88.5,
    latency_us={
        "min": 20, "mean": 81.5, "p50": 75, "p90": 90, "p99": 412, "p99.9": 3_210, "max": 15_432,
    },
    late_us={"min": 0, "mean": 4.0, "p50": 3, "p90": 9, "p99": 30, "p99.9": 90, "max": 300},
    histogram=[(20, 900), (75, 90_000), (412, 8_900), (3_210, 90), (15_400, 10)],
    timeline=[
        Slice(0.0, 5.0, 50_000, 50_000, 0, 75, 400, 3_000),
        Slice(5.0, 5.0, 50_000, 49_900, 100, None, None, None),
    ],
    cpu_user=0.5,
    cpu_system=1.5,
)  # fmt: skip
OUTCOME = Outcome(
    LOAD,
    MEASURED,
    Usage(user=0.2, system=0.6, seconds=10.0, resident=36_000_000, processes=1),
    Ceiling(300_000.0, "C"),
)


def outcome(**changes: Any) -> Outcome:
    """The result with these numbers of the measurement changed."""
    return dataclasses.replace(OUTCOME, measured=dataclasses.replace(MEASURED, **changes))
