"""What clients are answered, beside Unbound and BIND: one scripted upstream behind all three.

`python -m tests.fuzz.differ` asks each of them the same questions, whose answers have many shapes,
and compares rcode and data. Where dnsguard stands alone there must be a reason; the shapes with one
are in `REASONS`. Needs `unbound` and `named`; everything stays on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from dnsguard.core.framing import FrameReader, frame
from dnsguard.demo.cluster import bind_pair
from tests.net.running import serve

HOST = "127.0.0.1"
SOA = "zone.example. 60 IN SOA ns.zone.example. admin.zone.example. 1 7200 1800 86400 60"
SECONDS = 6.0
Shape = Callable[[dns.message.Message, str], None]


def _records(section: list[dns.rrset.RRset], *texts: str) -> None:
    for text in texts:
        name, ttl, rdclass, rdtype, rdata = text.split(" ", 4)
        rrset = dns.rrset.from_text(name, int(ttl), rdclass, rdtype, rdata)
        section.append(rrset)


def _answer(*texts: str) -> Shape:
    return lambda reply, name: _records(reply.answer, *(t.replace("@", name) for t in texts))


def _denied(rcode: int = 0, *texts: str) -> Shape:
    def shape(reply: dns.message.Message, name: str) -> None:
        reply.set_rcode(dns.rcode.Rcode(rcode))
        _records(reply.answer, *(t.replace("@", name) for t in texts))
        _records(reply.authority, SOA)

    return shape


def _failed(rcode: int) -> Shape:
    return lambda reply, _: reply.set_rcode(dns.rcode.Rcode(rcode))


def _extra(reply: dns.message.Message, name: str) -> None:
    _records(reply.answer, f"{name} 60 IN A 10.0.0.4")
    _records(reply.authority, "zone.example. 60 IN NS ns.zone.example.")
    _records(
        reply.additional,
        "ns.zone.example. 60 IN A 10.0.0.9",
        "victim.zone.example. 60 IN A 6.6.6.6",
    )


SHAPES: dict[str, Shape] = {
    "a": _answer("@ 60 IN A 10.0.0.1"),
    "many": _answer(*(f"@ 60 IN A 10.0.1.{n}" for n in range(1, 60))),
    "uneven": _answer("@ 60 IN A 10.0.0.1", "@ 5 IN A 10.0.0.2"),
    "chain": _answer("@ 60 IN CNAME b.@", "b.@ 60 IN CNAME c.@", "c.@ 60 IN A 10.0.0.3"),
    "extra": _extra,
    "stray": _answer("@ 60 IN A 10.0.0.5", "victim.zone.example. 60 IN A 6.6.6.6"),
    "nodata": _denied(),
    "nxdomain": _denied(3),
    "chain-nodata": _denied(0, "@ 60 IN CNAME d.@"),
    "zero": _answer("@ 0 IN A 10.0.0.6"),
    "long": _answer("@ 4000000000 IN A 10.0.0.7"),
    "servfail": _failed(2),
    "refused": _failed(5),
    "notimp": _failed(4),
    "referral": lambda reply, _: _records(
        reply.authority, "sub.zone.example. 60 IN NS ns.elsewhere.example."
    ),
    "two-cnames": _answer("@ 60 IN CNAME e.@", "@ 60 IN CNAME f.@"),
    "looping": _answer("@ 60 IN CNAME g.@", "g.@ 60 IN CNAME @"),
    "itself": _answer("@ 60 IN CNAME @"),
    "dangling": _answer("@ 60 IN CNAME h.@"),
    "dname": _answer("zone.example. 60 IN DNAME d.@", "@ 60 IN CNAME i.@", "i.@ 60 IN A 10.0.0.8"),
    "stray-chain": _answer(
        "victim.zone.example. 60 IN CNAME j.@", "@ 60 IN A 10.0.0.10", "j.@ 60 IN A 6.6.6.6"
    ),
    "elsewhere": _answer("victim.zone.example. 60 IN A 6.6.6.6"),
    "elsewhere-chain": _answer("victim.zone.example. 60 IN CNAME k.@", "k.@ 60 IN A 6.6.6.6"),
    "other-type": _answer("@ 60 IN MX 5 mail.@"),
    "bare-nxdomain": _failed(3),
    "bare": _failed(0),
}
POSITIVE = {"a", "many", "uneven", "extra", "stray", "zero", "long", "dname", "stray-chain",
            "elsewhere", "elsewhere-chain"}  # fmt: skip
REASONS = {
    "chain": "they ask for each link of a chain again; we take the chain that the upstream made",
    "chain-nodata": "as with a chain",
    "referral": "a forwarder's upstream that refers elsewhere answers nothing",
    "two-cnames": "no answer: Unbound takes one of the two, BIND fails, as we do",
    "elsewhere": "an answer to something else: Unbound makes NODATA of it, BIND fails, as we do",
    "elsewhere-chain": "as with one record",
    "other-type": "what was not asked, at the name that was: passed on as it came, and never kept",
    "bare": "an empty answer without SOA: passed on as it came, and never kept",
    "bare-nxdomain": "as with an empty one",
}


def reply_to(wire: bytes, transport: str) -> bytes:
    """The scripted answer: the first label of a name says its shape."""
    asked = dns.message.from_wire(wire)
    question = asked.question[0]
    name = question.name.to_text()
    reply = dns.message.make_response(asked, recursion_available=True)
    label = next((part for part in name.lower().split(".") if "-n" in part), "a-n0")
    shape = SHAPES.get(label.rsplit("-n", 1)[0])
    owner = name[name.lower().index(label) :] if label in name.lower() else name
    if shape is None:
        shape = _denied(3)
    elif question.rdtype != dns.rdatatype.A and label.rsplit("-n", 1)[0] in POSITIVE:
        shape = _denied(0)
    full = dns.message.make_response(asked, recursion_available=True)
    shape(full, owner)
    reply.set_rcode(full.rcode())
    # A question further down a chain, as they ask it, begins in the middle.
    reply.answer = _from(full.answer, name, owner)
    reply.authority, reply.additional = full.authority, full.additional
    out = reply.to_wire(max_size=65535)
    if transport == "udp" and len(out) > 1232:
        reply = dns.message.make_response(asked, recursion_available=True)
        reply.flags |= dns.flags.TC
        out = reply.to_wire()
    return out


def _from(answer: Sequence[dns.rrset.RRset], name: str, owner: str) -> list[dns.rrset.RRset]:
    for index, rrset in enumerate(answer):
        if rrset.name.to_text().lower() == name.lower():
            return list(answer[index:])
    return list(answer) if name.lower() == owner.lower() else []


class _Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._send = transport.sendto  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(Exception):
            self._send(reply_to(data, "udp"), addr)


class _Stream(asyncio.Protocol):
    def __init__(self) -> None:
        self._frames = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            with contextlib.suppress(Exception):
                self._write(frame(reply_to(message, "tcp")))


async def heard(port: int, name: str, rdtype: str, tcp: bool) -> tuple[str, tuple[str, ...]]:
    """What a server says: its rcode, and the data asked for."""
    query = dns.message.make_query(name, rdtype, use_edns=0, payload=1232)
    ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    try:
        reply = await ask(query, HOST, SECONDS, port)
        if reply.flags & dns.flags.TC:
            reply = await dns.asyncquery.tcp(query, HOST, SECONDS, port)
    except (dns.exception.DNSException, OSError, EOFError) as error:
        return type(error).__name__, ()
    data = sorted(
        item.to_text().lower() for rrset in reply.answer for item in rrset
        if rrset.rdtype == query.question[0].rdtype
    )  # fmt: skip
    return dns.rcode.to_text(reply.rcode()), tuple(data)


def unbound(port: int, upstream: int, folder: Path) -> list[str]:
    path = folder / "unbound.conf"
    path.write_text(
        f'server:\n interface: {HOST}\n port: {port}\n username: ""\n chroot: ""\n'
        f' directory: "{folder}"\n pidfile: ""\n use-syslog: no\n do-not-query-localhost: no\n'
        ' module-config: "iterator"\n qname-minimisation: no\n log-servfail: no\n'
        f'remote-control:\n control-enable: no\nforward-zone:\n name: "."\n'
        f" forward-addr: {HOST}@{upstream}\n"
    )
    return ["unbound", "-d", "-p", "-c", str(path)]


def bind(port: int, upstream: int, folder: Path) -> list[str]:
    path = folder / "named.conf"
    path.write_text(
        f'options {{ directory "{folder}"; listen-on port {port} {{ {HOST}; }};'
        f" listen-on-v6 {{ none; }}; forward only; forwarders {{ {HOST} port {upstream}; }};"
        " recursion yes; dnssec-validation no; empty-zones-enable no; pid-file none;"
        " session-keyfile none; lock-file none; };\ncontrols { };\n"
    )
    return ["named", "-f", "-X", "none", "-c", str(path)]


def free_port() -> int:
    udp, tcp = bind_pair(HOST)
    port: int = udp.getsockname()[1]
    udp.close()
    tcp.close()
    return port


async def started(port: int) -> None:
    """Wait until a server answers."""
    for _ in range(100):
        if (await heard(port, "a-n0.zone.example.", "A", False))[0] == "NOERROR":
            return
        await asyncio.sleep(0.1)
    raise SystemExit("a server does not answer")


async def compare(questions: int, seed: int) -> int:
    """Ask all three and print how they agree; return how often we stand alone without a reason."""
    loop = asyncio.get_running_loop()
    udp, tcp = bind_pair(HOST)
    udp.setblocking(False)
    port = udp.getsockname()[1]
    await loop.create_datagram_endpoint(_Datagrams, sock=udp)
    listening = await loop.create_server(_Stream, sock=tcp)
    chance = random.Random(seed)
    agreed: Counter[tuple[str, str]] = Counter()
    alone: list[str] = []
    examples: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        others, processes = [], []
        for config in (unbound, bind):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="differ-")))
            at = free_port()
            process = await asyncio.create_subprocess_exec(
                *config(at, port, folder), stderr=asyncio.subprocess.DEVNULL
            )
            processes.append(process)
            others.append(at)
        async with serve("--upstream", f"{HOST}:{port}") as ours:
            for at in others:
                await started(at)
            for number in range(questions):
                shape = chance.choice(list(SHAPES))
                name = f"{shape}-n{chance.randrange(questions // 3 + 1)}.zone.example."
                spelled = "".join(chance.choice((c, c.upper())) for c in name)
                rdtype = chance.choice(("A", "A", "A", "AAAA", "TXT"))
                over_tcp = chance.random() < 0.2
                mine, *theirs = await asyncio.gather(
                    *(heard(at, spelled, rdtype, over_tcp) for at in (ours.port, *others))
                )
                verdict = (
                    "all three" if mine == theirs[0] == theirs[1]
                    else "with one of them" if mine in theirs
                    else "they differ too" if theirs[0] != theirs[1] else "alone"
                )  # fmt: skip
                agreed[shape, verdict] += 1
                if verdict == "alone":
                    said = f"{spelled} {rdtype}: {mine}, they say {theirs[0]}"
                    if shape not in REASONS:
                        alone.append(f"{number}: {said}")
                    else:
                        examples.setdefault(shape, said)
        for process in processes:
            process.kill()
            await process.wait()
    listening.close()
    print(
        "| shape | all three | with one of them | they differ too | alone |\n|---|---|---|---|---|"
    )
    for shape in SHAPES:
        kinds = ("all three", "with one of them", "they differ too", "alone")
        print(f"| {shape} | " + " | ".join(str(agreed[shape, kind]) for kind in kinds) + " |")
    for shape, said in examples.items():
        print(f"{shape}: {said} ({REASONS[shape]})")
    print("\n".join(alone[:20]))
    print(f"{questions} questions; alone without a reason: {len(alone)}")
    return len(alone)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.differ", description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    missing = [name for name in ("unbound", "named") if shutil.which(name) is None]
    if missing:
        print(f"not installed: {missing} (Debian: apt-get install unbound bind9)")
        return 2
    return 1 if asyncio.run(compare(given.questions, given.seed)) else 0


if __name__ == "__main__":
    sys.exit(main())
