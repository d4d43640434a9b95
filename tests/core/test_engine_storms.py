"""A few of the storms that `python -m tests.core.storms` makes by the hundred thousand.

What a storm has found is listed in docs/hardening.md; the seeds that found it are replayed here
for as long as they say the same.
"""

from __future__ import annotations

import pytest

from dnsguard.core.policy import Limits, Policy, Upstream, Zone
from tests.core.storms import DurableWorld, main, run
from tests.core.watch import SLACK
from tests.core.world import World, one_zone


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_every_promise_is_kept_through_a_storm(first: int) -> None:
    for seed in range(first, first + 10):
        run(seed)


def test_a_broken_promise_is_reported_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.core.watch.Watch.patience", lambda watch: SLACK)
    assert main(["--seeds", "0-3"]) == 1
    assert "seed 1: AssertionError" in capsys.readouterr().out
    with pytest.raises(AssertionError):
        main(["--seed", "1"])


def test_seeds_that_keep_every_promise_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "4-6"]) == 0
    assert "2 storms" in capsys.readouterr().out
    assert main(["--seed", "4"]) == 0
    assert "every promise kept" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [1000661, 1003636, 1010361, 1011866, 1038895])
def test_what_the_guard_and_cookies_do_breaks_no_promise(seed: int) -> None:
    """A denial believed for want of a second look, garbage without a cookie, a guard's sample;
    and a failure that is remembered by an entry that a small cache evicts at once.
    """
    run(seed)


@pytest.mark.parametrize("seed", [19, 35, 59, 106, 133, 177])
def test_searches_of_pods_break_no_promise(seed: int) -> None:
    """What a search was told at its beginning was repeated at its end with the TTL of then."""
    run(seed, searching=True)


def test_a_question_whose_time_is_over_is_not_asked_when_its_turn_comes() -> None:
    """The machine slept through the deadline of a question that waited for a place (a storm)."""
    world = DurableWorld(one_zone(), 1)
    world.put("a.test", "A", 1, "10.1.0.1")
    world.resolve("a.test")
    world.behave("silent")
    world.advance(2.0)
    world.resolve("a.test")
    world.advance(20.0)
    world.behave("ok")
    world.advance(6.0)
    zone = world.engine.zones.root
    assert zone.ramp
    world.behave("ok", 0.05)
    world.behave("silent", suffix="example")
    world.ask("a.test")  # heard after the others were sent: their silence is no evidence
    asked = [world.ask(f"n{number}.example") for number in range(12)]
    world.advance(0.1)
    assert any(flight.queued for flight in world.engine.asking.flights.values())
    before = world.packets(probes=False)
    world.sleep(60.0)
    world.advance(0.0)
    assert all(one.read().rcode == "SERVFAIL" for one in asked)
    assert world.packets(probes=False) == before


def test_an_upstream_that_was_slow_long_ago_is_asked_first_again() -> None:
    """Found by a storm: minutes later every first answer was still a stale one."""
    world = World(Policy(zones=(Zone(".", (Upstream("10.0.0.53"),)),), limits=Limits()))
    names = [f"web{number}.example" for number in range(40)]
    for name in names:
        world.put(name, "A", 1, "10.1.0.1")
        world.resolve(name)
    world.behave("ok", 1.5)
    for name in names[:6]:
        world.resolve(name)
        world.advance(2.0)
    assert world.resolve(names[6]).read().ede
    world.behave("ok")
    world.advance(60.0)
    assert not any(world.resolve(name).read().ede for name in names[7:])


@pytest.mark.parametrize("asleep", [60.0, 100_000.0])
def test_the_time_we_slept_is_not_the_upstreams_round_trip(asleep: float) -> None:
    """Found by a storm: its next probe was due a day after it had come back."""
    world = DurableWorld(one_zone(), 1)
    world.put("web.example", "A", 1, "10.1.0.1")
    world.resolve("web.example")
    world.advance(5.0)
    asked = world.ask("web.example")
    world.sleep(asleep)
    world.until_answered(asked)
    world.behave("closed")
    world.advance(2.0)
    world.resolve("web.example")
    world.advance(60.0)
    assert world.engine.zones.root.outage
    world.behave("ok")
    world.advance(6.0)
    assert not world.resolve("web.example").read().ede
