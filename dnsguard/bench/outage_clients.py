"""The programs of a replay as a process: the same look-ups at the same moments at every cache.

The stub resolvers are the models of `dnsguard.sim.clients`, the same that the simulator asks with;
here they have real sockets and a real clock. Each look-up is held against what was true while it
went on: an answer that was right within its TTL before is nobody's fault. A look-up that failed is
begun again if the scenario's programs do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator

import msgspec

from dnsguard.bench.outage_child import orders, say
from dnsguard.bench.outage_plan import Plan, arrivals, known, models, warm_names
from dnsguard.bench.outage_upstream import HOST, OPT, TELL_SECONDS, main
from dnsguard.core import wire
from dnsguard.errors import WireError
from dnsguard.sim.clients import STUBS, Java
from dnsguard.sim.cluster import Addresses, Cluster, Name
from dnsguard.sim.lookup import NEVER, Lookup, Resolv, Result, Send, Status, Stub
from dnsguard.sim.result import Outcome
from dnsguard.sim.workload import SEARCH, spelled

QUERY_FLAGS = b"\1\0"  # RD
GRACE_SECONDS = 1.0  # beyond a TTL: an answer that expired on the way is nobody's fault
JAVA_GRACE_SECONDS = 30.0  # what InetAddress adds of its own
OVERTIME_SECONDS = 12.0  # for look-ups that are under way at the end; then they count as failed
# From one cache to the next: asking all at one instant, they would wait for this process.
STAGGER_SECONDS = 0.004
WARM_AT_ONCE = 8  # look-ups at each cache
WARM_MODELS = ("glibc", "go")  # without and with EDNS: some caches keep these apart
OUTCOMES = tuple(Outcome)
MESSAGE_MAX = 65535


class Judge:
    """Holds against the truth what a look-up brought."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self._outage = plan.scenario.outage[0]
        self._negative_ttl = plan.scenario.names.negative_ttl
        self.cluster = cluster

    def outcome(
        self, name: Name, result: Result, began: float, ended: float, java: bool
    ) -> Outcome:
        """What the program got."""
        if result.status is Status.FAILED:
            return Outcome.FAILED
        grace = GRACE_SECONDS + (JAVA_GRACE_SECONDS if java else 0.0)
        if result.status is Status.FOUND:
            held = list(_held(name, began - name.ttl - grace, ended))
            if any(one in addresses for addresses in held for one in result.addresses):
                return Outcome.RIGHT
            return Outcome.DEAD_ADDRESS if name.at(ended) else Outcome.DELETED
        held = list(_held(name, began - self._negative_ttl - grace, ended))
        return Outcome.WRONG_NEGATIVE if all(held) else Outcome.RIGHT

    def known(self, name: Name, now: float) -> bool:
        return known(name, self._outage, now)


def _held(name: Name, begin: float, end: float) -> Iterator[Addresses]:
    """The addresses that a name had at any time from `begin` to `end`; empty: it did not exist."""
    first = max(0, bisect_right(name.starts, max(begin, 0.0)) - 1)
    yield from name.addresses[first : max(first + 1, bisect_right(name.starts, end))]


