"""A little of the mutation at both faces of a running server; and that its judge judges."""

from __future__ import annotations

import asyncio
import random

import dns.message
import pytest

from dnsguard.demo.cluster import bind_pair
from tests.core.build import answer_wire, query, soa
from tests.fuzz import faces
from tests.fuzz.faces import ADDRESS, Broken, Client, Upstream, is_answered, play, reply_to
from tests.fuzz.fields import fields, mutate

ROUNDS = 6
ASKED = query("www.example.", edns=1232, do=True)
WIRES = [
    query("www.example."), ASKED, query("_http._tcp.web.example.", "SRV", edns=512),
    answer_wire(ASKED, "www.example. 60 IN CNAME web.example.\nweb.example. 60 IN A 192.0.2.1"),
    answer_wire(ASKED, "", 3, authority=soa("example.", 300, 120)),
]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_a_running_server_keeps_its_promises(seed: int) -> None:
    said = asyncio.run(play(0.0, ROUNDS, seed))
    assert f"{ROUNDS} rounds" in said


@pytest.mark.parametrize("wire", WIRES)
def test_fields_are_those_of_the_message(wire: bytes) -> None:
    found = fields(wire)
    names = [field for field in found if field.kind in ("length", "label", "root", "pointer")]
    records = [field for field in found if field.kind == "record"]
    counts = [int.from_bytes(wire[at : at + 2], "big") for at in (6, 8, 10)]
    assert len(records) == sum(counts)
    assert all(0 < field.start <= field.end <= len(wire) for field in found)
    assert records == [] or records[-1].end == len(wire)
    assert names[0].start == 12


@pytest.mark.parametrize("wire", WIRES)
def test_mutations_change_a_message_and_leave_its_id(wire: bytes) -> None:
    chance = random.Random(3)
    changed = [mutate(wire, chance) for _ in range(300)]
    assert all(one[:2] == wire[:2] for one in changed)
    assert len(set(changed)) > 100
    kinds = {field.kind for field in fields(wire)}
    assert {"flags", "count", "type", "class", "length", "label", "root"} <= kinds


def test_the_fields_of_what_is_no_message_are_those_up_to_there() -> None:
    for end in range(12, len(WIRES[3])):
        assert all(field.end <= end for field in fields(WIRES[3][:end]))


def test_an_honest_upstream_says_what_is_so() -> None:
    for kind, count in (("A", 1), ("TXT", 0)):
        for edns in (None, 1232):
            reply = dns.message.from_wire(reply_to(query("www.example.", kind, edns=edns), None))
            assert (len(reply.answer), reply.edns >= 0) == (count, edns is not None)


class Deaf(Client):
    """A client that expects other things than it should."""

    def message(self, number: int) -> bytes:
        return query(f"n{number}.test.", id=number)


@pytest.mark.parametrize(
    ("expects", "part", "what"),
    [
        (False, "round_udp", "a reply to what is no query"),
        (True, "round_udp", "no reply over UDP"),
        (True, "round_tcp", "0 of [0-9] replies over TCP"),
        (True, "sentinels", "an honest question over UDP"),
    ],
)
def test_what_breaks_a_promise_is_seen(
    expects: bool, part: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream(1)
    upstream.start()
    monkeypatch.setattr(faces, "is_answered", lambda wire, stream: expects)
    monkeypatch.setattr(faces, "HEARD_SECONDS", 0.3)
    silent = bind_pair(faces.HOST)
    silent[1].listen()
    port = (silent if expects else upstream.honest)[0].getsockname()[1]
    try:
        with pytest.raises((Broken, TimeoutError), match=f"{what}|timed out"):
            getattr(Deaf(port, 1), part)()
    finally:
        upstream.over = True
        upstream.join()
        for sock in silent:
            sock.close()


def test_what_is_answered_is_what_is_a_query() -> None:
    assert is_answered(ASKED, stream=False)
    assert is_answered(ASKED + b"rubbish", stream=False)
    assert not is_answered(ASKED[:11], stream=False)
    assert not is_answered(reply_to(ASKED, None), stream=False)
    assert ADDRESS in reply_to(ASKED, None)
