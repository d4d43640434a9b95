"""docs/scenarios.md says what the keys of a scenario are, and its example is right."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from dnsguard.config import units
from dnsguard.sim.scenario import (
    DEEDS,
    GROUPS,
    KINDS,
    Clients,
    Does,
    Event,
    Names,
    Phase,
    Scenario,
    Upstream,
    keys_of,
    read,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "scenarios.md"
FIRST = "### The scenario"

SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("The scenario", Scenario),
    ("`names`", Names),
    ("`upstreams.<name>`", Upstream),
    ("`clients`", Clients),
    ("`phases[]`", Phase),
    ("`phases[].does[]`", Does),
    ("`phases[].events[]`", Event),
)
WORDS = (("`does`", KINDS), ("`do`", DEEDS), ("`names` of a rule or an event", GROUPS))


def default(key: str, one: Field[Any]) -> str:
    value = one.default
    if value is MISSING:
        return ""
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    if value == (1.0, 1.0):
        return "`100%`"
    if value in (None, "") or (isinstance(value, tuple) and not value):
        return "none"
    if not isinstance(value, str | int | float):
        return "the defaults below"
    durations = "ttl", "churn", "median", "p99", "every", "for", "retry_after"
    if isinstance(value, float) and key.endswith(durations):
        return f"`{units.show_duration(value)}`"
    return f"`{value}`" if isinstance(value, str) else f"`{value:g}`"


def tables() -> list[str]:
    lines = []
    for title, cls in SECTIONS:
        lines += [f"### {title}", "", "| Key | Default | Meaning |", "|---|---|---|"]
        lines += [
            f"| `{key}` | {default(key, one)} | {one.metadata['means']} |"
            for key, one in keys_of(cls).items()
        ]
        if cls is Phase:
            lines.append("| `events` | none | what happens at an instant |")
        lines.append("")
    for title, words in WORDS:
        lines += [f"### What {title} may be", "", "| Word | Meaning |", "|---|---|"]
        lines += [f"| `{word}` | {meaning} |" for word, meaning in words.items()]
        lines.append("")
    return lines[:-1]


def test_the_documentation_has_every_key() -> None:
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    assert lines[lines.index(FIRST) :] == tables()


def test_the_documented_scenario_is_right(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "mine.yaml"
    path.write_text(snippet, encoding="utf-8")
    assert [phase.name for phase in read(path).phases] == ["healthy", "half of it", "after"]
