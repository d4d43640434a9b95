"""The thread that finds the other processes of our address, by their sockets in our directories.

A directory may lie on a disk that hangs, so nothing here is done on the event loop; what is found
is handed to it through `tell`. A socket that nobody listens on any more is removed. Who may look
into the directory may also speak to us, so it has to be ours alone: owner, mode 0700, no link.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import struct
import threading
from collections.abc import Callable, Sequence

from dnsguard.errors import StoreError
from dnsguard.store.place import trouble

SCAN_SECONDS = 0.5  # between looks: also how long a new process may stay unknown to an old one
BACKLOG = 64
TAIL = ".peer"
CONNECT_SECONDS = 1.0  # a process that is stopped accepts nothing
_CREDENTIALS = struct.Struct("=iII")  # pid, user, group: see unix(7), SO_PEERCRED


class Scout(threading.Thread):
    """Makes our socket in each directory, and looks for those of others until stopped.

    `tell` has a callable called on the loop; `heard` gets our listening sockets, `met` a connected
    socket and the name of who is at its other end, `looked` is called after the first look, and
    `failed` with what keeps a directory from being used.
    """

    def __init__(
        self,
        directories: Sequence[str],
        tell: Callable[..., object],
        heard: Callable[[socket.socket], None],
        met: Callable[[socket.socket, str], None],
        looked: Callable[[], None],
        failed: Callable[[StoreError], None],
    ) -> None:
        super().__init__(name="dnsguard-scout", daemon=True)  # a disk that hangs must not keep us
        self.ours = secrets.token_hex(8)
        self.known: frozenset[str] = frozenset()  # who is connected already; set by the loop
        self._directories = tuple(directories)
        self._tell = tell
        self._heard, self._met, self._looked, self._failed = heard, met, looked, failed
        self._stopped = threading.Event()
        self._places: dict[str, int] = {}

    def stop(self) -> None:
        """Look no more, and take our sockets away."""
        self._stopped.set()

    def run(self) -> None:
        """Look, again and again; a directory that is of no use now may be later."""
        complained: set[str] = set()
        first = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody to tell
            while True:
                for directory in self._directories:
                    try:
                        self._visit(directory)
                        complained.discard(directory)
                    except (OSError, StoreError) as error:
                        if directory not in complained:
                            complained.add(directory)
                            self._tell(self._failed, _as_ours(error, directory))
                if first:
                    first = False
                    self._tell(self._looked)
                if self._stopped.wait(SCAN_SECONDS):
                    break
        for fd in self._places.values():
            with contextlib.suppress(OSError):
                os.unlink(self.ours + TAIL, dir_fd=fd)
            os.close(fd)

    def _visit(self, directory: str) -> None:
        fd = self._places.get(directory)
        if fd is not None and not _still(directory, fd):
            os.close(self._places.pop(directory))
            fd = None
        if fd is None:
            fd = _enter(directory)
            try:
                self._tell(self._heard, self._listen(fd))
            except BaseException:
                os.close(fd)
                raise
            self._places[directory] = fd
        for name in os.listdir(fd):
            who = name.removesuffix(TAIL)
            if who != name and who != self.ours and who not in self.known:
                self._call(fd, name, who)

    def _listen(self, fd: int) -> socket.socket:
        """Return a listening socket; its name appears once there is someone to answer."""
        hidden = f".{self.ours}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Through the descriptor: the path of a socket must not have more than 107 octets.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(hidden, dir_fd=fd)
            sock.bind(f"/proc/self/fd/{fd}/{hidden}")
            os.chmod(hidden, 0o600, dir_fd=fd)
            sock.listen(BACKLOG)
            os.rename(hidden, self.ours + TAIL, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError:
            sock.close()
            raise
        return sock

    def _call(self, fd: int, name: str, who: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(f"/proc/self/fd/{fd}/{name}")
        except ConnectionRefusedError:
            sock.close()
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=fd)  # its process is gone
        except OSError:
            sock.close()
        else:
            sock.setblocking(False)
            self._tell(self._met, sock, who)


def is_ours(sock: socket.socket) -> bool:
    """True if the process at the other end of a Unix socket runs as the user that we are."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(found)[1]
    return user == os.geteuid()


def _enter(directory: str) -> int:
    """Return a descriptor of `directory`, which is made if it is not there."""
    os.makedirs(directory, 0o700, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(fd)
        raise StoreError(f"{directory} is not ours alone (mode 0700, our user)", "unsafe")
    return fd


def _still(directory: str, fd: int) -> bool:
    """True if `fd` is still what has this name."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    ours = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _as_ours(error: OSError | StoreError, directory: str) -> StoreError:
    return error if isinstance(error, StoreError) else trouble(error, directory)
