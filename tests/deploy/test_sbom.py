"""The judge of the SBOM: what it must find missing, and that the lock in the tree can be read."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.sbom import locked, main, missing

LOCK = (Path(__file__).resolve().parents[2] / "requirements.lock").read_text(encoding="utf-8")
GOOD: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"name": "dnsguard"}},
    "components": [
        {
            "name": name,
            "version": version,
            "externalReferences": [
                {"hashes": [{"alg": "SHA-256", "content": one} for one in sorted(hashes)]}
            ],
        }
        for (name, version), hashes in locked(LOCK).items()
    ],
}


def test_every_locked_package_has_hashes() -> None:
    found = locked(LOCK)
    assert len(found) == LOCK.count("==")
    assert all(found.values())
    with pytest.raises(ValueError, match="no package"):
        locked("# nothing")


def test_what_agrees_with_the_lock_is_right(tmp_path: Path) -> None:
    bom, lock = tmp_path / "bom", tmp_path / "lock"
    bom.write_text(json.dumps(GOOD))
    lock.write_text(LOCK)
    assert missing(GOOD, LOCK) == []
    assert main([str(bom), str(lock)]) == 0
    lock.write_text(LOCK.replace("uvloop==", "uvloops=="))
    assert main([str(bom), str(lock)]) == 1


def test_what_does_not_is_said() -> None:
    (name, version), *_ = locked(LOCK)
    said = f"{name}=={version}"
    without = copy.deepcopy(GOOD)
    del without["components"][0]
    assert missing(without, LOCK) == [f"{said} is locked and not listed"]
    other = copy.deepcopy(GOOD)
    other["components"][0]["externalReferences"][0]["hashes"].pop()
    assert missing(other, LOCK) == [f"{said} has other hashes in the lock"]
    more = copy.deepcopy(GOOD)
    more["components"].append({"name": "more", "version": "1"})
    assert missing(more, LOCK) == ["more 1 is listed and not locked"]
    assert missing({**GOOD, "metadata": {}}, LOCK) == ["it is not CycloneDX of dnsguard"]
