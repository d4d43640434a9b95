"""What a child process that runs this package is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dnsguard import offspring


def python(code: str, environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=cwd, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def test_it_runs_this_very_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "path" / "dnsguard"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(other.parent))
    found = python("import dnsguard; print(dnsguard.__file__)", offspring.environment(), tmp_path)
    assert found == str(Path(offspring.PACKAGE_HOME) / "dnsguard" / "__init__.py")


@pytest.mark.parametrize("settings", [True, False])
def test_settings_are_handed_on_or_not(settings: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNSGUARD_LISTEN", "127.0.0.1:53")
    monkeypatch.setenv("DNS_OTHER", "kept")
    found = offspring.environment(settings=settings)
    assert ("DNSGUARD_LISTEN" in found) is settings
    assert found["DNS_OTHER"] == "kept"


def test_a_start_that_is_measured_has_its_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(offspring.NO_BYTECODE, "1")
    kept = tmp_path / "bytecode"
    code = "import dnsguard.clock; print(dnsguard.clock.__cached__)"
    place = python(code, offspring.environment(bytecode=kept), tmp_path)
    assert place.startswith(str(kept))
    assert Path(place).is_file()


def test_where_python_keeps_bytecode_it_keeps_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(offspring.NO_BYTECODE, raising=False)
    assert "PYTHONPYCACHEPREFIX" not in offspring.environment(bytecode=tmp_path)
