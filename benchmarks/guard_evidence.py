"""What the guard prevents and what it costs, over random histories of a cluster in virtual time.

Each seed is one history of ten minutes: Services and headless Services in namespaces, some deleted,
scaled, rolled, and control planes that fail in the ways that make a DNS deny what is there. The
real engine lives through it with the guard and without; a model of CoreDNS 1.14.7's
`prefer_positive` stands beside them. Definitions, fixed before the first run:

- *wrong negative*: a client is told that a name does not exist, or has no address, which exists at
  that moment and was answered to this cache before;
- *masked deletion*: a client gets an address more than TTL + 5 s after the name was really deleted.
  Deletions count apart by what they are: single ones with no failure under way or within a minute,
  those of a whole namespace, and those within a minute of a failure.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import random
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from dnsguard.core.engine import Engine
from dnsguard.core.policy import GuardPolicy, Policy, Upstream, Zone
from dnsguard.core.wire import name_octets

SECONDS = 600.0
START = 1000.0
TTL, NEGATIVE_TTL = 5, 5
TRIP = 0.001
WARM = 90.0  # nothing happens before: every name has been asked for
GRACE = TTL + 5.0
NEAR = 60.0  # a deletion this close to a failure counts as inside of it
PREFER_SECONDS = 3600.0  # CoreDNS: serve_stale's default, for which a positive answer is preferred
SYSTEMS = ("RFC 8767", "prefer_positive", "guard")
KINDS = ("no endpoints", "knows nothing", "one replica lies", "empty answers", "dead, then empty")


@dataclass
class Service:
    """One name, and from when to when it is really there."""

    name: str
    address: bytes
    namespace: int
    headless: bool
    gone: list[tuple[float, float, str]] = field(default_factory=list)  # from, until, why

    def exists(self, at: float) -> bool:
        return not any(start <= at < end for start, end, _ in self.gone)

    def merge(self) -> None:
        """What is gone cannot be deleted: whatever begins meanwhile only makes that longer."""
        merged: list[tuple[float, float, str]] = []
        for start, end, why in sorted(self.gone):
            if merged and start < merged[-1][1]:
                first, until, because = merged[-1]
                merged[-1] = first, max(until, end), because if until >= end else why
            else:
                merged.append((start, end, why))
        self.gone = merged


@dataclass(frozen=True)
class Failure:
    """A control plane's bad minutes; `hits` are the indices of the names that it denies."""

    kind: str
    start: float
    end: float
    hits: frozenset[int]


class History:
    """What happens in one cluster, drawn from a seed."""

    def __init__(self, seed: int, small: bool = False) -> None:
        self.chance = chance = random.Random(seed)
        namespaces = chance.randint(1, 4) if small else chance.randint(3, 15)
        count = chance.randint(4, 20) if small else chance.randint(40, 250)
        headless = chance.uniform(0.15, 0.5)
        self.services = [
            self._service(n, chance.randrange(namespaces), headless) for n in range(count)
        ]
        self.failures: list[Failure] = []
        if chance.random() < 0.75:
            self._fail()
        self._delete(namespaces)
        weights = [1 / (1 + chance.random() * 9) for _ in self.services]
        self.rate = count / chance.uniform(2.0, 12.0)  # each name every few seconds, on average
        self.weights = weights

    def _service(self, number: int, namespace: int, share: float) -> Service:
        headless = self.chance.random() < share
        prefix = (10, 244) if headless else (10, 96 + self.chance.randrange(4))
        address = bytes((*prefix, self.chance.randrange(256), self.chance.randrange(1, 255)))
        name = f"s{number}.ns{namespace}.svc.cluster.local"
        return Service(name, address, namespace, headless)

    def _fail(self) -> None:
        chance = self.chance
        kind = chance.choice(KINDS)
        start = START + chance.uniform(WARM + 60, SECONDS / 2)
        end = start + chance.uniform(60, SECONDS / 2 - 30)
        everyone = range(len(self.services))
        if kind == "no endpoints":
            hit = [n for n in everyone if self.services[n].headless]
        elif kind == "one replica lies":
            share = chance.uniform(0.3, 1.0)
            hit = [n for n in everyone if chance.random() < share]
        else:
            hit = list(everyone)
        self.failures.append(Failure(kind, start, end, frozenset(hit)))

    def _delete(self, namespaces: int) -> None:
        chance = self.chance
        last = START + SECONDS - 30
        for _ in range(chance.randint(1, 6)):  # single ones, for good
            service = chance.choice(self.services)
            service.gone.append((chance.uniform(START + WARM, last), float("inf"), "single"))
        for _ in range(chance.randint(0, 3)):  # scaled to zero, and back
            at = chance.uniform(START + WARM, last)
            service = chance.choice(self.services)
            if service.headless:
                service.gone.append((at, at + chance.uniform(20, 120), "single"))
        for _ in range(chance.randint(0, 30)):  # rolled: nobody ready for a moment
            at = chance.uniform(START + WARM, last)
            service = chance.choice(self.services)
            if service.headless:
                service.gone.append((at, at + chance.uniform(0.5, 4), "rolled"))
        if chance.random() < 0.4 and namespaces > 3:
            at, doomed = chance.uniform(START + WARM, last), chance.randrange(namespaces)
            for service in self.services:
                if service.namespace == doomed:
                    service.gone.append((at, float("inf"), "namespace"))
        for service in self.services:
            service.merge()

    def queries(self) -> Iterator[tuple[float, int]]:
        """When which name is asked for; every name at the beginning, twice."""
        for turn in range(2):
            for n in range(len(self.services)):
                yield START + turn * 20 + n * 0.01, n
        at = START + 40.0
        numbers = range(len(self.services))
        while at < START + SECONDS:
            at += self.chance.expovariate(self.rate)
            yield at, self.chance.choices(numbers, self.weights)[0]

    def failure(self, at: float) -> Failure | None:
        return next((f for f in self.failures if f.start <= at < f.end), None)

    def near_failure(self, at: float) -> bool:
        return any(f.start - NEAR <= at < f.end + NEAR for f in self.failures)


