"""Holding a model against the real server: the same scenario, and what chance explains."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import models
from dnsguard.sim.result import Kind, Latency, Numbers, SystemRun
from tests.bench.outage_scenarios import LONG, scenario


def difference(right: int, modelled: tuple[float, ...], known: int = 900) -> models.Difference:
    numbers = Numbers(
        lookups=known, right=right, known=known, known_right=right, latency=Latency(0, 0, 1, 2)
    )
    return models.Difference("dark", "unbound", "silent", numbers, modelled, 1.5)


@pytest.mark.parametrize(
    ("right", "modelled", "differs"),
    [
        (900, (1.0, 1.0), False),
        (900, (0.975, 0.975), False),  # a busy machine
        (900, (0.9, 0.9), True),
        (450, (0.5, 0.52), False),
        (450, (0.58, 0.58), False),
        (450, (0.7, 0.7), True),
        (450, (0.3, 0.7), False),  # a model that is so unsure says nothing
        (0, (0.2, 0.2), True),
    ],
)
def test_what_chance_does_not_explain_differs(
    right: int, modelled: tuple[float, ...], differs: bool
) -> None:
    assert difference(right, modelled).differs is differs


def test_few_look_ups_are_sure_of_nothing() -> None:
    assert not difference(15, (0.8,), known=30).differs
    assert difference(1500, (0.8,), known=3000).differs


def test_a_difference_is_told_in_the_table() -> None:
    text = models.table([difference(900, (1.0,)), difference(450, (0.9,))])
    (header, _, *rows) = text.splitlines()
    assert "server" in header
    assert [row.count("DIFFERS") for row in rows] == [0, 1]
    assert "50.0 %" in rows[1]


def test_the_scenario_is_the_one_that_was_run_behind_a_warm_up(tmp_path: Path) -> None:
    found = models.as_it_was_run(scenario(tmp_path, LONG), 60.0, 1, 20.0)
    assert [phase.name for phase in found.phases] == ["warming up", "well", "ill", "after"]
    assert found.phases[1].begin == models.WARM_SECONDS
    assert found.length == pytest.approx(models.WARM_SECONDS + 120.0)
    assert found.outage == pytest.approx((models.WARM_SECONDS + 30.0, models.WARM_SECONDS + 90.0))
    assert (found.clients.rate, found.clients.count, found.clients.instances) == (20.0, 100, 1)
    # 29 names, each looked up so often before.
    load = found.phases[0].load * 20.0 * models.WARM_SECONDS
    assert load == pytest.approx(29 * models.WARM_LOOKUPS)
    # One instance of ten, 20 of 100 look-ups a second, names that run out 60 times as often.
    assert found.upstreams[0].capacity == pytest.approx(1000 / 10 * 0.2 * 60)


def test_all_phases_together_are_a_stretch_without_the_warm_up() -> None:
    phases = {
        models.WARMING: Numbers(known=500, known_right=500),
        "well": Numbers(known=100, known_right=100),
        "ill": Numbers(known=300, known_right=60),
    }
    run = SystemRun("unbound", Kind.MODEL, "", {}, Numbers(), phases, (), 1.0, None, None, 0, 0)
    assert models.stretch(run, models.WHOLE).survival == pytest.approx(0.4)
    assert models.stretch(run, "ill").survival == pytest.approx(0.2)


def test_every_model_has_its_server() -> None:
    known = models.contenders()
    assert set(models.MODELS.values()) <= set(known)
    assert "dnsguard" in known
