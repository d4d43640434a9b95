"""The directory that holds one instance's answers: made, checked, locked.

Each instance has one of its own, named after the first address it listens on, so that several on
one host do not fight. What lies there is used only if it is ours alone: directory 0700, plain files
0600, no links, the right owner. The lock is the directory's own (flock), held until the process
ends, however it ends. Nothing here knows what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from dnsguard.errors import StoreError

FILE = "answers.sqlite"
ASIDE = "aside.sqlite"  # what could not be used, kept for whoever wants to know why
TAILS = ("-wal", "-journal", "")  # of SQLite's files; for the order see `set_aside`

_KINDS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "readonly",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
}


def directory_name(listen: str) -> str:
    """Return the name of the directory of the instance that listens on `listen`."""
    return listen.replace("[", "").replace("]", "").replace(":", "_").replace("%", "_")


def trouble(error: OSError, path: str) -> StoreError:
    """Return what an operating system's error means for the store."""
    kind = _KINDS.get(error.errno or 0, "io")
    return StoreError(f"{path}: {error.strerror or error}", kind)


class Place:
    """One instance's directory, `name` in `root`."""

    def __init__(self, root: str, name: str) -> None:
        self.root = os.path.abspath(root)
        self.directory = os.path.join(self.root, name)
        self.path = os.path.join(self.directory, FILE)
        self._fd = -1

    def enter(self) -> bool:
        """Make, check and lock the directory; return True if the file there can be written.

        Raises `StoreError` if it cannot be had, or is not ours alone.
        """
        try:
            make_root(self.root)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self.directory, flags)
            self._own_directory()
            self._lock()
            for tail in TAILS:
                self._own_file(FILE + tail)
            return self.make()
        except OSError as error:
            self.leave()
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
                raise StoreError(f"{self.directory} is not a directory", "unsafe") from None
            raise trouble(error, self.directory) from None
        except StoreError:
            self.leave()
            raise

    def leave(self) -> None:
        """Let another instance have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def set_aside(self) -> None:
        """Move what is there out of the way; what was set aside earlier makes room.

        The database goes last: should we die in between, the next start finds it unusable again.
        A log without its database would be given to the next one.
        """
        try:
            for tail in TAILS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(ASIDE + tail, dir_fd=self._fd)
            for tail in TAILS:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(FILE + tail, ASIDE + tail, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            raise trouble(error, self.path) from None

    def put_back(self) -> None:
        """Undo `set_aside`: the file that was to take its place is of less use.

        The database goes first: without its log it lacks the last changes, and a log without its
        database would be given to the next one.
        """
        try:
            for tail in TAILS[::-1]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(FILE + tail, dir_fd=self._fd)
            for tail in TAILS[::-1]:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(ASIDE + tail, FILE + tail, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            raise trouble(error, self.path) from None

    def _own_directory(self) -> None:
        found = os.fstat(self._fd)
        _check_owner(found, self.directory)
        if stat.S_IMODE(found.st_mode) != 0o700:
            with _unless_readonly():
                os.fchmod(self._fd, 0o700)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"{self.directory} is in use by another instance for the same address"
            raise StoreError(text, "locked") from None

    def _own_file(self, name: str) -> None:
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        path = os.path.join(self.directory, name)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise StoreError(f"{path} is a link, or no plain file", "unsafe")
        _check_owner(found, path)
        if stat.S_IMODE(found.st_mode) != 0o600:
            with _unless_readonly():
                os.chmod(name, 0o600, dir_fd=self._fd)

    def make(self) -> bool:
        """Make the file if there is none; return True if it can be written."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            os.close(os.open(FILE, flags, 0o600, dir_fd=self._fd))
        except OSError as error:
            readable = os.access(FILE, os.R_OK, dir_fd=self._fd)
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and readable:
                return False
            raise trouble(error, self.path) from None
        return True


@contextlib.contextmanager
def _unless_readonly() -> Iterator[None]:
    """Pass over a mode that cannot be mended on a disk where nobody can write anyway."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def make_root(root: str) -> None:
    """Make the directory that holds those of all instances, if it is there for us to use."""
    os.makedirs(root, 0o700, exist_ok=True)
    found = os.lstat(root)
    if stat.S_ISLNK(found.st_mode):
        # systemd gives a DynamicUser a link of root's; any other link may lead anywhere.
        if found.st_uid != 0 or os.geteuid() == 0:
            raise StoreError(f"{root} is a symbolic link; name the directory itself", "unsafe")
        found = os.stat(root)
    # A volume's root often belongs to root and is open to all; what we make below it is not.
    if found.st_uid not in (0, os.geteuid()):
        _check_owner(found, root)


def _check_owner(found: os.stat_result, path: str) -> None:
    if found.st_uid != os.geteuid():
        text = f"{path} belongs to user {found.st_uid} and we are {os.geteuid()}: change its owner"
        raise StoreError(f"{text}, or choose another --state-dir", "unsafe")
