"""When a node's resolver is believed to answer, and what follows: a table of states and findings.

Pure: it sees no packet and no clock. A check is a question through the real address, over UDP and
over TCP. One that is refused needs no second opinion, since nobody has the port; silence may be a
busy machine and is believed after some checks in a row.
"""

from __future__ import annotations

from enum import Enum

SILENT_MAX = 3  # checks in a row without an answer, of half a second each
ANSWERS_MIN = 2  # in a row, until a resolver that was dead is believed again


class Finding(Enum):
    """What came of a check."""

    ANSWERED = "answered"
    REFUSED = "refused"  # nobody has the port, or the address is gone
    SILENT = "silent"
    WRONG = "wrong"  # something answers there, and it is not the dnsguard that is meant


class State(Enum):
    """Whether packets are kept on the node."""

    NEW = "new"  # nothing has been found yet
    KEPT = "kept"
    LET_GO = "let go"


class Step(Enum):
    """What is to be done."""

    NOTHING = "nothing"
    KEEP = "keep"  # begin to keep packets on the node
    HOLD = "hold"  # go on with it: renew the lease
    LET_GO = "let go"


class Watch:
    """What is believed of the resolver."""

    def __init__(self) -> None:
        self.state = State.NEW
        self._row = 0  # answers, or failures, whatever would change the state

    def found(self, finding: Finding) -> Step:
        """Take what a check found; return what is to be done."""
        good = finding is Finding.ANSWERED
        if self.state is State.KEPT:
            if good:
                self._row = 0
                return Step.HOLD
            self._row += 1
            if finding is not Finding.REFUSED and self._row < SILENT_MAX:
                return Step.NOTHING
            return self._now(State.LET_GO, Step.LET_GO)
        self._row = self._row + 1 if good else 0
        if self._row >= (1 if self.state is State.NEW else ANSWERS_MIN):
            return self._now(State.KEPT, Step.KEEP)
        return Step.NOTHING

    def ended(self) -> Step:
        """Take it that the resolver's process has ended."""
        if self.state is State.KEPT:
            return self._now(State.LET_GO, Step.LET_GO)
        return Step.NOTHING

    def _now(self, state: State, step: Step) -> Step:
        self.state, self._row = state, 0
        return step
