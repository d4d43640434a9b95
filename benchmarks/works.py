"""What is compared, as a list: for each kind of work its measure, its columns and its bars.

A measure takes the stage and an entrant and gives plain numbers by name. It neither knows rounds
and repetitions, which are `rounds`' part, nor how numbers look in a report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.peers.peer import Peer
from benchmarks.stage import Entrant, Stage

Values = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    name: str
    rounds: int
    seconds: float  # of each measured load
    warm_up: float
    steady_seconds: float
    start_rounds: int
    idle_seconds: float
    few_rounds: int  # for what takes long and varies little: memory, idle, the outage
    levels: tuple[int, ...]  # entries in memory
    repeats: int  # of a disturbed sample
    settle: float  # before memory is read
    expiry: float = 7.0  # until a name of TTL 2 has run out everywhere: some have a floor of 5 s


LEVELS = (10_000, 100_000, 1_000_000)
QUICK = Plan("quick", 1, 1.0, 0.3, 2.0, 2, 4.0, 1, LEVELS[:1], 0, 0.5)
NORMAL = Plan("normal", 3, 3.0, 1.0, 5.0, 5, 10.0, 1, LEVELS[:2], 2, 2.0)
FULL = Plan("full", 5, 4.0, 1.0, 8.0, 10, 20.0, 2, LEVELS, 3, 2.0)
SMOKE = Plan("smoke", 1, 0.3, 0.1, 0.3, 1, 1.1, 1, (), 0, 0.0, expiry=1.5)


@dataclass(frozen=True)
class Column:
    """One number of a table."""

    key: str
    heading: str
    show: Callable[[float], str]
    less: bool = True  # less is better
    ratio: bool = False  # a second column has its ratio to dnsguard's


@dataclass(frozen=True)
class Bars:
    """One panel of a chart."""

    keys: tuple[str, ...]  # more than one: a bar for each, in a group
    title: str
    log: bool = False


@dataclass(frozen=True)
class Work:
    """One kind of work."""

    key: str
    title: str
    note: str
    measure: Callable[[Stage, Entrant, Plan], Values]
    columns: Callable[[Plan], tuple[Column, ...]]
    bars: Callable[[Plan], tuple[Bars, ...]]
    entrants: Callable[[Peer], tuple[Entrant, ...]]
    rounds: Callable[[Plan], int]
    timed: bool = True  # False: who else uses the processors makes no difference

    def told(self, values: Mapping[str, float], plan: Plan) -> str:
        """The first numbers, for the line that shows progress."""
        shown = [c for c in self.columns(plan) if c.key in values][:3]
        return ", ".join(f"{c.heading} {c.show(values[c.key])}" for c in shown)


def everyone(peer: Peer) -> tuple[Entrant, ...]:
    return (Entrant(peer),)


def forwarders(peer: Peer) -> tuple[Entrant, ...]:
    return (Entrant(peer),) if peer.forwards else ()


# --- how numbers are written --------------------------------------------------------------------


def whole(value: float) -> str:
    return f"{value:,.0f}"


def two(value: float) -> str:
    return f"{value:,.2f}"


def one(value: float) -> str:
    return f"{value:,.1f}"


def percent(value: float) -> str:
    return f"{value:.0%}"
