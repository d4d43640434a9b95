"""The servers beside dnsguard: each has its configuration, and who is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import rivals
from benchmarks.peers import smartdns, sources
from benchmarks.peers.peer import AT_ONCE, MissingError, Peer, Place
from dnsguard.bench.outage_stage import Spot


@pytest.mark.parametrize(("peer", "mode", "name"), rivals.WAYS, ids=lambda value: str(value)[:20])
def test_each_can_be_configured_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: Peer, mode: str, name: str
) -> None:
    """A restarted server writes the same configuration again."""
    monkeypatch.setattr(type(peer.source), "there", lambda self, build: Path("/bin/true"))
    way = rivals.Way(peer, mode)
    spot = Spot(tmp_path, 10001, 10002, 10003)
    first = way.command(spot)
    files = {path: path.read_text() for path in tmp_path.iterdir()}
    assert way.command(spot) == first
    assert {path: path.read_text() for path in tmp_path.iterdir()} == files
    whole = " ".join(first) + "".join(files.values())
    assert "10001" in whole
    assert "10003" in whole
    assert mode or "stale" not in whole


def test_names_are_each_ones_own() -> None:
    names = [name for _, _, name in rivals.WAYS]
    assert len(names) == len(set(names))


def test_who_is_missing_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, build: Path) -> Path:
        raise MissingError("not installed; install it with: apt-get install it")

    monkeypatch.setattr(sources.DebianPackage, "there", missing)
    monkeypatch.setattr(sources.GoModule, "there", missing)
    found, notes = rivals.rivals()
    assert found == []
    assert len(notes) == len(rivals.WAYS)
    assert "unbound is left out: not installed; install it with: apt-get install it" in notes


def test_one_that_keeps_its_cache_on_disk_does(tmp_path: Path) -> None:
    place = Place(Path("/bin/true"), tmp_path, 1, 2, 3, 10, AT_ONCE, persist=True)
    smartdns.PEER.command(place)
    assert f"cache-file {tmp_path}/smartdns.cache" in (tmp_path / "smartdns.conf").read_text()
