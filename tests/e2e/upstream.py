"""An upstream for end-to-end runs: `python -m tests.e2e.upstream PORT` answers every A question."""

from __future__ import annotations

import signal
import sys

from dnslib import RR
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer


class OneAddress(BaseResolver):  # type: ignore[misc]
    """The same address for every name."""

    def resolve(self, request: RR, handler: DNSHandler) -> RR:
        """Answer one question."""
        reply = request.reply()
        reply.add_answer(*RR.fromZone(f"{request.q.qname} 30 A 10.1.2.3"))
        return reply


if __name__ == "__main__":
    server = DNSServer(
        OneAddress(),
        address="127.0.0.1",
        port=int(sys.argv[1]),
        logger=DNSLogger("-request,-reply"),
    )
    server.start_thread()
    signal.pause()
