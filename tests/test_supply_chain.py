"""What is installed is what was locked, and the systemd unit says what SECURITY.md says of it."""

from __future__ import annotations

import configparser
import re
import shlex
import tomllib
from pathlib import Path

from click.testing import CliRunner

from dnsguard.cli.main import commands

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """Every package in the lock, and its version."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+) \\$", LOCK, re.MULTILINE))


def test_what_runs_is_locked_at_the_versions_that_are_tested() -> None:
    pinned = {canonical(name): version for name, version in PINNED.items()}
    assert {canonical(name): version for name, version in locked().items()}.items() <= (
        pinned.items()
    )


def test_every_dependency_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {canonical(re.split(r"[<>=!~ \[;]", text)[0]) for text in project["dependencies"]}
    assert needed <= {canonical(name) for name in locked()}


def test_every_locked_package_has_its_hashes() -> None:
    parts = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(parts) == len(locked()) > 5
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", part) for part in parts)


def unit() -> dict[str, str]:
    """The service section of the systemd unit; of a key that stands twice, both."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy" / "systemd" / "dnsguard.service", encoding="utf-8")
    return dict(parser["Service"])


def test_the_unit_starts_a_command_that_there_is() -> None:
    program, command, *arguments = shlex.split(unit()["ExecStart"])
    assert (Path(program).name, command) == ("dnsguard", "serve")
    told = CliRunner().invoke(commands, ["serve", "--help"]).output
    flags = [argument for argument in arguments if argument.startswith("--")]
    assert flags
    assert all(re.search(rf"(^|\s){flag}\b", told) for flag in flags)


def test_the_unit_leaves_one_capability_and_one_folder() -> None:
    service = unit()
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"]
    assert service["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert (service["ProtectSystem"], service["StateDirectory"]) == ("strict", "dnsguard")
    for key in ("NoNewPrivileges", "DynamicUser", "PrivateDevices", "MemoryDenyWriteExecute"):
        assert service[key] == "yes"
    assert service["RestrictAddressFamilies"].split() == ["AF_INET", "AF_INET6", "AF_UNIX"]


def test_the_image_runs_on_what_is_locked_and_tested() -> None:
    image = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)", image, re.MULTILINE))
    assert locked().items() <= versions.items()
    assert {"aiohttp", "redis", "ruamel-yaml"} <= set(versions)
    assert all(
        "--hash=sha256:" in part
        for part in re.split(r"^(?=[\w.-]+==)", image, flags=re.MULTILINE)[1:]
    )
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        assert "pip install" not in line or "--require-hashes" in line or line.endswith("\\")
