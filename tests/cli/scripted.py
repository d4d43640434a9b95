"""A DNS server whose every reply is what a test says, over real sockets on loopback.

Two threads, one for UDP and one for TCP, hand each query to the test's function and send what it
returns, message by message. A stream on which it returns nothing is closed.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence

from dnsguard.core.framing import FrameReader, frame
from dnsguard.demo.cluster import bind_pair

Script = Callable[[bytes, str], Sequence[bytes]]
HOST = "127.0.0.1"


class Scripted:
    """Use as a context manager; `queries` has what came, with its transport."""

    def __init__(self, script: Script) -> None:
        self.queries: list[tuple[bytes, str]] = []
        self._script = script
        self._udp, self._tcp = bind_pair(HOST)
        self.port: int = self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=run) for run in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> Scripted:
        self._tcp.listen()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Each thread waits in one call; an empty datagram and a shutdown wake them for good.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (HOST, self.port))
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    @property
    def option(self) -> str:
        return f"--server={HOST}:{self.port}"

    def _answer(self, query: bytes, transport: str) -> Sequence[bytes]:
        self.queries.append((query, transport))
        return self._script(query, transport)

    def _serve_udp(self) -> None:
        while True:
            query, client = self._udp.recvfrom(65535)
            if not query:
                return
            for reply in self._answer(query, "udp"):
                self._udp.sendto(reply, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                stream, _ = self._tcp.accept()
            except OSError:
                return
            with stream:
                reader = FrameReader()
                while data := stream.recv(65535):
                    replies = [r for q in reader.feed(data) for r in self._answer(q, "tcp")]
                    if not replies:
                        break
                    stream.sendall(b"".join(map(frame, replies)))
