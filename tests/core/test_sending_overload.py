"""An upstream that is asked for more than it can do: it is asked for less, and nobody goes without.

Repeats of what is lost, and refreshes that all come due after an outage, are what keeps a returning
cluster DNS down (RFC 4697 section 2.2, RFC 9520 section 2.1 on the storms that follow a failure).
"""

from __future__ import annotations

from collections import Counter

from dnsguard.core.zones import REPEATS_MAX
from tests.core.byhand import server_of
from tests.core.upstreams import Sign
from tests.core.world import World

TTL = 5


class Overloaded(World):
    """A world whose upstream answers so many questions a second, and loses the others."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.came: Counter[int] = Counter()  # by the whole second
        (upstream,) = self.upstreams.values()
        answered: Counter[int] = Counter()
        real = upstream.take

        def take(asked: bytes, stream: bool) -> list[tuple[float, Sign]]:
            self.came[int(self.now)] += 1
            tenth = int(self.now * 10)
            if answered[tenth] * 10 >= self.capacity:
                return []
            answered[tenth] += 1
            return real(asked, stream)

        upstream.take = take  # type: ignore[method-assign]

    def learn(self, names: int) -> None:
        for n in range(names):
            self.put(f"web{n}.cluster.local", "A", TTL, "10.1.0.1")
            self.resolve(f"web{n}.cluster.local")
            self.advance(0.1)

    def live(self, names: int, seconds: int) -> None:
        """Every name is asked for once a second; each must be answered."""
        for _ in range(seconds * names):
            number = self.chance.randrange(names)
            asked = self.ask(f"web{number}.cluster.local")
            self.advance(1 / names)
            self.until_answered(asked)
            assert asked.read().rcode == "NOERROR"


def test_an_overloaded_upstream_is_not_asked_for_much_more_than_it_can_do() -> None:
    """300 names of 5 s want 60 questions a second. Asked three times each, 180 would come."""
    world = Overloaded(capacity=10_000)
    world.learn(300)
    world.capacity = 20
    world.live(300, 20)
    begin = int(world.now)
    world.live(300, 60)
    came = [world.came[second] for second in range(begin, begin + 60)]
    assert sum(came) / 60 < 2.5 * world.capacity
    assert max(came) < 6 * world.capacity
    assert sum(came) / 60 > 0.5 * world.capacity  # and what it can do, it is asked for
    world.finish()


def test_after_the_overload_everything_is_fresh_again() -> None:
    world = Overloaded(capacity=10_000)
    world.learn(100)
    world.capacity = 5
    world.live(100, 30)
    world.capacity = 10_000
    world.live(100, 40)
    world.put("web7.cluster.local", "A", TTL, "10.9.9.9")
    world.advance(TTL + 1.0)
    assert "10.9.9.9" in world.resolve("web7.cluster.local").read().data
    world.finish()


def test_one_question_that_is_lost_is_repeated_whatever_it_is() -> None:
    world = Overloaded(capacity=10_000)
    world.learn(1)
    world.capacity = 0
    world.put("new.cluster.local", "A", TTL, "10.1.0.2")
    asked = world.ask("new.cluster.local")
    world.advance(0.1)
    world.capacity = 10_000
    world.until_answered(asked)
    assert asked.read().rcode == "NOERROR"
    world.finish()


def test_where_no_repeat_is_left_a_lost_question_is_over_at_its_deadline() -> None:
    world = Overloaded(capacity=10_000)
    world.learn(8)
    world.advance(60.0)
    server_of(world.engine).repeats = -REPEATS_MAX * 1000
    world.behave("silent", suffix="lost.example")
    before = world.packets(probes=False)
    asked = world.ask("a.lost.example")
    for n in range(8):  # others are answered meanwhile: it is no outage
        world.advance(0.2)
        world.resolve(f"web{n}.cluster.local")
    world.until_answered(asked)
    assert asked.read().rcode == "SERVFAIL"
    assert sum(ask.flight.question.startswith(b"\1a\4lost") for _, ask in world.sent) == 1
    assert world.packets(probes=False) > before + 1
    world.finish()


def test_where_no_repeat_is_left_an_error_is_passed_on_at_once() -> None:
    world = Overloaded(capacity=10_000)
    server_of(world.engine).repeats = -REPEATS_MAX * 1000
    world.behave("servfail")
    asked = world.resolve("a.example")
    assert (asked.read().rcode, world.packets()) == ("SERVFAIL", 1)
    assert asked.wait < 0.1
    world.finish()
