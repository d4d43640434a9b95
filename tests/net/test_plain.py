"""What `net.plain` does where the kernel would do otherwise; the rest is in test_mmsg.py."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from dnsguard.net import mmsg
from dnsguard.net._libc import ffi
from dnsguard.net.mmsg import Incoming
from dnsguard.net.plain import recvmmsg_by
from tests.net.conftest import LIBC
from tests.net.running import HOST


def test_an_error_between_two_datagrams_does_not_lose_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On real sockets only chance brings an error at that moment, so it is brought in here."""
    calls = 0

    def recvmsg(fd: int, header: Any, flags: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            ffi.errno = errno.ECONNREFUSED
            return -1
        length: int = LIBC.recvmsg(fd, header, flags)
        return length

    monkeypatch.setattr(mmsg, "recvmmsg", recvmmsg_by(recvmsg))
    incoming = Incoming(64, True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        for wire in (b"one", b"two"):
            sock.sendto(wire, sock.getsockname())
        assert incoming.receive(sock.fileno()) == 1
        assert incoming.message(0) == b"one"
        assert incoming.receive(sock.fileno()) == 1
        assert incoming.message(0) == b"two"
