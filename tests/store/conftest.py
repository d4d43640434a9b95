"""Hypothesis runs here as it does in the tests of core: see there."""

from __future__ import annotations

import tests.core.conftest  # noqa: F401
