"""What a running instance can be told over its control socket: the one table of verbs.

A verb is a function of its arguments that returns facts or yields them item by item; what it may
read and change is handed to `verbs`. The same words are the CLI's (see `cli/instance.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dnsguard import __version__, clock, message_text
from dnsguard.admin import facts
from dnsguard.admin.cache_verbs import cache_verbs
from dnsguard.admin.control import Arguments, Facts, Verb
from dnsguard.admin.doubt_verbs import doubt_verbs
from dnsguard.admin.drill_verbs import drill_verbs
from dnsguard.admin.pin_verbs import Keep, pin_verbs
from dnsguard.admin.status import Reading, status
from dnsguard.core.engine import Engine
from dnsguard.errors import ControlError, WireError


def verbs(
    engine: Engine,
    listening: Sequence[str],
    keep_pins: Keep,
    reading: Reading,
    flush: Callable[[], None],
) -> Mapping[str, Verb]:
    """Return the table for one engine.

    `listening` is where queries are answered, in words; `keep_pins` writes pins down; `reading` is
    what a status is read from, names and all: whoever may ask here is trusted. `flush` sends what
    the engine wants sent.
    """

    def instance(arguments: Arguments) -> Facts:
        arguments.end()
        return {"version": __version__, "pid": os.getpid(), "listening": list(listening)}

    def explain(arguments: Arguments) -> Facts:
        name, qtype = arguments.text("name"), type_of(arguments)
        arguments.end()
        with understood():
            return facts.explain_facts(engine, name, qtype, clock.now())

    def state(arguments: Arguments) -> Facts:
        fresh = arguments.flag("fresh")
        arguments.end()
        if fresh:
            engine.fold(clock.now())
            reading.watch.census.take(clock.now())
        return status(reading, clock.now())

    return {
        "instance": Verb(instance),
        "explain": Verb(explain),
        "status": Verb(state),
        **pin_verbs(engine, keep_pins),
        **cache_verbs(engine),
        **doubt_verbs(engine),
        **drill_verbs(engine, flush),
    }


def type_of(arguments: Arguments) -> int:
    """Return the record type that a request is about; A if it names none."""
    with understood():
        return message_text.type_number(arguments.text("type", "A"))


@contextmanager
def understood() -> Iterator[None]:
    """Tell whoever asked of a name or a type that is none."""
    try:
        yield
    except (WireError, ValueError) as wrong:
        raise ControlError(str(wrong)) from None
