"""The compiled declarations are those of `libc_build`, whoever edited what."""

from __future__ import annotations

from pathlib import Path

from dnsguard.net.libc_build import TARGET, build


def test_the_compiled_declarations_are_up_to_date(tmp_path: Path) -> None:
    build(tmp_path / "_libc.py")
    fresh = (tmp_path / "_libc.py").read_text()
    assert fresh == TARGET.read_text(), "run python -m dnsguard.net.libc_build"
