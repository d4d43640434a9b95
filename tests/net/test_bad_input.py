"""Whatever a client sends, over UDP or TCP: the right rcode or silence, and the server goes on.

The rules are those of RFC 1035 section 4.1.1, RFC 6891 sections 6.1.1 and 6.1.3, RFC 9619 (one
question) and RFC 9267 (what names can be made to do). Messages are put together by hand here,
because no codec would write them.
"""

from __future__ import annotations

import random
import socket

import pytest

from tests.core.build import query
from tests.net.asking import HOST, Heard, by_id
from tests.net.running import on_a_loop, on_both_loops, scene
from tests.net.upstream import address_of

ID = b"\x4b\x1d"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
NAME = b"\3bad\4test\0"
A_IN = b"\0\1\0\1"


def message(question: bytes = NAME + A_IN, rest: bytes = b"", counts: str = "1 0 0 0",
            flags: int = 0x0100) -> bytes:  # fmt: skip
    numbers = b"".join(int(count).to_bytes(2, "big") for count in counts.split())
    return ID + flags.to_bytes(2, "big") + numbers + question + rest


def with_opt(opt: bytes, number: int = 1) -> bytes:
    return message(rest=opt, counts=f"1 0 0 {number}")


LONG_LABEL = b"\x3f" + b"x" * 63
RECORD = NAME + A_IN + b"\0\0\0\x3c\0\4\1\2\3\4"
TSIG = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\0"
FIELDS = {
    "IQUERY": (message(flags=0x0900), "NOTIMP"),
    "STATUS": (message(flags=0x1100), "NOTIMP"),
    "NOTIFY": (message(flags=0x2500), "NOTIMP"),
    "UPDATE": (message(flags=0x2900), "NOTIMP"),
    "opcode 15": (message(flags=0x7900), "NOTIMP"),
    "no question": (message(b"", counts="0 0 0 0"), "FORMERR"),
    "no question, but OPT": (message(b"", OPT, "0 0 0 1"), "FORMERR"),
    "two questions": (message(rest=NAME + A_IN, counts="2 0 0 0"), "FORMERR"),
    "65535 questions": (message(counts="65535 0 0 0"), "FORMERR"),
    "an answer": (message(rest=RECORD, counts="1 1 0 0"), "FORMERR"),
    "an authority": (message(rest=RECORD, counts="1 0 1 0"), "FORMERR"),
    "octets after the question": (message(rest=b"rubbish"), "FORMERR"),
    "one octet after the question": (message(rest=b"\0"), "FORMERR"),
    "octets after OPT": (with_opt(OPT + b"\0"), "FORMERR"),
    "two OPTs": (with_opt(OPT + OPT, 2), "FORMERR"),
    "two OPTs with a record between": (with_opt(OPT + RECORD + OPT, 3), "FORMERR"),
    "OPT with a name": (with_opt(b"\3bad" + OPT), "FORMERR"),
    "OPT promised only": (with_opt(b""), "FORMERR"),
    "OPT cut": (with_opt(OPT[:-1]), "FORMERR"),
    "OPT longer than the message": (with_opt(OPT[:-2] + b"\xff\xff"), "FORMERR"),
    "an option longer than OPT": (with_opt(OPT[:-2] + b"\0\4\0\x0a\0\x08"), "FORMERR"),
    "half an option": (with_opt(OPT[:-2] + b"\0\2\0\x0a"), "FORMERR"),
    "EDNS version 1": (with_opt(b"\0\0\x29\x04\xd0\0\1\0\0\0\0"), "BADVERS"),
    "EDNS version 255": (with_opt(b"\0\0\x29\x04\xd0\0\xff\0\0\0\0"), "BADVERS"),
    "the name never ends": (message(b"\3bad\4test"), "FORMERR"),
    "a label past the end": (message(b"\3bad\x3ftest"), "FORMERR"),
    "no type": (message(NAME), "FORMERR"),
    "no class": (message(NAME + b"\0\1"), "FORMERR"),
    "no name": (message(b""), "FORMERR"),
    "a pointer to itself": (message(b"\xc0\x0c" + A_IN), "FORMERR"),
    "two pointers to each other": (message(b"\xc0\x0e\xc0\x0c" + A_IN), "FORMERR"),
    "a pointer into the header": (message(b"\3bad\xc0\0" + A_IN), "FORMERR"),
    "a pointer past the end": (message(b"\xff\xff" + A_IN), "FORMERR"),
    "a label of 64 octets": (message(b"\x40" + b"x" * 64 + b"\0" + A_IN), "FORMERR"),
    "a reserved label": (message(b"\x80abc\0" + A_IN), "FORMERR"),
    "a name of 257 octets": (message(LONG_LABEL * 4 + b"\0" + A_IN), "FORMERR"),
    "a name of 65 labels": (message(b"\1x" * 128 + b"\0" + A_IN), "FORMERR"),
    "a signed message": (with_opt(TSIG), "REFUSED"),
    "a zone transfer": (message(NAME + b"\0\xfc\0\1"), "REFUSED"),
    "an increment of a zone": (message(NAME + b"\0\xfb\0\1"), "REFUSED"),
    "OPT as the type": (message(NAME + b"\0\x29\0\1"), "NOTIMP"),
    "MAILB": (message(NAME + b"\0\xfd\0\1"), "NOTIMP"),
}
SILENCE = {
    "one octet": b"\x4b",
    "an id": ID,
    "eleven octets": message(b"")[:11],
    "a reply": message(flags=0x8180),
    "a reply with an answer": message(rest=RECORD, counts="1 1 0 0", flags=0x8180),
    "a header of a reply": message(b"", flags=0x8000),
    "all ones": b"\xff" * 40,
}


