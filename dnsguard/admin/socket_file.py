"""The control socket's place in the file system: for its owner alone, never taken from another.

A directory that anyone else could write to is refused, because there the socket could be swapped.
A socket that nobody listens on is what a killed process left behind, and gives way; one that is
alive stays. Everything is done relative to the open directory: so no link in its path can be
changed on the way, and a long path is no obstacle (a socket's address holds 107 octets).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping

from dnsguard.errors import ControlError

NAME = "control.sock"
BACKLOG = 16
CONNECT_SECONDS = 1.0  # whoever listens is asked by the kernel, which answers at once


def runtime_root(environ: Mapping[str, str]) -> str:
    """Return where sockets of instances without a state directory lie."""
    path = environ.get("XDG_RUNTIME_DIR", "")
    return f"{path.rstrip('/')}/dnsguard" if path.startswith("/") else "/run/dnsguard"


def connect(directory: str, name: str = NAME) -> socket.socket:
    """Return a socket that is connected to the one in `directory`; raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(f"/proc/self/fd/{fd}/{name}")
        except BaseException:
            sock.close()
            raise
    finally:
        os.close(fd)
    return sock


class SocketFile:
    """The control socket in `directory`, whose parent is `root`."""

    def __init__(self, root: str, directory: str) -> None:
        self.root = os.path.abspath(root)
        self.directory = os.path.join(self.root, directory)
        self.path = os.path.join(self.directory, NAME)
        self._fd = -1
        self._inode = (0, 0)
        self._made = False

    def bind(self, takeover: bool = False) -> socket.socket:
        """Make it and listen; `takeover` replaces one that is alive. Raises ControlError."""
        try:
            self._enter()
            if not takeover and self._alive():
                raise ControlError(f"another dnsguard answers at {self.path}")
            return self._listen()
        except OSError as error:
            self._leave()
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ControlError(f"{self.directory} is not a directory") from None
            raise ControlError(f"{self.path}: {error.strerror or error}") from None
        except ControlError:
            self._leave()
            raise

    def remove(self) -> None:
        """Take it away, unless another instance has put its own in its place."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            found = os.stat(NAME, dir_fd=self._fd, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(NAME, dir_fd=self._fd)
                if self._made:
                    os.rmdir(self.directory)
        self._leave()

    def _enter(self) -> None:
        os.makedirs(os.path.dirname(self.directory), 0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
            self._made = True
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.directory, flags)
        found = os.fstat(self._fd)
        if found.st_uid != os.geteuid():
            raise ControlError(
                f"{self.directory} belongs to user {found.st_uid} and we are {os.geteuid()}"
            )
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise ControlError(f"{self.directory} can be written to by others: chmod 700 it")

    def _alive(self) -> bool:
        """True if someone listens on the socket that is there."""
        try:
            found = os.stat(NAME, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not stat.S_ISSOCK(found.st_mode):
            raise ControlError(f"{self.path} is there and is no socket: take it away")
        try:
            connect(self.directory).close()
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True

    def _listen(self) -> socket.socket:
        """Bind beside the name and move it there: nobody ever finds it without a listener."""
        beside = f"{NAME}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=self._fd)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            os.fchmod(sock.fileno(), 0o600)  # before it has a name; see unix(7)
            sock.bind(f"/proc/self/fd/{self._fd}/{beside}")
            sock.listen(BACKLOG)
            found = os.stat(beside, dir_fd=self._fd, follow_symlinks=False)
            self._inode = found.st_dev, found.st_ino
            os.rename(beside, NAME, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except BaseException:
            sock.close()
            raise
        return sock

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
