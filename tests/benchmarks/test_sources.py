"""What cannot be had says why; what is there is not installed again. Nothing is downloaded here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers import sources
from benchmarks.peers.peer import MissingError
from benchmarks.peers.sources import DebianPackage, GoModule, ThisPython


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no program at all; the returned directory is its PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sources, "SBIN", str(tmp_path))
    monkeypatch.setattr(sources, "GO_FALLBACK", tmp_path / "nowhere")
    return tmp_path


def program(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_package_that_is_there_is_taken_as_it_is(bare: Path) -> None:
    there = program(bare, "named", "exit 1")
    assert DebianPackage("bind9", "named").obtain(bare) == there


def test_package_that_cannot_be_installed_says_how(bare: Path) -> None:
    with pytest.raises(MissingError, match="apt-get install bind9"):
        DebianPackage("bind9", "named").obtain(bare)


def test_go_module_without_go_says_so(bare: Path) -> None:
    with pytest.raises(MissingError, match="Go is not installed"):
        GoModule("example.test/m", "v1.2.3", "example.test/m/cmd/prog").obtain(bare)


def test_go_module_that_was_built_is_not_built_again(bare: Path) -> None:
    folder = bare / "prog-v1.2.3"
    folder.mkdir()
    built = program(folder, "prog", "exit 0")
    module = GoModule("example.test/m", "v1.2.3", "example.test/m/cmd/prog")
    assert module.obtain(bare) == built


def test_go_that_fails_gives_its_last_words_without_hosts(bare: Path) -> None:
    program(bare, "go", "echo go: reading https://host.test/x: 403 Forbidden; exit 1")
    with pytest.raises(MissingError, match="go build failed: go: reading") as found:
        GoModule("example.test/m", "v1", "example.test/m").obtain(bare)
    assert "403 Forbidden" in str(found.value)
    assert "host.test" not in str(found.value)


def test_go_builds_from_a_module_that_requires_the_version(bare: Path) -> None:
    # A go that copies what it was asked to build, so that it can be looked at.
    script = 'while [ "$1" != -C ]; do shift; done; /bin/cp "$2/go.mod" "$2/prog.new"'
    program(bare, "go", script)
    built = GoModule("example.test/m", "v1.2.3", "example.test/m/cmd/prog").obtain(bare)
    assert "require example.test/m v1.2.3" in built.read_text()


def test_own_python_is_the_one_that_runs() -> None:
    assert str(ThisPython("this").obtain(Path("/nowhere"))) == sys.executable


def test_service_policy_of_the_owner_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(sources, "START_POLICY", policy)
    with sources.no_service_starts():
        assert "exit 101" in policy.read_text()
        assert os.access(policy, os.X_OK)
    assert not policy.exists()
    policy.write_text("the owner's")
    with sources.no_service_starts():
        assert policy.read_text() == "the owner's"
    assert policy.read_text() == "the owner's"
