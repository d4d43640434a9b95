"""The library of outages: where it is, that it can be read, and that it has what it promises."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dnsguard.errors import ConfigError
from dnsguard.sim import library

ROOT = Path(__file__).resolve().parents[2]
FAMOUS = {
    "aws-dynamodb-2025-10-20", "azure-2021-04-01", "cloudflare-2023-10-04",
    "cloudflare-2025-07-14", "coredns-rollout", "dyn-2016-10-21", "kubernetes-77864",
    "lying-replica", "monzo-2017-10-27", "node-reboot", "openai-2024-12-04", "openai-2024-12-11",
    "preply-2020-02-28", "reddit-2023-03-14", "roblox-2021-10-28", "zalando-2019-01-07",
}  # fmt: skip


def test_the_famous_outages_are_there() -> None:
    assert set(library.paths()) >= FAMOUS


@pytest.mark.parametrize("name", sorted(library.paths()))
def test_every_scenario_is_sound(name: str) -> None:
    found = library.load(name)
    assert found.name == name
    assert found.date == "none" or found.date in name, "the name has the date"
    assert found.sources
    assert found.known.endswith(".")
    assert found.assumed.endswith(".")
    assert len(found.summary) < 120
    assert found.phases[0].seconds >= 4 * found.names.ttl, "every name is known, and renewed"
    assert not found.phases[-1].outage, "what comes after is seen"
    assert found.phases[-1].seconds >= 300, "also by a cache that looks every five minutes"
    # Four hours at 100 look-ups a second take ten seconds; nothing here takes much longer.
    assert sum(p.seconds * p.load for p in found.phases) * found.clients.rate < 2e6


def test_the_earliest_outage_stands_first_and_everyday_ones_last() -> None:
    dates = [one.date for one in library.everything()]
    happened = [date for date in dates if date != "none"]
    assert happened == sorted(happened)
    assert dates == happened + ["none"] * (len(dates) - len(happened))


def test_a_path_is_a_path_and_a_name_is_looked_up() -> None:
    assert library.path("./mine.yaml") == Path("mine.yaml")
    assert library.path("mine.yaml") == Path("mine.yaml")
    assert library.path("node-reboot") == ROOT / "benchmarks/scenarios/node-reboot.yaml"
    with pytest.raises(ConfigError, match="the nearest is node-reboot"):
        library.path("node-rebot")


def test_the_installed_package_has_it_too(tmp_path: Path) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    (source, target), *others = wheel["force-include"].items()
    assert not others
    inside, beside = library.PLACES
    assert (inside, beside) == (ROOT / target, ROOT / source)
    installed = tmp_path / "scenarios"
    installed.mkdir()
    (installed / "one.yaml").write_text("")
    assert library.paths((installed, beside)) == {"one": installed / "one.yaml"}


def test_an_image_has_none(tmp_path: Path) -> None:
    nowhere = (tmp_path / "scenarios",)
    assert library.paths(nowhere) == {}
    with pytest.raises(ConfigError, match="no library in this installation"):
        library.path("node-reboot", nowhere)
