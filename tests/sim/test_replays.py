"""Every scenario of the library with a few seeds: dnsguard keeps its promises in all of them."""

from __future__ import annotations

import pytest

from dnsguard.sim import library
from dnsguard.sim.told import STALE, Question
from tests.sim import replays
from tests.sim.replays import Broken, Watch

SEEDS = (1, 2)  # both policies that seeds take turns with


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(library.paths()))
def test_every_promise_is_kept(name: str, seed: int) -> None:
    try:
        lived = replays.replay(name, seed)
    except Broken as error:
        pytest.fail(f"{error}\nreplay it with: {replays.command(name, seed)}")
    assert lived.watch.answered > 1000, "too little was asked to say anything"


def watch() -> Watch:
    scenario = replays.thinned(library.load("node-reboot"))
    return Watch(scenario, 2, replays.policy(2))


def test_the_watch_sees_a_second_reply_and_a_missing_one() -> None:
    question = Question("web.default.svc.cluster.local", 1)
    seen = watch()
    seen.question(7, question, 10.0)
    seen.answer(7, (0, (), "upstream", 10.0, 5), 10.0)
    with pytest.raises(Broken, match="a reply to a question that has one"):
        seen.answer(7, (0, (), "upstream", 10.0, 5), 10.0)
    seen.question(8, question, 10.0)
    with pytest.raises(Broken, match="never answered"):
        seen.over()


def test_the_watch_sees_what_is_too_old_and_what_stays_stale() -> None:
    question = Question("web.default.svc.cluster.local", 1)
    seen = watch()
    seen.question(1, question, 300_000.0)
    with pytest.raises(Broken, match="s old"):
        seen.answer(1, (0, (b"\x0a\x60\0\1",), STALE, 300_000.0 - 259_232.0, 30), 300_000.0)
    well = seen.well
    for token, at in enumerate((well + 1.0, well + 6.0), 10):
        seen.question(token, question, at)
        seen.answer(token, (0, (b"\x0a\x60\0\1",), STALE, well - 60.0, 30), at)
    seen.question(12, question, well + 9.0)
    with pytest.raises(Broken, match="and still is"):
        seen.answer(12, (0, (b"\x0a\x60\0\1",), STALE, well - 60.0, 30), well + 9.0)


def test_the_watch_sees_packets_to_a_dead_upstream() -> None:
    seen = watch()
    assert replays.is_dead(seen.scenario.phases[1], seen.scenario)
    for _ in range(int(3600 * replays.DEAD_RATE_MAX) + 1):
        seen.packet(1000.0)
    with pytest.raises(Broken, match="packets a second to dead upstreams in silent"):
        seen.over()
