"""A little of `make fuzz` in every run of the tests: the corpus, and some mutations of it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import dns.message
import dns.rdatatype
import pytest

from dnsguard.core import wire
from tests.core import build
from tests.fuzz.corpus import mutate, seeds
from tests.fuzz.differ import SHAPES, reply_to
from tests.fuzz.run import TARGETS, blind
from tests.fuzz.targets import TARGETS as ALL, query

MUTATIONS = {
    "config": 150, "framing": 400, "walk": 400, "drill": 150, "imported": 500, "zone-file": 300,
    "resting": 25, "pins": 200, "scenario": 60,
}  # fmt: skip


def test_the_runner_knows_every_target() -> None:
    assert list(TARGETS) == list(ALL)


@pytest.mark.parametrize("name", TARGETS)
def test_promises_hold_for_the_corpus_and_what_is_near_it(name: str) -> None:
    chance = random.Random(20)
    corpus = seeds(name)
    for data in corpus:
        ALL[name](data)
    for _ in range(MUTATIONS.get(name, 1500)):
        ALL[name](mutate(chance.choice(corpus), chance))


def test_a_defect_is_found_and_its_input_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.fuzz.run.FOUND", tmp_path)
    monkeypatch.setattr("tests.fuzz.targets.read_query", _careless)
    with pytest.raises(IndexError):
        blind("query", 60.0, 1)
    (path,) = tmp_path.iterdir()
    with pytest.raises(IndexError):
        query(path.read_bytes())


def _careless(data: bytes, *more: object) -> object:
    data[12 + data[12]]  # trusts the length of the first label
    raise wire.Malformed("enough", None)


def test_the_command_runs_one_target_and_says_how_often() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--target", "names", "--seconds", "0.2"]
    ran = subprocess.run([*command, "--child", "blind"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("executed ")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_upstream_behind_all_three_says_what_its_shape_is(shape: str) -> None:
    name = f"{shape}-n1.zone.example."
    reply = dns.message.from_wire(reply_to(build.query(name, edns=1232), "tcp"))
    assert reply.id == dns.message.from_wire(build.query(name)).id
    assert reply.question[0].name.to_text() == name
    alone = dns.message.from_wire(reply_to(build.query(name, "TXT"), "udp"))
    assert not any(rrset.rdtype == dns.rdatatype.A for rrset in alone.answer) or "chain" in shape
    denied = {"nxdomain": 3, "bare-nxdomain": 3, "servfail": 2, "refused": 5, "notimp": 4}
    assert reply.rcode() == denied.get(shape, 0)
