"""Mutated messages at both faces of a running server: what clients send, and what upstreams say.

`python -m tests.fuzz.faces --seconds 60` starts a real `serve` and asks it queries of which most
have one field changed, over UDP and TCP, for names of which many are answered by an upstream that
changes a field of its replies. After every round the process must live, a question that nobody has
asked before must be answered rightly over either transport, every query must have had exactly one
reply (whatever is no query, none), and memory and descriptors must be where they were. Some names
begin a pod's search, which is walked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import resource
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dnsguard.core.framing import FrameReader, frame
from dnsguard.core.wire import Malformed, read_query
from dnsguard.demo.cluster import bind_pair
from tests.core.build import query
from tests.fuzz.corpus import mutate as mutate_octets
from tests.fuzz.fields import mutate
from tests.net.running import serve

HOST = "127.0.0.1"
BATCH = 40  # queries a round: far from what a socket's buffer holds
HEARD_SECONDS = 6.0  # many times the deadline of a question
SETTINGS = (
    "upstream.deadline=300ms", "upstream.attempts=2", "stale.recheck=500ms",
    "cache.max_bytes=4MiB", "limits.tcp_idle=2s", "limits.tcp_connections=20",
    "kubernetes.autopath=on", "kubernetes.namespace=shop",
)  # fmt: skip
GROWTH = 40 << 20  # octets: a full cache of 4 MiB, buffers, and what an allocator keeps
DESCRIPTORS_MAX = 600  # PORTS_MAX and the connections that are allowed
QUESTIONS = ("A", "A", "AAAA", "HTTPS", "SRV", "ANY", "TXT")
ADDRESS = b"\x0a\1\2\3"
SEARCHED = "shop.svc.cluster.local"  # where a pod's search begins: its steps are denied, as a rule
CLUSTER = b"\7cluster\5local\0"


class Broken(Exception):
    """A promise was broken; the text says how, and by what."""


class Upstream(threading.Thread):
    """An honest server and one that changes a field of most replies, over UDP and TCP each."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self._chance = random.Random(seed)
        self.honest, self.other = bind_pair(HOST), bind_pair(HOST)
        self.said = Counter[str]()
        self._streams: dict[socket.socket, tuple[FrameReader, bool]] = {}
        self.over = False

    def run(self) -> None:
        """Answer until it is over."""
        for _, tcp in (self.honest, self.other):
            tcp.listen(50)
        while not self.over:
            sockets = [*self.honest, *self.other, *self._streams]
            for sock in select.select(sockets, [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self._turn(sock)
        for sock in (*self.honest, *self.other, *self._streams):
            sock.close()

    def _turn(self, sock: socket.socket) -> None:
        for (udp, tcp), changes in ((self.honest, False), (self.other, True)):
            if sock is udp:
                asked, client = sock.recvfrom(4096)
                for wire in self._replies(asked, changes):
                    sock.sendto(wire, client)
            elif sock is tcp:
                stream, _ = sock.accept()
                self._streams[stream] = FrameReader(), changes
        if sock in self._streams:
            reader, changes = self._streams[sock]
            data = sock.recv(65536)
            for asked in reader.feed(data):
                for wire in self._replies(asked, changes):
                    sock.sendall(frame(wire))
                    if changes and self._chance.random() < 0.05:
                        data = b""  # and hang up
            if not data:
                del self._streams[sock]
                sock.close()

    def _replies(self, asked: bytes, changes: bool) -> list[bytes]:
        whole = reply_to(asked, self._chance if changes else None)
        if not changes or self._chance.random() < 0.1:
            return [whole]
        self.said["changed"] += 1
        how = mutate if self._chance.random() < 0.8 else mutate_octets
        changed = asked[:2] + how(whole, self._chance)[2:]
        if self._chance.random() < 0.05:
            changed = mutate_octets(whole, self._chance)
        follow = self._chance.choice(([], [], [whole], [changed]))
        return [changed[:65535], *follow]


def reply_to(asked: bytes, chance: random.Random | None) -> bytes:
    """An address for who asks for one and no data for others; with `chance` many other records."""
    end = asked.index(b"\0", 12) + 5
    question, opt = asked[12:end], asked[end:]
    head = asked[:2] + b"\x81\x80\0\1"
    soa = b"\0\0\6" + rdata(b"\0\0" + bytes(16) + b"\0\0\0\x05")
    if chance is not None and question[:-4].lower().endswith(CLUSTER) and chance.random() < 0.8:
        counts = b"\0\0\0\1" + (b"\0\1" if opt else b"\0\0")
        return head[:3] + b"\x83" + head[4:] + counts + question + soa + opt
    if chance is not None:
        shapes = (
            b"\0\5" + rdata(b"\1a\xc0\x0c"), b"\0\x0f" + rdata(b"\0\5\4mail\xc0\x0c"),
            b"\0\x27" + rdata(b"\7example\0"), b"\0\x21" + rdata(b"\0\0\0\5\0\x35\2ns\xc0\x0c"),
            b"\0\1" + rdata(ADDRESS), question[-4:-2] + rdata(chance.randbytes(9)),
        )  # fmt: skip
        owners = (b"\xc0\x0c", b"\xc0\x0c", b"\1a\xc0\x0c", b"\6victim\0")
        picked = [chance.choice(owners) + chance.choice(shapes) for _ in range(chance.randrange(9))]
        parts = sorted((chance.randrange(len(picked) + 1), chance.randrange(len(picked) + 1)))
        numbers = (parts[0], parts[1] - parts[0], len(picked) - parts[1] + bool(opt))
        return head + struct.pack("!3H", *numbers) + question + b"".join(picked) + opt
    if question[-4:-2] == b"\0\1":
        counts = b"\0\1\0\0" + (b"\0\1" if opt else b"\0\0")
        return head + counts + question + b"\xc0\x0c\0\1" + rdata(ADDRESS) + opt
    return head + b"\0\0\0\1" + (b"\0\1" if opt else b"\0\0") + question + soa + opt


def rdata(octets: bytes, ttl: int = 1) -> bytes:
    """Class, TTL, length and RDATA of a record."""
    return struct.pack("!HIH", 1, ttl, len(octets)) + octets


class Client:
    """Asks mutated queries, and knows which of them are queries still."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self._chance = random.Random(seed)
        self._number = 0
        self.sent = 0

    def name(self) -> str:
        """A name of either upstream's, over either transport, old or new."""
        chance = self._chance
        self._number += 1
        number = self._number if chance.random() < 0.6 else chance.randrange(self._number)
        zone = chance.choice(("udp.changed", "tcp.changed", "udp.changed", "test"))
        search = f".{SEARCHED}" if chance.random() < 0.3 else ""
        return f"n{number}.{zone}{search}."

    def message(self, number: int) -> bytes:
        """A query with this id, most often changed in one field."""
        chance = self._chance
        edns = chance.choice((None, 512, 1232, 65535))
        wire = query(self.name(), chance.choice(QUESTIONS), edns=edns, id=number,
                     do=edns is not None and chance.random() < 0.3)  # fmt: skip
        dice = chance.random()
        if dice < 0.6:
            wire = mutate(wire, chance)
        elif dice < 0.75:
            wire = mutate_octets(wire, chance)
        return number.to_bytes(2, "big") + wire[2:]

    def round_udp(self) -> None:
        """Send a batch and hear what comes, until all that must come is there. Raises Broken."""
        first = self._chance.randrange(60000)
        sent = {number: self.message(number) for number in range(first, first + BATCH)}
        expected = {number for number, wire in sent.items() if is_answered(wire, stream=False)}
        heard: Counter[int] = Counter()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((HOST, self.port))
            for wire in sent.values():
                sock.send(wire)
            end = time.monotonic() + HEARD_SECONDS
            while set(heard) != expected or select.select([sock], [], [], 0.02)[0]:
                left = end - time.monotonic()
                if left <= 0 or not select.select([sock], [], [], left)[0]:
                    break
                heard[int.from_bytes(sock.recv(65535)[:2], "big")] += 1
        self.sent += BATCH
        for number in expected - set(heard):
            raise Broken(f"no reply over UDP to {sent[number].hex()}")
        for number, count in heard.items():
            if number not in expected:
                raise Broken(f"a reply to what is no query: {sent.get(number, b'').hex()}")
            if count > 1:
                raise Broken(f"{count} replies over UDP to {sent[number].hex()}")

    def round_tcp(self) -> None:
        """The same over a connection, in pieces of any size, which ends at what is no query."""
        chance = self._chance
        wires = [self.message(number) for number in range(chance.randrange(1, 9))]
        data = b"".join(map(frame, wires))
        heard: Counter[int] = Counter()
        reader = FrameReader()
        with socket.create_connection((HOST, self.port), HEARD_SECONDS) as sock:
            at = 0
            with contextlib.suppress(ConnectionError):
                while at < len(data):
                    size = chance.choice((1, 2, 3, 20, 1000))
                    sock.sendall(data[at : at + size])
                    at += size
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while piece := sock.recv(65536):
                    for message in reader.feed(piece):
                        heard[int.from_bytes(message[:2], "big")] += 1
        self.sent += len(wires)
        doubled = [number for number, count in heard.items() if count > 1]
        if doubled:
            raise Broken(f"several replies over TCP to {wires[doubled[0]].hex()}")
        good = [number for number, wire in enumerate(wires) if is_answered(wire, stream=True)]
        if len(good) == len(wires) and set(heard) != set(good):
            raise Broken(f"{len(heard)} of {len(good)} replies over TCP to {data.hex()}")

    def sentinels(self) -> None:
        """Ask what nobody has asked before, over either transport. Raises Broken."""
        for transport in ("UDP", "TCP"):
            self._number += 1
            wire = query(f"s{self._number}.{transport.lower()}.example.", edns=1232, id=7)
            kind = socket.SOCK_DGRAM if transport == "UDP" else socket.SOCK_STREAM
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.settimeout(HEARD_SECONDS)
                try:
                    sock.connect((HOST, self.port))
                    sock.sendall(wire if transport == "UDP" else frame(wire))
                    found = sock.recv(4096)
                except OSError as error:
                    raise Broken(f"an honest question over {transport}: {error}") from error
            if ADDRESS not in found:
                raise Broken(f"an honest question over {transport} got {found.hex()}")


def is_answered(wire: bytes, stream: bool) -> bool:
    """Whether a message gets a reply: a query does, whatever is wrong with it; nothing else."""
    try:
        read_query(wire, None, 0.0, stream)
    except Malformed as why:
        return why.rcode is not None
    return True


def weigh(pid: int) -> tuple[int, int]:
    """Octets in memory and open descriptors of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir(f"/proc/{pid}/fd"))


async def play(seconds: float, rounds: int, seed: int) -> str:
    """Play so many rounds, or for so long; return what was done. Raises Broken."""
    upstream = Upstream(seed)
    upstream.start()
    honest, other = upstream.honest[0].getsockname()[1], upstream.other[0].getsockname()[1]
    arguments = ["--upstream", f"{HOST}:{honest}", "--zone", f"udp.changed={HOST}:{other}",
                 "--zone", f"tcp.changed=tcp://{HOST}:{other}",
                 "--zone", f"cluster.local={HOST}:{other}"]  # fmt: skip
    for text in SETTINGS:
        arguments += ["--set", text]
    try:
        async with serve(*arguments) as server:
            client = Client(server.port, seed)
            await asyncio.to_thread(client.sentinels)
            before, _ = weigh(server.process.pid)
            end, done, most = time.monotonic() + seconds, 0, 0
            while time.monotonic() < end if seconds else done < rounds:
                for part in (client.round_udp, client.round_tcp, client.sentinels):
                    await asyncio.to_thread(part)
                    if server.process.returncode is not None:
                        raise Broken(f"it ended: {server.lines[-5:]}")
                done += 1
                memory, descriptors = weigh(server.process.pid)
                most = max(most, memory)
                if memory > before + GROWTH or descriptors > DESCRIPTORS_MAX:
                    raise Broken(f"{memory:,} octets, {descriptors} descriptors in round {done}")
            found = [line for line in server.lines if "Traceback" in line or " error " in line]
            if found:
                raise Broken(found[0])
    finally:
        upstream.over = True
        upstream.join()
    return (
        f"executed {client.sent + upstream.said['changed']}\n{done} rounds: {client.sent} messages "
        f"of clients, {upstream.said['changed']} replies changed, memory {before >> 20} MB before, "
        f"{most >> 20} MB at most"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Play as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.faces", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="0: another one every time")
    given = parser.parse_args(arguments)
    seed = given.seed or random.SystemRandom().randrange(1, 1 << 30)
    try:
        print(asyncio.run(play(given.seconds, 0, seed)))
    except Broken as broken:
        print(f"seed {seed}: {broken}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
