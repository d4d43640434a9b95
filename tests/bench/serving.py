"""What the tests of the generator share: replies of all kinds, and a run against a real socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dnsguard.bench.generator import Generator
from dnsguard.bench.load import Load, Progress
from dnsguard.bench.meter import Measured
from dnsguard.bench.names import read_names
from dnsguard.bench.queries import lay_out
from tests.cli.scripted import HOST, Script, Scripted

QR = 0x80


def reply(query: bytes, rcode: int = 0, flags: int = 0) -> bytes:
    """The query as a reply; `flags` are those of the first octet of the two."""
    return query[:2] + bytes((query[2] | QR | flags, rcode)) + query[4:]


def good(query: bytes, _transport: str) -> Sequence[bytes]:
    return [reply(query)]


def silent(_query: bytes, _transport: str) -> Sequence[bytes]:
    return []


def name_of(query: bytes) -> str:
    """The name in the question, and nothing else may be wrong with the query."""
    assert query[2:12] == b"\1\0\0\1\0\0\0\0\0\0"
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += size + 1
    assert query[at + 3 : at + 5] == b"\0\1"
    return ".".join(labels)


def measure(script: Script, load: Load) -> tuple[Measured, list[bytes]]:
    """Carry the load out in this process; return the result and the queries that came."""
    with Scripted(script) as server:
        load = aimed(load, server.port)
        names = read_names(load.names, load.qtype, load.suffix, load.search, load.seed)
        generator = Generator(load, lay_out(names, load.edns), forget)
        try:
            generator.warm_up()
            measured = generator.measure()
        finally:
            generator.close()
    return measured, [query for query, _ in server.queries]


def aimed(load: Load, port: int) -> Load:
    return dataclasses.replace(load, host=HOST, port=port)


def forget(_progress: Progress) -> None:
    """Nobody looks at the progress."""
