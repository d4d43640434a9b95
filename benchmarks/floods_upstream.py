"""The upstream of `floods.py`, in a process of its own: UDP, and told on stdin how to behave.

Names with `hot` in front have an address for an hour, others an address for five seconds; names
under `flood.example` do not exist. It writes its port, and after every order the order.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections import deque

SLOW_SECONDS = 0.1
SOA = b"\0\0" + struct.pack("!IIIII", 1, 7200, 1800, 86400, 60)


def answer_for(query: bytes) -> bytes | None:
    """The answer to a query, without OPT."""
    end = 12
    while end < len(query) and query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    if end + 5 > len(query):
        return None
    head = query[:2] + (b"\x81\x83" if b"\5flood" in question else b"\x81\x80") + b"\0\1"
    if b"\5flood" in question:
        record = b"\0" + struct.pack("!HHIH", 6, 1, 60, len(SOA)) + SOA
        return head + b"\0\0\0\1\0\0" + question + record
    ttl = 3600 if question[1:4] == b"hot" else 5
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, ttl, 4) + b"\x0a\0\0\1"
    return head + b"\0\1\0\0\0\0" + question + record


def main() -> None:
    """Serve until stdin ends."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    print(sock.getsockname()[1], flush=True)
    order = "answer"
    held: deque[tuple[float, bytes, tuple[str, int]]] = deque()
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held and order == "slow" else None
        readable, _, _ = select.select([sock, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            line = sys.stdin.readline().strip()
            if not line:
                return
            order = line
            if order in ("release", "answer"):
                while held:
                    _, wire, source = held.popleft()
                    sock.sendto(wire, source)
            print(order, flush=True)
        now = time.monotonic()
        while order == "slow" and held and held[0][0] <= now:
            _, wire, source = held.popleft()
            sock.sendto(wire, source)
        if sock not in readable:
            continue
        try:
            for _ in range(256):
                query, source = sock.recvfrom(4096)
                answer = answer_for(query)
                if answer is None or order == "silent":
                    continue
                if order in ("hold", "slow"):
                    held.append((now + SLOW_SECONDS, answer, source))
                else:
                    sock.sendto(answer, source)
        except BlockingIOError:
            pass


if __name__ == "__main__":
    main()
