"""How programs ask: the stub resolvers of glibc, musl, Go and Java, as the machines of `lookup`.

They follow glibc's resolv/res_query.c and res_send.c, musl's lookup_name.c and res_msend.c (1.2.5),
Go's net/dnsclient_unix.go and the cache of Java's InetAddress, each with one nameserver. Left out:
truncated replies and TCP.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnsguard.sim.lookup import (
    NEVER,
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    TYPES,
    Addresses,
    Lookup,
    Reply,
    Resolv,
    Result,
    Send,
    Status,
    Stub,
)

JAVA_POSITIVE_SECONDS = 30.0  # networkaddress.cache.ttl, whatever the record's own TTL
JAVA_NEGATIVE_SECONDS = 10.0  # networkaddress.cache.negative.ttl; of failures too


# -- glibc ----------------------------------------------------------------------------------


class Glibc(Stub):
    """glibc: both questions from one socket, 5 s, twice, then the next candidate or the end."""

    model = "glibc"

    def __init__(self, resolv: Resolv) -> None:
        super().__init__(resolv)
        # A pair of which one half was lost makes the process ask one after the other from then on
        # (RES_SNGLKUP), and with a socket for each if that does not help (RES_SNGLKUPREOP).
        self.single = False
        self.reopen = False

    def look_up(self, name: str, now: float, first: int = 0) -> Lookup:
        return _GlibcLookup(self, name, now, first)


class _GlibcLookup(Lookup):
    __slots__ = (
        "_direct", "_got", "_last", "_nodata", "_saved", "_servfail", "_stub", "_tries", "_unasked",
    )  # fmt: skip

    def __init__(self, stub: Glibc, name: str, now: float, first: int) -> None:
        super().__init__(stub.resolv, stub.candidates(name), first)
        self._stub = stub
        self._direct = self.names.index(name.removesuffix("."))  # the name as it is
        # What came of that one, if it was first: it decides in the end.
        self._saved: Status | None = Status.NOT_FOUND if first and not self._direct else None
        self._nodata = self._servfail = False
        self._begin(now)

    def _begin(self, now: float) -> None:
        """Begin with a candidate."""
        self.socket += 1
        self._tries = 0
        self._last = NOERROR  # the rcode seen last
        self._try(now)

    def _try(self, now: float) -> None:
        self._got: list[Reply | None] = [None, None]
        self._unasked = self._stub.single
        self.at = now + self.resolv.timeout
        self._ask(0)
        if not self._stub.single:
            self._ask(1)

    def _ask(self, half: int) -> None:
        number = 2 * self.step + half
        name = self.names[self.step]
        self.sends.append(Send(number, name, TYPES[half], self.socket, edns=False))

    def reply(self, send: Send, rcode: int, addresses: Addresses, now: float) -> None:
        half = send.number & 1
        late = send.socket != self.socket or send.number >> 1 != self.step
        if self.result is not None or late or self._got[half] is not None:
            return
        self._got[half] = Reply(rcode, addresses)
        self._last = rcode
        if self._unasked:
            self._unasked = False
            if self._stub.reopen:
                self.socket += 1
            self._ask(1)
        elif None not in self._got:
            self._both(now)

    def _both(self, now: float) -> None:
        got = [reply for reply in self._got if reply is not None]
        if all(reply.rcode not in (NOERROR, NXDOMAIN) for reply in got):
            self._again(now)
        else:
            self._decide(now)

    def _decide(self, now: float) -> None:
        """Go by what came; a half that is missing or an error counts as empty."""
        got = [reply or Reply(SERVFAIL, ()) for reply in self._got]
        addresses = got[0].addresses + got[1].addresses
        if addresses:
            self._end(Status.FOUND, addresses, now)
        elif NXDOMAIN in (got[0].rcode, got[1].rcode):
            self._next(Status.NOT_FOUND, now)
        elif got[0].rcode == NOERROR:
            self._nodata = True
            self._next(Status.NOT_FOUND, now)
        else:
            self._servfail = True
            self._next(Status.FAILED, now)

    def _again(self, now: float) -> None:
        """Try once more (no other nameserver is there), or give the candidate up."""
        self._tries += 1
        if self._tries < self.resolv.attempts:
            self._try(now)
        elif self._last == SERVFAIL:
            self._servfail = True
            self._next(Status.FAILED, now)
        else:
            self._stop(now)

    def _next(self, status: Status, now: float) -> None:
        """Go on with the next candidate, or end: what the last one said counts least."""
        if self.step == 0 == self._direct:
            self._saved = status
        if self.step + 1 < len(self.names):
            self.step += 1
            self._begin(now)
        else:
            self._conclude(status, now)

    def _stop(self, now: float) -> None:
        """Search no further; only the name as it is may still be tried."""
        if self.step == self._direct:
            self._next(Status.FAILED, now)
        elif self.step < self._direct:
            self.step = self._direct
            self._begin(now)
        else:
            self._conclude(Status.FAILED, now)

    def _conclude(self, status: Status, now: float) -> None:
        if self._saved is not None:
            status = self._saved
        elif self._nodata:
            status = Status.NOT_FOUND
        elif self._servfail:
            status = Status.FAILED
        self._end(status, (), now)

    def refused(self, send: Send, now: float) -> None:
        if self.result is None and send.socket == self.socket:
            self._tries += 1
            if self._tries < self.resolv.attempts:
                self.socket += 1
                self._try(now)
            else:
                self._end(Status.FAILED, (), now)  # ECONNREFUSED ends a search at once

    def due(self, now: float) -> None:
        if self.result is not None:
            return
        good = any(reply is not None and reply.rcode in (0, 3) for reply in self._got)
        if not good:
            self._again(now)
        elif not self._stub.single:
            self._stub.single = True
            self._try(now)
        elif not self._stub.reopen:
            self._stub.reopen = True
            self.socket += 1
            self._try(now)
        else:
            self._decide(now)


# -- musl -----------------------------------------------------------------------------------


class Musl(Stub):
    """musl: one error or one silence ends the whole look-up, and a SERVFAIL is nearly a silence."""

    model = "musl"

    def candidates(self, name: str) -> tuple[str, ...]:
        if name.count(".") >= self.resolv.ndots or name.endswith("."):
            return (name.removesuffix("."),)
        return super().candidates(name)

    def settle(self, pair: Sequence[Reply]) -> Status | None:
        if NXDOMAIN in (pair[0].rcode, pair[1].rcode):
            return None
        return Status.FOUND if pair[0].addresses or pair[1].addresses else Status.NOT_FOUND

    def look_up(self, name: str, now: float, first: int = 0) -> Lookup:
        return _MuslLookup(self, self.candidates(name), now, first)


class _MuslLookup(Lookup):
    __slots__ = ("_ends", "_got", "_retries", "_stub")

    def __init__(self, stub: Musl, names: Sequence[str], now: float, first: int) -> None:
        super().__init__(stub.resolv, names, first)
        self._stub = stub
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.socket += 1
        self._got: list[Reply | None] = [None, None]
        self._ends = now + self.resolv.timeout
        self._round(now)

    def _round(self, now: float) -> None:
        self._retries = 2 * len(TYPES)  # immediate repeats after SERVFAIL
        self.at = min(now + self.resolv.timeout / self.resolv.attempts, self._ends)
        for half in (0, 1):
            if self._got[half] is None:
                self._ask(half)

    def _ask(self, half: int) -> None:
        number = 2 * self.step + half
        name = self.names[self.step]
        self.sends.append(Send(number, name, TYPES[half], self.socket, edns=False))

    def reply(self, send: Send, rcode: int, addresses: Addresses, now: float) -> None:
        half = send.number & 1
        if self.result is not None or send.socket != self.socket or self._got[half] is not None:
            return
        if rcode == SERVFAIL and self._retries:
            self._retries -= 1
            self._ask(half)
        if rcode not in (NOERROR, NXDOMAIN):
            return
        self._got[half] = Reply(rcode, addresses)
        pair = [reply for reply in self._got if reply is not None]
        if len(pair) == len(TYPES):
            self._both(pair, now)

    def _both(self, pair: Sequence[Reply], now: float) -> None:
        status = self._stub.settle(pair)
        if status is None and self.step + 1 < len(self.names):
            self.step += 1
            self._begin(now)
            return
        found = status is Status.FOUND
        addresses = pair[0].addresses + pair[1].addresses if found else ()
        self._end(status or Status.NOT_FOUND, addresses, now)

    def refused(self, send: Send, now: float) -> None:
        """Its socket is not connected, so the kernel does not tell it."""

    def due(self, now: float) -> None:
        if self.result is not None:
            return
        if now >= self._ends:
            self._end(Status.FAILED, (), now)
        else:
            self._round(now)


# -- Go -------------------------------------------------------------------------------------


class Go(Stub):
    """Go's own resolver: each question on its own socket and clock; errors do not end a search."""

    model = "go"
    edns = True

    def look_up(self, name: str, now: float, first: int = 0) -> Lookup:
        asked = name.removesuffix(".")
        return _GoLookup(self, asked, self.candidates(name), now, first)


