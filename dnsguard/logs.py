"""Log lines on stderr, as text for people or JSON for collectors.

Lines are written by a thread behind a bounded queue: a reader of our stderr that does not read
must not be able to stop the answering of queries, nor the end of the process. What does not fit in
the queue is dropped. A line that comes again and again, but for its numbers, is counted and not
repeated: an outage of hours must not fill a disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import threading
import time
from typing import Literal

LINES_WAITING_MAX = 1000
REPEAT_SECONDS = 60.0  # in which a line is written so many times, and then counted
REPEAT_LINES = 5
REPEAT_KINDS_MAX = 256  # lines that are kept count of; a process says some fifty different things
QUERY = "query"  # the event of a line of the query log
STOP_SECONDS = 1.0  # for a reader of our stderr to read on, at the end
STDERR = 2
_NUMBERS = re.compile(r"\b\d+(?:\.\d+)? (?=m?s\b|times|more\b)")
logger = logging.getLogger("dnsguard")


def _stamp(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z warning zone .: outage; …`, behind the level of which worker."""

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self._who = f" worker {worker}:" if worker else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line = f"{_stamp(record)} {record.levelname.lower()}{self._who} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, message and the event's own fields."""

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        from msgspec import json  # wanted in this format only

        self._who = {"worker": worker} if worker else {}

        self._encode = json.encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line: dict[str, object] = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
            "message": record.getMessage(),
        }
        line.update(self._who)
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._encode(line).decode()


class Repeats:
    """Keeps count of lines that are alike but for numbers; knows no clock and writes nothing."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int, logging.LogRecord]] = {}

    def take(self, record: logging.LogRecord, now: float) -> bool:
        """Return True if this line is to be written; otherwise it is counted."""
        if getattr(record, "event", "") == QUERY:
            return True  # each is another one, and whoever says them keeps count
        try:
            key = _NUMBERS.sub("#", f"{record.levelname} {record.getMessage()}")
        except Exception:  # a defect at the caller's, which the formatter will tell
            return True
        since, count, _ = self._seen.get(key, (now, 0, record))
        if key not in self._seen and len(self._seen) >= REPEAT_KINDS_MAX:
            return True
        self._seen[key] = since, count + 1, record
        return count < REPEAT_LINES

    def due(self, now: float) -> list[logging.LogRecord]:
        """Return a line about each kind whose time is over and that was counted meanwhile."""
        found = []
        for key, (since, count, record) in list(self._seen.items()):
            if now - since >= REPEAT_SECONDS:
                del self._seen[key]
                if count > REPEAT_LINES:
                    found.append(_counted(record, count - REPEAT_LINES))
        return found


def _counted(record: logging.LogRecord, times: int) -> logging.LogRecord:
    """Return a line that stands for many like `record`, which was the last of them."""
    text = f"{record.getMessage()} (and {times} more such lines within {REPEAT_SECONDS:.0f} s)"
    found = logging.LogRecord(record.name, record.levelno, "", 0, text, (), None)
    for name in ("event", "fields"):
        if hasattr(record, name):
            setattr(found, name, getattr(record, name))
    return found


class Writing:
    """The thread that writes lines, and the queue before it."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._formatter = formatter
        self._repeats = Repeats()
        self._summaries: list[logging.LogRecord] = []
        self._ended = False
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(LINES_WAITING_MAX)
        # A daemon: one that hangs in a write for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def take(self, record: logging.LogRecord) -> None:
        """Have a line written, or drop it if too many wait: never wait here."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(record)

    def stop(self) -> None:
        """Write what still waits, unless nobody reads it."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=STOP_SECONDS)
        self._thread.join(STOP_SECONDS)

    def _write_all(self) -> None:
        while (record := self._next()) is not None:
            _write(self._line(record))

    def _next(self) -> logging.LogRecord | None:
        """Return the next line to write, or None at the end; waits for it."""
        while True:
            if self._summaries:
                return self._summaries.pop()
            if self._ended:
                return None
            try:
                record = self._waiting.get(timeout=REPEAT_SECONDS / 4)
            except queue.Empty:
                record = None
            else:
                if record is None:
                    self._ended = True
            if self._ended:
                self._summaries = self._repeats.due(float("inf"))
                return self._summaries.pop() if self._summaries else None
            self._summaries = self._repeats.due(time.monotonic())
            if record is not None and self._repeats.take(record, time.monotonic()):
                return record

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self._formatter.format(record)
        except Exception as error:  # a defect at the caller's; the lines after it matter too
            return f"a log line that cannot be formatted ({error!r}): {record.msg!r}"


def _write(text: str) -> None:
    """Write to stderr; it may take for ever, if nobody reads there."""
    octets = text.encode(errors="backslashreplace") + b"\n"
    # Straight to the descriptor: whoever hangs in `sys.stderr` holds its lock, and the interpreter
    # wants that lock at the end.
    with contextlib.suppress(OSError):  # nobody reads any more
        while octets:
            octets = octets[os.write(STDERR, octets) :]


def last_words(text: str) -> None:
    """Say on stderr why the process ends, which it must also if nobody reads that."""
    saying = threading.Thread(target=_write, args=(text,), daemon=True)
    saying.start()
    saying.join(STOP_SECONDS)


class _Handler(logging.Handler):
    """Hands records to the thread."""

    def __init__(self, writing: Writing) -> None:
        super().__init__()
        self._writing = writing

    def emit(self, record: logging.LogRecord) -> None:
        self._writing.take(record)


def start(style: Literal["text", "json"], level: str, worker: int = 0) -> Writing:
    """Begin to log to stderr; `stop()` what is returned to write what still waits.

    `worker` is the number to tell one process of several by.
    """
    writing = Writing(JsonFormatter(worker) if style == "json" else TextFormatter(worker))
    handler = _Handler(writing)
    for source in (logger, logging.getLogger("asyncio")):  # the loop's complaints are ours
        source.handlers = [handler]
        source.propagate = False
    logger.setLevel(level.upper())
    return writing
