"""Batches of datagrams between the kernel and memory that Python laid out.

Every address, length and octet that crosses is checked, at the edges of every size, because a
mistake here is not an exception but somebody else's memory. All of it holds for the calls of
`net.plain` too.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dnsguard.net import mmsg
from dnsguard.net._libc import ffi
from dnsguard.net.addresses import name_octets, read_name
from dnsguard.net.mmsg import ADDRESS_OCTETS, BATCH, Incoming, Outgoing, address
from tests.net.conftest import LIBC
from tests.net.running import HOST, LOOPBACKS

pytestmark = pytest.mark.usefixtures("calls")
SLOT = 64


def bound(host: str = HOST) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(10)
    return sock


@contextlib.contextmanager
def pair(host: str = HOST) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets, the second of which is connected to the first."""
    with bound(host) as one, bound(host) as other:
        other.connect(one.getsockname())
        yield one, other


def received(incoming: Incoming, count: int) -> list[bytes]:
    """The batch as loops read it, which must be what `message` says of each."""
    starts, lengths, length_at = incoming.starts, incoming.lengths, incoming.length_at
    octets = [
        incoming.octets_of[starts[i] : starts[i] + lengths[length_at[i]]] for i in range(count)
    ]
    assert octets == [incoming.message(i) for i in range(count)]
    return octets


def fill(outgoing: Outgoing, wires: Sequence[bytes]) -> None:
    for index, wire in enumerate(wires):
        outgoing.words[2 * index] = address(wire)
        outgoing.words[2 * index + 1] = len(wire)


@pytest.mark.parametrize("size", [0, 1, 2, SLOT - 1, SLOT, SLOT + 1, 1232, 65507])
def test_a_datagram_comes_whole_or_cut_to_its_slot(size: int) -> None:
    wire = bytes(n % 251 for n in range(size))
    incoming = Incoming(SLOT, True)
    with pair() as (one, other):
        other.send(wire)
        other.send(b"after it")
        assert incoming.receive(one.fileno()) == 2
        assert received(incoming, 2) == [wire[:SLOT], b"after it"]


def test_nothing_there_is_no_error() -> None:
    with bound() as sock:
        assert Incoming(SLOT, True).receive(sock.fileno()) == 0


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
@pytest.mark.parametrize("senders", [True, False])
def test_more_than_a_batch_comes_in_several(count: int, senders: bool) -> None:
    wires = [f"datagram {number}".encode() for number in range(count)]
    incoming = Incoming(SLOT, senders)
    found: list[bytes] = []
    sizes = []
    with pair() as (one, other):
        for wire in wires:
            other.send(wire)
        while size := incoming.receive(one.fileno()):
            sizes.append(size)
            found += received(incoming, size)
    assert found == wires
    assert sizes[:-1] == [BATCH] * (len(sizes) - 1)


@pytest.mark.parametrize("host", LOOPBACKS)
def test_the_sender_of_each_is_known(host: str) -> None:
    with bound(host) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(bound(host)) for _ in range(BATCH)]
        for client in clients:
            client.sendto(str(client.getsockname()[1]).encode(), server.getsockname())
        incoming = Incoming(SLOT, True)
        assert incoming.receive(server.fileno()) == BATCH
        octets = name_octets(server.family)
        names = [read_name(incoming.sender(i, octets)) for i in range(BATCH)]
        assert names == [client.getsockname()[:2] for client in clients]
        assert [int(wire) for wire in received(incoming, BATCH)] == [port for _, port in names]
        start = 3 * ADDRESS_OCTETS
        assert incoming.names_of[start : start + octets] == incoming.sender(3, octets)


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_batch_goes_back_to_its_senders_from_where_it_came(host: str) -> None:
    """As the listener does it: out of the incoming slots, to the incoming addresses."""
    with bound(host) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(bound(host)) for _ in range(BATCH)]
        incoming, outgoing = Incoming(SLOT, True), Outgoing(name_octets(server.family))
        for index in range(BATCH):
            outgoing.words[2 * index] = incoming.arena_at + index * SLOT
            outgoing.point_name(index, incoming.names_at + index * ADDRESS_OCTETS)
        for turn in range(3):
            for number, client in enumerate(clients):
                client.sendto(f"{turn} {number}".encode(), server.getsockname())
            assert incoming.receive(server.fileno()) == BATCH
            for index in range(BATCH):
                start = incoming.starts[index]
                incoming.octets_of[start : start + 1] = b"!"
                outgoing.words[2 * index + 1] = incoming.lengths[incoming.length_at[index]]
            assert outgoing.send(server.fileno(), 0, BATCH) == BATCH
            for number, client in enumerate(clients):
                assert client.recvfrom(SLOT)[0] == f"! {number}".encode()


def test_messages_leave_from_any_place_in_the_batch() -> None:
    wires = [f"message {number}".encode() for number in range(BATCH)]
    outgoing = Outgoing(0)
    fill(outgoing, wires)
    with pair() as (one, other):
        for start, end in ((0, 1), (5, 9), (BATCH - 1, BATCH), (0, BATCH)):
            assert outgoing.send(other.fileno(), start, end) == end - start
            assert [one.recv(100) for _ in range(start, end)] == wires[start:end]