class _Half:
    """One question of a pair: its attempts, and what came of it."""

    __slots__ = ("at", "attempts", "over", "socket")

    def __init__(self) -> None:
        self.attempts = 0
        self.socket = 0
        self.at = NEVER
        self.over = False


class _GoLookup(Lookup):
    __slots__ = ("_addresses", "_asked", "_error", "_halves")

    def __init__(self, stub: Go, asked: str, names: Sequence[str], now: float, first: int) -> None:
        super().__init__(stub.resolv, names, first)
        self._asked = asked
        self._error: Status | None = None if first == 0 else Status.NOT_FOUND
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._addresses: Addresses = ()
        self._halves = (_Half(), _Half())
        for half in (0, 1):
            self._ask(half, now)

    def _ask(self, number: int, now: float) -> None:
        half = self._halves[number]
        half.attempts += 1
        self.socket += 1
        half.socket = self.socket
        half.at = now + self.resolv.timeout
        name = self.names[self.step]
        question = 2 * self.step + number
        self.sends.append(Send(question, name, TYPES[number], half.socket, edns=True))
        self.at = min(one.at for one in self._halves)

    def reply(self, send: Send, rcode: int, addresses: Addresses, now: float) -> None:
        half = self._halves[send.number & 1]
        if self.result is not None or half.over or send.socket != half.socket:
            return
        if rcode == NOERROR and addresses:
            self._addresses += addresses
            self._over(half, None, now)
        elif rcode in (NOERROR, NXDOMAIN):
            self._over(half, Status.NOT_FOUND, now)
        else:
            self._again(send.number & 1, now)

    def _again(self, number: int, now: float) -> None:
        if self._halves[number].attempts < self.resolv.attempts:
            self._ask(number, now)
        else:
            self._over(self._halves[number], Status.FAILED, now)

    def _over(self, half: _Half, error: Status | None, now: float) -> None:
        half.over = True
        half.at = NEVER
        self.at = min(one.at for one in self._halves)
        # The error of the name as it was given is preferred to those of the search list.
        if error is not None and (self._error is None or self.names[self.step] == self._asked):
            self._error = error
        if not all(one.over for one in self._halves):
            return
        if self._addresses:
            self._end(Status.FOUND, self._addresses, now)
        elif self.step + 1 < len(self.names):
            self.step += 1
            self._begin(now)
        else:
            self._end(self._error or Status.NOT_FOUND, (), now)

    def refused(self, send: Send, now: float) -> None:
        half = self._halves[send.number & 1]
        if self.result is None and not half.over and send.socket == half.socket:
            self._again(send.number & 1, now)

    def due(self, now: float) -> None:
        for number in (0, 1):
            if self.result is None and self._halves[number].at <= now:
                self._again(number, now)


