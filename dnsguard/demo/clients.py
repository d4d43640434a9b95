"""Steady clients: the same questions to dnsguard and to the plain cache at the same moments.

They ask at a fixed rate whatever comes back, names in Zipf's proportions after every name was asked
once, and give up after two seconds like an impatient stub. Latency is taken at the sockets of this
process, which does nothing else. Each answer is judged: right or not, marked stale or not (RFC
8914), and how old, from the pods' addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from dnslib import EDNS0, QTYPE, DNSError, DNSRecord

from dnsguard.demo.child import obey, say
from dnsguard.demo.tally import GUARD, PLAIN, Outcome, Sample
from dnsguard.demo.zone import Question, age_of, questions

GIVE_UP_SECONDS = 2.0
REPORT_SECONDS = 0.1
CLIENTS = 4  # sockets a target
BEHIND_MAX = 0.25  # a machine that stalled longer than this is not made to catch up
EDE_OPTION, EDE_STALE = 15, (3, 19)
SEED = 20241211


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in wire form, without its id."""

    question: Question
    wire: bytes

    @classmethod
    def of(cls, question: Question) -> Asked:
        query = DNSRecord.question(question.name, question.qtype)
        query.add_ar(EDNS0(udp_len=1232))
        return cls(question, bytes(query.pack())[2:])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one reply is worth."""

    outcome: Outcome
    age: float | None = None


def judge(wire: bytes, question: Question, now: float) -> Verdict | None:
    """Judge a reply; `now` counts from the demo's epoch. None if it answers something else."""
    try:
        reply = DNSRecord.parse(wire)
        asked = reply.questions[0]
    except (DNSError, ValueError, RecursionError, IndexError):
        return Verdict(Outcome.FAILED)
    if str(asked.qname).lower() != question.name or asked.qtype != getattr(QTYPE, question.qtype):
        return None
    if reply.header.rcode != question.rcode or bool(reply.rr) != question.data:
        return Verdict(Outcome.FAILED)
    stale = any(
        option.code == EDE_OPTION and int.from_bytes(option.data[:2], "big") in EDE_STALE
        for record in reply.ar
        if record.rtype == QTYPE.OPT
        for option in record.rdata
    )
    addresses = (str(record.rdata) for record in reply.rr if record.rtype == QTYPE.A)
    ages = [age for address in addresses if (age := age_of(address, now)) is not None]
    return Verdict(Outcome.STALE if stale else Outcome.FRESH, max(ages, default=None))


def order_of_names(count: int, rng: random.Random) -> Iterator[int]:
    """Every name once, the most popular first; from then on in Zipf's proportions."""
    yield from range(count)
    weights = [1 / rank for rank in range(1, count + 1)]
    while True:
        yield from rng.choices(range(count), weights, k=1000)


class Client(asyncio.DatagramProtocol):
    """One socket to one target, with its unanswered queries in the order of sending."""

    def __init__(self, target: str, load: Load) -> None:
        self._target, self._load = target, load
        self._waiting: dict[int, tuple[float, Asked]] = {}
        self._order: deque[int] = deque()
        self._next_id = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def error_received(self, exc: Exception) -> None:
        """Nothing listens there: the query is lost when its time is up, as for any stub."""

    def send(self, asked: Asked) -> None:
        self._next_id = (self._next_id + 1) % (1 << 16)
        self._waiting[self._next_id] = time.monotonic(), asked
        self._order.append(self._next_id)
        if self._transport is not None:
            self._transport.sendto(self._next_id.to_bytes(2, "big") + asked.wire)

    def datagram_received(self, data: bytes, address: object) -> None:
        now = time.monotonic()
        message_id = int.from_bytes(data[:2], "big")
        if (found := self._waiting.get(message_id)) is None:
            return
        sent, asked = found
        verdict = judge(data, asked.question, now - self._load.epoch)
        if verdict is None or now - sent > GIVE_UP_SECONDS:
            return
        del self._waiting[message_id]
        self._load.over(self._target, sent, verdict.outcome, now - sent, verdict.age)

    def give_up(self, now: float) -> None:
        """Count as lost what has waited too long."""
        while self._order:
            found = self._waiting.get(self._order[0])
            if found is not None:
                if now - found[0] < GIVE_UP_SECONDS:
                    return
                del self._waiting[self._order[0]]
                self._load.over(self._target, found[0], Outcome.LOST, GIVE_UP_SECONDS, None)
            self._order.popleft()


class Load:
    """All clients. `sent` and `samples` hold what the next report will tell."""

    def __init__(self, qps: float, epoch: float) -> None:
        self.qps = qps
        self.epoch = epoch
        self.started = 0.0
        self.sent: Counter[int] = Counter()
        self.samples: list[Sample] = []
        self._asked = [Asked.of(question) for question in questions()]
        self._clients: dict[str, list[Client]] = {}
        self._transports: list[asyncio.DatagramTransport] = []

    async def open(self, ports: dict[str, tuple[str, int]]) -> None:
        loop = asyncio.get_running_loop()
        for target, address in ports.items():
            self._clients[target] = []
            for _ in range(CLIENTS):
                transport, client = await loop.create_datagram_endpoint(
                    partial(Client, target, self), remote_addr=(address[0], address[1])
                )
                self._transports.append(transport)
                self._clients[target].append(client)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()

    def over(
        self, target: str, sent: float, outcome: Outcome, seconds: float, age: float | None
    ) -> None:
        self.samples.append(Sample(target, sent - self.started, outcome, seconds, age))

    async def run(self) -> None:
        """Ask for ever, at an even pace."""
        names = order_of_names(len(self._asked), random.Random(SEED))
        self.started = due = time.monotonic()
        turn = 0
        while True:
            now = time.monotonic()
            if now - due > BEHIND_MAX:
                due = now
            while due <= now:
                asked = self._asked[next(names)]
                # Neither target is always the first to be asked.
                for target in (GUARD, PLAIN) if turn % 2 else (PLAIN, GUARD):
                    self._clients[target][turn // 2 % CLIENTS].send(asked)
                self.sent[int(now - self.started)] += 1
                turn += 1
                due += 1 / self.qps
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def news(self) -> dict[str, Any]:
        """What happened since the last report, for JSON."""
        samples = [[s.target, s.sent, s.outcome, s.seconds, s.age] for s in self.samples]
        news = {"started": self.started, "sent": list(self.sent.items()), "samples": samples}
        self.samples.clear()
        self.sent.clear()
        return news

    def give_up(self) -> None:
        now = time.monotonic()
        for clients in self._clients.values():
            for client in clients:
                client.give_up(now)


async def serve(qps: float, epoch: float, ports: dict[str, tuple[str, int]]) -> None:
    """The process: start when told, then report ten times a second; obey `rate`."""
    load = Load(qps, epoch)
    start = asyncio.Event()

    def order(line: str) -> None:
        word, _, value = line.partition(" ")
        if word == "start":
            start.set()
        elif word == "rate":
            load.qps = float(value)

    async def ask() -> None:
        await start.wait()
        await load.run()

    async def report() -> None:
        await start.wait()
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            load.give_up()
            say(load.news())

    await load.open(ports)
    say({"clients": CLIENTS})
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask()), group.create_task(report())]
            await obey(order)
            for task in tasks:
                task.cancel()
    finally:
        load.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(serve(**json.loads(sys.argv[1])))
