"""Every peer is described well enough to be compared: its configuration says what a fair run needs.

No server is started; the configurations are written into a temporary directory and read back.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import nodecache, unbound
from benchmarks.peers.everyone import ECHO, EVERYONE, NAIVE, PRODUCT, YARDSTICKS
from benchmarks.peers.peer import AT_ONCE, VERIFY, Peer, Place, first_line
from benchmarks.peers.sources import CSource, DebianPackage, GoModule, ThisPython

PORT, UPSTREAM, SPARE = 53001, 53002, 53003
FORWARDERS = [peer for peer in EVERYONE if peer.forwards]


def by_name(peer: Peer) -> str:
    return peer.name


def started(peer: Peer, directory: Path, stale: str = "", entries: int = 5000) -> str:
    """Its command line and all files that it wrote, as one text."""
    directory.mkdir(exist_ok=True)
    place = Place(Path("/bin/program"), directory, PORT, SPARE, UPSTREAM, entries, stale)
    command = peer.command(place)
    assert command[0] == "/bin/program"
    files = [path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()]
    return "\n".join([" ".join(command), *files])


def test_names_are_distinct() -> None:
    names = [peer.name for peer in EVERYONE]
    assert len(set(names)) == len(names)
    assert PRODUCT.name == names[0]
    assert {ECHO.name, NAIVE.name} == set(YARDSTICKS)


@pytest.mark.parametrize("peer", FORWARDERS, ids=by_name)
def test_peer_forwards_from_its_port_to_the_upstream(peer: Peer, tmp_path: Path) -> None:
    text = started(peer, tmp_path)
    assert str(PORT) in text
    assert str(UPSTREAM) in text
    assert "0.0.0.0" not in text


@pytest.mark.parametrize(
    "peer", [p for p in FORWARDERS if p.name not in ("blocky", NAIVE.name)], ids=by_name
)
def test_cache_grows_with_what_is_wanted(peer: Peer, tmp_path: Path) -> None:
    assert started(peer, tmp_path / "a", entries=5000) != started(
        peer, tmp_path / "a", entries=500_000
    )


@pytest.mark.parametrize("peer", [p for p in EVERYONE if p.stale_modes], ids=by_name)
def test_stale_answers_only_when_asked_for(peer: Peer, tmp_path: Path) -> None:
    texts = [started(peer, tmp_path / "a", stale) for stale in ("", *peer.stale_modes)]
    assert len(set(texts)) == len(texts)
    assert set(peer.stale_modes) <= {VERIFY, AT_ONCE}


@pytest.mark.parametrize("peer", [p for p in EVERYONE if p.language == "Go"], ids=by_name)
def test_go_servers_get_one_processor(peer: Peer) -> None:
    assert peer.environment["GOMAXPROCS"] == "1"


def test_unbound_says_how_long_it_waits(tmp_path: Path) -> None:
    assert "serve-expired" not in started(unbound.PEER, tmp_path)
    assert "client-timeout: 1800\n" in started(unbound.PEER, tmp_path, VERIFY)
    assert "client-timeout: 0\n" in started(unbound.PEER, tmp_path, AT_ONCE)


def test_node_cache_touches_no_interface(tmp_path: Path) -> None:
    text = started(nodecache.PEER, tmp_path)
    assert "-setupinterface=false" in text
    assert "-setupiptables=false" in text


@pytest.mark.parametrize(
    "source",
    [
        DebianPackage("some-package", "prog"),
        GoModule("example.test/m", "v1", "example.test/m"),
        CSource("echo.c"),
        ThisPython("this checkout"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_origin_says_where_it_comes_from(
    source: DebianPackage | GoModule | CSource | ThisPython,
) -> None:
    words = ("some-package", "example.test/m", "echo.c", "this checkout")
    assert any(word in source.origin() for word in words)


def test_version_of_what_cannot_run_is_no_error(tmp_path: Path) -> None:
    assert "unknown" in first_line(tmp_path / "nothing")
