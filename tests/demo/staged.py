"""A demo at a chosen moment, for the tests of what is drawn: no process, no socket, no clock."""

from __future__ import annotations

import sys
import time

from dnsguard.config import Address
from dnsguard.demo.show import Settings, Show
from dnsguard.demo.tally import GUARD, PLAIN, Outcome, Sample
from dnsguard.demo.timeline import Mode, timeline

LISTEN = Address("127.0.0.1", 5353)
PLAN = timeline(8, 12, 8, 8)
PER_SECOND = 20


def show_at(second: int, *, lost: int = 0, listen: Address = LISTEN) -> Show:
    """The default timeline, `second` seconds old: dnsguard answered, the plain cache mostly not."""
    settings = Settings(PLAN, lambda _listen, _upstream: [sys.executable], listen)
    show = Show(settings, listen, plain_port=40053, cluster_pid=4711)
    show.started = time.monotonic() - second - 0.5
    show.reported = time.monotonic() + 3600
    show.mode = PLAN.at(second).mode
    show.changes = [(phase.mode, phase.start) for phase in PLAN.phases[1:] if phase.start <= second]
    for now in range(second):
        bad = PLAN.at(now).mode is not Mode.HEALTHY
        show.tally.sent(now, PER_SECOND)
        for number in range(PER_SECOND):
            sent = now + number / PER_SECOND
            guard = Outcome.STALE if bad else Outcome.FRESH
            if lost and now == 15 and number < lost:
                guard = Outcome.LOST
            age = float(now - 8 if bad else 1)
            plain = Outcome.LOST if bad else Outcome.FRESH
            show.tally.add([Sample(GUARD, sent, guard, 0.0004, age)])
            show.tally.add([Sample(PLAIN, sent, plain, 2.0 if bad else 0.0004, age)])
        show.tally.asked(now + 0.9, {GUARD: now, PLAIN: now * 7})
    return show
