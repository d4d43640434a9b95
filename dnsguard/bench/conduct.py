"""Starts the generating process, follows what it says and adds what the kernel says of the server.

A measurement can be stopped: what came until then is a result. `child` is the other side. Nothing
here runs while queries are under way, but for a line read now and then.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import msgspec

from dnsguard import offspring
from dnsguard.bench import echo
from dnsguard.bench.load import Load, Progress, Word
from dnsguard.bench.meter import Measured
from dnsguard.bench.usage import NoProcess, Processes, Usage
from dnsguard.errors import DnsguardError

CEILING_SECONDS = 2.0
CEILING_WARMUP = 0.25
STOPS = (signal.SIGINT, signal.SIGTERM)


class LoadFailed(DnsguardError):
    """There is no result: why, and whether what was asked for was wrong."""

    def __init__(self, why: str, usage: bool = False) -> None:
        super().__init__(why)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The generator's own limit: what it got out of a bare echo."""

    qps: float
    language: str  # of the echo


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that is known after a load."""

    load: Load
    measured: Measured
    usage: Usage | None = None
    ceiling: Ceiling | None = None
    notes: tuple[str, ...] = ()


Tell = Callable[[Progress], None]


def conduct(load: Load, tell: Tell, processes: Processes | None = None) -> Outcome:
    """Carry `load` out. SIGINT and SIGTERM end it early, with what there is. Raises LoadFailed."""
    usage: Usage | None = None
    notes: list[str] = []
    measured: Measured | None = None
    began = 0.0
    with _child(load) as process, _stopping(process):
        for word in _words(process):
            if word.failure:
                raise LoadFailed(word.failure, word.usage)
            if word.progress:
                tell(word.progress)
            elif word.begins and processes:
                processes.begin()
                began = time.monotonic()
            elif word.ends and processes:
                try:
                    usage = processes.usage(time.monotonic() - began)
                except NoProcess as error:
                    notes.append(str(error))
            measured = word.measured or measured
    if measured is None:
        raise LoadFailed(f"The generator ended without a result (exit code {process.returncode}).")
    return Outcome(load, measured, usage, None, tuple(notes))


def ceiling(load: Load, tell: Tell) -> Ceiling:
    """Put the same questions to a bare echo on this machine, flat out.

    Raises LoadFailed, and KeyboardInterrupt if it is cut short.
    """
    with echo.running(load.tcp) as bare:
        outcome = conduct(
            dataclasses.replace(
                load,
                host=echo.HOST,
                port=bare.port,
                qps=None,
                outstanding=None if load.qps else load.outstanding,
                duration=CEILING_SECONDS,
                warmup=CEILING_WARMUP,
            ),
            tell,
        )
    if outcome.measured.interrupted:
        raise KeyboardInterrupt
    return Ceiling(outcome.measured.qps, bare.language)


@contextmanager
def _child(load: Load) -> Iterator[subprocess.Popen[bytes]]:
    """It stands in a session of its own: Ctrl-C reaches this process, which passes it on."""
    with subprocess.Popen(
        [sys.executable, "-m", "dnsguard.bench.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=offspring.environment(),
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(msgspec.json.encode(load))
                process.stdin.close()
            yield process
        except BaseException:
            process.kill()
            raise


@contextmanager
def _stopping(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass a wish to stop on to the child, which then says what it has."""

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        process.terminate()

    before = {number: signal.signal(number, pass_on) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _words(process: subprocess.Popen[bytes]) -> Iterator[Word]:
    decoder = msgspec.json.Decoder(Word)
    assert process.stdout is not None
    for line in process.stdout:
        yield decoder.decode(line)
