"""Single keys from the terminal, if there is one to read them from.

Line editing and echo are switched off while a `Keys` is open and put back afterwards; Ctrl-C goes
on to be a signal. In the background or without a terminal there are no keys, and nothing is
touched.
"""

from __future__ import annotations

import os
import select
import sys
from types import TracebackType
from typing import Any


class Keys:
    """Use as a context manager; `usable` says whether anybody can press anything."""

    def __init__(self) -> None:
        self.usable = False
        self._fd = -1
        self._before: list[Any] = []

    def __enter__(self) -> Keys:
        try:
            self._fd = sys.stdin.fileno()
            # A background process that touches the terminal's settings is stopped (SIGTTOU).
            self.usable = os.isatty(self._fd) and os.tcgetpgrp(self._fd) == os.getpgrp()
        except (OSError, ValueError, AttributeError):
            self.usable = False
        if self.usable:
            import termios
            import tty

            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """The key pressed since the last call, in lower case; empty if none was."""
        if not self.usable or not select.select([self._fd], [], [], 0)[0]:
            return ""
        octets = os.read(self._fd, 1)
        if not octets:  # the terminal is gone; what is to be done then comes as SIGHUP
            self.usable = False
        return octets.decode("ascii", "replace").lower()
