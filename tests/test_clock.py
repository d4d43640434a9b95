"""The clocks: one that only ever moves forward, and one that others understand."""

from __future__ import annotations

import time

import pytest

from dnsguard import clock


def test_the_boot_clock_never_goes_back_and_counts_time_suspended() -> None:
    readings = [clock.now() for _ in range(1000)]
    assert readings == sorted(readings)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    between = clock.now()
    assert before <= between <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_wall_clock_is_the_machines() -> None:
    before = time.time()
    assert before <= clock.wall() <= time.time() + 1.0


def test_one_reading_shows_all_clocks_of_one_boot() -> None:
    first, second = clock.read(), clock.read()
    assert first.boot == second.boot == clock.boot()
    assert len(first.boot) == clock.BOOT_OCTETS
    assert first.now <= second.now
    assert first.wall - first.now == pytest.approx(second.wall - second.now, abs=5.0)


@pytest.mark.parametrize("content", [None, "", "not hex", "00ff"])
def test_without_a_boot_id_each_start_counts_as_a_boot(
    content: str | None, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{tmp_path}/boot_id"
    if content is not None:
        with open(path, "w", encoding="ascii") as file:
            file.write(content)
    monkeypatch.setattr(clock, "BOOT_ID", path)
    fresh = clock.boot.__wrapped__
    assert len(fresh()) == clock.BOOT_OCTETS
    assert fresh() != fresh()
