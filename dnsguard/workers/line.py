"""What the supervisor and a worker say to each other, over a pair of sockets made for the two.

Down go settings, which the supervisor alone reads and judges; up go the word that a worker serves,
why it cannot, and a beat every second. Each message is one packet, so nothing is ever half read;
the end of one side is seen by the other at once, however it came.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

from dnsguard.config import Settings

BEAT_SECONDS = 1.0
MESSAGE_MAX = 1 << 20
SEND_BUFFER = 2 * MESSAGE_MAX  # the kernel cuts this to its own maximum, which is enough for both


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker needs to know at its start."""

    number: int
    meeting: str  # the directory where workers find each other, and the supervisor them
    settings: Settings
    resolvers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serving:
    """A worker answers queries from now on."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's loop turns."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker cannot start, and why."""

    text: str


Message = Orders | Settings | Serving | Beat | Failed


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a line."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return ends


def packed(message: Message) -> bytes:
    """Return a message as it goes over the line, between a process and its own child."""
    if isinstance(message, Orders):
        message = replace(message, settings=_plain(message.settings))
    elif isinstance(message, Settings):
        message = _plain(message)
    return pickle.dumps(message)


def _plain(settings: Settings) -> Settings:
    return replace(settings, effective=dict(settings.effective))


def unpacked(octets: bytes) -> Message:
    """Return the message in one packet."""
    message: Message = pickle.loads(octets)
    if isinstance(message, Orders):
        return replace(message, settings=_fixed(message.settings))
    return _fixed(message) if isinstance(message, Settings) else message


def _fixed(settings: Settings) -> Settings:
    return replace(settings, effective=MappingProxyType(dict(settings.effective)))


class Line:
    """One end, on the running loop. `told` gets what the other says; `gone` is for its end."""

    def __init__(
        self,
        sock: socket.socket,
        told: Callable[[Message], None],
        gone: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._told = told
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self.readable)
        self._open = True

    def say(self, message: Message) -> None:
        """Send one message; if the other does not read any more, it is as good as gone."""
        if self._open:
            try:
                self._sock.send(packed(message))
            except OSError:
                self._end()

    def readable(self) -> None:
        """Take what has come, up to the end if there is one."""
        while self._open:
            try:
                octets = self._sock.recv(MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError:
                octets = b""
            if not octets:
                self._end()
                return
            self._told(unpacked(octets))

    def _end(self) -> None:
        if self._open:
            self.close()
            self._loop.call_soon(self._gone)

    def close(self) -> None:
        """Hear and say nothing more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class Post:
    """A worker's place: its number, its line to the supervisor, and the settings it was given."""

    def __init__(self, orders: Orders, sock: socket.socket) -> None:
        self.number = orders.number
        self.meeting = orders.meeting
        self.resolvers = orders.resolvers
        self._settings = orders.settings
        self._sock = sock
        self._line: Line | None = None

    def begin(self, changed: Callable[[], None], alone: Callable[[], None]) -> None:
        """Listen to the supervisor: `changed` at new settings, `alone` if it is gone."""

        def told(message: Message) -> None:
            if isinstance(message, Settings):
                self._settings = message
                changed()

        self._line = Line(self._sock, told, alone)
        self._beat()

    def settings(self) -> Settings:
        """Return the settings of the supervisor, which has judged them."""
        return self._settings

    def others(self, settings: Settings) -> list[int]:
        """Return the numbers of the other workers."""
        return [number for number in range(1, settings.workers + 1) if number != self.number]

    def _beat(self) -> None:
        assert self._line is not None
        self._line.say(Beat())
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def serving(self) -> None:
        """Tell the supervisor that queries are answered."""
        assert self._line is not None
        self._line.say(Serving())


def meeting_name(number: int) -> str:
    """Return the name of a worker's own admin socket in the meeting place."""
    return f"worker-{number}.http"


def control_name(number: int) -> str:
    """Return the name of the directory of a worker's own control socket in the meeting place."""
    return f"worker-{number}"


def receive_orders(sock: socket.socket) -> Orders:
    """Wait for the first message, which the supervisor has sent before it started us."""
    sock.setblocking(True)
    message = unpacked(sock.recv(MESSAGE_MAX))
    sock.setblocking(False)
    assert isinstance(message, Orders)
    return message


def describe(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
