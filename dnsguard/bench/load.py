"""What a load consists of, in plain values that one process can hand to another as JSON.

Nothing here acts; `names` knows what `names` may say, `generator` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnsguard.bench.meter import Measured
from dnsguard.bench.names import SEARCH
from dnsguard.bench.window import ids_of_each
from dnsguard.errors import DnsguardError
from dnsguard.net.mmsg import BATCH

CONNECTIONS = 8
OUTSTANDING = 100


class NoAnswers(DnsguardError):
    """The server answered nothing at all: how that showed itself, and what might help."""


@dataclass(frozen=True, slots=True)
class Load:
    """Whom to ask what, how fast and how long. Times are seconds."""

    host: str
    port: int
    names: str
    qtype: str = "A"
    suffix: str | None = None
    search: tuple[str, ...] = SEARCH
    edns: bool = False
    tcp: bool = False
    connections: int = CONNECTIONS
    qps: float | None = None  # None: flat out
    outstanding: int | None = None  # None: OUTSTANDING flat out, no limit at a steady rate
    duration: float = 10.0
    warmup: float = 1.0
    timeout: float = 2.0
    spin: bool = False  # never sleep
    seed: int = 1

    @property
    def server(self) -> str:
        """The server as one writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def transport(self) -> str:
        """UDP or TCP."""
        return "TCP" if self.tcp else "UDP"

    @property
    def limit(self) -> int:
        """The most queries that may wait for an answer at once."""
        most = self.connections * (ids_of_each(self.connections) - BATCH)
        return min(self.outstanding or (OUTSTANDING if self.qps is None else most), most)


# What the generating process says, one JSON object a line.


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is; `measuring` is False during warm-up."""

    measuring: bool
    elapsed: float
    sent: int
    answered: int
    lost: int


@dataclass(frozen=True, slots=True)
class Word:
    """One line: the beginning of the measurement, its progress, its end, or why there is none."""

    begins: bool = False
    progress: Progress | None = None
    ends: bool = False
    measured: Measured | None = None
    failure: str = ""
    usage: bool = False  # with `failure`: what was asked for cannot be, as against what happened