# -- Java -----------------------------------------------------------------------------------


class Java(Glibc):
    """A Java virtual machine on glibc: InetAddress keeps what it found, and that it failed.

    Left out: that threads which ask for one name at one time share a look-up.
    """

    model = "java"

    def __init__(self, resolv: Resolv) -> None:
        super().__init__(resolv)
        self._kept: dict[str, tuple[float, Result]] = {}

    def remembered(self, name: str, now: float) -> Result | None:
        """Return what InetAddress still remembers of a name."""
        until, result = self._kept.get(name, (0.0, None))
        return result if now < until else None

    def keep(self, name: str, result: Result, now: float) -> None:
        """Remember how a look-up ended."""
        found = result.status is Status.FOUND
        seconds = JAVA_POSITIVE_SECONDS if found else JAVA_NEGATIVE_SECONDS
        self._kept[name] = now + seconds, result

    def keep_found(self, name: str, status: Status, addresses: Addresses, now: float) -> None:
        """Remember how a look-up ended that was walked through without a machine."""
        self.keep(name, Result(status, addresses, name), now)

    def look_up(self, name: str, now: float, first: int = 0) -> Lookup:
        return _JavaLookup(self, name, now, first)


class _JavaLookup(_GlibcLookup):
    __slots__ = ("_name",)

    def __init__(self, stub: Java, name: str, now: float, first: int) -> None:
        self._name = name
        super().__init__(stub, name, now, first)
        kept = stub.remembered(name, now)
        if kept is not None:
            self.result = kept
            self.at = NEVER
            self.sends.clear()

    def _end(self, status: Status, addresses: Addresses, now: float) -> None:
        super()._end(status, addresses, now)
        assert self.result is not None
        assert isinstance(self._stub, Java)
        self._stub.keep(self._name, self.result, now)


STUBS: dict[str, type[Stub]] = {stub.model: stub for stub in (Glibc, Musl, Go, Java)}
