"""The loop that sends and receives: no tasks, no callbacks, one thread.

It sends what is due, reads what has come, and waits for whatever is next: an answer, or the instant
of the next query. Warm-up and measurement are the same work with different meters, and between them
it waits for every answer, so that the sums are exact: sent is answered plus lost. Instants are
whole microseconds since the generator was made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import select
import time
from collections.abc import Callable
from pathlib import Path

from dnsguard.bench.load import Load, NoAnswers, Progress
from dnsguard.bench.meter import Measured, Meter
from dnsguard.bench.pace import FlatOut, Pace, Steady
from dnsguard.bench.queries import Rows
from dnsguard.bench.tcp import Connection
from dnsguard.bench.udp import Buffers, Datagrams

Lane = Datagrams | Connection
CHORES_US = 20_000  # between looks for lost queries
PROGRESS_US = 250_000
SLICES = 100  # of the time line
SLICE_US_MIN = 100_000
PATIENCE_S = 5.0  # without any answer, then it is not slowness: resolvers end a query by then
_TIMER_SLACK = Path("/proc/self/timerslack_ns")


class Generator:
    """Sockets to one server, and the work of one load."""

    def __init__(self, load: Load, queries: Rows, tell: Callable[[Progress], None]) -> None:
        origin = time.perf_counter_ns()
        clock = time.perf_counter_ns
        self._now = lambda: (clock() - origin) // 1000
        self._load = load
        self._queries = queries
        self._tell = tell
        self._timeout = int(load.timeout * 1e6)
        self._limit = load.limit
        self._open = 0
        self._row = 0
        self._turn = 0
        self._answered_ever = False
        self._stopping = False
        self._measuring = False
        self._poll = select.epoll()
        self._lanes: list[Lane] = []
        self._of: dict[int, Lane] = {}
        try:
            self._connect()
        except OSError as error:
            self.close()
            raise NoAnswers(self._unreachable(error)) from None
        self._order = self._lanes[0].FLAGS
        with contextlib.suppress(OSError):
            _TIMER_SLACK.write_text("1")  # or waking up would be 50 us late, by the kernel's habit

    def _connect(self) -> None:
        load, buffers = self._load, Buffers()
        where = load.host, load.port
        for _ in range(load.connections):
            self._lanes.append(
                Connection(*where, self._queries, load.timeout, self._now)
                if load.tcp
                else Datagrams(*where, self._queries, buffers, self._now)
            )
            self._listen(self._lanes[-1])

    def _listen(self, lane: Lane) -> None:
        self._of[lane.fd] = lane
        self._poll.register(lane.fd, select.EPOLLIN)

    def stop(self) -> None:
        """Send nothing more; the phase that is on ends as if its time were over."""
        self._stopping = True

    def warm_up(self) -> None:
        """Ask for a while without counting. Raises NoAnswers."""
        if self._load.warmup:
            self._phase(self._load.warmup)

    def measure(self) -> Measured:
        """Ask and count. Raises NoAnswers."""
        self._measuring = True
        before = resource.getrusage(resource.RUSAGE_SELF)
        measured = self._phase(self._load.duration)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return dataclasses.replace(
            measured,
            cpu_user=after.ru_utime - before.ru_utime,
            cpu_system=after.ru_stime - before.ru_stime,
            dropped_here=sum(lane.dropped() for lane in self._lanes),
            refused=sum(lane.refused for lane in self._lanes),
            reconnects=sum(lane.reconnects for lane in self._lanes),
            interrupted=self._stopping,
        )

    # -- one phase --------------------------------------------------------------------------

    def _phase(self, seconds: float) -> Measured:
        start = self._now()
        length = int(seconds * 1e6)
        end = start + length
        qps = self._load.qps
        pace: Pace = FlatOut() if qps is None else Steady(qps, start)
        meter = Meter(start, max(length // SLICES, SLICE_US_MIN), self._order)
        chores_at = tell_at = start
        while (now := self._now()) < end and not self._stopping:
            if now >= chores_at:
                self._chores(now, meter)
                chores_at = now + CHORES_US
                if now >= meter.turns_at:
                    meter.turn(now)
                if now >= tell_at:
                    self._say(now, meter)
                    tell_at = now + PROGRESS_US
            sent = self._send(pace, meter)
            came = self._receive(meter)
            if not sent and not came:
                now = self._now()
                soonest = min(chores_at, end) - now
                rest = pace.rest(now) if self._has_room() else None
                self._wait(soonest if rest is None else min(soonest, rest))
        stopped, answered = min(self._now(), end), meter.answered
        meter.late = pace.late
        self._drain(meter)
        if not self._answered_ever:
            raise NoAnswers(self._silent())
        return meter.measured(stopped, answered, pace.unsent(stopped))

    def _send(self, pace: Pace, meter: Meter) -> int:
        """Send what is due and has room; return how many left."""
        total = tried = 0
        lanes, queries, rows = self._lanes, self._queries, self._queries.rows
        while self._open < self._limit and tried < len(lanes):
            lane = lanes[self._turn]
            most = min(self._limit - self._open, rows - self._row, lane.room())
            dues = pace.due(self._now(), most)
            if not dues and most:
                break
            self._turn = (self._turn + 1) % len(lanes)
            tried += 1
            if not dues:
                continue
            now = self._now()
            sent = lane.send(self._row, dues)
            if lane.blocked:
                self._poll.modify(lane.fd, select.EPOLLIN | select.EPOLLOUT)
            if sent:
                pace.sent(dues[:sent], now)
                self._row = (self._row + sent) % rows
                self._open += sent
                total += sent
                tried = 0
        meter.sent += total
        return total

    def _has_room(self) -> bool:
        return self._open < self._limit and any(lane.room() for lane in self._lanes)

    def _receive(self, meter: Meter) -> int:
        """Read a batch from every socket that has something; return how many answers came."""
        total = 0
        for fd, event in self._poll.poll(0):
            lane = self._of[fd]
            before = lane.window.open
            try:
                if event & select.EPOLLOUT:
                    lane.unblock()
                    if not lane.blocked:
                        self._poll.modify(fd, select.EPOLLIN)
                total += lane.receive(meter)
                self._open -= before - lane.window.open
            except ConnectionError:
                self._open -= before
                self._end(lane, meter)
        if total:
            self._answered_ever = True
        return total

    def _end(self, lane: Lane, meter: Meter) -> None:
        """A connection is over; the poll forgets it by itself when it is closed."""
        assert isinstance(lane, Connection)
        del self._of[lane.fd]
        meter.lose(lane.end())
        if lane.fruitful:
            self._reopen(lane)

    def _reopen(self, lane: Connection) -> None:
        if lane.reopen():
            self._listen(lane)

    def _wait(self, span: int) -> None:
        """Sleep until something comes, or for `span`. An epoll knows milliseconds, select less."""
        if span > 0:
            select.select((self._poll,), (), (), span / 1e6)

    def _chores(self, now: int, meter: Meter) -> None:
        """Look for lost queries, for connections to open, and for a server that never answers."""
        for lane in self._lanes:
            before = lane.window.open
            if isinstance(lane, Connection) and lane.fd < 0:
                self._reopen(lane)
            meter.lose(lane.window.expire(now - self._timeout))
            self._open -= before - lane.window.open
        if not self._answered_ever:
            refused = any(lane.refused for lane in self._lanes)
            if refused or now - meter.start > 1e6 * max(PATIENCE_S, self._load.timeout):
                raise NoAnswers(self._silent())

    def _drain(self, meter: Meter) -> None:
        """Wait for what is under way, for as long as an answer may take."""
        end = self._now() + self._timeout + 1
        while self._open and (now := self._now()) < end:
            if not self._receive(meter):
                self._chores(now, meter)
                self._wait(min(CHORES_US, end - now))
        for lane in self._lanes:
            meter.lose(lane.window.give_up())
        self._open = 0

    def _say(self, now: int, meter: Meter) -> None:
        elapsed = (now - meter.start) / 1e6
        self._tell(Progress(self._measuring, elapsed, meter.sent, meter.answered, meter.lost))

    # -- what went wrong ----------------------------------------------------------------------

    def _silent(self) -> str:
        load = self._load
        if any(lane.refused for lane in self._lanes):
            return f"{load.server} refuses {load.transport}: nothing listens there."
        return (
            f"{load.server} answers nothing over {load.transport}: is it a DNS server, and may "
            "this machine ask it?"
        )

    def _unreachable(self, error: OSError) -> str:
        load = self._load
        if isinstance(error, ConnectionRefusedError):
            return f"{load.server} refuses {load.transport}: nothing listens there."
        what = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        return f"{load.server} cannot be reached over {load.transport}: {what or error}."

    def close(self) -> None:
        """Close every socket."""
        for lane in self._lanes:
            lane.close()
        self._poll.close()
