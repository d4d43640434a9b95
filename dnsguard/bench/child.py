"""The generating process: a load comes in on stdin, words about it go out on stdout, as JSON.

It ends early, with what it has measured so far, on SIGTERM or SIGINT; and it ends when nobody reads
its words any more, so it does not outlive who started it. `conduct` is the other side.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from pathlib import Path

import msgspec

from dnsguard.bench.generator import Generator
from dnsguard.bench.load import Load, NoAnswers, Progress, Word
from dnsguard.bench.names import BadNames, read_names
from dnsguard.bench.queries import lay_out

TIMER_SLACK = Path("/proc/self/timerslack_ns")


def say(word: Word) -> None:
    """One line to whoever started this; by one call, so that it never waits in a buffer."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(word) + b"\n")


def say_at_length(word: Word) -> None:
    """The same for a line that may be longer than a pipe takes at once."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def generate(load: Load) -> None:
    """Carry `load` out."""
    names = read_names(load.names, load.qtype, load.suffix, load.search, load.seed)
    queries = lay_out(names, load.edns)
    generator = Generator(load, queries, tell_of_progress)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: generator.stop())
    with contextlib.suppress(OSError):
        TIMER_SLACK.write_text("1")  # the kernel's habit is to wake a sleeper up to 50 us late
    # The loop makes no cycles; collecting would only add pauses.
    gc.freeze()
    gc.disable()
    try:
        generator.warm_up()
        say(Word(begins=True))
        measured = generator.measure()
    finally:
        generator.close()
    say(Word(ends=True))
    say_at_length(Word(measured=measured))


def tell_of_progress(progress: Progress) -> None:
    say(Word(progress=progress))


def main() -> int:
    """Read the load, carry it out, say what went wrong; returns the exit code."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    try:
        generate(load)
    except BrokenPipeError:
        return 1
    except BadNames as error:
        say(Word(failure=str(error), usage=True))
    except NoAnswers as error:
        say(Word(failure=str(error)))
    except OSError as error:
        where = f"{load.server} cannot be asked over {load.transport}"
        say(Word(failure=f"{where}: {error.strerror or error}."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
