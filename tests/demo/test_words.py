"""Numbers in words: no rounding in anybody's favour."""

from __future__ import annotations

import pytest

from dnsguard.config import Address
from dnsguard.demo import words
from tests.demo.staged import show_at


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0.0, "0 %")],
)
def test_shares(value: float | None, text: str) -> None:
    assert words.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "no answer"), (0.00031, "0.31 ms"), (0.0519, "52 ms"), (1.8, "1.80 s")],
)
def test_latencies(value: float | None, text: str) -> None:
    assert words.latency(value) == text


def test_a_pair_of_latencies() -> None:
    assert words.latencies(None, None) == "no answer"
    assert words.latencies(0.001, None) == "1.00 ms · no answer"


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.012, "12 ms"), (1.84, "1.8 s")])
def test_seconds(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


def test_ages_and_clocks() -> None:
    assert [words.age(None), words.age(0.0), words.age(24.6)] == ["-", "-", "25 s"]
    assert words.clock(125.9) == "02:05"


def test_commands_name_the_server_only_where_it_is_not_the_default() -> None:
    usual = [command for command, _ in words.try_it(show_at(0))]
    other = [c for c, _ in words.try_it(show_at(0, listen=Address("::1", 5454)))]
    assert not any("--server" in command for command in usual)
    assert "dnsguard query postgres.data.svc.cluster.local --server [::1]:5454" in other
