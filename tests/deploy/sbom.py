"""What `make sbom` has written, held against the lock: each package, its version and its hashes.

`python -m tests.deploy.sbom dist/dnsguard.cdx.json requirements.lock` says what is missing. That
the file is CycloneDX at all, its writer has seen to before (it validates by the standard's schema).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOCKED = re.compile(
    r"^([A-Za-z0-9._-]+)==([^ \\\n]+)((?: *\\\n +--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE
)
HASH = re.compile(r"sha256:([0-9a-f]{64})")


def locked(text: str) -> dict[tuple[str, str], set[str]]:
    """Return the hashes of every package and version in a lock. Raises ValueError for none."""
    found = {(m[1].lower(), m[2]): set(HASH.findall(m[3])) for m in LOCKED.finditer(text)}
    if not found:
        raise ValueError("the lock names no package")
    return found


def missing(document: Mapping[str, Any], lock: str) -> list[str]:
    """Return what the document lacks of the lock, or has beside it."""
    wrong = []
    root = document.get("metadata", {}).get("component", {})
    if (document.get("bomFormat"), root.get("name")) != ("CycloneDX", "dnsguard"):
        wrong.append("it is not CycloneDX of dnsguard")
    there = {}
    for component in document.get("components", ()):
        references = component.get("externalReferences", ())
        there[component["name"].lower(), component.get("version")] = {
            one["content"] for reference in references for one in reference.get("hashes", ())
        }
    packages = locked(lock)
    for package, hashes in packages.items():
        if package not in there:
            wrong.append(f"{'=='.join(package)} is locked and not listed")
        elif there[package] != hashes:
            wrong.append(f"{'=='.join(package)} has other hashes in the lock")
    wrong += [f"{name} {version} is listed and not locked" for name, version in there
              if (name, version) not in packages]  # fmt: skip
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Say what is wrong with a file; 1 if anything is."""
    bom, lock = (Path(name).read_text(encoding="utf-8") for name in arguments)
    wrong = missing(json.loads(bom), lock)
    print("\n".join(wrong) or f"{len(locked(lock))} packages, each with the hashes of the lock")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
