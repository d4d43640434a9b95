"""Log lines as people and collectors read them, and a reader who does not read.

Lines leave by a thread, straight to the descriptor, so they are read there and not in `sys.stderr`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dnsguard import logs
from dnsguard.core.actions import Notice
from dnsguard.server import report

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Leave the process's loggers as they were found."""
    all_of_them = (logs.logger, logging.getLogger("asyncio"))
    before = [(one.handlers, one.propagate, one.level) for one in all_of_them]
    yield
    for one, (handlers, propagate, level) in zip(all_of_them, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def test_text_lines_have_a_time_a_level_and_the_message(capfd: pytest.CaptureFixture[str]) -> None:
    writing = logs.start("text", "info")
    logs.logger.info("listening on %s", "127.0.0.1:53")
    logs.logger.debug("not wanted")
    logs.logger.error("a näme \udcff")
    writing.stop()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(rf"{TIME} info listening on 127\.0\.0\.1:53", lines[0])
    assert re.fullmatch(rf"{TIME} error a näme \\udcff", lines[1])


def test_the_level_decides_what_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    writing = logs.start("text", "warning")
    logs.logger.info("not wanted")
    logs.logger.warning("wanted")
    writing.stop()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("warning wanted")


def test_json_lines_carry_the_event_and_its_fields(capfd: pytest.CaptureFixture[str]) -> None:
    writing = logs.start("json", "debug")
    report(Notice("warning", "outage", 'zone .: "outage"', (("zone", "."), ("servers", 2))))
    logs.logger.debug("plain")
    writing.stop()
    outage, plain = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert re.fullmatch(TIME, outage.pop("time"))
    assert outage == {
        "level": "warning", "event": "outage", "message": 'zone .: "outage"', "zone": ".",
        "servers": 2,
    }  # fmt: skip
    assert (plain["level"], plain["event"], plain["message"]) == ("debug", "message", "plain")


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_exception_comes_with_its_traceback(
    style: str, capfd: pytest.CaptureFixture[str]
) -> None:
    writing = logs.start("json" if style == "json" else "text", "info")
    try:
        raise ValueError("a planted defect")
    except ValueError:
        logs.logger.exception("something failed")
    writing.stop()
    text = capfd.readouterr().err
    if style == "json":
        line = json.loads(text)
        assert line["message"] == "something failed"
        text = line["exception"]
    assert "Traceback" in text
    assert "ValueError: a planted defect" in text


def test_complaints_of_the_loop_are_log_lines_too(capfd: pytest.CaptureFixture[str]) -> None:
    writing = logs.start("json", "info")
    logging.getLogger("asyncio").error("Exception in callback")
    writing.stop()
    assert json.loads(capfd.readouterr().err)["message"] == "Exception in callback"


def test_a_line_that_cannot_be_formatted_is_not_the_last(
    capfd: pytest.CaptureFixture[str],
) -> None:
    writing = logs.start("text", "info")
    logs.logger.info("%d of them", "two")
    logs.logger.info("after it")
    writing.stop()
    first, second = capfd.readouterr().err.splitlines()
    assert "'%d of them'" in first
    assert second.endswith("after it")


def test_a_closed_stderr_is_no_error() -> None:
    code = "import os; os.close(2); from dnsguard import logs; w = logs.start('text', 'info')"
    code += "; logs.logger.info('nobody reads this'); w.stop(); print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"done\n"


@pytest.mark.parametrize("lines", [600, 5000])
def test_who_does_not_read_stops_neither_the_work_nor_the_end(lines: int) -> None:
    """Some lines fill the pipe, more the queue as well; either way the process ends, and well."""
    code = (
        "import sys; from dnsguard import logs; writing = logs.start('text', 'info')\n"
        f"for number in range({lines}): logs.logger.info('line %d %s', number, 'x' * 200)\n"
        "print('worked', flush=True); writing.stop()"
    )
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.read() == b"worked\n"
            assert process.wait(timeout=60) == 0
        kept = os.read(read, 1 << 20).decode().splitlines()
        assert kept[0].endswith("line 0 " + "x" * 200)
    finally:
        os.close(read)
        os.close(write)


def made(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("dnsguard", logging.WARNING, "", 0, text, arguments, None)


def test_what_comes_again_and_again_is_counted_and_not_repeated() -> None:
    repeats = logs.Repeats()
    said = [repeats.take(made("zone x: back after %.1f s", float(n)), n) for n in range(20)]
    assert said == [True] * logs.REPEAT_LINES + [False] * (20 - logs.REPEAT_LINES)
    assert repeats.take(made("something else"), 20.0)
    assert repeats.due(20.0) == []
    (line,) = repeats.due(logs.REPEAT_SECONDS)
    assert line.getMessage() == "zone x: back after 19.0 s (and 15 more such lines within 60 s)"
    assert repeats.take(made("zone x: back after %.1f s", 99.0), 100.0)


def test_names_and_addresses_make_lines_different() -> None:
    repeats = logs.Repeats()
    for number in range(3 * logs.REPEAT_LINES):
        assert repeats.take(made("upstream 10.0.0.%d:53 is down", number), 0.0)


def test_kinds_of_lines_are_bounded_and_broken_ones_are_written() -> None:
    repeats = logs.Repeats()
    for number in range(logs.REPEAT_KINDS_MAX + 50):
        assert repeats.take(made(f"kind x{number}"), 0.0)
    assert repeats.due(logs.REPEAT_SECONDS) == []
    assert repeats.take(made("%d", "no number"), 0.0)


def test_what_was_counted_is_told_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    writing = logs.start("json", "info")
    for number in range(12):
        report(Notice("warning", "recovered", f"zone .: back to normal after {number}.0 s"))
    writing.stop()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert len(lines) == logs.REPEAT_LINES + 1
    assert lines[-1]["event"] == "recovered"
    assert lines[-1]["message"].endswith("11.0 s (and 7 more such lines within 60 s)")