def test_a_message_may_have_several_pieces() -> None:
    pieces = [b"an id", b"", b" and the rest"]
    outgoing = Outgoing(0, len(pieces))
    fill(outgoing, pieces * 2)
    with pair() as (one, other):
        assert outgoing.send(other.fileno(), 0, 2) == 2
        assert [one.recv(100) for _ in range(2)] == [b"".join(pieces)] * 2


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_message_goes_to_the_name_that_was_written(host: str) -> None:
    with bound(host) as one, bound(host) as other, bound(host) as server:
        incoming = Incoming(SLOT, True)
        octets = name_octets(server.family)
        outgoing = Outgoing(octets)
        for index, client in enumerate((one, other)):
            client.sendto(b"here I am", server.getsockname())
            incoming.receive(server.fileno())
            start = index * ADDRESS_OCTETS
            outgoing.names_of[start : start + octets] = incoming.sender(0, octets)
        wires = [b"to one", b"to other"]
        fill(outgoing, wires)
        assert outgoing.send(server.fileno(), 0, 2) == 2
        assert [one.recv(100), other.recv(100)] == wires


@pytest.mark.parametrize(("size", "result"), [(0, 1), (65507, 1), (65508, -errno.EMSGSIZE)])
def test_the_edges_of_what_can_be_sent(size: int, result: int) -> None:
    wire = bytes(size)
    outgoing = Outgoing(0)
    fill(outgoing, [wire])
    with pair() as (one, other):
        assert outgoing.send(other.fileno(), 0, 1) == result
        if result > 0:
            assert one.recv(65536) == wire


def test_a_message_that_cannot_be_sent_stops_the_batch_before_it() -> None:
    wires = [b"first", bytes(65508), b"third"]
    outgoing = Outgoing(0)
    fill(outgoing, wires)
    with pair() as (one, other):
        assert outgoing.send(other.fileno(), 0, 3) == 1
        assert outgoing.send(other.fileno(), 1, 3) == -errno.EMSGSIZE
        assert outgoing.send(other.fileno(), 2, 3) == 1
        assert [one.recv(100), one.recv(100)] == [b"first", b"third"]


def test_errors_are_said_once() -> None:
    incoming, outgoing = Incoming(SLOT, False), Outgoing(0)
    wire = b"to nobody"
    fill(outgoing, [wire])
    with bound() as sock:
        with bound() as nobody:
            sock.connect(nobody.getsockname())
        assert outgoing.send(sock.fileno(), 0, 1) == 1
        with pytest.raises(ConnectionRefusedError):
            incoming.receive(sock.fileno())
        assert incoming.receive(sock.fileno()) == 0
        outgoing.send(sock.fileno(), 0, 1)
        assert outgoing.send(sock.fileno(), 0, 1) == -errno.ECONNREFUSED
    with pytest.raises(OSError, match="Bad file descriptor"):
        incoming.receive(-1)
    assert outgoing.send(-1, 0, 1) == -errno.EBADF


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 255, 4096, 100_000])
def test_the_address_of_octets_is_where_they_are(size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    assert ffi.buffer(ffi.cast("unsigned char *", address(data)), size)[:] == data
    assert ffi.buffer(ffi.cast("unsigned char *", mmsg._address_by_buffer(data)), size)[:] == data


# -- where the calls are missing ---------------------------------------------------------------


def forbidden(code: int) -> Callable[..., int]:
    def call(*_: Any) -> int:
        ffi.errno = code
        return -1

    return call


MISSING = {
    "an old C library": SimpleNamespace(recvmsg=LIBC.recvmsg, sendmsg=LIBC.sendmsg),
    "an old kernel": SimpleNamespace(
        recvmsg=LIBC.recvmsg, sendmsg=LIBC.sendmsg, recvmmsg=forbidden(errno.ENOSYS),
        sendmmsg=forbidden(errno.ENOSYS),
    ),
    "a sandbox": SimpleNamespace(
        recvmsg=LIBC.recvmsg, sendmsg=LIBC.sendmsg, recvmmsg=LIBC.recvmmsg,
        sendmmsg=forbidden(errno.EPERM),
    ),
}  # fmt: skip


@pytest.mark.parametrize("libc", MISSING)
def test_missing_calls_are_found_and_replaced(libc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not mmsg.available(MISSING[libc])
    receive, send = mmsg.calls(MISSING[libc])
    monkeypatch.setattr(mmsg, "recvmmsg", receive)
    monkeypatch.setattr(mmsg, "sendmmsg", send)
    wires = [b"one", b"two"]
    incoming, outgoing = Incoming(SLOT, True), Outgoing(0)
    fill(outgoing, wires)
    with pair() as (one, other):
        assert outgoing.send(other.fileno(), 0, 2) == 2
        assert incoming.receive(one.fileno()) == 2
        assert received(incoming, 2) == wires


def test_calls_that_are_there_are_used() -> None:
    assert mmsg.calls(LIBC) == (LIBC.recvmmsg, LIBC.sendmmsg)
