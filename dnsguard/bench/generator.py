"""The loop that sends and receives: no tasks, no callbacks, one thread.

It sends what is due, reads what has come, and waits for whatever is next: an answer, or the instant
of the next query. Warm-up and measurement are the same work with different meters, and between them
it waits for every answer, so that the sums are exact: sent is answered plus lost. Instants are
whole microseconds since the generator was made.
"""

from __future__ import annotations

import dataclasses
import resource
import select
import time
from collections.abc import Callable

from dnsguard.bench.load import Load, NoAnswers, Progress
from dnsguard.bench.meter import Measured, Meter
from dnsguard.bench.pace import FlatOut, Pace, Steady
from dnsguard.bench.queries import Rows
from dnsguard.bench.tcp import Connection
from dnsguard.bench.udp import Buffers, Datagrams
from dnsguard.bench.window import Window, ids_of_each

Lane = Datagrams | Connection
CHORES_US = 20_000  # between looks for lost queries
PROGRESS_US = 250_000
SLICES = 100  # of the time line
SLICE_US_MIN = 100_000
PATIENCE_S = 5.0  # without any answer, then it is not slowness: resolvers end a query by then


class Generator:
    """Sockets to one server, and the work of one load."""

    def __init__(self, load: Load, queries: Rows, tell: Callable[[Progress], None]) -> None:
        origin = time.perf_counter_ns()

        def now(clock: Callable[[], int] = time.perf_counter_ns) -> int:
            return (clock() - origin) // 1000

        self._now = now
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
        self._polled = (self._poll.fileno(),)
        self._lanes: list[Lane] = []
        self._of: dict[int, Lane] = {}
        try:
            self._connect()
        except OSError as error:
            self.close()
            raise NoAnswers(self._unreachable(error)) from None
        self._order = self._lanes[0].FLAGS

    def _connect(self) -> None:
        load, buffers = self._load, Buffers()
        ids = ids_of_each(load.connections)
        for _ in range(load.connections):
            common = load.host, load.port, Window(ids), self._queries
            self._lanes.append(
                Connection(*common, load.timeout, self._now)
                if load.tcp
                else Datagrams(*common, buffers, self._now)
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
        dropped, refused, reconnects = self._troubles()  # those of the warm-up are its own
        before = resource.getrusage(resource.RUSAGE_SELF)
        measured = self._phase(self._load.duration)
        after = resource.getrusage(resource.RUSAGE_SELF)
        troubles = self._troubles()
        return dataclasses.replace(
            measured,
            cpu_user=after.ru_utime - before.ru_utime,
            cpu_system=after.ru_stime - before.ru_stime,
            dropped_here=troubles[0] - dropped,
            refused=troubles[1] - refused,
            reconnects=troubles[2] - reconnects,
            interrupted=self._stopping,
        )

    def _troubles(self) -> tuple[int, int, int]:
        """Return how many answers found no room, ICMP refusals and new connections there were."""
        lanes = self._lanes
        return (
            sum(lane.dropped() for lane in lanes),
            sum(lane.refused for lane in lanes),
            sum(lane.reconnects for lane in lanes),
        )

    # -- one phase --------------------------------------------------------------------------

    def _phase(self, seconds: float) -> Measured:
        start = self._now()
        length = int(seconds * 1e6)
        end = start + length
        qps = self._load.qps
        pace: Pace = FlatOut(end) if qps is None else Steady(qps, start, end)
        piece = max(length // SLICES, SLICE_US_MIN)
        meter = Meter(start, piece, self._order)
        chores_at = tell_at = start
        while (now := self._now()) < end and not self._stopping:
            if now >= chores_at:
                self._chores(now, meter)
                chores_at = now + CHORES_US
                if now >= meter.turns_at and end - now > piece // 2:
                    meter.turn(now)
                if now >= tell_at:
                    self._say(now, meter)
                    tell_at = now + PROGRESS_US
            self._send(now, pace, meter)
            now = self._now()
            rest = pace.rest(now)
            if rest == 0 and not self._has_room():
                rest = None
            soonest = min(chores_at, end) - now
            if self._wait(soonest if rest is None else min(soonest, rest)):
                self._receive(meter)
        stopped, answered = min(self._now(), end), meter.answered
        if not self._stopping:
            self._send(self._now(), pace, meter)  # what became due in the last moment
        meter.late = pace.late
        self._drain(meter)
        if not self._answered_ever and not self._stopping:
            raise NoAnswers(self._silent())
        return meter.measured(stopped, answered, pace.unsent(stopped))

    def _send(self, now: int, pace: Pace, meter: Meter) -> None:
        """Send what is due and has room."""
        tried = 0
        lanes, rows = self._lanes, self._queries.rows
        while self._open < self._limit and tried < len(lanes):
            lane = lanes[self._turn]
            room = lane.room()
            if not room and not lane.blocked:
                self._lose(lane.window.make_room(), meter)
                room = lane.room()
            most = min(self._limit - self._open, rows - self._row, room)
            dues = pace.due(now, most)
            if not dues and most:
                break
            self._turn = (self._turn + 1) % len(lanes)
            tried += 1
            if not dues:
                continue
            sent = lane.send(self._row, dues)
            if lane.blocked:
                self._poll.modify(lane.fd, select.EPOLLIN | select.EPOLLOUT)
            if sent:
                pace.sent(dues[:sent], now)
                self._row = (self._row + sent) % rows
                self._open += sent
                meter.sent += sent
                tried = 0
                now = self._now()

    def _lose(self, dues: list[int], meter: Meter) -> None:
        """Note that the queries of these dues, which were open until now, are lost."""
        meter.lose(dues)
        self._open -= len(dues)

    def _has_room(self) -> bool:
        return self._open < self._limit and any(lane.room() for lane in self._lanes)

    def _receive(self, meter: Meter) -> None:
        """Read a batch from every socket that has something."""
        for fd, event in self._poll.poll(0):
            lane = self._of[fd]
            before = lane.window.open
            try:
                if event & select.EPOLLOUT:
                    lane.unblock()
                    if not lane.blocked:
                        self._poll.modify(fd, select.EPOLLIN)
                lane.receive(meter)
                self._open -= before - lane.window.open
            except ConnectionError:
                self._end(lane, meter)
        self._answered_ever = self._answered_ever or meter.answered > 0

    def _end(self, lane: Lane, meter: Meter) -> None:
        """A connection is over; the poll forgets it by itself when it is closed."""
        assert isinstance(lane, Connection)
        del self._of[lane.fd]
        self._lose(lane.end(), meter)
        if lane.fruitful:
            self._reopen(lane)

    def _reopen(self, lane: Connection) -> None:
        if lane.reopen():
            self._listen(lane)

    def _wait(self, span: int) -> bool:
        """Sleep for `span`, or until something comes; return whether it did.

        An epoll counts in milliseconds, select does not, and an epoll can be waited for.
        """
        if self._load.spin:
            return True
        return bool(select.select(self._polled, (), (), max(span, 0) / 1e6)[0])

    def _chores(self, now: int, meter: Meter) -> None:
        """Look for lost queries, for connections to open, and for a server that never answers."""
        for lane in self._lanes:
            if isinstance(lane, Connection) and lane.fd < 0:
                self._reopen(lane)
            self._lose(lane.window.expire(now - self._timeout), meter)
        if not self._answered_ever:
            refused = any(lane.refused for lane in self._lanes)
            if refused or now - meter.start > 1e6 * max(PATIENCE_S, self._load.timeout):
                raise NoAnswers(self._silent())

    def _drain(self, meter: Meter) -> None:
        """Wait for what is under way, for as long as an answer may take."""
        end = self._now() + self._timeout + 1
        while self._open and (now := self._now()) < end:
            self._chores(now, meter)
            if self._wait(min(CHORES_US, end - now)):
                self._receive(meter)
        for lane in self._lanes:
            self._lose(lane.window.give_up(), meter)

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
