"""What came of outages that were replayed: the one format of `bench simulate` and `bench outage`.

A `Result` is plain numbers and text, so that it can be written as JSON, read again by a later
version, and made into a table or a page by somebody who knows nothing of how it came about. All
instants are seconds since the scenario's start on the clock of the run: where time was compressed,
phases are as short as they were, and `Scenario.compression` says by how much. Latencies and ages
are seconds as they passed. docs/outages.md describes the JSON for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from dnsguard.errors import DnsguardError

FORMAT = 1  # goes up when a reader of the former format would be wrong
IN_TIME_SECONDS = 2.0  # an answer that comes later helps nobody: stubs and callers have given up


class ResultError(DnsguardError):
    """A file that is no result, or one of another format."""


class Mode(StrEnum):
    """How the outages were replayed."""

    SIMULATE = "simulate"  # virtual time, models
    OUTAGE = "outage"  # real sockets and processes


class Kind(StrEnum):
    """What a system is."""

    DNSGUARD = "dnsguard"  # its own code: the core in virtual time, or the process
    MODEL = "model"  # of another cache, or of none
    PEER = "peer"  # another server, as a process


class Outcome(StrEnum):
    """What a look-up (one getaddrinfo call, not a packet) brought the program that asked.

    Whether it was in time is another question: RIGHT after 5 s is right and late.
    """

    RIGHT = "right"  # addresses that work, or "no such name" of a name that does not exist
    WRONG_NEGATIVE = "wrong_negative"  # "no such name" or "no address" of what exists
    DEAD_ADDRESS = "dead_address"  # only addresses where nobody listens any more
    DELETED = "deleted"  # addresses of a name that was deleted
    FAILED = "failed"  # an error: SERVFAIL, or no answer until the client gave up


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the scenario; it ends where the next one begins."""

    name: str
    begin: float  # seconds since the start
    end: float
    what: str  # what goes on, in a sentence
    outage: bool = False  # DNS is not as it should be


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was replayed, in so much as the report says it."""

    name: str
    title: str
    date: str  # of the outage it is after; empty where there was none
    length: float  # seconds, as it was run
    phases: tuple[Phase, ...]
    compression: float = 1.0  # the scenario's own seconds that passed in one second of the run
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know of this scenario

    @property
    def outage(self) -> tuple[float, float]:
        """From the first to the end of the last phase of outage; empty at the end if none is."""
        bad = [phase for phase in self.phases if phase.outage]
        return (bad[0].begin, bad[-1].end) if bad else (self.length, self.length)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over look-ups, failed ones too: how long the program waited. Seconds."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Numbers:
    """A stretch of time of one system: a phase, or all of it."""

    lookups: int = 0
    right: int = 0  # RIGHT and within IN_TIME_SECONDS
    late: int = 0  # RIGHT, later than that
    wrong_negative: int = 0
    dead_address: int = 0
    deleted: int = 0
    failed: int = 0
    known: int = 0  # the look-ups of names that existed before the outage, and still do
    known_right: int = 0  # of these, how many were right in time
    latency: Latency | None = None  # None where nobody asked
    upstream: int = 0  # queries that the system sent
    upstream_peak: int = 0  # in its worst second
    oldest: float = 0.0  # age of the oldest answer served: seconds since the upstream gave it
    sources: Mapping[str, int] = field(default_factory=dict)  # look-ups by where they were answered

    @property
    def availability(self) -> float | None:
        """The share of look-ups that were right in time; None where nobody asked."""
        return self.right / self.lookups if self.lookups else None

    @property
    def survival(self) -> float | None:
        """The same for names that existed before the outage."""
        return self.known_right / self.known if self.known else None


@dataclass(frozen=True, slots=True)
class Bin:
    """A piece of the time line. None where nobody asked."""

    at: float  # its begin, seconds since the start
    availability: float | None
    p99: float | None  # seconds
    upstream_qps: float


@dataclass(frozen=True, slots=True)
class Interval:
    """The 95 % confidence interval of the survival over several runs."""

    low: float
    high: float
    runs: int


@dataclass(frozen=True, slots=True)
class SystemRun:
    """One system through one scenario."""

    name: str
    kind: Kind
    version: str
    settings: Mapping[str, str]
    total: Numbers
    phases: Mapping[str, Numbers]  # by the phase's name, in their order
    timeline: tuple[Bin, ...]
    bin_seconds: float
    first_failure: float | None  # seconds into the outage; None if all was right in time
    recovery: float | None  # seconds after the outage's end until it was over; None if never
    outage_upstream: int  # queries sent upstream during the outage
    recovery_peak: int  # most of them in one second after it
    interval: Interval | None = None
    notes: tuple[str, ...] = ()  # such as: it died, and how


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """A scenario and all that went through it."""

    scenario: Scenario
    systems: tuple[SystemRun, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """How a result came about; with this somebody else can make it again."""

    command: str
    mode: Mode
    seeds: tuple[int, ...]
    dnsguard: str  # its version
    machine: str
    date: str  # given by whoever ran it: nothing here has a clock
    notes: tuple[str, ...] = ()  # peers left out, an interruption, what is sampled or compressed


@dataclass(frozen=True, slots=True)
class Result:
    """Everything."""

    made: Made
    scenarios: tuple[ScenarioRun, ...]
    format: int = FORMAT

    def systems(self) -> list[str]:
        """The names of all systems, in the order in which they first occur."""
        return list(dict.fromkeys(run.name for one in self.scenarios for run in one.systems))


def to_json(result: Result) -> bytes:
    """The result as a JSON document, indented, its keys in the order of the classes above."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


def from_json(document: bytes | str) -> Result:
    """Read a document of `to_json`. Raises ResultError, which says where it is wrong."""
    try:
        found = msgspec.json.decode(document, type=_Format).format
    except msgspec.DecodeError as error:
        raise ResultError(f"This is no result of an outage benchmark: {error}.") from None
    if found != FORMAT:
        raise ResultError(
            f"This result has format {found}, and this dnsguard reads format {FORMAT}: "
            "read it with the version that wrote it, or measure again."
        )
    try:
        return msgspec.json.decode(document, type=Result)
    except msgspec.DecodeError as error:
        raise ResultError(f"This result is damaged: {error}.") from None


def joined(results: Sequence[Result]) -> Result:
    """Several results as one, in their order; how each was made is kept, a line for each.

    A scenario that is in several stays apart: its look-ups were other ones.
    """
    first = results[0].made
    if len(results) == 1:
        return results[0]

    def all_of(texts: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(texts))

    mades = [result.made for result in results]
    made = Made(
        command="\n".join(made.command for made in mades),
        mode=first.mode,
        seeds=tuple(dict.fromkeys(seed for made in mades for seed in made.seeds)),
        dnsguard=all_of(made.dnsguard for made in mades),
        machine=all_of(made.machine for made in mades),
        date=all_of(made.date for made in mades),
        notes=tuple(dict.fromkeys(note for made in mades for note in made.notes)),
    )
    return Result(made, tuple(one for result in results for one in result.scenarios))


class _Format(msgspec.Struct):
    """The one field that every format has."""

    format: int
