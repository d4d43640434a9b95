"""One system through one outage in virtual time: clients, their caches, the servers behind them.

A heap of instants stands in for the network and the timers, and a stream of arrivals for the
programs; nothing sleeps. A look-up whose every question is answered at once is walked through
without a machine: that is nearly all of them, and hours of them must take seconds. As soon as
anything has to be waited for, or fails, the stub resolver's own machine (`clients`) takes over.
Questions that one look-up asks one after the other reach a cache at one instant here, and the way
to the cache and back is added to what the program waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from dnsguard.sim.clients import Glibc, Java, Musl
from dnsguard.sim.lookup import Addresses, Lookup, Send, Status, Stub
from dnsguard.sim.result import Outcome
from dnsguard.sim.tally import Tally
from dnsguard.sim.targets import Target
from dnsguard.sim.told import CLOSED, FAILURE, Answer, Flow, Question, Said, System
from dnsguard.sim.upstreams import Address

HOP_SECONDS = 0.0001  # to the cache beside a program and back
GRACE_SECONDS = 2.0  # beyond a TTL: an answer that expired on the way is nobody's fault
JAVA_GRACE_SECONDS = 30.0  # what InetAddress adds of its own
OVERTIME_SECONDS = 120.0  # for look-ups that are under way at the end
# The time before the scenario's start in which every name is looked up once, as in the hours before
# an outage; nothing of it counts.
WARM_SECONDS = 60.0
TELL_EVERY = 4096  # look-ups between two words on how far it is
_CLOSED_HERE: Answer = (CLOSED, (), FAILURE, 0.0, 0)


class Site:
    """A place where a system runs: one node, or one pod."""

    __slots__ = ("down_until", "system")

    def __init__(self) -> None:
        self.system: System
        self.down_until = float("-inf")


class Plan:
    """What a program asks for: a name as it writes it, what it means, the questions of it."""

    __slots__ = ("name", "pairs", "target")

    def __init__(
        self, name: str, target: Target, pairs: tuple[tuple[Question, Question], ...]
    ) -> None:
        self.name = name
        self.target = target
        self.pairs = pairs


class Retry(NamedTuple):
    """What a program does when a look-up failed."""

    times: int = 0
    pause: float = 1.0  # seconds, doubled every time


class Client:
    """One program."""

    __slots__ = ("grace", "java", "retry", "single", "site", "strict", "stub")

    def __init__(self, stub: Stub, site: Site, retry: Retry) -> None:
        self.stub = stub
        self.site = site
        self.retry = retry
        self.java = stub if isinstance(stub, Java) else None
        self.strict = isinstance(stub, Musl)  # a denial of one half denies the candidate
        self.single = stub if isinstance(stub, Glibc) else None
        self.grace = GRACE_SECONDS + (JAVA_GRACE_SECONDS if self.java else 0.0)


class Under:
    """A look-up under way that has to wait."""

    __slots__ = (
        "began",
        "client",
        "got",
        "machine",
        "plan",
        "rounds",
        "timer_at",
        "tokens",
        "turn",
    )

    def __init__(
        self, client: Client, plan: Plan, turn: int, machine: Lookup, began: float
    ) -> None:
        self.client = client
        self.plan = plan
        self.turn = turn
        self.machine = machine
        self.began = began
        self.rounds = 0
        self.got: list[Answer | None] = [None, None]
        self.tokens: list[int] = []
        self.timer_at = float("inf")


Arrival = tuple[float, Client, Plan]


class Replay:
    """The stage. `weight`: how many caches share the upstreams for each one that is on it.

    `counted`: how many of them each query sent upstream is counted for.
    """

    def __init__(
        self, upstreams: Sequence[Address], tally: Tally, weight: int = 1, counted: int = 1
    ) -> None:
        self.now = -WARM_SECONDS
        self.upstreams = upstreams
        self.tally = tally
        self.weight = weight
        self.counted = counted
        self.queries = 0  # that clients sent
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0
        self._token = 0
        self._waiting: dict[int, tuple[Under, Send]] = {}

    # -- the stage of a system --------------------------------------------------------------

    def after(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        self._order += 1
        heappush(self._heap, (self.now + seconds, self._order, what, arguments))

    def at(self, instant: float, what: Callable[..., None], *arguments: object) -> None:
        """Have something happen at an instant."""
        self._order += 1
        heappush(self._heap, (instant, self._order, what, arguments))

    def send(
        self, system: System, upstream: int, question: Question, token: object,
        flow: Flow | None = None,
    ) -> None:  # fmt: skip
        now = self.now
        if now >= 0:
            self.tally.asked(now, self.counted)
        came = self.upstreams[upstream].take(question, now, self.weight, flow)
        if came is not None:
            self.after(came[0], self._deliver, system, token, came[1])

    def _deliver(self, system: System, token: object, said: Said) -> None:
        system.heard(token, said, self.now)

    def reply(self, token: int, answer: Answer) -> None:
        found = self._waiting.pop(token, None)
        if found is not None:
            self._feed(*found, answer)
            self._go(found[0])

    # -- look-ups ---------------------------------------------------------------------------

    def run(self, arrivals: Iterable[Arrival], until: float, tell: Callable[[float], None]) -> None:
        """Let everything happen, up to `until` and a little beyond for what has begun."""
        heap = self._heap
        for count, (at, client, plan) in enumerate(arrivals):
            while heap and heap[0][0] <= at:
                self.now, _, what, arguments = heappop(heap)
                what(*arguments)
            self.now = at
            self.look_up(client, plan)
            if count % TELL_EVERY == 0:
                tell(at)
        end = until + OVERTIME_SECONDS
        while heap and heap[0][0] <= (until if not self._waiting else end):
            self.now, _, what, arguments = heappop(heap)
            what(*arguments)
        tell(until)

    def look_up(self, client: Client, plan: Plan, turn: int = 0) -> None:
        """A program looks a name up; `turn` counts its attempts."""
        now, site = self.now, client.site
        if client.java is not None:
            kept = client.java.remembered(plan.name, now)
            if kept is not None:
                self._over(client, plan, turn, now, 0.0, kept.status, kept.addresses, None)
                return
        if now < site.down_until or (client.single is not None and client.single.single):
            under = Under(client, plan, turn, client.stub.look_up(plan.name, now), now)
            self._go(under)
            return
        walked = site.system.again(plan, now)
        if walked is not None:
            steps, status, addresses, answer = walked
            self.queries += 2 * steps
            if client.java is not None:
                client.java.keep_found(plan.name, status, addresses, now)
            self._over(client, plan, turn, now, steps * HOP_SECONDS, status, addresses, answer)
            return
        ask, strict = site.system.ask, client.strict
        step, a = 0, None
        for first, second in plan.pairs:
            token = self._token = self._token + 2
            self.queries += 2
            a = ask(first, token, now)
            b = ask(second, token + 1, now)
            if a is None or b is None or a[0] not in (0, 3) or b[0] not in (0, 3):
                self._wait(client, plan, turn, step, (a, b))
                return
            step += 1
            if a[1] or b[1]:
                if strict and (a[0] or b[0]):
                    continue
                status, addresses = Status.FOUND, a[1] + b[1]
                break
            if strict and not a[0] and not b[0]:
                status, addresses = Status.NOT_FOUND, ()
                break
        else:
            status, addresses = Status.NOT_FOUND, ()
        assert a is not None
        site.system.walked(plan, (step, status, addresses, a))
        if client.java is not None:
            client.java.keep_found(plan.name, status, addresses, now)
        self._over(client, plan, turn, now, step * HOP_SECONDS, status, addresses, a)

    def _wait(
        self, client: Client, plan: Plan, turn: int, step: int,
        answers: tuple[Answer | None, Answer | None],
    ) -> None:  # fmt: skip
        """Go on with a machine, from the first candidate that is not answered well at once."""
        token = self._token
        self._token += 1
        machine = client.stub.look_up(plan.name, self.now, step)
        under = Under(client, plan, turn, machine, self.now)
        under.rounds = step + 1
        sends, machine.sends = machine.sends, []
        for number, (send, answer) in enumerate(zip(sends, answers, strict=True)):
            if answer is None:
                self._waiting[token + number] = under, send
                under.tokens.append(token + number)
        for send, answer in zip(sends, answers, strict=True):
            if answer is not None:
                self._feed(under, send, answer)
        self._go(under)

    def _feed(self, under: Under, send: Send, answer: Answer) -> None:
        if answer[0] == CLOSED:
            under.machine.refused(send, self.now)
        else:
            under.got[send.number & 1] = answer
            under.machine.reply(send, answer[0], answer[1], self.now)

    def _go(self, under: Under) -> None:
        """Send what a machine wants sent, until it has to wait or is over."""
        machine, site, now = under.machine, under.client.site, self.now
        while machine.sends and machine.result is None:
            sends, machine.sends = machine.sends, []
            under.rounds += 1
            for send in sends:
                question = under.plan.pairs[send.number >> 1][send.number & 1]
                self._token += 1
                self.queries += 1
                token = self._token
                if now < site.down_until:
                    answer: Answer | None = _CLOSED_HERE
                else:
                    self._waiting[token] = under, send
                    answer = site.system.ask(question, token, now)
                if answer is None:
                    under.tokens.append(token)
                else:
                    self._waiting.pop(token, None)
                    self._feed(under, send, answer)
        if machine.result is not None:
            self._finish(under)
        elif machine.at < under.timer_at:
            under.timer_at = machine.at
            self.at(machine.at, self._timer, under, machine.at)

    def _timer(self, under: Under, at: float) -> None:
        machine = under.machine
        if machine.result is not None or at != under.timer_at:
            return
        under.timer_at = float("inf")
        if self.now >= machine.at:
            machine.due(self.now)
        self._go(under)

    def _finish(self, under: Under) -> None:
        for token in under.tokens:
            self._waiting.pop(token, None)
        result = under.machine.result
        assert result is not None
        waited = self.now - under.began + under.rounds * HOP_SECONDS
        self._over(
            under.client, under.plan, under.turn, under.began, waited,
            result.status, result.addresses, under.got[0] or under.got[1],
        )  # fmt: skip

    def _over(
        self, client: Client, plan: Plan, turn: int, began: float, waited: float,
        status: Status, addresses: Addresses, answer: Answer | None,
    ) -> None:  # fmt: skip
        """Count a look-up, and have the program try again if it is one that does."""
        target = plan.target
        if status is Status.FOUND and addresses == target.addresses:
            outcome = Outcome.RIGHT
        else:
            ttl = (answer[4] if answer is not None else 0) + client.grace
            outcome = target.judge(status, addresses, ttl, self.now)
        known = target.existed and bool(target.addresses)
        if began < 0:
            return
        if answer is None:
            self.tally.over(began, began + waited, outcome, known=known, source="client")
        else:
            age = self.now - answer[3]
            self.tally.over(began, began + waited, outcome, known=known, source=answer[2], age=age)
        if status is Status.FAILED and turn < client.retry.times:
            pause = client.retry.pause * 2**turn
            self.after(pause, self.look_up, client, plan, turn + 1)

    # -- events -----------------------------------------------------------------------------

    def close(self, site: Site, seconds: float) -> None:
        """Nobody listens at a site for so long; who waits there waits in vain."""
        site.down_until = self.now + seconds
        for token in [t for t, (under, _) in self._waiting.items() if under.client.site is site]:
            del self._waiting[token]
