"""Models of other ways to stand between a program and its DNS: no cache, and the caches in use.

They keep what a server would keep and wait as long as it would wait; they handle no octets. What
sets one server apart from another stands in `servers`. Left out of all: eviction, several worker
threads, TCP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dnsguard.core.sending import Chance
from dnsguard.sim.healths import HEALTHS
from dnsguard.sim.lookup import NOERROR, NXDOMAIN, SERVFAIL
from dnsguard.sim.told import (
    CLOSED,
    HIT,
    STALE,
    Answer,
    Flow,
    Question,
    Restart,
    Said,
    Stage,
    Walk,
    Walked,
    failure,
    fresh,
)

STALE_TTL = 30  # RFC 8767 section 4
LONG_AGO = float("-inf")


@dataclass(frozen=True, slots=True)
class Caching:
    """How one server caches and forwards. Durations are in seconds."""

    name: str
    version: str
    settings: str
    tries: tuple[float, ...]  # how long each try to get an answer waits
    ttl_min: int = 0  # for how long an answer is kept at the least
    positive_max: int = 86400
    negative_max: int = 3600
    cluster_positive_max: int = 86400  # in the cluster's own zone
    cluster_negative_max: int = 3600
    coalesces: bool = True  # one question upstream, however many clients have it
    servfail_ttl: float = 5.0
    stale_seconds: float = 0.0
    stale_ttl: int = STALE_TTL
    wait: float | None = None  # before a stale answer; None: not at all, it comes at once
    one_waits: bool = False  # while one client waits for a refresh the others do not
    recheck: float = 0.0  # after a failed refresh, before the next
    prefer_positive: bool = False
    health: Literal["none", "coredns", "unbound"] = "none"
    silent: bool = False  # says nothing to a client when nobody says anything to it
    insists: int = 0  # how often it asks the same server once more after an error, at once
    deaf: bool = False  # does not hear that nobody listens: to it that is silence


class Kept:
    """A remembered answer."""

    __slots__ = ("dies", "expires", "retry_at", "said", "stored")

    def __init__(self, said: Said, stored: float, ttl: float, stale: float) -> None:
        self.said = said
        self.stored = stored
        self.expires = stored + ttl
        self.dies = self.expires + stale
        self.retry_at = LONG_AGO


class Fetch:
    """A question under way to an upstream."""

    __slots__ = ("attempt", "over", "question", "tries", "upstream", "waiters")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.waiters: list[int] = []
        self.tries = 0
        self.upstream = 0
        self.attempt: Attempt | None = None  # the latest
        self.over = False


class Attempt:
    """One try of a fetch, as it was sent. What comes after its time-out is heard by nobody."""

    __slots__ = ("fetch", "flow", "sent", "timeout", "upstream")

    def __init__(self, fetch: Fetch, now: float, timeout: float, flow: Flow | None) -> None:
        self.fetch = fetch
        self.upstream = fetch.upstream
        self.sent = now
        self.timeout = timeout
        self.flow = flow


class Cache:
    """A caching forwarder after a `Caching`, with its zone's upstreams by number."""

    def __init__(self, how: Caching, stage: Stage, zones: Zones) -> None:
        self.how = how
        self._stage = stage
        self._zones = zones
        self._kept: dict[Question, Kept] = {}
        self._fetches: dict[Question, Fetch] = {}
        self._broken: dict[Question, tuple[float, int]] = {}  # SERVFAIL until, as rcode
        self._health = {u: HEALTHS[how.health]() for u in zones.upstreams()}

    # -- clients ----------------------------------------------------------------------------

    def ask(self, question: Question, token: int, now: float) -> Answer | None:
        kept = self._kept.get(question)
        if kept is not None:
            said = kept.said
            if now < kept.expires:
                return said.rcode, said.addresses, HIT, kept.stored, said.ttl
            if now < kept.dies:
                return self._expired(question, kept, token, now)
        until, rcode = self._broken.get(question, (LONG_AGO, SERVFAIL))
        if now < until:
            return failure(now, rcode)
        return self._wait(question, token, now)

    def _expired(self, question: Question, kept: Kept, token: int, now: float) -> Answer | None:
        how = self.how
        if how.wait is None:
            if now >= kept.retry_at and question not in self._fetches:
                self._fetch(question, now)
            return _remembered(kept, now)
        if now < kept.retry_at or (how.one_waits and question in self._fetches):
            return _remembered(kept, now)
        answer = self._wait(question, token, now)
        if answer is None:
            self._stage.after(how.wait, self._patience_ends, question, token)
        return answer

    def _wait(self, question: Question, token: int, now: float) -> Answer | None:
        fetch = self._fetches.get(question) if self.how.coalesces else None
        if fetch is not None:
            fetch.waiters.append(token)
            if self.how.silent:  # a client's repeat makes it ask again, and nothing else does
                self._try(fetch, now)
            return None
        upstream = self._pick(question, now)
        if upstream is None:  # nobody to ask: it fails at once
            return self._failed_at_once(question, now)
        self._fetch(question, now, token, upstream)
        return None

    def _failed_at_once(self, question: Question, now: float) -> Answer:
        kept = self._kept.get(question)
        if kept is not None and now < kept.dies:
            self._pause(kept, now)
            return _remembered(kept, now)
        return failure(now)

    def _patience_ends(self, question: Question, token: int) -> None:
        """A client has waited long enough: what is remembered, if it still may be said."""
        kept = self._kept.get(question)
        fetch = self._fetches.get(question)
        if kept is None or fetch is None or token not in fetch.waiters:
            return
        if self._stage.now < kept.dies:
            fetch.waiters.remove(token)
            self._stage.reply(token, _remembered(kept, self._stage.now))

    # -- upstreams --------------------------------------------------------------------------

    def _pick(self, question: Question, now: float) -> int | None:
        for upstream in self._zones.of(question):
            if self._health[upstream].usable(now):
                return upstream
        return None

    def _fetch(
        self, question: Question, now: float, token: int | None = None, upstream: int | None = None
    ) -> None:
        fetch = Fetch(question)
        if token is not None:
            fetch.waiters.append(token)
        chosen = self._pick(question, now) if upstream is None else upstream
        if chosen is None:
            kept = self._kept.get(question)
            if kept is not None:
                self._pause(kept, now)
            return
        fetch.upstream = chosen
        if self.how.coalesces or token is None:
            self._fetches[question] = fetch
        self._try(fetch, now)

    def _try(self, fetch: Fetch, now: float) -> None:
        health = self._health[fetch.upstream]
        wait = health.patience(self.how.tries, fetch.tries)
        health.asked(now)
        attempt = fetch.attempt = Attempt(fetch, now, wait, health.flow(now))
        self._stage.send(self, fetch.upstream, fetch.question, attempt, attempt.flow)
        self._stage.after(wait, self._silence, attempt)

    def _silence(self, attempt: Attempt) -> None:
        if not attempt.fetch.over and attempt.fetch.attempt is attempt:
            self._lost(attempt, self._stage.now, None)

    def again(self, plan: Walked, now: float) -> Walk | None:
        """It is as quick to ask for the parts."""
        return None

    def walked(self, plan: Walked, walk: Walk) -> None:
        """Nothing is noted."""

    def heard(self, token: object, said: Said, now: float) -> None:
        if isinstance(token, int):  # a health check's
            if said.rcode != CLOSED:
                self._health[token].answered(now, 0.0)
            return
        assert isinstance(token, Attempt)
        waited, fetch = now - token.sent, token.fetch
        if waited > token.timeout or (said.rcode == CLOSED and self.how.deaf):
            return
        if said.rcode != CLOSED:
            self._health[token.upstream].answered(now, waited)
        if fetch.over:
            return
        if said.rcode in (NOERROR, NXDOMAIN):
            self._over(fetch)
            self._learn(fetch, said, now)
        else:
            self._lost(token, now, said)

    def _lost(self, attempt: Attempt, now: float, said: Said | None) -> None:
        """A try came to nothing: the next one, or the end."""
        fetch, health = attempt.fetch, self._health[attempt.upstream]
        if said is None or said.rcode == CLOSED:
            health.close(attempt.flow)
            if health.failed(attempt.timeout):
                self._check(attempt.upstream)
        fetch.tries += 1
        others = self._zones.of(fetch.question)
        if said is None or len(others) > 1:
            most = health.tries(self.how.tries, len(others))
        else:
            most = 1 + self.how.insists
        if fetch.tries < most:
            at = others.index(fetch.upstream)
            fetch.upstream = others[(at + 1) % len(others)]
            self._try(fetch, now)
            return
        self._over(fetch)
        self._fail(fetch, said, now)

    def _over(self, fetch: Fetch) -> None:
        fetch.over = True
        if self._fetches.get(fetch.question) is fetch:
            del self._fetches[fetch.question]

    def _check(self, upstream: int) -> None:
        """CoreDNS's forward looks every half a second whether a server answers again."""
        health = self._health[upstream]
        if health.checking:
            self._stage.send(self, upstream, self._zones.root, upstream)
            self._stage.after(health.pause(), self._check_over, upstream)

    def _check_over(self, upstream: int) -> None:
        if self._health[upstream].checking:
            self._health[upstream].failed(0.0)
            self._check(upstream)

    # -- answers ----------------------------------------------------------------------------

    def _learn(self, fetch: Fetch, said: Said, now: float) -> None:
        question, how = fetch.question, self.how
        old = self._kept.get(question)
        answer = fresh(said, now)
        positive = old is not None and old.said.addresses and now < old.dies
        if how.prefer_positive and positive and not said.addresses:
            assert old is not None
            self._pause(old, now)
            self._tell(fetch, _remembered(old, now))
            return
        cluster = self._zones.in_cluster(question)
        if said.addresses:
            most = how.cluster_positive_max if cluster else how.positive_max
        else:
            most = how.cluster_negative_max if cluster else how.negative_max
        ttl = min(max(said.ttl, how.ttl_min), most)
        if ttl > 0:
            self._kept[question] = Kept(said, now, ttl, how.stale_seconds)
        self._broken.pop(question, None)
        self._tell(fetch, answer)

    def _fail(self, fetch: Fetch, said: Said | None, now: float) -> None:
        kept = self._kept.get(fetch.question)
        if kept is not None and now < kept.dies:
            self._pause(kept, now)
            self._tell(fetch, _remembered(kept, now))
            return
        if said is not None and said.rcode != CLOSED:
            self._broken[fetch.question] = now + self.how.servfail_ttl, said.rcode
            self._tell(fetch, failure(now, said.rcode))
        elif not self.how.silent:
            self._tell(fetch, failure(now))

    def _pause(self, kept: Kept, now: float) -> None:
        kept.retry_at = now + self.how.recheck

    def _tell(self, fetch: Fetch, answer: Answer) -> None:
        for token in fetch.waiters:
            self._stage.reply(token, answer)
        fetch.waiters = []

    def stop(self, now: float, how: Restart) -> None:
        """None of them keeps its cache on a disk."""
        for fetch in self._fetches.values():
            fetch.over = True
        self._kept.clear()
        self._fetches.clear()
        self._broken.clear()
        self._health = {u: HEALTHS[self.how.health]() for u in self._zones.upstreams()}

    def begin(self, now: float) -> None:
        """There is nothing to take back."""


