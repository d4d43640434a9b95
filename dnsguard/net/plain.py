"""One system call a datagram, where the kernel or a sandbox has none for many.

Stand-ins for recvmmsg and sendmmsg, of the same signature and with the same results, made from
recvmsg and sendmsg, which every POSIX system has. So whoever reads and writes in batches need not
know which of the two it has. They cost a call a datagram and are right otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Call = Callable[..., int]


def recvmmsg_by(recvmsg: Call) -> Call:
    """Return a recvmmsg that calls `recvmsg` for each datagram."""

    def recvmmsg(fd: int, vector: Any, size: int, flags: int, _timeout: Any) -> int:
        for index in range(size):
            # A message's header is the first thing in its place, so both have one address.
            length = recvmsg(fd, vector + index, flags)
            if length < 0:
                # An error between two datagrams (an ICMP message, say) is gone with that. It was a
                # hint at most: what it told, the silence of the other side tells a little later.
                return index or -1
            vector[index].msg_len = length
        return size

    return recvmmsg


def sendmmsg_by(sendmsg: Call) -> Call:
    """Return a sendmmsg that calls `sendmsg` for each message."""

    def sendmmsg(fd: int, vector: Any, size: int, flags: int) -> int:
        for index in range(size):
            length = sendmsg(fd, vector + index, flags)
            if length < 0:
                return index or -1
            vector[index].msg_len = length
        return size

    return sendmmsg