class Source:
    """The cluster's DNS: what it says of a name at an instant; None is silence."""

    def __init__(self, history: History, seed: int) -> None:
        self._history = history
        self._chance = random.Random(seed)

    def says(self, number: int, at: float) -> str | None:
        service, failure = self._history.services[number], self._history.failure(at)
        truth = "address" if service.exists(at) else "denied"
        if failure is None or number not in failure.hits:
            return truth
        if failure.kind == "dead, then empty":
            return None if at < (failure.start + failure.end) / 2 else "denied"
        if failure.kind == "one replica lies":
            return "denied" if self._chance.random() < 0.5 else truth
        return "empty" if failure.kind == "empty answers" else "denied"


@dataclass
class Tally:
    """What clients saw of one system."""

    asked: int = 0
    wrong: int = 0
    deletions: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)  # of these: nobody asked until a failure
    longest: dict[str, float] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.asked += other.asked
        self.wrong += other.wrong
        self.deletions += other.deletions
        self.masked += other.masked
        self.unseen += other.unseen
        for why, seconds in other.longest.items():
            self.longest[why] = max(seconds, self.longest.get(why, 0.0))


class Judge:
    """Holds what a client was told against what is true."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._known: set[int] = set()
        self._late: dict[tuple[int, float, str], float] = {}
        self._asked: dict[tuple[int, float], float] = {}  # when first, after it was deleted
        self.tally = Tally()
        for service in history.services:
            for at, until, why in service.gone:
                if why != "rolled" and until - at > GRACE:
                    self.tally.deletions[self._class(at, why)] += 1

    def _class(self, at: float, why: str) -> str:
        return "near a failure" if self._history.near_failure(at) else why

    def told(self, number: int, positive: bool, at: float) -> None:
        self.tally.asked += 1
        service = self._history.services[number]
        if service.exists(at):
            if positive:
                self._known.add(number)
            elif number in self._known:
                self.tally.wrong += 1
            return
        for start, end, why in service.gone:
            if start <= at < end:
                self._asked.setdefault((number, start), at)
            if positive and start <= at < end and at - start > GRACE:
                self._late[number, start, why] = at - start

    def done(self) -> Tally:
        for (number, start, why), seconds in self._late.items():
            kind = self._class(start, why)
            self.tally.masked[kind] += 1
            if self._history.failure(self._asked[number, start]):
                self.tally.unseen[kind] += 1
            self.tally.longest[kind] = max(seconds, self.tally.longest.get(kind, 0.0))
        return self.tally


def live(history: History, seed: int, guard: bool) -> Tally:
    """The real engine lives through a history."""
    mode = GuardPolicy(mode="enforce" if guard else "off")
    policy = Policy(zones=(Zone(".", (Upstream("10.0.0.53"),), guard=mode),))
    engine = Engine(policy, random.Random(seed), START)
    source, judge = Source(history, seed), Judge(history)
    names = [name_octets(service.name) for service in history.services]
    numbers = {name: n for n, name in enumerate(names)}
    events: list[tuple[float, int, object]] = []
    order = 0
    for at, number in history.queries():
        events.append((at, order, number))
        order += 1
    heapq.heapify(events)
    asked: dict[int, tuple[int, float]] = {}

    def collect(now: float) -> None:
        nonlocal order
        out = engine.out
        while out.asks or out.replies:
            for client, wire in out.replies:
                number, _ = asked.pop(client)  # type: ignore[call-overload]
                if wire[3] & 0xF in (0, 3):
                    judge.told(number, wire[7] > 0, now)
            out.replies.clear()
            for ask in out.asks:
                heapq.heappush(events, (now + TRIP, order, ask))
                order += 1
            out.asks.clear()
        out.notices.clear()

    while events:
        due = engine.deadline()
        if due is not None and due < events[0][0]:
            engine.tick(due)
            collect(due)
            continue
        now, tag, what = heapq.heappop(events)
        if isinstance(what, int):
            asked[tag] = what, now
            query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + names[what] + b"\0\1\0\1"
            packet = engine.datagrams.table.get(query[2:])
            if packet is not None and now < packet.until:
                packet.hits += 1
                engine.out.replies.append((tag, query[:2] + packet.rest))
            else:
                engine.client(query, tag, now)
        else:
            question = what.flight.question  # type: ignore[attr-defined]
            said = source.says(numbers[question[:-4]], now)
            if said is not None:
                wire = answer(question, said, history.services[numbers[question[:-4]]].address)
                engine.answer(what, wire, now)  # type: ignore[arg-type]
        collect(now)
        if now > START + SECONDS:
            break
    return judge.done()


def answer(question: bytes, said: str, address: bytes) -> bytes:
    """The source's message."""
    if said == "address":
        record = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", TTL, 4) + address
        return b"\0\0\x85\x80\0\1\0\1\0\0\0\0" + question + record
    soa = b"\0\0\6\0\1" + struct.pack("!IH", NEGATIVE_TTL, 22) + b"\0\0"
    soa += struct.pack("!IIIII", 1, 7200, 1800, 86400, NEGATIVE_TTL)
    rcode = b"\x83" if said == "denied" else b"\x80"
    return b"\0\0\x85" + rcode + b"\0\1\0\0\0\1\0\0" + question + soa


