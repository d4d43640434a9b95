"""A bare echo to measure the generator by: in C where there is a compiler, else in Python.

What comes goes back as it came, so an echo shows how fast questions can be asked at all on this
machine. Run as a module it is the echo in Python, which uses the same batched calls as dnsguard.
Knows no DNS.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dnsguard.errors import DnsguardError
from dnsguard.net.addresses import IPV4_OCTETS
from dnsguard.net.mmsg import ADDRESS_OCTETS, BATCH, Incoming, Outgoing

HOST = "127.0.0.1"
SOURCE = Path(__file__).with_name("echo.c")
COMPILERS = ("cc", "gcc", "clang")
COMPILE_SECONDS = 60
DATAGRAM_OCTETS = 2048
READ_OCTETS = 1 << 18
SOCKET_BUFFER = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Echo:
    """One that runs."""

    port: int
    language: str


@contextmanager
def running(tcp: bool) -> Iterator[Echo]:
    """Start an echo on a free port of HOST; it is gone at the end."""
    transport = "tcp" if tcp else "udp"
    with tempfile.TemporaryDirectory(prefix="dnsguard-bench-") as directory:
        binary = compiled(Path(directory))
        command = [sys.executable, "-m", __name__] if binary is None else [str(binary)]
        with subprocess.Popen(
            [*command, transport],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None
                port = process.stdout.readline()
                if not port:
                    raise DnsguardError("The echo did not start; leave out --ceiling.")
                yield Echo(int(port), "Python" if binary is None else "C")
            finally:
                process.kill()


def compiled(directory: Path) -> Path | None:
    """Compile the echo into `directory`; None where that cannot be."""
    binary = directory / "echo"
    for compiler in filter(shutil.which, COMPILERS):
        command = [compiler, "-O2", "-o", str(binary), str(SOURCE)]
        try:
            run = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if run.returncode == 0:
            return binary
    return None


# -- the echo in Python -------------------------------------------------------------------------


def echo_datagrams(sock: socket.socket) -> None:
    """Send every datagram back until stdin ends."""
    incoming, outgoing = Incoming(DATAGRAM_OCTETS, True), Outgoing(IPV4_OCTETS, 1)
    words, lengths, length_at = outgoing.words, incoming.lengths, incoming.length_at
    for i in range(BATCH):
        outgoing.point_name(i, incoming.names_at + i * ADDRESS_OCTETS)
        words[2 * i] = incoming.arena_at + incoming.starts[i]
    fd = sock.fileno()
    with selectors.DefaultSelector() as ready:
        ready.register(sock, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        while all(key.fileobj is sock for key, _ in ready.select()):
            while count := incoming.receive(fd):
                for i in range(count):
                    words[2 * i + 1] = lengths[length_at[i]]
                outgoing.send(fd, 0, count)


def echo_streams(sock: socket.socket) -> None:
    """Send every octet back until stdin ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(sock, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is sock:
                    ready.register(sock.accept()[0], selectors.EVENT_READ)
                    continue
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    data = connection.recv(READ_OCTETS)
                    connection.sendall(data)
                except OSError:
                    data = b""
                if not data:
                    ready.unregister(connection)
                    connection.close()


def main() -> None:
    """Echo over the transport that the first argument names; say the port first."""
    tcp = sys.argv[1] == "tcp"
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        sock.bind((HOST, 0))
        if tcp:
            sock.listen(1024)
        print(sock.getsockname()[1], flush=True)
        if tcp:
            echo_streams(sock)
        else:
            echo_datagrams(sock)


if __name__ == "__main__":
    main()
