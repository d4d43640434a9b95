"""What a demo was asked to show, what there is to see of it at any moment, and where it is shown.

`Show` is filled by the stage and read by the screens; a screen changes nothing in it. Times are
seconds since the clients' first query.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dnsguard.config import Address
from dnsguard.demo.tally import GUARD, TARGETS, Summary, Tally
from dnsguard.demo.timeline import WHAT_IT_DOES, Mode, Timeline

FROZEN_SECONDS = 1.0  # a cluster DNS that has reported nothing for so long is stopped


@dataclass(frozen=True, slots=True)
class Settings:
    """What the caller chooses. `proxy` makes the command line of the proxy from where it listens
    and where its upstream does; `extras` are commands worth trying while the demo stays up.
    """

    timeline: Timeline
    proxy: Callable[[Address, Address], Sequence[str]]
    listen: Address
    qps: float = 200.0
    ttl: int = 5
    once: bool = False
    query_command: str = "dnsguard query"
    extras: tuple[tuple[str, str], ...] = ()  # command, what it shows


@dataclass(slots=True)
class Show:
    """The state of the stage."""

    settings: Settings
    listen: Address  # as in the settings, but with a port in place of 0
    tally: Tally = field(default_factory=Tally)
    mode: Mode = Mode.HEALTHY
    changes: list[tuple[Mode, float]] = field(default_factory=list)  # as the cluster DNS said
    started: float | None = None  # on the monotonic clock
    reported: float = 0.0  # when the cluster DNS last said anything, on the monotonic clock
    plain_port: int = 0
    cluster_pid: int = 0

    @property
    def now(self) -> float:
        return 0.0 if self.started is None else time.monotonic() - self.started

    @property
    def frozen(self) -> bool:
        return time.monotonic() - self.reported > FROZEN_SECONDS

    @property
    def condition(self) -> str:
        """What the cluster DNS does, in words."""
        return "FROZEN: stopped by a signal" if self.frozen else WHAT_IT_DOES[self.mode]

    @property
    def outage(self) -> tuple[float, float]:
        """When the cluster DNS died and when it was well again: as it said, else as planned."""
        died, back = self.settings.timeline.outage
        died = next((at for mode, at in self.changes if mode is not Mode.HEALTHY), died)
        return died, next((at for m, at in self.changes if m is Mode.HEALTHY and at > died), back)

    def summaries(self) -> dict[str, Summary]:
        return {target: self.tally.summary(target, *self.outage) for target in TARGETS}

    @property
    def lost(self) -> int:
        """Queries that dnsguard left without a right answer. More than none is a failed demo."""
        return self.tally.never_answered(GUARD)


class Screen(Protocol):
    """Where a demo is shown."""

    def opening(self, what: str) -> None:
        """Something is being started."""

    def frame(self, show: Show) -> None:
        """Called several times a second while the timeline runs."""

    def summary(self, show: Show, summaries: dict[str, Summary]) -> None:
        """The timeline is over."""

    def staying(self, show: Show, keys: bool) -> None:
        """The demo stays up, and obeys keys or not. Said once, before `idle`."""

    def idle(self, show: Show) -> None:
        """Called several times a second while the demo stays up."""

    def close(self) -> None:
        """Leave the terminal as it was; called in any case."""
