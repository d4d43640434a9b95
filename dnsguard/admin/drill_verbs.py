"""The verbs of a drill: one that runs it for as long as somebody attends, one for its report.

Whoever asks for a drill stays connected; a connection that is lost, or that says something else,
ends it (see `control`). What a drill is made of is imported when one is asked for: most instances
never see one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING

from dnsguard import clock
from dnsguard.admin.control import Arguments, Facts, Verb
from dnsguard.admin.status import drill_facts
from dnsguard.core.engine import Engine
from dnsguard.errors import ControlError

if TYPE_CHECKING:
    from dnsguard.core.drill import Drill

NEWS_SECONDS = 1.0  # between two words on how it is going
GONE = "whoever asked for it has ended it or is gone"
NONE_YET = "there was no drill since this instance began"


def drill_verbs(engine: Engine, flush: Callable[[], None]) -> Mapping[str, Verb]:
    """Return the verbs `drill` and `drill.report`; `flush` sends what the engine wants sent."""
    last: list[Drill] = []

    async def drill(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        from dnsguard.admin.drilled import read_plan, report
        from dnsguard.core.drill import begin

        marks = arguments.flag("marks")
        found = begin(engine, read_plan(arguments), random.SystemRandom(), clock.now())
        if isinstance(found, str):
            raise ControlError(found)
        last[:] = [found]
        try:
            flush()
            while not found.over:
                yield {"running": drill_facts(found, clock.now())}
                await asyncio.sleep(min(NEWS_SECONDS, max(found.ends - clock.now(), 0.01)))
        finally:
            found.end(GONE, clock.now())
            flush()
        yield {"report": report(found, marks)}

    def report_of_the_last(arguments: Arguments) -> Facts:
        from dnsguard.admin.drilled import report

        marks = arguments.flag("marks")
        arguments.end()
        if not last:
            raise ControlError(NONE_YET)
        return {"report": report(last[0], marks)}

    return {"drill": Verb(drill, attended=True), "drill.report": Verb(report_of_the_last)}
