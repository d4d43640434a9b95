"""Child processes that run this very package: where they find it, and what they are spared."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_HOME = str(Path(__file__).resolve().parents[1])
SETTINGS = "DNSGUARD_"
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


def environment(*, settings: bool = True, bytecode: Path | None = None) -> dict[str, str]:
    """Return this process's environment, with this package before any other one of its name.

    Without `settings` those of a dnsguard elsewhere are left out. Where Python is told to keep no
    bytecode, `bytecode` is a directory to keep it in all the same: a start that is measured has it,
    as an installed package has, and compiles nothing but the first time.
    """
    found = {k: v for k, v in os.environ.items() if settings or not k.startswith(SETTINGS)}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (PACKAGE_HOME, found.get("PYTHONPATH"))))
    if bytecode is not None and found.pop(NO_BYTECODE, ""):
        found["PYTHONPYCACHEPREFIX"] = str(bytecode)
    return found
