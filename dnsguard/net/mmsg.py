"""Many datagrams with one system call: recvmmsg and sendmmsg through cffi, without a compiler.

All memory is laid out once: buffers, addresses and the kernel's own arrays of pointers to them. An
outgoing message is a pointer to octets that lie anywhere: in the slot where a query came in, whose
reply was written over it behind the id, or in a bytes object of the caller's. This file knows no
DNS and no event loop. Where the calls are missing or forbidden, those of `net.plain` take their
place.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
from typing import Any

from dnsguard.net import plain
from dnsguard.net._libc import ffi as _ffi

BATCH = 64  # datagrams a call: more no longer makes a call cheaper for each
ADDRESS_OCTETS = 28  # sizeof(struct sockaddr_in6), the larger of the two families

_libc: Any = _ffi.dlopen(None)  # declared in libc_build.py


def available(libc: Any) -> bool:
    """Call both on a descriptor that cannot be: any complaint but about that one means no."""
    if not (hasattr(libc, "recvmmsg") and hasattr(libc, "sendmmsg")):
        return False
    received: int = libc.recvmmsg(-1, _ffi.NULL, 0, 0, _ffi.NULL)
    allowed = received < 0 and _ffi.errno == errno.EBADF
    sent: int = libc.sendmmsg(-1, _ffi.NULL, 0, 0)
    return allowed and sent < 0 and _ffi.errno == errno.EBADF


def calls(libc: Any) -> tuple[plain.Call, plain.Call]:
    """Return what to receive and to send many datagrams with."""
    if available(libc):
        return libc.recvmmsg, libc.sendmmsg
    return plain.recvmmsg_by(libc.recvmsg), plain.sendmmsg_by(libc.sendmsg)


recvmmsg, sendmmsg = calls(_libc)

_WORD = _ffi.sizeof("size_t")
_HEADER = _ffi.sizeof("struct mmsghdr")
_LENGTH_AT = _ffi.offsetof("struct mmsghdr", "msg_len")
_BYTES_AT = bytes.__basicsize__ - 1  # where CPython keeps the octets of a bytes object


def _address_of(data: bytes) -> int:
    """Return the address of the octets of `data`, valid for as long as the object lives."""
    return id(data) + _BYTES_AT


def _address_by_buffer(data: bytes) -> int:
    return int(_ffi.cast("uintptr_t", _ffi.from_buffer(data)))


_probe = b"where CPython keeps the octets of a bytes object"
address = _address_of if _address_of(_probe) == _address_by_buffer(_probe) else _address_by_buffer


def _pointer(cdata: Any) -> int:
    return int(_ffi.cast("uintptr_t", cdata))


class Incoming:
    """Room for a batch of datagrams of up to `octets` each, with or without their senders.

    After `receive`, message i lies at `octets_of[starts[i] : starts[i] + lengths[length_at[i]]]`,
    a slice that yields bytes. A message as long as its slot may have been cut. Senders lie `stride`
    octets apart.
    """

    def __init__(self, octets: int, addresses: bool, stride: int = ADDRESS_OCTETS) -> None:
        self.slot = octets
        self.stride = stride
        # Slices of an anonymous mapping are the cheapest of all to read as bytes and to write.
        self.octets_of = mmap.mmap(-1, octets * BATCH)
        self._arena = _ffi.from_buffer("unsigned char[]", self.octets_of)
        self._names = _ffi.new("unsigned char[]", stride * BATCH)
        self._iov = _ffi.new("struct iovec[]", BATCH)
        self._vec = _ffi.new("struct mmsghdr[]", BATCH)
        self.names_of = _ffi.buffer(self._names)
        self.lengths = memoryview(_ffi.buffer(self._vec)).cast("B").cast("I")
        self.starts = tuple(i * octets for i in range(BATCH))
        self.length_at = tuple((i * _HEADER + _LENGTH_AT) // 4 for i in range(BATCH))
        self.sizes = self.lengths[_LENGTH_AT // 4 :: _HEADER // 4]  # of every message, in order
        names = memoryview(self.names_of).cast("B")
        # Where sockaddr_in and sockaddr_in6 have the port, and sockaddr_in the address.
        self.ports = names.cast("H")[1 :: stride // 2]
        self._addresses4 = names.cast("I")[1 :: stride // 4]
        self.arena_at = _pointer(self._arena)
        self.names_at = _pointer(self._names)
        for i in range(BATCH):
            self._iov[i].iov_base = self._arena + i * octets
            self._iov[i].iov_len = octets
            header = self._vec[i].msg_hdr
            header.msg_iov = self._iov + i
            header.msg_iovlen = 1
            if addresses:
                header.msg_name = self._names + i * stride
                header.msg_namelen = ADDRESS_OCTETS
        self._receive = recvmmsg

    def receive(self, fd: int) -> int:
        """Read up to a batch; return how many came, 0 for none. Raises OSError for the rest."""
        count: int = self._receive(fd, self._vec, BATCH, socket.MSG_DONTWAIT, _ffi.NULL)
        if count >= 0:
            return count
        code = _ffi.errno
        if code in (errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(code, os.strerror(code))

    def addresses(self, count: int, six: bool) -> list[int] | list[bytes]:
        """Return the senders' addresses, as numbers in memory's order or as 16 octets each."""
        if not six:
            return self._addresses4[:count].tolist()
        octets, stride = self.names_of, self.stride
        return [octets[at : at + 16] for at in range(8, 8 + count * stride, stride)]

    def message(self, index: int) -> bytes:
        """Return datagram `index` of the batch just received."""
        start = self.starts[index]
        data: bytes = self.octets_of[start : start + self.lengths[self.length_at[index]]]
        return data

    def sender(self, index: int, length: int) -> bytes:
        """Return the sender of datagram `index`: `length` octets as the kernel wrote them."""
        start = index * self.stride
        name: bytes = self.names_of[start : start + length]
        return name


class Outgoing:
    """Room for a batch of messages to send, each of one or more pieces that lie anywhere in memory.

    Piece p of message i is the address in `words[2 * (pieces * i + p)]` and the length in the word
    after it: writing there is how a loop fills a message. Whoever writes an address keeps what
    lies there alive until the batch is sent. Names are of `name_octets` octets, none on connected
    sockets, and lie `stride` octets apart.
    """

    def __init__(self, name_octets: int, pieces: int = 1, stride: int = ADDRESS_OCTETS) -> None:
        self._names = _ffi.new("unsigned char[]", stride * BATCH)
        self._iov = _ffi.new("struct iovec[]", pieces * BATCH)
        self._vec = _ffi.new("struct mmsghdr[]", BATCH)
        self.names_of = _ffi.buffer(self._names)
        self.words = memoryview(_ffi.buffer(self._iov)).cast("B").cast("P")
        self._headers = memoryview(_ffi.buffer(self._vec)).cast("B").cast("P")
        self._name_words = tuple(i * _HEADER // _WORD for i in range(BATCH))
        for i in range(BATCH):
            header = self._vec[i].msg_hdr
            header.msg_iov = self._iov + pieces * i
            header.msg_iovlen = pieces
            if name_octets:
                header.msg_name = self._names + i * stride
                header.msg_namelen = name_octets
        self._send = sendmmsg

    def point_name(self, index: int, name_at: int) -> None:
        """Let message `index` go to the socket address that lies at `name_at`."""
        self._headers[self._name_words[index]] = name_at

    def send(self, fd: int, start: int, count: int) -> int:
        """Send messages `start` up to `count`; return how many went out, or minus an errno."""
        sent: int = self._send(fd, self._vec + start, count - start, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else -_ffi.errno
