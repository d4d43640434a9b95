"""What the benchmarks need to know of a server: how to get it, start it and what it can do.

A `Peer` is one DNS server in one fair setting: one worker, forwarding everything to one upstream,
a cache that is large enough, no logging of queries, nothing written outside the directory of the
run. How it is stopped is the same for all: by its process group, hard. It does not know what is
measured.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"
ENTRY_BYTES = 2048  # what a cache bounded in bytes is given for each entry wanted; none needs more
STALE_SECONDS = 259_200  # three days, RFC 8767 section 5's longest
STALE_TTL = 30  # RFC 8767 section 4

# How a stale answer is come by, where a server offers the choice or knows only one of the two.
VERIFY = "verify"  # the upstream is asked first (RFC 8767)
AT_ONCE = "at once"  # the stale answer first, the upstream behind it


class MissingError(Exception):
    """A peer cannot be had here; the text says why, in one sentence."""


class Source(Protocol):
    """Where a program comes from."""

    def obtain(self, build: Path) -> Path:
        """The program's path; installed or built in `build` if need be. Raises MissingError."""

    def there(self, build: Path) -> Path:
        """The same without installing anything. Raises MissingError, which says what to do."""

    def origin(self) -> str:
        """Where it comes from, for the report."""


@dataclass(frozen=True)
class Place:
    """One start of a server: where it listens, whom it asks, what is wanted of it."""

    program: Path
    directory: Path  # its own, for configuration and state
    port: int
    spare_port: int  # for what insists on a second listener
    upstream: int
    entries: int  # answers that the cache must be able to hold
    stale: str = ""  # VERIFY or AT_ONCE; nothing is served stale without
    persist: bool = False  # what it learned is to outlive its process, where it knows how

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path


@dataclass(frozen=True)
class Peer:
    """One server in the comparison."""

    name: str
    language: str
    source: Source
    command: Callable[[Place], list[str]]  # writes the configuration, returns the command line
    version: Callable[[Path], str]
    stale_modes: tuple[str, ...] = ()
    forwards: bool = True  # a bare echo does not
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""  # what differs from its defaults and matters for speed, in words


ONE_PROCESSOR: Mapping[str, str] = {"GOMAXPROCS": "1"}  # for the servers written in Go


def first_line(program: Path, *arguments: str) -> str:
    """The first line that a program prints about itself, on either stream."""
    try:
        run = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def last_word(program: Path, *arguments: str) -> str:
    """The version, where it is the last word of the first line."""
    return first_line(program, *arguments).split()[-1]
