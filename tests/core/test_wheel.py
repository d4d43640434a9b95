"""Every deadline is told once, not before its time and never much later, against a plain model."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnsguard.core.wheel import SLOTS_A_SECOND, Wheel

SLOT = 1 / SLOTS_A_SECOND
FAR = 1e7  # a clock that has run for four months


@dataclass(eq=False)
class Thing:
    """Something with a deadline."""

    at: float
    over: bool = False


def wheel_of(*things: Thing) -> Wheel[Thing]:
    wheel: Wheel[Thing] = Wheel()
    for thing in things:
        wheel.set(thing)
    return wheel


def test_an_empty_wheel_waits_for_nothing() -> None:
    wheel = wheel_of()
    assert wheel.next() is None
    assert wheel.due(FAR) == []


def test_what_is_due_comes_out_once() -> None:
    first, second = Thing(1.0), Thing(2.0)
    wheel = wheel_of(second, first)
    assert wheel.due(0.99) == []
    assert wheel.due(1.0 + SLOT) == [first]
    assert wheel.due(1.0 + SLOT) == []
    assert wheel.due(FAR) == [second]
    assert wheel.next() is None


def test_what_is_over_is_passed_by() -> None:
    gone, here = Thing(1.0), Thing(1.0)
    wheel = wheel_of(gone, here)
    gone.over = True
    assert wheel.due(2.0) == [here]


def test_what_was_put_off_comes_at_its_new_instant() -> None:
    thing = Thing(1.0)
    wheel = wheel_of(thing)
    thing.at = 3.0
    assert wheel.due(2.0) == []
    assert wheel.next() == pytest.approx(3.0, abs=2 * SLOT)
    assert wheel.due(4.0) == [thing]


def test_what_was_brought_forward_comes_once() -> None:
    thing = Thing(3.0)
    wheel = wheel_of(thing)
    thing.at = 1.0
    wheel.set(thing)
    assert wheel.due(1.0 + SLOT) == [thing]
    thing.at = 5.0
    wheel.set(thing)
    assert wheel.due(4.0) == []  # its first seat was for 3.0
    assert wheel.due(6.0) == [thing]
    assert wheel.next() is None


def test_a_thing_set_twice_for_one_instant_comes_once() -> None:
    thing = Thing(1.0)
    wheel = wheel_of(thing, thing)
    assert wheel.due(2.0) == [thing]


INSTANTS = (
    st.floats(0, 100) | st.floats(FAR, FAR + 100) | st.integers(0, 9**9).map(lambda n: n / 200)
)


@given(INSTANTS)
@example(29 * SLOT - 1e-9)  # 29 / 200 * 200 is a little less than 29
def test_at_the_instant_it_names_there_is_something_to_do(at: float) -> None:
    """Whoever sleeps until `next`, to the last digit, must not wake for nothing, for ever."""
    thing = Thing(at)
    wheel = wheel_of(thing)
    alarm = wheel.next()
    assert alarm is not None
    assert at <= alarm <= at + 1.01 * SLOT
    assert wheel.due(alarm) == [thing]


@given(st.lists(INSTANTS, max_size=30), st.lists(INSTANTS, max_size=10))
def test_each_comes_once_and_in_time(deadlines: list[float], looks: list[float]) -> None:
    things = [Thing(at) for at in deadlines]
    wheel = wheel_of(*things)
    seen: list[Thing] = []
    for now in [*sorted(looks), 2 * FAR]:
        found = wheel.due(now)
        assert all(thing.at <= now for thing in found)  # never early
        seen += found
        late = [t for t in things if t.at + 1.01 * SLOT < now and t not in seen]
        assert not late
    assert sorted(map(id, seen)) == sorted(map(id, things))


class Timers(RuleBasedStateMachine):
    """Things are set, moved and ended while time passes; a list knows what must come out."""

    @initialize()
    def begin(self) -> None:
        self.now = FAR
        self.wheel: Wheel[Thing] = Wheel()
        self.waiting: list[Thing] = []

    @rule(after=st.floats(0, 2))
    def set(self, after: float) -> None:
        thing = Thing(self.now + after)
        self.wheel.set(thing)
        self.waiting.append(thing)

    @rule(after=st.floats(0, 2), which=st.integers(0, 9))
    def move(self, after: float, which: int) -> None:
        if self.waiting:
            thing = self.waiting[which % len(self.waiting)]
            earlier = self.now + after < thing.at
            thing.at = self.now + after
            if earlier:
                self.wheel.set(thing)

    @rule(which=st.integers(0, 9))
    def end(self, which: int) -> None:
        if self.waiting:
            self.waiting.pop(which % len(self.waiting)).over = True

    @rule(seconds=st.floats(0, 1))
    def look(self, seconds: float) -> None:
        self.now += seconds
        self._look()

    @rule()
    def sleep_until_next(self) -> None:
        alarm = self.wheel.next()
        if alarm is not None:
            self.now = max(self.now, alarm)
            self._look()

    def _look(self) -> None:
        found = self.wheel.due(self.now)
        assert len({id(thing) for thing in found}) == len(found)
        for thing in found:
            assert thing.at <= self.now
            self.waiting.remove(thing)  # exactly once, and not when it is over
            thing.over = True
        assert all(thing.at > self.now - 1.01 * SLOT for thing in self.waiting)

    @invariant()
    def an_alarm_is_set(self) -> None:
        if self.waiting:
            alarm = self.wheel.next()
            assert alarm is not None
            assert alarm <= max(self.now, min(t.at for t in self.waiting)) + 1.01 * SLOT


TestTimers = Timers.TestCase
