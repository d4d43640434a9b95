"""Log lines on stderr, as text for people or JSON for collectors.

Lines are written by a thread behind a bounded queue: a reader of our stderr that does not read
must not be able to stop the answering of queries. What does not fit in the queue is dropped.
"""

from __future__ import annotations

import logging
import queue
import sys
import time
from logging.handlers import QueueHandler, QueueListener
from typing import Literal

LINES_WAITING_MAX = 1000
logger = logging.getLogger("dnsguard")


def _stamp(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z warning zone .: outage; …`"""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line = f"{_stamp(record)} {record.levelname.lower()} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, message and the event's own fields."""

    def __init__(self) -> None:
        super().__init__()
        from msgspec import json  # wanted in this format only

        self._encode = json.encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`."""
        line: dict[str, object] = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._encode(line).decode()


class _Dropping(QueueHandler):
    """Puts records in the queue, or drops them if it is full."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never wait: see the head of the file."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record whole: the formatter runs in the same process."""
        return record


def start(style: Literal["text", "json"], level: str) -> QueueListener:
    """Begin to log to stderr; `stop()` what is returned to write what still waits."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(LINES_WAITING_MAX)
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logger.handlers = [_Dropping(waiting)]
    logger.propagate = False
    logger.setLevel(level.upper())
    listener = QueueListener(waiting, writer)
    listener.start()
    return listener
