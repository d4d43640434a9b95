"""What a running instance can be told over its control socket: the one table of verbs.

A verb is a function of its arguments that returns facts or yields them item by item; what it may
read and change is handed to `verbs`. The same words are the CLI's (see `cli/instance.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from dnsguard import __version__
from dnsguard.admin.control import Arguments, Facts, Verb


def verbs(listening: Sequence[str]) -> Mapping[str, Verb]:
    """Return the table. `listening` is where queries are answered, in words."""

    def instance(arguments: Arguments) -> Facts:
        arguments.end()
        return {"version": __version__, "pid": os.getpid(), "listening": list(listening)}

    return {"instance": Verb(instance)}
