"""docs/settings.md says what the table of keys says, and its examples are right."""

from __future__ import annotations

import re
from pathlib import Path

from dnsguard.config.keys import KEYS, PIN, ZONE_KEYS, Key
from tests.settings_from import flag, loaded, mistakes_of, written

DOCS = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


def table() -> list[str]:
    def row(name: str, key: Key, default: str, meaning: str) -> str:
        return f"| `{name}` | {key.allowed} | {default} | {meaning} |"

    def default(key: Key) -> str:
        shown = key.show(key.default)
        text = ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown)
        text = {"True": "on", "False": "off"}.get(text, text)
        return f"`{text}`" if text else "none"

    rows = [row(name, key, default(key), key.meaning) for name, key in KEYS.items()]
    zone = [
        row(
            f"zones.<zone>.{leaf}",
            key,
            f"`{leaf}`" if leaf in KEYS else "see right",
            "the same for this zone alone" if leaf in KEYS else key.meaning,
        )
        for leaf, key in ZONE_KEYS.items()
    ]
    pins = f"| `{PIN.name}` | {PIN.allowed} | none | {PIN.meaning} |"
    head = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    return [*head, rows[0], *zone, *rows[1:], pins]


def test_the_documentation_has_every_key() -> None:
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    start = lines.index("| Key | Type | Default | Meaning |")
    assert lines[start : lines.index("", start)] == table()


def test_the_documented_file_is_right(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    found = loaded(file=written(tmp_path, snippet))
    assert [zone.name for zone in found.policy.zones] == [".", "cluster.local", "corp.example"]
    assert found.admin is None


def test_the_documented_mistakes_are_right() -> None:
    (snippet,) = re.findall(r"```console\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    command, _, *shown = snippet.splitlines()
    flags = [flag(*text.split("=", 1)) for text in re.findall(r"--set (\S+)", command)]
    assert [f"  {mistake}" for mistake in mistakes_of(*flags)] == shown
