"""Kubernetes manifests as text: finds the pod templates in them, writes back what was changed.

Documents are parted by their markers before anything is parsed, so that one that is not changed
comes out byte for byte. In a changed one ruamel keeps order, comments and quotes; its indentation
is taken from the document. JSON stays JSON. Knows what a pod template is and nothing about DNS.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import click

from dnsguard.errors import ConfigError, DnsguardError, Mistake

# Where the pod template of each kind is.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"),
        ("spec", "template"),
    ),
}
SUFFIXES = (".yaml", ".yml", ".json")
# A marker at the line's start parts documents wherever it stands (YAML 1.2, section 9.1.2).
_MARKER = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_SEQUENCE = re.compile(r"^(?P<outer> *)(?:- )?[^\s#-][^\n]*:[ \t]*\n(?P<inner> *)- ", re.MULTILINE)

FILES = click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE|DIR|-",
    help="Manifests; a directory means the YAML and JSON in it; - is stdin (repeatable).",
)  # fmt: skip


@dataclass
class Report:
    """What happened to each workload, for stderr, and the mistakes."""

    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    mistakes: list[Mistake] = field(default_factory=list)

    def say(self, what: str, where: str, why: str) -> None:
        """One line."""
        self.counts[what] += 1
        self.lines.append(f"{what:<9} {where}{': ' if why else ''}{why}")

    def show(self) -> None:
        """All lines and their sum, on stderr."""
        total = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        for line in [*self.lines, total or "no workload found in these manifests"]:
            click.echo(line, err=True)


# Given a pod template, its namespace ("" if the manifest has none) and its name for people, changes
# it in place and says whether it did.
Change = Callable[[Any, str, str, Report], bool]


def rewrite(files: tuple[str, ...], change: Change, dry_run: bool) -> None:
    """Write the manifests with the changes to stdout, or the difference. Raises ConfigError."""
    report = Report()
    parts: list[str] = []
    for name, text in _texts(files):
        changed = "".join(_document(part, name, change, report) for part in _parted(text))
        if dry_run:
            parts += difflib.unified_diff(
                text.splitlines(keepends=True), changed.splitlines(keepends=True), name, name
            )
        else:
            parts.append(_joined(changed, first=not parts))
    if report.mistakes:
        raise ConfigError(report.mistakes)
    sys.stdout.write("".join(parts))
    sys.stdout.flush()
    report.show()


def _texts(files: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in files:
        if name == "-":
            yield "stdin", sys.stdin.read()
            continue
        path = Path(name)
        try:
            if path.is_dir():
                inside = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES)
                if not inside:
                    raise DnsguardError(f"{name}: no {', '.join(SUFFIXES)} in this directory")
                yield from ((str(each), each.read_text(encoding="utf-8")) for each in inside)
            else:
                yield name, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise DnsguardError(f"{name}: {why}") from None


def _joined(text: str, first: bool) -> str:
    """A file behind another begins a document of its own."""
    if text and not text.endswith("\n"):
        text += "\n"
    return text if first or not text or text.startswith("---") else f"---\n{text}"


def _parted(text: str) -> list[str]:
    return [part for part in _MARKER.split(text) if part]


def _document(text: str, name: str, change: Change, report: Report) -> str:
    """One document, changed or as it was."""
    as_json = text.lstrip().startswith("{")
    try:
        writer = None if as_json else _yaml(text)
        content = json.loads(text) if writer is None else writer.load(text)
    except DnsguardError:
        raise
    except Exception as error:  # ruamel raises several families, and RecursionError
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        place = f"{name}: line {mark.line + 1} of the document" if mark else name
        report.mistakes.append(Mistake(place, text.strip()[:40], f"YAML or JSON; found: {why}"))
        return text
    if not _changed(content, name, change, report):
        return text
    if writer is None:
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    out = StringIO()
    writer.dump(content, out)
    written = out.getvalue()
    return written if text.endswith("\n") else written.rstrip("\n")


def _yaml(text: str) -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise DnsguardError(
            "writing YAML back with its comments needs ruamel.yaml: pip install 'dnsguard[kube]'"
        ) from None
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Numbers that are text get the quotes that manifests mostly have."""

    def text_node(representer: Any, value: str) -> Any:
        style = '"' if value.isdecimal() else None
        return representer.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Representer.add_representer(str, text_node)
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = sys.maxsize
    yaml.explicit_start = text.startswith("---")
    found = _SEQUENCE.search(text)
    offset = len(found["inner"]) - len(found["outer"]) if found else 0
    if 0 <= offset <= 8:
        yaml.indent(mapping=2, sequence=offset + 2, offset=offset)
    return yaml


def _changed(content: Any, name: str, change: Change, report: Report) -> bool:
    if not isinstance(content, dict):
        return False
    kind = content.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(content.get("items"), list):
        changed = [_changed(item, name, change, report) for item in content["items"]]
        return any(changed)
    if kind not in TEMPLATES:
        return False
    template: Any = content
    for key in TEMPLATES[kind]:
        template = template.get(key) if isinstance(template, dict) else None
    meta = content.get("metadata") or {}
    namespace = str(meta.get("namespace") or "")
    title = str(meta.get("name") or meta.get("generateName") or "without a name")
    where = f"{kind} {namespace}{'/' if namespace else ''}{title}"
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        report.say("skipped", where, "it has no pod template")
        return False
    try:
        return change(template, namespace, where, report)
    except ConfigError as error:
        report.mistakes += error.mistakes
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        report.mistakes.append(
            Mistake(f"{name}: {where}", type(error).__name__, f"a valid pod template; {error}")
        )
    return False
