"""System calls of the network that fail or are interrupted, on a real `serve`: strace injects them.

`python -m tests.net.faults_calls` plays all and prints the table of docs/hardening.md. The world is
that of `faults.py`. Of a call that is named here every third or fifth one fails with the error
named, or a signal comes with it, while names are asked whose TTL has run out. A client that gets no
reply asks again, as every stub does: what a kernel throws away nobody can answer. It is seen that
each name has its data after few tries (P1), that no query is answered twice and the process lives
(P7), and that answers are fresh once calls work again (P3).
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.message

from tests.core.build import query
from tests.net.faults import NAMES, RECHECK, UP, World

NETWORK = ("EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EPERM", "ENETUNREACH", "ECONNREFUSED")
SIGNALS = ("SIGHUP", "SIGCHLD", "SIGPIPE", "SIGWINCH")  # SIGHUP reads the settings again
TRIES, TRY_SECONDS = 6, 1.9  # a stub's patience; the second is the longest client timer and a bit
ASKED = NAMES[:8]


@dataclass(frozen=True)
class Call:
    """A system call, what goes wrong with it, and whether clients and upstream use streams.

    `every` is how many calls apart. It must not be a multiple of the calls that one query makes,
    or the same one of them fails each time.
    """

    name: str
    what: tuple[str, ...]
    tcp: bool = False
    every: int = 3

    @property
    def title(self) -> str:
        return self.name + (" (TCP)" if self.tcp else "")


CALLS = (
    Call("recvmmsg", (*NETWORK, *SIGNALS)),
    Call("sendmmsg", NETWORK),
    Call("epoll_pwait", ("EINTR", *SIGNALS)),
    Call("epoll_wait", ("EINTR",)),  # that of the ports towards upstreams
    Call("socket", ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM")),
    Call("connect", (*NETWORK, "EADDRNOTAVAIL")),
    Call("accept4", ("EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"), True, 5),
    Call("read", ("EINTR", "EAGAIN", "ECONNRESET", "ENOBUFS", "ENOMEM", "ETIMEDOUT"), tcp=True),
    Call("write", ("EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ENOBUFS", "ENOMEM"), tcp=True),
    Call("connect", ("EINTR", "ENETUNREACH", "ECONNREFUSED", "EPERM", "ETIMEDOUT"), tcp=True),
    Call("socket", ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"), tcp=True),
)


@dataclass
class Seen:
    """What was seen of one call that fails in one way."""

    call: Call
    what: str
    answered: int = 0
    tries: int = 0  # of the client that needed most
    injected: int = 0
    fresh: float = 0.0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "held" if not self.broken else "; ".join(self.broken)
        return (
            f"| {self.call.title} | {self.what} | {self.injected} | "
            f"{self.answered} of {len(ASKED)} | {self.tries} | {self.fresh:.1f} s | {verdict} |"
        )


# -- the client ------------------------------------------------------------------------------------


def asked(names: Sequence[str], tcp: bool) -> Iterator[str]:
    """Be a stub that asks again; a line for each name: rcode, tries, data."""
    for number, name in enumerate(names):
        reply = None
        tries = 0
        while reply is None and tries < TRIES:
            tries += 1
            wire = query(name, edns=1232, id=number * 100 + tries)
            with contextlib.suppress(OSError):
                reply = over_tcp(wire) if tcp else over_udp(wire)
        if reply is None:
            yield f"-1 {tries}"
            continue
        data = [item.to_text() for rrset in reply.answer for item in rrset]
        yield " ".join([str(int(reply.rcode())), str(tries), *data])


def over_udp(wire: bytes) -> dns.message.Message:
    """One try over UDP, from a port of its own, which hears what comes a moment later too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 5300))
        sock.settimeout(TRY_SECONDS)
        sock.send(wire)
        reply = dns.message.from_wire(sock.recv(4096))
        sock.settimeout(0.02)
        with contextlib.suppress(TimeoutError):
            raise AssertionError(f"a second reply: {sock.recv(4096)!r}")
        return reply


