"""The Helm chart for its tests: rendered by helm itself, its values read with their comments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "dnsguard"
CASES = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*.yaml"))
UPSTREAM = ("--set", "injection.upstream={10.96.0.10}")


def helm(*args: str) -> subprocess.CompletedProcess[str]:
    """The helm that is installed beside this interpreter, from helm-binary."""
    program = Path(sys.executable).with_name("helm")
    return subprocess.run(
        [str(program), *args], capture_output=True, text=True, check=False, timeout=120
    )


def case(name: str) -> tuple[str, ...]:
    """The arguments for one of the values files in ci/, or for the defaults."""
    if name == "defaults":
        return UPSTREAM
    return ("--values", str(CHART / "ci" / f"{name}-values.yaml"))


def rendered(*args: str) -> list[dict[str, Any]]:
    done = helm("template", "dnsguard", str(CHART), "--namespace", "dnsguard", *args)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def documented() -> list[tuple[str, str, str]]:
    """Key, default and comment of every value; a value without a comment is an error."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    rows, above, comment = [], "", ""
    values = YAML(typ="safe").load(text)
    for line in text.splitlines():
        if found := re.fullmatch(r" *# -- (.*)", line):
            comment = found[1]
        elif found := re.match(r"( *)([A-Za-z]+):", line):
            if not found[1] and isinstance(values[found[2]], dict) and not comment:
                above = found[2]
            elif len(found[1]) <= 2 and comment:
                key = f"{above}.{found[2]}" if found[1] else found[2]
                value = values[above][found[2]] if found[1] else values[found[2]]
                rows.append((key, json.dumps(value), comment))
                comment = ""
    return rows


def from_cel(literal: str) -> Any:
    """A CEL literal of the policy as what it stands for: without dyn(), it is JSON."""
    plain = re.sub(r'("(?:[^"\\]|\\.)*")|dyn\(|\)', lambda found: found[1] or "", literal)
    return json.loads(plain)
