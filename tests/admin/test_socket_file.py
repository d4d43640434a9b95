"""The control socket's file: who may reach it, what it replaces, and what it leaves alone."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnsguard.admin.socket_file import NAME, SocketFile, connect, runtime_root
from dnsguard.errors import ControlError


@contextmanager
def bound(root: Path, takeover: bool = False) -> Iterator[SocketFile]:
    """A control socket of one instance, listening."""
    file = SocketFile(str(root), "one")
    with file.bind(takeover):
        yield file


def test_it_is_for_its_owner_alone_and_gone_afterwards(tmp_path: Path) -> None:
    with bound(tmp_path) as file:
        assert file.path == str(tmp_path / "one" / NAME)
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(file.directory).st_mode) == 0o700
        assert os.listdir(file.directory) == [NAME]
        connect(file.directory).close()
        file.remove()
        file.remove()
    assert os.listdir(tmp_path) == []


def test_a_directory_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(0o700)
    with bound(tmp_path) as file:
        file.remove()
    assert os.listdir(tmp_path / "one") == []


def test_what_a_killed_process_left_gives_way(tmp_path: Path) -> None:
    with bound(tmp_path):
        pass  # nobody listens any more, and the file is there
    with bound(tmp_path) as file:
        connect(file.directory).close()
        file.remove()


def test_one_that_is_alive_stays_unless_it_is_taken_over(tmp_path: Path) -> None:
    with bound(tmp_path) as first:
        with pytest.raises(ControlError, match="another dnsguard answers at"):
            SocketFile(str(tmp_path), "one").bind()
        connect(first.directory).close()
        with bound(tmp_path, takeover=True) as second:
            first.remove()  # it is not the first's any more
            connect(second.directory).close()
            second.remove()


def test_a_path_longer_than_a_sockets_address(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30) / ("longer" * 20)
    with bound(root) as file:
        connect(file.directory).close()
        file.remove()


def test_a_place_where_others_could_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one").chmod(0o770)
    with pytest.raises(ControlError, match="can be written to by others: chmod 700"):
        SocketFile(str(tmp_path), "one").bind()


def test_what_is_no_directory_or_no_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "one").symlink_to(tmp_path / "else")
    with pytest.raises(ControlError, match="is not a directory"):
        SocketFile(str(tmp_path), "one").bind()
    (tmp_path / "one").unlink()
    (tmp_path / "one").mkdir(0o700)
    (tmp_path / "one" / NAME).write_text("something else")
    with pytest.raises(ControlError, match="is there and is no socket"):
        SocketFile(str(tmp_path), "one").bind()
    (tmp_path / "one" / NAME).unlink()
    (tmp_path / "one" / NAME).mkdir()
    with pytest.raises(ControlError, match="is there and is no socket"):
        SocketFile(str(tmp_path), "one").bind()
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=r"File exists|is not a directory"):
        SocketFile(str(tmp_path / "file"), "one").bind()


def test_leftovers_of_a_process_with_our_number_give_way(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "one" / f"{NAME}.{os.getpid()}"))
    with bound(tmp_path) as file:
        assert os.listdir(file.directory) == [NAME]


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/dnsguard"),
        ({"XDG_RUNTIME_DIR": "relative"}, "/run/dnsguard"),
        ({}, "/run/dnsguard"),
    ],
)
def test_where_it_lies_without_a_state_directory(environ: dict[str, str], root: str) -> None:
    assert runtime_root(environ) == root