def prefer(history: History, seed: int) -> Tally:
    """CoreDNS 1.14.7 with serve_stale, verify and prefer_positive: a model.

    A positive answer is preferred to a negative one for as long as it may be served stale. Left
    out: prefetch, evictions, the pause after a failed refresh.
    """
    source, judge = Source(history, seed), Judge(history)
    kept: dict[int, tuple[bool, float]] = {}
    for at, number in history.queries():
        positive, stored = kept.get(number, (False, float("-inf")))
        if at >= stored + (TTL if positive else NEGATIVE_TTL):
            said = source.says(number, at)
            if said == "address":
                kept[number] = positive, stored = True, at
            elif said is not None and not (positive and at < stored + TTL + PREFER_SECONDS):
                kept[number] = positive, stored = False, at
            elif said is None and number not in kept:
                continue
        judge.told(number, positive, at)
    return judge.done()


def one(seed: int, small: bool = False) -> dict[str, Tally]:
    """Every system through the history of one seed."""
    return {
        "RFC 8767": live(History(seed, small), seed, guard=False),
        "prefer_positive": prefer(History(seed, small), seed),
        "guard": live(History(seed, small), seed, guard=True),
    }


CLASSES = ("single", "namespace", "near a failure")


def table(totals: dict[str, Tally], first: int, histories: int) -> list[str]:
    """The outcome as a table of text."""
    base = totals["RFC 8767"].wrong
    seeds = f"seeds {first} to {first + histories - 1}"
    head = f"{'':16}{'wrong negatives':>18}{'prevented':>11}"
    lines = [
        f"{histories} histories, {seeds}; {totals['guard'].asked:,} answers each",
        "masked: still served more than TTL + 5 s after the name was deleted",
        "",
        head + "".join(f"{'masked, ' + kind:>26}{'longest':>9}" for kind in CLASSES),
    ]
    for system in SYSTEMS:
        tally = totals[system]
        prevented = f"{1 - tally.wrong / base:.3%}" if base else "-"
        row = f"{system:16}{tally.wrong:>18,}{prevented:>11}"
        for kind in CLASSES:
            row += f"{f'{tally.masked[kind]:,} of {tally.deletions[kind]:,}':>26}"
            row += f"{tally.longest.get(kind, 0.0):>7.0f} s"
        lines.append(row)
    guard = totals["guard"]
    lines += [
        "",
        "of those that the guard masked, nobody had asked for until a failure had begun: "
        + ", ".join(f"{guard.unseen[kind]:,} {kind}" for kind in CLASSES),
    ]
    return lines


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=1001)
    parser.add_argument(
        "--small", action="store_true", help="4 to 20 names in 1 to 4 namespaces, as one pod knows"
    )
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args(words)
    seeds = range(options.first_seed, options.first_seed + options.histories)
    totals = {system: Tally() for system in SYSTEMS}
    begun = told = time.monotonic()
    count = 0
    with multiprocessing.Pool(options.processes, _leave_interrupts) as pool:
        try:
            for count, found in enumerate(pool.imap(partial(one, small=options.small), seeds), 1):
                for system in SYSTEMS:
                    totals[system].add(found[system])
                if time.monotonic() - told > 10 or count == len(seeds):
                    told = time.monotonic()
                    left = (told - begun) / count * (len(seeds) - count)
                    harness.say(f"{count} of {len(seeds)} histories; {left:.0f} s left")
        except KeyboardInterrupt:
            harness.say(f"interrupted: this is what {count} of {len(seeds)} histories show")
    print("\n".join(table(totals, options.first_seed, count)))
    return 0


def _leave_interrupts() -> None:
    """Ctrl-C goes to every process of the group; only the one that reports is to hear it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    harness.run_script(main)
