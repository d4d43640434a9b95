"""docs/conformance.md names tests: each of them is there, and no RFC of its list is missing."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "conformance.md").read_text(encoding="utf-8")
RFCS = (
    1034, 1035, 2181, 2308, 3597, 4035, 5452, 5625, 6840, 6891, 7766, 7828, 7858, 7873, 8020, 8467,
    8482, 8767, 8914, 9018, 9210, 9460, 9520, 9619, 9715,
)  # fmt: skip


@cache
def names_in(stem: str) -> frozenset[str]:
    """The names of the tests in one file."""
    tree = ast.parse((TESTS / f"{stem}.py").read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:core|net|store|admin|fuzz|cli)/\w+)::(\w+)`", PAGE)
    assert len(named) > 50
    assert [f"{stem}::{name}" for stem, name in named if name not in names_in(stem)] == []
    assert PAGE.count("::") == len(named)


def test_every_scenario_that_is_named_is_there() -> None:
    named = re.findall(r"`scenarios/([\w-]+\.txt)`", PAGE)
    assert len(named) > 5
    folder = TESTS / "core" / "scenarios"
    assert [name for name in named if not (folder / name).is_file()] == []


def test_every_rfc_has_its_place() -> None:
    headings = " ".join(line for line in PAGE.splitlines() if line.startswith("## "))
    told = {int(number) for number in re.findall(r"\b(\d{4})\b", headings)}
    assert told >= set(RFCS)