@pytest.mark.parametrize("case", FIELDS)
@on_a_loop
async def test_a_broken_query_gets_its_rcode(case: str) -> None:
    wire, rcode = FIELDS[case]
    async with scene() as stage:
        for client in stage.clients:
            reply = await client.ask(wire)
            assert (reply.id, reply.rcode) == (0x4B1D, rcode)
            assert reply.wire[2] & 0xF8 == 0x80 | wire[2] & 0x78  # QR and the same opcode
            assert not reply.message.answer
            assert (await client.resolve("ping.test")).addresses == [address_of("ping.test")]
        assert not stage.upstream.asked("bad.test")


@pytest.mark.parametrize("case", SILENCE)
@on_a_loop
async def test_what_is_no_query_is_met_with_silence(case: str) -> None:
    async with scene() as stage:
        for client in stage.clients:
            assert await client.is_silent_to(SILENCE[case])
        assert not stage.upstream.asked("bad.test")


@on_both_loops
async def test_an_empty_message_is_met_with_silence() -> None:
    async with scene() as stage:
        # By a socket of its own: asyncio's transports do not send what is empty.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
            bare.sendto(b"", (HOST, stage.proxy.port))
            assert await stage.udp.is_silent_to(ID)
            with pytest.raises(BlockingIOError):
                bare.recv(1, socket.MSG_DONTWAIT)
        assert await stage.tcp.is_silent_to(b"")


@on_both_loops
async def test_oversize_messages_are_refused() -> None:
    async with scene() as stage:
        for size in (2048, 2049, 9000, 60_000):
            assert (await stage.udp.ask(message(rest=b"\0" * (size - 26)))).rcode == "FORMERR"
        assert (await stage.tcp.ask(message(rest=b"\0" * (65_535 - 26)))).rcode == "FORMERR"
        for client in stage.clients:
            assert (await client.resolve("ping.test")).addresses == [address_of("ping.test")]
        assert not stage.upstream.asked("bad.test")


@on_both_loops
async def test_padding_is_no_mistake() -> None:
    padding = b"\0\x0c" + (1000).to_bytes(2, "big") + b"\0" * 1000
    wire = with_opt(OPT[:-2] + len(padding).to_bytes(2, "big") + padding)
    async with scene() as stage:
        assert (await stage.udp.ask(wire)).addresses == [address_of("bad.test")]


@pytest.mark.parametrize("seed", range(4))
@on_both_loops
async def test_random_damage_ends_nothing(seed: int) -> None:
    """Queries with octets changed, lost and added: one reply at most to each, under its id."""
    chance = random.Random(seed)
    whole = [query(name, edns=edns) for name in ("a.test", "b.c.test") for edns in (None, 1232)]
    sent = [number.to_bytes(2, "big") + damaged(chance, whole) for number in range(400)]
    async with scene() as stage:
        for client in stage.clients:
            heard: list[Heard] = []
            for start in range(0, 400, 100):  # as many at once as any system's socket buffer holds
                last = 0xFF00 + start // 100
                client.send(*sent[start : start + 100], query("ping.test", id=last))
                while not heard or heard[-1].id != last:
                    heard += await client.hear(1)
                assert heard[-1].addresses == [address_of("ping.test")]
            assert set(by_id(heard)) <= {*range(400), *range(0xFF00, 0xFF04)}
        # Both kinds were there: what is no query, and what still is one.
        assert stage.proxy.driver.engine.counters.malformed > 200
        assert len({seen.name for seen in stage.upstream.seen}) > 2


def damaged(chance: random.Random, whole: list[bytes]) -> bytes:
    wire = bytearray(chance.choice(whole)[2:])
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(wire))
        what = chance.randrange(4)
        if what == 0:
            wire[at] = chance.randrange(256)
        elif what == 1:
            del wire[at:]
            wire += b"\0"
        elif what == 2:
            wire[at:at] = chance.randbytes(chance.randrange(1, 300))
        else:
            wire[at] ^= 1 << chance.randrange(8)
    return bytes(wire)
