"""One worker: `python -m dnsguard.cli.worker LINE PARENT`, started by the supervisor alone.

It is told everything over the line, whose descriptor is the first argument, and ends with its
parent. Not a command: whoever wants a server calls `dnsguard serve`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys

from dnsguard.cli.serve import loop_factory
from dnsguard.errors import DnsguardError
from dnsguard.net.parent import end_with
from dnsguard.server import Server
from dnsguard.workers.line import Failed, Post, packed, receive_orders


def main(descriptor: int, parent: int) -> int:
    """Serve until told to stop; return the exit code."""
    if not end_with(parent):
        return 1
    sock = socket.socket(fileno=descriptor)
    post = Post(receive_orders(sock), sock)

    async def serve() -> None:
        await Server(post.settings(), post.settings, post.resolvers, post).run()

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve())
    except DnsguardError as error:
        sock.send(packed(Failed(" ".join(str(error).split()))))
        return 1
    finally:
        if os.getppid() != parent:
            shutil.rmtree(post.meeting, ignore_errors=True)  # who made it is gone
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
