"""dnsguard in a replay: the engine that serves in production, with its packet table and its disk.

This is what `net.driver`, the loops that read datagrams and the store do around an engine: finished
replies first, then the engine; its asks out, its answers in, its timer; changes to a disk once
every `store.flush_interval`, and back from it after a restart. The disk is a dictionary of the
octets and instants that a row would hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.health import Event
from dnsguard.core.kept import restore
from dnsguard.core.learned import Learned
from dnsguard.core.packets import Packet
from dnsguard.core.policy import Policy
from dnsguard.core.sending import Chance
from dnsguard.sim.lookup import NOERROR, NXDOMAIN, A, Addresses
from dnsguard.sim.told import (
    CLOSED,
    FAILURE,
    HIT,
    STALE,
    SYNTHESIZED,
    UPSTREAM,
    Answer,
    Question,
    Questions,
    Restart,
    Said,
    Stage,
    Walk,
    Walked,
)

LATE = 0.001  # a loop's timer fires a little late (net.driver)
BOOT_SECONDS = 1000.0  # on the engine's clock when a scenario starts: no instant is before zero
FLUSH_SECONDS = 1.0  # store.flush_interval
MEANINGS_MAX = 8192  # finished replies of which it is remembered what they say
KEY_TAIL = b"\0"  # of a key: no DO, no CD
_NO_ID = b"\0\0"
_HEADER = 12
_BEFORE_RDATA = 12  # octets of a record: a pointer, type, class, TTL, length


class Dnsguard:
    """One instance. `numbers` says which upstream has which label; `chance` is its own.

    What is private here is on the engine's clock, what others call and hear is on the stage's.
    """

    def __init__(
        self,
        policy: Policy,
        stage: Stage,
        questions: Questions,
        numbers: Mapping[str, int],
        chance: Chance,
    ) -> None:
        self._policy = policy
        self._stage = stage
        self._questions = questions
        self._numbers = numbers
        self._chance = chance
        self._disk: dict[bytes, tuple[bytes, float]] = {}
        self._meanings: dict[Packet, Answer] = {}
        self._walks: dict[Walked, tuple[list[tuple[bytes, Packet]], Walk]] = {}
        self._begin(stage.now + BOOT_SECONDS)
        stage.after(FLUSH_SECONDS, self._flush)

    def _begin(self, now: float) -> None:
        self.engine = Engine(self._policy, self._chance, now)
        self._learned = self.engine.learned = Learned(self.engine.cache)
        self._out = self.engine.out
        self._table = self.engine.datagrams.table
        self._wake = float("inf")
        self._running = True
        self._meanings.clear()
        self._walks.clear()

    # -- clients ----------------------------------------------------------------------------

    def ask(self, question: Question, token: int, now: float) -> Answer | None:
        now += BOOT_SECONDS
        packet = self._table.get(question.tail)
        if packet is not None and now < packet.until:
            packet.hits += 1
            return self._meanings.get(packet) or self._remember(packet, question)
        self.engine.client(_NO_ID + question.tail, token, now)
        found = self._collect(now, token, question)
        self._arm(now)
        if found is not None and found[2] == HIT:
            self._prolong(question, now)
        return found

    def _prolong(self, question: Question, now: float) -> None:
        """Let a finished reply stand for as long as the same would be said, but for its TTL.

        The engine makes it stand until the next whole second of its TTL, which nobody reads here.
        """
        entry = self.engine.cache.get(question.octets + KEY_TAIL)
        packet = self._table.get(question.tail)
        if entry is None or packet is None or packet.entry is not entry or packet.until <= now:
            return
        early = entry.ttl * self.engine.policy.prefetch.fraction if self.engine.prefetches else 0.0
        if now < entry.expires - early:
            packet.until = entry.expires - early

    def again(self, plan: Walked, now: float) -> Walk | None:
        """The same, if the very same finished replies would be given to all its questions."""
        found = self._walks.get(plan)
        if found is None:
            return None
        now += BOOT_SECONDS
        get = self._table.get
        for counted, (tail, packet) in enumerate(found[0]):
            if get(tail) is not packet or packet.until <= now:
                for _, before in found[0][:counted]:
                    before.hits -= 1
                del self._walks[plan]
                return None
            packet.hits += 1
        return found[1]

    def walked(self, plan: Walked, walk: Walk) -> None:
        """Remember which finished replies a look-up consists of, if it does."""
        table, parts = self._table, []
        for pair in plan.pairs[: walk[0]]:
            for question in pair:
                packet = table.get(question.tail)
                if packet is None:
                    return
                parts.append((question.tail, packet))
        self._walks[plan] = parts, walk

    def _remember(self, packet: Packet, question: Question) -> Answer:
        if len(self._meanings) >= MEANINGS_MAX:
            self._meanings.clear()
        entry = packet.entry
        source = STALE if packet.reason else HIT
        said = _read(_NO_ID + packet.rest, question)
        answer = (said[0], said[1], source, entry.stored - BOOT_SECONDS, entry.ttl)
        self._meanings[packet] = answer
        return answer

    def _meaning(self, wire: bytes, question: Question, now: float) -> Answer:
        """Read a reply that the engine made; where it came from shows in what is remembered."""
        rcode, addresses = _read(wire, question)
        entry = self.engine.cache.get(question.octets + KEY_TAIL)
        if rcode not in (NOERROR, NXDOMAIN):
            return rcode, (), FAILURE, now - BOOT_SECONDS, 0
        if entry is None or (not addresses and now >= entry.dies()):
            # Nothing is remembered that could be said: made up, or passed on and not kept.
            source = UPSTREAM if addresses else SYNTHESIZED
            return rcode, addresses, source, now - BOOT_SECONDS, 0
        source = HIT if now < entry.expires else STALE
        if entry.stored == now:
            source = UPSTREAM
        return rcode, addresses, source, entry.stored - BOOT_SECONDS, entry.ttl

    # -- the engine's outbox and timer ------------------------------------------------------

    def _collect(self, now: float, token: int = -1, asked: Question | None = None) -> Answer | None:
        """Carry out what the engine wants done; return what it says to `token`, who `asked`."""
        out, found = self._out, None
        while out.replies or out.asks:
            if out.replies:
                replies, out.replies = out.replies, []
                for client, wire in replies:
                    if client == token:
                        assert asked is not None
                        found = self._meaning(wire, asked, now)
                    else:
                        assert isinstance(client, int)
                        answer = self._meaning(wire, self._questions.in_message(wire), now)
                        self._stage.reply(client, answer)
            if out.asks:
                asks, out.asks = out.asks, []
                for ask in asks:
                    question = self._questions.of(ask.flight.question)
                    self._stage.send(self, self._numbers[ask.server.label], question, ask)
        if out.notices:
            out.notices.clear()
        return found

    def heard(self, token: object, said: Said, now: float) -> None:
        assert isinstance(token, Ask)
        now += BOOT_SECONDS
        if not self._running or token.flight.zone not in self.engine.zones.all:
            return  # the answer to a process that is no more
        if said.rcode == CLOSED:
            self.engine.failed(token, Event.REFUSED, now)
        else:
            wire = self._questions.of(token.flight.question).wire(said)
            self.engine.answer(token, _NO_ID + wire, now)
        self._collect(now)
        self._arm(now)

    def _arm(self, now: float) -> None:
        due = self.engine.deadline()
        if due is not None and due < self._wake:
            self._wake = due
            self._stage.after(max(due - now, 0.0) + LATE, self._tick, self.engine, due)

    def _tick(self, engine: Engine, due: float) -> None:
        if not self._running or engine is not self.engine or due != self._wake:
            return
        now = self._stage.now + BOOT_SECONDS
        self._wake = float("inf")
        engine.tick(now)
        self._collect(now)
        self._arm(now)

    # -- the disk ---------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._running:
            self._write(self._stage.now + BOOT_SECONDS)
        self._stage.after(FLUSH_SECONDS, self._flush)

    def _write(self, now: float, everything: bool = False) -> None:
        for key, entry in self._learned.take(now, everything):
            if entry is None:
                self._disk.pop(key, None)
            else:
                self._disk[key] = entry.wire, entry.stored

    def stop(self, now: float, how: Restart) -> None:
        if how is Restart.CLEAN:
            self._write(now + BOOT_SECONDS, everything=True)
        elif how is Restart.NEW_NODE:
            self._disk.clear()
        self._running = False

    def begin(self, now: float) -> None:
        now += BOOT_SECONDS
        self._begin(now)
        for key, (wire, stored) in list(self._disk.items()):
            restore(self.engine, key, wire, stored, now)
        self._collect(now)
        self._arm(now)


def _read(wire: bytes, question: Question) -> tuple[int, Addresses]:
    """Return the rcode and the addresses of a message that was built by `Question.wire`."""
    rcode, count = wire[3] & 0xF, wire[6] << 8 | wire[7]
    if not count:
        return rcode, ()
    size = 4 if question.rtype == A else 16
    step = _BEFORE_RDATA + size
    first = _HEADER + len(question.octets) + _BEFORE_RDATA
    return rcode, tuple(wire[at : at + size] for at in range(first, first + count * step, step))
