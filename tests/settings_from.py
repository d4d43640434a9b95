"""Settings for tests, from any source: shared by the tests of `dnsguard.config`.

Nothing here reads the machine's resolv.conf or environment; every source is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dnsguard.config import Given, Origin, Settings, load
from dnsguard.errors import ConfigError, Mistake

RESOLVER = "192.0.2.53"
SET = Origin("flag", "--set")


def flag(key: str, value: str | tuple[str, ...] | None) -> Given:
    return Given(key, value, SET)


def loaded(
    *flags: Given,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    resolvers: tuple[str, ...] = (RESOLVER,),
) -> Settings:
    return load(flags, environ or {}, file, lambda: resolvers)


def mistakes_of(*flags: Given, **sources: Any) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        loaded(*flags, **sources)
    return list(caught.value.mistakes)


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "dnsguard.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
