"""The directory: what it is made like, who may have it, and what is not ours."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dnsguard.errors import StoreError
from dnsguard.store.place import ASIDE, FILE, TAILS, Place, directory_name

NAME = "127.0.0.1_53"


def place(root: Path) -> Place:
    return Place(str(root), NAME)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refusal(root: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        place(root).enter()
    assert str(root) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("listen", "name"),
    [
        ("127.0.0.1:53", "127.0.0.1_53"),
        ("[::1]:5353", "__1_5353"),
        ("[fe80::1%eth0]:53", "fe80__1_eth0_53"),
    ],
)
def test_each_listener_has_a_directory_of_its_own(listen: str, name: str) -> None:
    assert directory_name(listen) == name


def test_it_is_made_for_us_alone(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        assert place(root).enter()
    finally:
        os.umask(before)
    assert (mode(root), mode(root / NAME), mode(root / NAME / FILE)) == (0o700, 0o700, 0o600)


def test_what_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    inside = tmp_path / NAME
    inside.mkdir(0o755)
    for tail in TAILS:
        (inside / (FILE + tail)).touch(0o644)
    assert place(tmp_path).enter()
    assert mode(inside) == 0o700
    assert {mode(inside / (FILE + tail)) for tail in TAILS} == {0o600}


def test_a_volume_that_is_open_to_all_is_good_enough_to_hold_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert place(tmp_path).enter()
    assert mode(tmp_path) == 0o777
    assert mode(tmp_path / NAME) == 0o700


def test_a_second_one_is_locked_out_until_the_first_leaves(tmp_path: Path) -> None:
    first, second, other = place(tmp_path), place(tmp_path), Place(str(tmp_path), "127.0.0.1_54")
    first.enter()
    assert other.enter()
    assert refusal(tmp_path).kind == "locked"
    first.leave()
    first.leave()
    assert second.enter()


def test_a_link_in_place_of_the_root_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    root = tmp_path / "root"
    root.symlink_to("real")
    assert refusal(root).kind == "unsafe"
    assert not list((tmp_path / "real").iterdir())
    # Not one of root's, though, for those who are not root: systemd makes such.
    owner = root.lstat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    links = os.lstat

    def by_root(path: str) -> os.stat_result:
        return os.stat_result((*links(path)[:4], 0, *links(path)[5:]))

    monkeypatch.setattr(os, "lstat", by_root)
    error = refusal(root)
    assert "symbolic" not in str(error)  # it is followed, and what it leads to is looked at
    assert owner in (0, os.getuid())


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / NAME).symlink_to(elsewhere)
    assert refusal(tmp_path).kind == "unsafe"
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("what", ["link", "hard link", "directory", "pipe", "dangling link"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, tail: str, what: str) -> None:
    (tmp_path / NAME).mkdir()
    path = tmp_path / NAME / (FILE + tail)
    target = tmp_path / "target"
    target.write_text("mine")
    if what == "link":
        path.symlink_to(target)
    elif what == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif what == "hard link":
        path.hardlink_to(target)
    elif what == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert refusal(tmp_path).kind == "unsafe"
    assert target.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("level", ["root", "directory", "file"])
def test_what_belongs_to_someone_else_is_refused(
    tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    first = place(root)
    first.enter()
    first.leave()
    strange = {"root": root, "directory": root / NAME, "file": root / NAME / FILE}[level]
    inode = strange.stat().st_ino

    def owned(found: os.stat_result) -> os.stat_result:
        return os.stat_result((*found[:4], 4711, *found[5:])) if found.st_ino == inode else found

    for name in ("stat", "lstat", "fstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, **k: owned(real(*a, **k)))
    error = refusal(root)
    assert error.kind == "unsafe"
    assert "4711" in str(error)


def test_a_file_in_its_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    assert refusal(tmp_path).kind == "unsafe"
    (tmp_path / "root").touch()
    assert refusal(tmp_path / "root").kind == "unsafe"


def test_after_a_refusal_it_is_free(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / FILE).symlink_to("x")
    assert refusal(tmp_path).kind == "unsafe"
    (tmp_path / NAME / FILE).unlink()
    assert place(tmp_path).enter()


def test_what_is_set_aside_makes_room_and_replaces_what_was(tmp_path: Path) -> None:
    here = place(tmp_path)
    here.enter()
    inside = tmp_path / NAME
    for number in (1, 2):
        for tail in TAILS:
            (inside / (FILE + tail)).write_text(f"{tail} {number}")
        here.set_aside()
        assert {path.name for path in inside.iterdir()} == {ASIDE + tail for tail in TAILS}
        for tail in TAILS:
            assert (inside / (ASIDE + tail)).read_text() == f"{tail} {number}"
    (inside / (FILE + "-wal")).write_text("a log")
    here.set_aside()
    assert {path.name for path in inside.iterdir()} == {ASIDE + "-wal"}
    assert here.make()
