"""The result as JSON: read as it was written, refused with a reason where it is something else."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dnsguard.sim.result import (
    FORMAT,
    Interval,
    Kind,
    Numbers,
    Outcome,
    Result,
    ResultError,
    from_json,
    to_json,
)
from dnsguard.sim.tally import Tally
from tests.sim.results import MADE, SCENARIO, entrant, result


def some() -> Result:
    good, bad = Tally(SCENARIO), Tally(SCENARIO)
    for second in range(120):
        good.over(second, second + 0.001, Outcome.RIGHT, source="hit", age=3.0)
        bad.over(second, second + 5.0, Outcome.FAILED, known=second % 2 == 0)
        bad.asked(second + 0.5, 3)
    found = result((entrant(), good), (entrant("plain", Kind.MODEL), bad))
    (run,) = found.scenarios
    with_interval = dataclasses.replace(
        run.systems[0], interval=Interval(0.999, 1.0, 20), notes=("it is dnsguard",)
    )
    return Result(MADE, (dataclasses.replace(run, systems=(with_interval, *run.systems[1:])),))


def test_what_was_written_is_read() -> None:
    assert from_json(to_json(some())) == some()


def test_the_json_is_for_others_too() -> None:
    """Plain names and numbers, the format first to be checked, nothing that JSON does not know."""
    document = json.loads(to_json(some()))
    assert document["format"] == FORMAT
    assert document["made"]["mode"] == "simulate"
    plain = document["scenarios"][0]["systems"][1]
    assert plain["kind"] == "model"
    assert plain["total"]["lookups"] == plain["total"]["failed"] == 120
    assert plain["phases"]["silence"]["upstream"] == 180
    assert plain["recovery"] is None
    assert [phase["name"] for phase in document["scenarios"][0]["scenario"]["phases"]] == [
        "before", "silence", "after",
    ]  # fmt: skip


def test_a_systems_order_is_that_of_its_first_appearance() -> None:
    once = some()
    assert once.systems() == ["dnsguard", "plain"]
    assert Result(MADE, once.scenarios * 2).systems() == ["dnsguard", "plain"]


def test_nobody_asked_is_no_availability() -> None:
    assert Numbers().availability is None
    assert Numbers().survival is None
    assert Numbers(lookups=4, right=3, known=2, known_right=1).availability == 0.75
    assert Numbers(lookups=4, right=3, known=2, known_right=1).survival == 0.5


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "no result"),
        ("[]", "no result"),
        ("{}", "no result"),
        (json.dumps({"format": FORMAT + 1}), f"format {FORMAT + 1}"),
        (json.dumps({"format": FORMAT}), "damaged.*made"),
        (
            to_json(some()).replace(b'"lookups": 120', b'"lookups": "many"'),
            r"damaged.*systems\[.*total.lookups",
        ),
    ],
)
def test_what_is_no_result_is_refused_with_its_reason(document: str | bytes, reason: str) -> None:
    with pytest.raises(ResultError, match=reason):
        from_json(document)
