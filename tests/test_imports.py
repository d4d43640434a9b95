"""Walks every import of the package and holds the architecture to its word.

Imports point one way, core knows no I/O, and a third-party package that belongs to one place is
imported in that place only. Read with `ast`, so imports inside functions and under TYPE_CHECKING
count as well and nothing needs to be importable. The checks are functions over source text, so that
the last test can show them a planted violation of each kind.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dnsguard"

# Who may import whom, by the first name after `dnsguard.`; a part may always import itself.
# The edges (net, store, admin, kube) are missing from each other's rows on purpose: server is where
# they meet. Settings reach them as plain values, so the edges do not know where those came from.
EDGES = {"net", "store", "admin", "kube"}
BELOW_EDGES = {"core", "errors", "clock"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "core": {"errors"},
    "clock": {"errors"},
    "offspring": set(),
    "logs": {"errors"},
    "message_text": {"core", "errors"},
    "config": {"core", "errors"},
    "net": BELOW_EDGES,
    "store": BELOW_EDGES,
    "admin": BELOW_EDGES | {"message_text"},
    "kube": BELOW_EDGES | {"offspring"},
    "demo": BELOW_EDGES | {"config", "offspring"},
    "sim": {"core", "errors", "config"},  # virtual time only: no clock
    # The generator of bench shares the proxy's batched system calls.
    "bench": BELOW_EDGES | {"net", "offspring", "sim"},
    "control_place": {"admin", "config", "errors", "logs", "store"},
    "workers": {"admin", "config", "control_place", "errors", "logs", "offspring"},
    "server": EDGES | BELOW_EDGES | {"config", "control_place", "logs", "message_text", "workers"},
    "cli": EDGES
    | BELOW_EDGES
    | {"config", "logs", "server", "demo", "sim", "bench", "message_text", "workers"},
    "__main__": {"cli"},
}

# What core may take from outside the package: values, containers and arithmetic, no doors.
# asyncio, socket, select, ssl, threading, subprocess, os, time, datetime, random, secrets, logging,
# uvloop, aiodns, prometheus_client, dnslib and every other door are out because they are not here.
CORE_MAY_IMPORT = {
    "__future__",
    "abc",
    "array",
    "binascii",
    "bisect",
    "cachetools",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "re",
    "string",
    "struct",
    "types",
    "typing",
    "zlib",
}

# Third-party packages with a home of their own; elsewhere nobody knows that they are used.
HOMES = {
    "aiodns": {"net"},
    "aiohttp": {"kube"},
    "cffi": {"net"},
    "click": {"cli"},
    "matplotlib": {"bench"},
    "prometheus_client": {"admin", "kube"},
    "pyroute2": {"kube"},
    "redis": {"store"},
    "rich": {"cli", "demo"},
    "ruamel": {"cli"},
    "uvloop": {"cli"},
}

# Calls that import without an import statement; core has no use for them.
HIDDEN_IMPORTS = {"__import__", "import_module", "eval", "exec"}


@dataclass(frozen=True)
class Import:
    """One name that one module imports, and the line that does it."""

    module: str
    line: int
    target: str

    @property
    def part(self) -> str:
        return part_of(self.module)

    def __str__(self) -> str:
        return f"{self.module.replace('.', '/')}:{self.line} imports {self.target}"


def part_of(module: str) -> str:
    """`dnsguard.core.wire` belongs to `core`; the package itself to ``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def module_name(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def is_module(name: str) -> bool:
    """One of ours, as a file or as a folder; values such as `__version__` are neither."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports_of(module: str, source: str, *, package: bool = False) -> Iterator[Import]:
    """Every import in the source, wherever it stands, as absolute names.

    `from dnsguard.core import wire` counts as `dnsguard.core.wire`, because that is a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                drop = node.level - 1 if package else node.level
                above = module.split(".")[: len(module.split(".")) - drop]
                origin = ".".join([*above, origin] if origin else above)
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                yield Import(module, node.lineno, whole if is_module(whole) else origin)


def hidden_imports_of(module: str, source: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in HIDDEN_IMPORTS:
                yield Import(module, node.lineno, f"something by {name}()")


def mistake(found: Import) -> str | None:
    """Why this import may not be, or None."""
    top = found.target.split(".")[0]
    if top == "dnsguard":
        return mistake_inside(found)
    if found.part == "core" and top not in CORE_MAY_IMPORT:
        return f"{found}: core knows no I/O; a pure module may be added to CORE_MAY_IMPORT"
    home = HOMES.get(top)
    if home is not None and found.part not in home:
        return f"{found}: only {sorted(home)} may"
    return None


def mistake_inside(found: Import) -> str | None:
    target = part_of(found.target)
    if found.part == "":
        return f"{found}: the package itself imports nothing, so that any part loads alone"
    if found.part not in MAY_IMPORT:
        return f"{found}: {found.part} has no row in MAY_IMPORT; give it one"
    if target == "":
        # The bare package holds the version: everyone but the bottom may ask for it.
        return f"{found}: not from here" if found.part in {"core", "errors"} else None
    if target != found.part and target not in MAY_IMPORT[found.part]:
        return f"{found}: {found.part} may import only {sorted(MAY_IMPORT[found.part])}"
    if found.part == "config" and target == "core" and found.target != "dnsguard.core.policy":
        return f"{found}: of core, config knows policy alone"
    return None


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_import_points_the_allowed_way() -> None:
    mistakes = [
        why
        for path in sources()
        for found in imports_of(
            module_name(path), path.read_text(), package=path.name == "__init__.py"
        )
        if (why := mistake(found)) is not None
    ]
    assert not mistakes, "\n" + "\n".join(mistakes)


def test_core_hides_no_import() -> None:
    found = [
        str(hidden)
        for path in sorted((PACKAGE / "core").rglob("*.py"))
        for hidden in hidden_imports_of(module_name(path), path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


def test_core_list_names_no_door() -> None:
    """The list above stays pure: each name is the standard library's, except cachetools."""
    assert CORE_MAY_IMPORT - sys.stdlib_module_names == {"cachetools"}
    doors = {"asyncio", "logging", "os", "random", "secrets", "select", "socket", "ssl"}
    assert CORE_MAY_IMPORT.isdisjoint(doors | {"subprocess", "sys", "threading", "time"})


def test_uvloop_is_mentioned_under_cli_only() -> None:
    """Not even in a comment: the parts below must not depend on which loop drives them."""
    cli = PACKAGE / "cli"
    said = [
        str(path.relative_to(ROOT))
        for path in sources()
        if cli not in path.parents and "uvloop" in path.read_text()
    ]
    assert not said, f"uvloop is named outside cli/: {said}"


def test_every_module_of_core_has_its_mirror() -> None:
    """core/x.py has tests/core/test_x.py; where one page is not enough, test_x_<aspect>.py too."""
    modules = {path.stem for path in (PACKAGE / "core").glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/core").glob("test_*.py")}
    missing = sorted(modules - tests)
    assert not missing, f"core modules without a test of their own: {missing}"
    stray = sorted(
        test for test in tests if not any(test == m or test.startswith(f"{m}_") for m in modules)
    )
    assert not stray, f"tests in tests/core that mirror no module: {stray}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dnsguard.core.wire", "import socket"),
        ("dnsguard.core.wire", "def f():\n    from time import monotonic"),
        ("dnsguard.core.wire", "import os.path"),
        ("dnsguard.core.wire", "from dnsguard.net import mmsg"),
        ("dnsguard.core.wire", "from ..net import mmsg"),
        ("dnsguard.core.wire", "from dnsguard import net"),
        ("dnsguard.core.wire", "from dnsguard import __version__"),
        ("dnsguard.errors", "import dnsguard.core.wire"),
        ("dnsguard.net.driver", "from dnsguard.admin import http"),
        ("dnsguard.net.driver", "from dnsguard.server import Server"),
        ("dnsguard.net.driver", "import uvloop"),
        ("dnsguard.config", "from dnsguard.core.engine import Engine"),
        ("dnsguard.config.keys", "from dnsguard.core import engine"),
        ("dnsguard.server", "from dnsguard.cli import main"),
        ("dnsguard.server", "import rich.console"),
        ("dnsguard.elsewhere", "from dnsguard import errors"),
        ("dnsguard", "from dnsguard.core import wire"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    (found,) = imports_of(module, source)
    assert mistake(found) is not None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dnsguard.core.wire", "from dnsguard.errors import WireError"),
        ("dnsguard.core.wire", "from dnsguard.core.policy import Policy"),
        ("dnsguard.core.wire", "from collections.abc import Callable"),
        ("dnsguard.config", "from dnsguard.core.policy import Policy"),
        ("dnsguard.config", "from dnsguard.core import policy"),
        ("dnsguard.config.keys", "from dnsguard.config import units"),
        ("dnsguard.net.driver", "import asyncio"),
        ("dnsguard.server", "from dnsguard.net import driver"),
        ("dnsguard.cli.main", "from dnsguard import __version__"),
        ("dnsguard.cli.serve", "def run():\n    import uvloop"),
    ],
)
def test_a_rightful_import_passes(module: str, source: str) -> None:
    (found,) = imports_of(module, source)
    assert mistake(found) is None


@pytest.mark.parametrize("call", ["__import__('os')", "importlib.import_module('os')"])
def test_a_planted_hidden_import_is_found(call: str) -> None:
    assert [hidden.line for hidden in hidden_imports_of("dnsguard.core.wire", f"x = {call}")] == [1]