def _remembered(kept: Kept, now: float) -> Answer:
    said = kept.said
    source = HIT if now < kept.expires else STALE
    return said.rcode, said.addresses, source, kept.stored, said.ttl


class Zones:
    """Which upstreams answer for a question; the same for all systems."""

    def __init__(self, upstreams: Sequence[tuple[str, tuple[int, ...]]], cluster: str) -> None:
        self._zones = sorted(upstreams, key=lambda zone: -len(zone[0]))
        self._cluster = "." + cluster
        self._found: dict[Question, tuple[int, ...]] = {}
        self.root = Question("", 2)

    def upstreams(self) -> list[int]:
        """All of them."""
        return sorted({number for _, numbers in self._zones for number in numbers})

    def of(self, question: Question) -> tuple[int, ...]:
        """Those for a question, in the order in which they are asked."""
        found = self._found.get(question)
        if found is None:
            name = "." + question.name
            found = next(
                numbers for zone, numbers in self._zones if zone == "." or name.endswith("." + zone)
            )
            self._found[question] = found
        return found

    def in_cluster(self, question: Question) -> bool:
        """True for a name of the cluster's own zone."""
        return question.name.endswith(self._cluster)


class NoCache:
    """Programs ask the cluster's DNS themselves. The service's address leads to any of them."""

    def __init__(self, stage: Stage, zones: Zones, chance: Chance) -> None:
        self._stage = stage
        self._zones = zones
        self._chance = chance

    def ask(self, question: Question, token: int, now: float) -> Answer | None:
        upstreams = self._zones.of(question)
        at = int(self._chance.random() * len(upstreams))
        self._stage.send(self, upstreams[at], question, token)
        return None

    def again(self, plan: Walked, now: float) -> Walk | None:
        """Nothing is remembered."""
        return None

    def walked(self, plan: Walked, walk: Walk) -> None:
        """Nothing is noted."""

    def heard(self, token: object, said: Said, now: float) -> None:
        assert isinstance(token, int)
        self._stage.reply(token, fresh(said, now))

    def stop(self, now: float, how: Restart) -> None:
        """There is nothing to lose."""

    def begin(self, now: float) -> None:
        """There is nothing to take back."""
