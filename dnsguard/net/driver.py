"""Between the engine and the sockets: bytes and time in, actions out, one timer.

After every batch the driver empties the engine's outbox: asks to their servers, replies to their
clients, notices to the log; then it sets the one timer to the engine's next deadline. It decides
nothing. The loop supplies readiness and that timer, no task and no future per query.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterable
from typing import cast

from dnsguard import clock
from dnsguard.core.actions import Notice
from dnsguard.core.engine import Engine
from dnsguard.core.flights import Ask
from dnsguard.core.policy import Policy
from dnsguard.core.zones import Server
from dnsguard.net.accept import Acceptor, Client
from dnsguard.net.addresses import Access, Rates
from dnsguard.net.listen import Listener, Sink
from dnsguard.net.sampling import Sample, Sampler, Tap
from dnsguard.net.stream import Streams
from dnsguard.net.upstream import Ports

Origin = tuple[Sink, bytes]  # what a reply goes back to: a socket, and the address behind it
SWEEP_SECONDS = 1.0
EARLY = 0.001  # loops count in milliseconds and wake a hair early


class Driver:
    """Runs one engine on the running event loop. `notice` is called for each notice."""

    def __init__(self, policy: Policy, access: Access, notice: Callable[[Notice], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._notice = notice
        self.engine = Engine(policy, random.SystemRandom(), clock.now(), self._is_ours)
        self.ports = Ports(self.engine, clock.now, self.flush)
        self.streams = Streams(self.engine, clock.now, self.flush)
        self._rates = Rates(policy.limits.client_qps)
        self.acceptor = Acceptor(self.engine, access, self._rates, clock.now, self.flush)
        self.listeners: list[Listener] = []
        self._access = access
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._flushing = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None  # while stopping
        self._sampler: Sampler | None = None
        self.search: Callable[[bytes], None] = _nobody  # looks for a name elsewhere

    async def start(self, udp: Iterable[socket.socket], tcp: Iterable[socket.socket]) -> None:
        """Serve on these bound sockets from now on; they belong to the driver now."""
        for sock in udp:
            listener = Listener(
                sock, self.engine, self._access, self._rates, clock.now, self.flush, self._blocked
            )
            self.listeners.append(listener)
            self._loop.add_reader(listener.fd, listener.readable)
        for sock in tcp:
            await self.acceptor.listen(sock)
        self._loop.add_reader(self.ports.fd, self.ports.readable)
        self._sweep()
        self.flush()

    # -- the outbox -------------------------------------------------------------------------

    def flush(self) -> None:
        """Empty the engine's outbox and set the timer."""
        if self._flushing:
            return  # a failed send reports to the engine; the loop below finds what comes of it
        self._flushing = True
        try:
            self._empty_outbox()
        finally:
            self._flushing = False  # or one error here would be the last that is ever sent
        self._arm()
        drained = self._drained
        if drained is not None and not drained.done() and not self.engine.asking.waited_for:
            drained.set_result(None)

    def _empty_outbox(self) -> None:
        out = self.engine.out
        sinks: dict[int, Sink] = {}
        while out.asks or out.replies or out.searches:
            if out.searches:
                searches = out.searches[:]
                out.searches.clear()
                for key in searches:
                    self.search(key)
            if out.asks:
                asks = out.asks[:]
                out.asks.clear()
                self._send_asks(asks)
            if out.replies:
                if self.engine.autopath.waiting:
                    self.engine.autopath.settle(clock.now())
                replies = out.replies[:]
                out.replies.clear()
                last: Sink | None = None
                for (sink, name), wire in cast(list[tuple[Origin, bytes]], replies):
                    if sink is not last:
                        sinks[id(sink)] = last = sink
                    sink.waiting.append((name, wire))
        for sink in sinks.values():
            sink.flush()
        if out.notices:
            notices = out.notices[:]
            out.notices.clear()
            for notice in notices:
                self._notice(notice)

    def _send_asks(self, asks: list[Ask]) -> None:
        now = clock.now()
        first = asks[0].server
        for ask in asks:
            if ask.server is not first or ask.stream:
                break
        else:
            self.ports.send(first, asks, now)  # the usual case: one upstream, by UDP
            return
        groups: dict[tuple[Server, bool], list[Ask]] = {}
        for ask in asks:
            groups.setdefault((ask.server, ask.stream), []).append(ask)
        for (server, stream), group in groups.items():
            (self.streams if stream else self.ports).send(server, group, now)

    def _blocked(self, listener: Listener, blocked: bool) -> None:
        """Call `flush` of a listener when its socket takes replies again."""
        if blocked:
            self._loop.add_writer(listener.fd, listener.flush)
        else:
            self._loop.remove_writer(listener.fd)

    def _is_ours(self, client: object, ask: Ask) -> bool:
        sink, name = cast(Origin, client)
        if isinstance(sink, Tap):
            sink = sink.sink
        if isinstance(sink, Listener):
            return self.ports.sent_by_us(sink.sender(name), ask)
        return isinstance(sink, Client) and self.streams.sent_by_us(sink.peer, ask)

    # -- time -------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the timer to the engine's next deadline, unless it is set to an earlier one."""
        deadline = self.engine.deadline()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - clock.now()) + EARLY
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self.engine.tick(clock.now())
        self.flush()

    def _sweep(self) -> None:
        now = clock.now()
        self.ports.sweep(now, now - self.engine.policy.ask.deadline - SWEEP_SECONDS)
        self.streams.sweep(now)
        self.acceptor.sweep(now)
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def numbers(self) -> dict[str, int]:
        """Return what the sockets have to tell a scrape."""
        return {
            "tcp_connections": len(self.acceptor),
            "tcp_refused": self.acceptor.refused,
            "upstream_sockets": len(self.ports),
            "unsent_replies": sum(listener.unsent for listener in self.listeners),
        }

    def sample(self, share: float, say: Callable[[Sample], None]) -> None:
        """Tell what this share of the queries is answered, from now on; 0 ends it."""
        if self._sampler is not None:
            self._sampler.end()
            self._sampler = None
        if share > 0:
            self._sampler = Sampler(self.engine, share, say, clock.now)

    # -- settings and the end ---------------------------------------------------------------

    def reload(self, policy: Policy, access: Access) -> None:
        """Obey new settings from now on; what is remembered stays."""
        self.engine.reload(policy, clock.now())
        self._rates.per_second = policy.limits.client_qps
        for listener in self.listeners:
            listener.admit(access)
        self.acceptor.admit(access)
        self.flush()

    async def stop(self, drain: float, linger: float = 0.0, ours: int = 1) -> None:
        """Take no new queries, let the open ones finish for up to `drain` seconds, then end.

        Only what clients wait for counts, and only where an upstream may still answer: nobody else
        may listen at this address until this process is gone, least of all in an outage.
        Whatever still waits then is answered from what is remembered, or with SERVFAIL. Clients
        with a connection have `linger` seconds to end it themselves, so that it is not ended while
        a query of theirs is on its way. `ours` is how many processes end with this one.
        """
        for listener in self.listeners:
            listener.leave()  # what has already arrived is still read and answered
            listener.readable()
        await self.acceptor.stop(linger, ours)
        self._drained = self._loop.create_future()
        self.flush()  # if nothing is under way it is drained already
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained, drain)
        for listener in self.listeners:
            listener.readable()
            self._loop.remove_reader(listener.fd)
        self.engine.shutdown(clock.now())
        self.flush()
        self.acceptor.close()
        for handle in (self._timer, self._sweeper):
            if handle is not None:
                handle.cancel()
        for listener in self.listeners:
            self._loop.remove_writer(listener.fd)
            listener.close()
        self._loop.remove_reader(self.ports.fd)
        self.ports.close()
        self.streams.close()
        await asyncio.sleep(0)  # let transports that were closed say so


def _nobody(key: bytes) -> None:
    """Look nowhere: the engine does not ask for it unless someone can."""
