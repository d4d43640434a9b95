"""What the end-to-end tests share: a directory with its processes, a control plane, an image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.harness import Bench
from tests.e2e.containers import Podman
from tests.e2e.plane import ControlPlane


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    with Bench() as running:
        yield running


@pytest.fixture(scope="session")
def plane(bench: Bench) -> ControlPlane:
    made = ControlPlane(bench)
    made.start()
    return made


@pytest.fixture(scope="session")
def podman() -> Podman:
    return Podman()