class Asking:
    """A look-up under way, with its sockets."""

    def __init__(self, crowd: Crowd, system: int, stub: Stub, name: Name, turn: int) -> None:
        self.crowd, self.system, self.stub, self.name, self.turn = crowd, system, stub, name, turn
        self.began = crowd.now()
        self.over: asyncio.Future[Result] | None = None
        self.heard = False
        self._sockets: dict[int, socket.socket] = {}
        self._waiting: dict[tuple[int, bytes], Send] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._machine: Lookup = stub.look_up(spelled(name, crowd.search), self.began)
        crowd.under.add(self)
        self.go()

    def go(self) -> None:
        """Send what the machine wants sent, until it has to wait or is over."""
        machine = self._machine
        while machine.sends and machine.result is None:
            sends, machine.sends = machine.sends, []
            for send in sends:
                self._send(send)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if machine.result is not None:
            self.end(machine.result)
        elif machine.at != NEVER:
            self._timer = self.crowd.loop.call_at(machine.at + self.crowd.epoch, self._due)

    def _send(self, send: Send) -> None:
        sock = self._sockets.get(send.socket)
        if sock is None:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.connect((HOST, self.crowd.ports[self.system]))
            self._sockets[send.socket] = sock
            self.crowd.loop.add_reader(sock, self._readable, send.socket, sock)
        ident = self.crowd.chance.randbytes(2)
        self._waiting[send.socket, ident] = send
        try:
            sock.send(ident + question(send))
        except ConnectionRefusedError:
            self._machine.refused(send, self.crowd.now())

    def _readable(self, number: int, sock: socket.socket) -> None:
        try:
            data = sock.recv(MESSAGE_MAX)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            refused = [key for key in self._waiting if key[0] == number]
            if refused:
                self._machine.refused(self._waiting.pop(refused[0]), self.crowd.now())
            self.go()
            return
        send = self._waiting.pop((number, data[:2]), None)
        if send is None or data[12 : 12 + len(_octets(send))].lower() != _octets(send):
            return
        try:
            rcode, addresses = read_reply(data, send.rtype)
        except WireError:
            return
        self.heard = True
        self._machine.reply(send, rcode, addresses, self.crowd.now())
        self.go()

    def _due(self) -> None:
        self._timer = None
        self._machine.due(self.crowd.now())
        self.go()

    def end(self, result: Result) -> None:
        """Close the sockets and hand the result over."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets.values():
            self.crowd.loop.remove_reader(sock)
            sock.close()
        self.crowd.gone(self)
        if self.over is not None:
            if not self.over.done():
                self.over.set_result(result)
        else:
            self.crowd.count(self, result)


class Crowd:
    """All programs at all caches."""

    def __init__(self, plan: Plan, ports: list[int]) -> None:
        self.plan = plan
        self.ports = ports
        self.loop = asyncio.get_running_loop()
        self.chance = random.Random(f"idents {plan.seed}")
        self.epoch = time.monotonic()  # until the scenario begins
        self.cluster = Cluster(plan.scenario, plan.seed)
        self.judge = Judge(plan, self.cluster)
        self.search = plan.scenario.clients.search
        self.under: set[Asking] = set()
        self._empty = asyncio.Event()
        self.latest = 0.0  # how many seconds after it was due a look-up began, at the most
        self.records: list[tuple[int, float, float, int, bool, str, str]] = []
        self._resolv = Resolv(SEARCH if self.search else ())
        kinds = models(plan.scenario)
        self._stubs = [[STUBS[kind](self._resolv) for kind in kinds] for _ in plan.systems]

    def now(self) -> float:
        return time.monotonic() - self.epoch

    def gone(self, asking: Asking) -> None:
        """A look-up is no longer under way."""
        self.under.discard(asking)
        if not self.under:
            self._empty.set()

    async def warm_up(self) -> int:
        """Look every name up once at every cache; returns how many look-ups found nothing wrong."""
        names = warm_names(self.cluster)

        async def worker(system: int, part: int) -> None:
            for name in names[part::WARM_AT_ONCE]:
                for model in WARM_MODELS:
                    asking = Asking(self, system, STUBS[model](self._resolv), name, 0)
                    asking.over = self.loop.create_future()
                    # A machine that ended while it was made had nothing to wait for.
                    if asking in self.under:
                        await asking.over

        await asyncio.gather(
            *(worker(system, n) for system in range(len(self.ports)) for n in range(WARM_AT_ONCE))
        )
        self.records.clear()
        return len(names)

    async def play(self) -> None:
        """Begin every look-up when it is time, at all caches."""
        for arrival in arrivals(self.plan, self.cluster):
            left = arrival.at - self.now()
            if left > 0:
                await asyncio.sleep(left)
            self.latest = max(self.latest, self.now() - arrival.at)
            for system, stubs in enumerate(self._stubs):
                stub = stubs[arrival.client]
                after = system * STAGGER_SECONDS
                self.loop.call_later(after, Asking, self, system, stub, arrival.name, 0)
        left = self.plan.scenario.length - self.now()
        await asyncio.sleep(max(0.0, left))
        self._empty = asyncio.Event()
        if self.under:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), OVERTIME_SECONDS)
        for asking in list(self.under):
            asking.end(Result(Status.FAILED, (), ""))

    def count(self, asking: Asking, result: Result) -> None:
        """Note a look-up down, and have the program try again if it is one that does."""
        ended = self.now()
        java = isinstance(asking.stub, Java)
        outcome = self.judge.outcome(asking.name, result, asking.began, ended, java)
        is_known = self.judge.known(asking.name, ended)
        kind = "asked" if asking.heard else "silence" if not java else "client"
        self.records.append(
            (
                asking.system, round(asking.began, 6), round(ended, 6), OUTCOMES.index(outcome),
                is_known, result.name, kind,
            )
        )  # fmt: skip
        clients = self.plan.scenario.clients
        if result.status is Status.FAILED and asking.turn < clients.retries:
            pause = clients.retry_after * 2**asking.turn
            self.loop.call_later(pause, self._again, asking)

    def _again(self, asking: Asking) -> None:
        if self.now() < self.plan.scenario.length:
            Asking(self, asking.system, asking.stub, asking.name, asking.turn + 1)

    def tell(self) -> None:
        if self.records:
            say({"over": self.records})
            self.records = []


# --- messages ------------------------------------------------------------------------------------


def _octets(send: Send) -> bytes:
    return wire.name_octets(send.name or ".")


def question(send: Send) -> bytes:
    """A query after its id (RFC 1035 section 4.1)."""
    counts = b"\0\1\0\0\0\0\0\1" if send.edns else b"\0\1\0\0\0\0\0\0"
    tail = send.rtype.to_bytes(2, "big") + b"\0\1" + (OPT if send.edns else b"")
    return QUERY_FLAGS + counts + _octets(send) + tail


def read_reply(data: bytes, rtype: int) -> tuple[int, tuple[bytes, ...]]:
    """The rcode and the addresses of the type asked for. Raises WireError."""
    if len(data) < 12 or not data[2] & 0x80:
        raise WireError("no reply")
    rcode = data[3] & 0xF
    position = 12
    for _ in range(int.from_bytes(data[4:6], "big")):
        position = wire.skip_name(data, position) + 4
    found = []
    for _ in range(int.from_bytes(data[6:8], "big")):
        position = wire.skip_name(data, position)
        if position + 10 > len(data):
            raise WireError("cut short")
        kind = int.from_bytes(data[position : position + 2], "big")
        size = int.from_bytes(data[position + 8 : position + 10], "big")
        position += 10
        if kind == rtype:
            found.append(data[position : position + size])
        position += size
    return rcode, tuple(found)


# --- the process ---------------------------------------------------------------------------------


async def ask() -> None:
    """Take the plan, warm the caches up, begin when told, and tell of every look-up."""
    told = orders()
    first = await anext(told)
    crowd = Crowd(msgspec.convert(first["plan"], Plan), first["ports"])
    say({"warm": await crowd.warm_up()})
    crowd.epoch = (await anext(told))["epoch"]

    async def report() -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            crowd.tell()

    async def until_nobody() -> None:
        async for _ in told:
            pass

    reporting = asyncio.create_task(report())
    playing = asyncio.create_task(crowd.play())
    leaving = asyncio.create_task(until_nobody())
    await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
    reporting.cancel()
    if not playing.done():
        playing.cancel()
    else:
        await playing  # what went wrong in it ends the process
    crowd.tell()
    say({"played": True, "latest": crowd.latest})


if __name__ == "__main__":
    sys.exit(main(ask))
