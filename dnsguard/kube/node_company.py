"""Watchers of one node find each other: the newest acts, an older one waits, the last clears up.

A rolling update has two pods of a node at a time, in one network namespace. Each watcher has an
abstract Unix socket there, which the kernel takes away with its process however that ends, and a
newcomer keeps a connection to each of its elders. So an elder knows from the connection that it is
succeeded, and acts again if its successor dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

SLOTS = 8  # watchers at a time; an update has two
NAME = "\0dnsguard-node-"
_PEER = struct.Struct("3i")  # struct ucred of socket(7): process, user, group


class Company:
    """Our place among the watchers of this network namespace."""

    def __init__(self, name: str = NAME) -> None:
        self._name = name
        self._elders: set[socket.socket] = set()
        self._successors: set[socket.socket] = set()
        self._socket: socket.socket | None = None

    @property
    def succeeded(self) -> bool:
        """A newer watcher acts."""
        return bool(self._successors)

    @property
    def alone(self) -> bool:
        """Nobody would miss the rules if they went with us."""
        return not self._successors and not self._elders

    def join(self) -> int:
        """Take a place and make it known; return how many were there before. Raises OSError."""
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        placed = False
        for slot in range(SLOTS):
            name = f"{self._name}{slot}"
            elder = _connected(name)
            if elder is not None:
                self._watch(elder, self._elders)
            elif not placed:
                with contextlib.suppress(OSError):
                    ours.bind(name)
                    ours.listen(SLOTS)
                    placed = True
        if not placed:
            ours.close()
            raise OSError(f"{SLOTS} watchers run on this node already")
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours, self._accept, ours)
        return len(self._elders)

    def leave(self) -> None:
        """Give the place up."""
        for sock in (*self._elders, *self._successors, self._socket):
            if sock is not None:
                asyncio.get_running_loop().remove_reader(sock)
                sock.close()
        self._elders.clear()
        self._successors.clear()
        self._socket = None

    def _accept(self, ours: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            successor, _ = ours.accept()
            if _is_ours(successor):
                successor.setblocking(False)
                self._watch(successor, self._successors)
            else:
                successor.close()

    def _watch(self, sock: socket.socket, among: set[socket.socket]) -> None:
        """Have the other side among these until its end; it never says anything."""

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                try:
                    over = not sock.recv(1)
                except ConnectionError:
                    over = True
                if over:
                    asyncio.get_running_loop().remove_reader(sock)
                    among.discard(sock)
                    sock.close()

        among.add(sock)
        asyncio.get_running_loop().add_reader(sock, readable)


def others(name: str = NAME) -> int:
    """How many watchers there are in this network namespace."""
    found = [_connected(f"{name}{slot}") for slot in range(SLOTS)]
    for sock in found:
        if sock is not None:
            sock.close()
    return sum(sock is not None for sock in found)


def _connected(name: str) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(name)
        if _is_ours(sock):
            return sock
    except OSError:
        pass
    sock.close()
    return None


def _is_ours(sock: socket.socket) -> bool:
    """True if the other side is root or our own user, by the kernel's word (SO_PEERCRED)."""
    peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, _ = _PEER.unpack(peer)
    return user in (0, os.geteuid())