def over_tcp(wire: bytes) -> dns.message.Message:
    """One try over a connection of its own."""
    with socket.create_connection(("127.0.0.1", 5300), TRY_SECONDS) as sock:
        sock.sendall(struct.pack("!H", len(wire)) + wire)
        stream = sock.makefile("rb")
        head = stream.read(2)
        if len(head) < 2:
            raise OSError("closed")
        return dns.message.from_wire(stream.read(int.from_bytes(head, "big")))


# -- the faults ------------------------------------------------------------------------------------


@contextlib.contextmanager
def injected(pid: int, call: Call, what: str) -> Iterator[Path]:
    """Let some of these calls of a process fail so, or bring this signal; yields a log."""
    kind = "signal" if what.startswith("SIG") else "error"
    strace = shutil.which("strace")
    assert strace is not None, "install strace (Debian: apt-get install strace)"
    with tempfile.TemporaryDirectory(prefix="dnsguard-calls-") as folder:
        log = Path(folder, "log")
        tracer = subprocess.Popen(
            [strace, "-f", "-qq", "-o", str(log), "-p", str(pid), "-e", f"trace={call.name}",
             "-e", f"inject={call.name}:{kind}={what}:when=1+{call.every}"],
        )  # fmt: skip
        try:
            status = Path(f"/proc/{pid}/status")
            while "TracerPid:\t0\n" in status.read_text():
                assert tracer.poll() is None, "strace did not start"
                time.sleep(0.01)
            yield log
        finally:
            tracer.terminate()
            tracer.wait()


def play(call: Call) -> Iterator[Seen]:
    """Play everything that goes wrong with one call; yields what was seen of each."""
    upstream = f"tcp://{UP}" if call.tcp else UP
    with World("--no-state", upstream=upstream) as world:
        for what in call.what:
            yield _one(world, call, what)


def _one(world: World, call: Call, what: str) -> Seen:
    seen = Seen(call, what)
    assert world.server is not None
    world.until_fresh(ASKED[-1])
    world.ask(ASKED)
    time.sleep(1.2)  # their TTL is a second
    if call.tcp:
        world.tell("drop")  # connections that are open would be kept
    with injected(world.server.pid, call, what) as log:
        lines = world.run("tests.net.faults_calls", "--ask", *(["--tcp"] * call.tcp), *ASKED)
        seen.injected = log.read_text().count("INJECTED") if not what.startswith("SIG") else (
            log.read_text().count(f"--- {what}")
        )  # fmt: skip
    for line in lines:
        rcode, tries, *data = line.split()
        seen.answered += rcode == "0" and bool(data)
        seen.tries = max(seen.tries, int(tries))
    seen.fresh = world.until_fresh(ASKED[0])
    judge(seen, world.server.poll())
    return seen


def judge(seen: Seen, ended: int | None) -> None:
    """Hold what was seen against the promises."""
    if seen.answered != len(ASKED):
        seen.broken.append(f"P1: {len(ASKED) - seen.answered} without data")
    if seen.injected == 0:
        seen.broken.append("nothing was injected: the call is not made")
    if seen.fresh > RECHECK + 2.0:
        seen.broken.append(f"P3: fresh after {seen.fresh:.1f} s")
    if ended is not None:
        seen.broken.append(f"P7: it ended ({ended})")


def main(arguments: Sequence[str]) -> int:
    """Play the calls that are named, or all."""
    if arguments[:1] == ["--ask"]:
        tcp = arguments[1] == "--tcp"
        for line in asked(arguments[1 + tcp :], tcp):
            print(line, flush=True)
        return 0
    print("| call | fails with | times | answered (P1) | most tries | fresh after (P3) | |")
    print("|---|---|---|---|---|---|---|")
    broken = 0
    for call in CALLS:
        if not arguments or any(re.search(text, call.name) for text in arguments):
            for seen in play(call):
                broken += bool(seen.broken)
                print(seen, flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
