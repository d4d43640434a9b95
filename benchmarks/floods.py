"""`make floods`: a real dnsguard under floods and at its limits, with a verdict for each.

One process serves, one plays the upstream, this one attacks; all of it on loopback. What is
measured is printed beside what must hold. `--quick` makes the floods smaller, `--only NAME` runs
one of them. The numbers of a full run stand in docs/hardening.md.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.floods_upstream import answer_for
from dnsguard.core.answer import read_answer
from dnsguard.core.wire import Malformed, name_octets, read_query
from dnsguard.errors import WireError

HOST = "127.0.0.1"
HOT = [f"hot{number}.cluster.local" for number in range(1000)]
WINDOW = 200  # queries under way in a flood
BOMB_SECONDS = 0.020


def query(name: str, number: int, rtype: int = 1) -> bytes:
    """A plain query."""
    return struct.pack("!HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + name_octets(name) + (
        struct.pack("!HH", rtype, 1)
    )  # fmt: skip


class Stage:
    """An upstream, a dnsguard in front of it, and a client."""

    def __init__(self, *settings: str, files: int = 0) -> None:
        self._settings = settings
        self._files = files

    def __enter__(self) -> Stage:
        here = Path(__file__).resolve().parent
        self.upstream = subprocess.Popen(
            [sys.executable, str(here / "floods_upstream.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self.upstream.stdout is not None
        port = int(self.upstream.stdout.readline())
        command = [
            sys.executable, "-m", "dnsguard", "serve", "--listen", f"{HOST}:0", "--admin", "off",
            "--no-state", "--upstream", f"{HOST}:{port}",
        ]  # fmt: skip
        for setting in self._settings:
            command += ["--set", setting]
        self.server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=here.parent)
        if self._files:
            limits = (self._files, self._files)
            resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, limits)
        assert self.server.stderr is not None
        said = []
        for line in self.server.stderr:
            said.append(line)
            if found := re.search(r"listening on \S+:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise SystemExit("dnsguard did not start:\n" + "".join(said))
        self.client = self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        for process in (self.server, self.upstream):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def connect(self, source: str = HOST) -> socket.socket:
        """A UDP client of its own."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind((source, 0))
        sock.connect((HOST, self.port))
        sock.setblocking(False)
        return sock

    def tell(self, order: str) -> None:
        """Have the upstream behave so: `answer`, `silent`, `hold`, `release`, `slow`."""
        assert self.upstream.stdin is not None
        assert self.upstream.stdout is not None
        self.upstream.stdin.write(order + "\n")
        self.upstream.stdout.readline()

    def rss(self) -> float:
        """Resident memory of the server, in MB."""
        text = Path(f"/proc/{self.server.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+)", text)
        return int(found[1]) / 1024 if found else 0.0

    def ask(self, names: Sequence[str], seconds: float = 3.0) -> tuple[list[float], int]:
        """Ask one name after the other; return the waits in ms and how many had no data."""
        waits, failed = [], 0
        for number, name in enumerate(names):
            begun = time.perf_counter()
            self.client.send(query(name, number))
            reply = receive(self.client, seconds, number)
            waits.append((time.perf_counter() - begun) * 1000)
            failed += reply is None or reply[3] & 0xF != 0
        return waits, failed


