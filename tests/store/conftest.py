"""Hypothesis runs here as it does in the tests of core: see there."""

from __future__ import annotations

from tests.core.conftest import settings

__all__ = ["settings"]
