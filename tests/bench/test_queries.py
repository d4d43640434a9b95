"""Rows are the queries that were meant, at the places that the kernel is told, with fresh ids."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from dnslib import DNSRecord

from dnsguard.bench.names import BadNames, read_names
from dnsguard.bench.queries import ROWS_MIN, Rows, UniqueRows, lay_out
from dnsguard.core.framing import FrameReader
from dnsguard.net.mmsg import Outgoing


def ids(*values: int) -> memoryview:
    return memoryview(array("H", values))


def streamed(rows: Rows, row: int, count: int) -> list[bytes]:
    return FrameReader().feed(rows.stream(row, count))


def test_rows_are_the_questions_in_their_order() -> None:
    rows = lay_out(read_names("list:3", "A"), edns=False)
    assert rows.rows >= ROWS_MIN
    assert rows.rows % 3 == 0
    found = [DNSRecord.parse(one) for one in streamed(rows, 0, 6)]
    assert [str(one.q.qname).partition(".")[0] for one in found] == ["n0", "n1", "n2"] * 2
    assert all(one.header.rd == 1 and not one.ar for one in found)


def test_edns_adds_an_opt_record() -> None:
    rows = lay_out(read_names("list:1", "A"), edns=True)
    (record,) = DNSRecord.parse(streamed(rows, 0, 1)[0]).ar
    assert (record.rtype, record.rclass) == (41, 1232)


def test_a_batch_gets_its_ids_and_no_other_row_does() -> None:
    rows = lay_out(read_names("list:2", "A"), edns=False)
    rows.dress(1, ids(7, 8))
    found = [int.from_bytes(one[:2], "little") for one in streamed(rows, 0, 4)]
    swapped = [int.from_bytes(one[:2], "big") for one in streamed(rows, 0, 4)]
    assert [0, 7, 8, 0] in (found, swapped)


def test_rows_of_all_lengths_lie_apart(tmp_path: Path) -> None:
    names = ["a", "b" * 63, "c.d", "e" * 17]
    path = tmp_path / "names"
    path.write_text("".join(f"{name} A\n" for name in names))
    rows = lay_out(read_names(str(path), "A"), edns=False)
    found = [str(DNSRecord.parse(one).q.qname) for one in streamed(rows, 0, 8)]
    assert found == [f"{name}." for name in names] * 2
    assert rows.sizes[:4].tolist() == [len(one) for one in streamed(rows, 0, 4)]


def test_places_and_sizes_fit_into_the_words_of_a_batch() -> None:
    rows = lay_out(read_names("list:5", "A"), edns=False)
    words = Outgoing(0).words
    words[0:6:2] = rows.places[2:5]
    words[1:6:2] = rows.sizes[2:5]
    assert words[0:6:2].tolist() == rows.places[2:5].tolist()
    steps = {b - a for a, b in zip(rows.places, rows.places[1:], strict=False)}
    assert len(steps) == 1  # at even distances, none over another


def test_unique_names_never_come_twice() -> None:
    rows = lay_out(read_names("unique", "AAAA", "shop.svc.cluster.local"), edns=True)
    assert isinstance(rows, UniqueRows)
    seen: set[str] = set()
    asked = 0
    for _ in range(3):
        for row in range(0, rows.rows, 64):
            rows.dress(row, ids(*range(64)))
            for one in streamed(rows, row, 64):
                parsed = DNSRecord.parse(one)
                assert parsed.q.qtype == 28
                seen.add(str(parsed.q.qname))
                asked += 1
    assert len(seen) == asked == 3 * rows.rows
    assert all(name.endswith(".shop.svc.cluster.local.") for name in seen)


def test_two_runs_ask_for_different_unique_names() -> None:
    def some() -> set[bytes]:
        rows = lay_out(read_names("unique", "A"), edns=False)
        rows.dress(0, ids(*range(64)))
        return set(streamed(rows, 0, 64))

    assert some().isdisjoint(some())


def test_too_long_a_suffix_leaves_no_room() -> None:
    suffix = ".".join(["a" * 62] * 4)
    with pytest.raises(BadNames, match="too long"):
        lay_out(read_names("unique", "A", suffix), edns=False)


def test_more_rows_than_memory_are_refused() -> None:
    with pytest.raises(BadNames, match="1 GiB"):
        Rows([bytes(300)], range(4_000_000))
