"""Numbers made readable: percentiles, tables as text and as Markdown, JSON, a section of a file.

It does not know what the numbers mean.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was really measured, never one in between."""
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def write_json(path: Path, value: object) -> None:
    """Dataclasses become objects and a number without end becomes null, as JSON knows none."""

    def plain(part: object) -> object:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return plain(dataclasses.asdict(part))
        if isinstance(part, dict):
            return {str(key): plain(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [plain(item) for item in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(value), indent=2) + "\n")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in (head, rule, *rows)
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def write_section(path: Path, name: str, body: str, title: str) -> None:
    """Put `body` between the markers of `name` in a file, and leave all else as it is.

    A section that is not there yet comes at the end; a file that is not there begins with `title`.
    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    section = f"{begin}\n\n{body.strip()}\n\n{end}"
    text = path.read_text() if path.exists() else f"# {title}\n"
    before, found, rest = text.partition(begin)
    if found:
        _, closed, after = rest.partition(end)
        if not closed:
            raise ValueError(f"{path} has {begin!r} and no {end!r} behind it")
        text = before + section + after
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