def receive(sock: socket.socket, seconds: float, number: int) -> bytes | None:
    """The reply with this id, or None if it does not come in time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            with contextlib.suppress(OSError):
                reply = sock.recv(65535)
                if reply[:2] == (number & 0xFFFF).to_bytes(2, "big"):
                    return reply
    return None


def drain(sock: socket.socket, replies: list[bytes]) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            replies.append(sock.recv(65535))


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99) - 1]


class Verdicts:
    """What was measured and what must hold, line by line."""

    def __init__(self) -> None:
        self.broken = 0

    def say(self, good: bool, text: str) -> None:
        self.broken += not good
        print(f"  {'held  ' if good else 'BROKEN'}  {text}", flush=True)


# -- the floods ------------------------------------------------------------------------------


def random_names(tell: Verdicts, quick: bool) -> None:
    """A flood of names that nobody has asked before: memory, hot names, last-known-good."""
    count = 50_000 if quick else 1_000_000
    with Stage("cache.max_bytes=32MiB") as stage:
        for _ in range(3):
            stage.ask(HOT)
        before, calm = stage.rss(), p99(stage.ask(HOT)[0])
        flood = stage.connect()
        under_way, heard, most, waits = 0, 0, before, []
        replies: list[bytes] = []
        begun = time.monotonic()
        for number in range(count):
            with contextlib.suppress(BlockingIOError):
                flood.send(query(f"x{number:x}.flood.example", number))
            under_way += 1
            if under_way >= WINDOW:
                select.select([flood], [], [], 0.05)
                drain(flood, replies)
                heard += len(replies)
                under_way = max(0, under_way - max(len(replies), 1))
                replies.clear()
            if number % 5000 == 0:
                most = max(most, stage.rss())
                waits += stage.ask(HOT[number // 5000 % 900 :][:20])[0]
        spent = time.monotonic() - begun
        flood.close()
        print(
            f"  {count:,} names in {spent:.0f} s ({count / spent:,.0f} a second, {heard:,} heard)"
        )
        tell.say(most < before + 60, f"memory {before:.0f} MB before, {most:.0f} MB at most")
        tell.say(
            p99(waits) < 100,
            f"hot names answered during the flood: p99 {p99(waits):.1f} ms (before: {calm:.1f})",
        )
        stage.tell("silent")
        waits, failed = stage.ask(HOT)
        tell.say(
            failed == 0, f"upstream gone: {len(HOT) - failed} of {len(HOT)} hot names answered"
        )


def overload(tell: Verdicts, quick: bool) -> None:
    """Three times the questions that can be under way: known names first, then recovery."""
    seconds = 10 if quick else 60
    inflight, latency = 200, 0.1
    with Stage(f"limits.inflight={inflight}") as stage:
        stage.ask(HOT[:200])
        stage.tell("slow")
        rate = 3 * inflight / latency
        cold = stage.connect()
        replies: list[bytes] = []
        sent, waits, failed, begun = 0, [], 0, time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            while sent < rate * now:
                with contextlib.suppress(BlockingIOError):
                    cold.send(query(f"c{sent:x}.over.example", sent))
                sent += 1
                if sent % 500 == 0:
                    more, bad = stage.ask(HOT[sent // 500 % 190 :][:3])
                    waits += more
                    failed += bad
            drain(cold, replies)
        time.sleep(1.0)
        drain(cold, replies)
        good = sum(reply[3] & 0xF == 0 for reply in replies)
        shed = sum(reply[3] & 0xF == 2 for reply in replies)
        print(f"  {sent:,} cold names in {seconds} s ({sent / seconds:,.0f} a second)")
        silent = sent - len(replies)
        print(f"  {good:,} answered, {shed:,} SERVFAIL, {silent:,} lost in socket buffers")
        tell.say(shed > 0 and good > 0, "what cannot be taken is shed at once, with SERVFAIL")
        tell.say(failed == 0, f"known names: {len(waits) - failed} of {len(waits)} answered, p99 "
                 f"{p99(waits):.1f} ms")  # fmt: skip
        stage.tell("answer")
        begun = time.monotonic()
        while time.monotonic() - begun < 10:
            if stage.ask([f"after{time.monotonic_ns()}.example"])[1] == 0:
                break
        took = time.monotonic() - begun
        tell.say(took < 5, f"cold names are answered again after {took:.2f} s")


def connections(tell: Verdicts, quick: bool) -> None:
    """2,000 connections that idle or dribble: UDP does not notice, and places come back."""
    with Stage("limits.tcp_idle=3s") as stage:
        stage.ask(HOT[:100])
        calm = p99(stage.ask(HOT[:100] * 10)[0])
        held = []
        for number in range(400 if quick else 2000):
            with contextlib.suppress(OSError):
                sock = socket.socket()
                sock.bind((f"127.0.1.{number % 200 + 1}", 0))
                sock.settimeout(2)
                sock.connect((HOST, stage.port))
                if number % 2:
                    sock.send(b"\0")  # and no more: the rest of the length never comes
                held.append(sock)
        busy, failed = stage.ask(HOT[:100] * 10)
        print(f"  {len(held)} connections made")
        tell.say(failed == 0 and p99(busy) < max(5 * calm, 5.0),
                 f"UDP p99 {p99(busy):.2f} ms with them, {calm:.2f} ms without")  # fmt: skip
        time.sleep(5.0)
        closed = 0
        for sock in held:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                with contextlib.suppress(ConnectionError):
                    sock.recv(1)
                closed += 1
            sock.close()
        tell.say(closed == len(held), f"{closed} of {len(held)} closed after limits.tcp_idle")
        with socket.create_connection((HOST, stage.port), 3) as sock:
            wire = query(HOT[0], 7)
            sock.send(len(wire).to_bytes(2, "big") + wire)
            tell.say(len(sock.recv(4096)) > 40, "a new connection is served")


def release(tell: Verdicts, quick: bool) -> None:
    """Many wait for one slow answer (DNSBomb): their number and their patience have a bound."""
    count = 2_000 if quick else 10_000
    with Stage("limits.waiters_per_question=1000", "upstream.deadline=2s") as stage:
        stage.tell("hold")
        replies: list[bytes] = []
        sock = stage.connect()
        for number in range(count):
            with contextlib.suppress(BlockingIOError):
                sock.send(query("bomb.example", number))
            if number % 100 == 0:
                drain(sock, replies)
        time.sleep(0.3)
        drain(sock, replies)
        at_once = len(replies)
        time.sleep(2.5)
        drain(sock, replies)
        waited = len(replies) - at_once
        stage.tell("release")
        before = len(replies)
        time.sleep(0.5)
        drain(sock, replies)
        sock.close()
        tell.say(
            waited <= 1000,
            f"of {count:,} queries {at_once:,} were refused at once, {waited:,} waited",
        )
        tell.say(
            len(replies) == before,
            f"{len(replies) - before} replies at the release, after the deadline",
        )


def one_client(tell: Verdicts, _quick: bool) -> None:
    """A client over its rate is refused; others are not."""
    with Stage("limits.client_qps=100") as stage:
        replies: list[bytes] = []
        sock = stage.connect("127.0.2.1")
        for number in range(5000):
            with contextlib.suppress(BlockingIOError):
                sock.send(query(HOT[0], number))
            if number % 50 == 0:
                drain(sock, replies)
        time.sleep(0.3)
        drain(sock, replies)
        sock.close()
        good = sum(reply[3] & 0xF == 0 for reply in replies)
        tell.say(0 < good <= 400, f"{good} answers to 5,000 queries of one client at 100 a second")
        failed = stage.ask(HOT[:50])[1]
        tell.say(failed == 0, f"another client at that time: {50 - failed} of 50 answered")


def descriptors(tell: Verdicts, _quick: bool) -> None:
    """64 descriptors: TCP takes what there is, UDP goes on, misses find their port."""
    with Stage("limits.tcp_idle=2s", files=64) as stage:
        stage.ask(HOT[:20])
        held = []
        for number in range(200):
            with contextlib.suppress(OSError):
                sock = socket.socket()
                sock.bind((f"127.0.1.{number + 1}", 0))
                sock.settimeout(1)
                sock.connect((HOST, stage.port))
                held.append(sock)
        failed = stage.ask(HOT[:20] * 10)[1]
        tell.say(
            failed == 0,
            f"hits while {len(held)} connections want descriptors: {200 - failed} of 200",
        )
        for sock in held:
            sock.close()
        time.sleep(4.0)
        failed = stage.ask([f"m{number}.example" for number in range(200)])[1]
        tell.say(failed == 0, f"misses once they have gone: {200 - failed} of 200")
        tell.say(stage.server.poll() is None, "the process is alive")


def bombs(tell: Verdicts, _quick: bool) -> None:
    """Messages that are made to cost time: each is read, or refused, within 20 ms."""
    question = name_octets("www.example") + b"\0\1\0\1"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4\1\2\3\4"
    head = b"\0\0\x81\x80\0\1"
    room = 65535 - 12 - len(question)
    many = room // len(record)
    ladder = bytearray(head + b"\0\0\0\0\0\0" + question)
    rungs = 0
    at = 12
    while len(ladder) < 0x3F00:
        here = len(ladder)
        ladder += (
            b"\1a" + (0xC000 | at).to_bytes(2, "big") + b"\0\1\0\1" + struct.pack("!IH", rungs, 0)
        )
        at, rungs = here, rungs + 1
    ladder[6:8] = rungs.to_bytes(2, "big")
    options = b"\xfe\xe9\0\0" * ((65535 - 40) // 4)
    opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options
    plain = query("www.example", 1)
    cases: dict[str, tuple[Callable[..., object], bytes]] = {
        f"an answer of {many:,} records": (
            _answer, head + many.to_bytes(2, "big") + b"\0\0\0\0" + question + record * many
        ),
        f"an answer of {many:,} records, TTLs uneven": (
            _answer, head + many.to_bytes(2, "big") + b"\0\0\0\0" + question
            + b"".join(record[:6] + n.to_bytes(4, "big") + record[10:] for n in range(many))
        ),
        "as many beside the answer": (
            _answer, head + b"\0\0\0\0" + many.to_bytes(2, "big") + question
            + b"".join(record[:6] + n.to_bytes(4, "big") + record[10:] for n in range(many))
        ),
        "as many of another name beside one of the chain": (
            _answer, head + many.to_bytes(2, "big") + b"\0\0\0\0" + question + record
            + (b"\xc0\x10" + record[2:]) * (many - 1)
        ),
        "as many of the chain beside one of another name": (
            _answer, head + many.to_bytes(2, "big") + b"\0\0\0\0" + question
            + b"\xc0\x10" + record[2:] + record * (many - 1)
        ),
        f"a ladder of {rungs:,} pointers": (_answer, bytes(ladder)),
        f"a query of {len(options) // 4:,} EDNS options": (
            _query, plain[:10] + b"\0\1" + plain[12:] + opt
        ),
        "a query of 5,900 additional records": (
            _query, plain[:10] + (5900).to_bytes(2, "big") + plain[12:]
            + (b"\0\0\1\0\1\0\0\0\0\0\0" * 5900)
        ),
    }  # fmt: skip
    for what, (read, wire) in cases.items():
        best = 1e9
        for _ in range(5):
            begun = time.perf_counter()
            read(wire, question)
            best = min(best, time.perf_counter() - begun)
        tell.say(best < BOMB_SECONDS, f"{what}: {best * 1000:.1f} ms ({len(wire):,} octets)")


def _answer(wire: bytes, question: bytes) -> None:
    with contextlib.suppress(WireError):
        read_answer(wire, question, 1, 86400, 300)


def _query(wire: bytes, _question: bytes) -> None:
    with contextlib.suppress(Malformed):
        read_query(wire, None, 0.0, True)


FLOODS: dict[str, Callable[[Verdicts, bool], None]] = {
    "bombs": bombs,
    "one-client": one_client,
    "release": release,
    "descriptors": descriptors,
    "connections": connections,
    "overload": overload,
    "random-names": random_names,
}


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="make floods", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller floods, in a minute")
    parser.add_argument("--only", choices=FLOODS, help="one of them")
    given = parser.parse_args()
    assert answer_for(query("hot1.cluster.local", 1)) is not None
    tell = Verdicts()
    for name, flood in FLOODS.items():
        if given.only in (None, name):
            print(f"{name}: {(flood.__doc__ or '').splitlines()[0]}", flush=True)
            flood(tell, given.quick)
    print(f"{tell.broken} broken" if tell.broken else "everything held")
    return 1 if tell.broken else 0


if __name__ == "__main__":
    sys.exit(main())
