"""Finished replies: kept within bounds, all hits counted, and none that outlives its entry.

The last test plays everything that happens to the table in random order and checks what the reader
of datagrams relies on: a reply that still holds is one that its entry can call back.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnsguard.core.entry import Entry
from dnsguard.core.packets import (
    DROPPED_AT_ONCE,
    OCTETS_A_PACKET,
    PACKET_AT_ONE_ENTRY_MAX,
    Packet,
    Packets,
)
from tests.core.build import answer_wire, entry, query

ASKED = query("www.example.")
REPLY = answer_wire(ASKED, "www.example. 60 IN A 192.0.2.1")
SMALLEST = DROPPED_AT_ONCE  # packets that even the smallest table holds


def remembered() -> Entry:
    return entry(ASKED, REPLY)


class Folded:
    """What was handed over to the statistics: packets and their hits."""

    def __init__(self) -> None:
        self.hits = 0
        self.packets: list[Packet] = []

    def __call__(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.hits += packet.hits
        packet.hits = 0


def test_a_packet_is_what_the_reader_needs() -> None:
    table = Packets(0, Folded())
    found = remembered()
    table.add(ASKED[2:], REPLY, 5.0, found, "outage")
    packet = table.table[ASKED[2:]]
    assert (packet.rest, packet.size) == (REPLY[2:], len(REPLY))  # the id is each client's own
    assert (packet.until, packet.entry) == (5.0, found)
    assert (packet.reason, packet.hits) == ("outage", 0)
    assert found.packets == [packet]
    assert table.octets == OCTETS_A_PACKET


def test_a_newer_reply_takes_the_place_of_the_older() -> None:
    folded, found = Folded(), remembered()
    table = Packets(0, folded)
    table.add(b"tail", REPLY, 1.0, found, "")
    first = table.table[b"tail"]
    first.hits = 3
    for second in range(2, 40):
        table.add(b"tail", REPLY, float(second), found, "")
    assert found.packets == [table.table[b"tail"]]  # the older ones are gone, and their octets
    assert (folded.packets, folded.hits) == ([first], 3)


def test_an_older_reply_without_hits_is_not_counted() -> None:
    folded, found = Folded(), remembered()
    table = Packets(0, folded)
    table.add(b"tail", REPLY, 1.0, found, "")
    found.spoil()
    table.add(b"tail", REPLY, 2.0, remembered(), "")
    assert folded.packets == []
    assert table.table[b"tail"].until == 2.0


def test_one_reply_is_dropped_and_its_hits_are_counted() -> None:
    folded = Folded()
    packets = Packets(0, folded)
    packets.add(ASKED[2:], REPLY, 60.0, remembered(), "")
    packets.table[ASKED[2:]].hits = 3
    packets.drop(ASKED[2:])
    packets.drop(ASKED[2:])  # there is none any more
    assert (packets.table, folded.hits) == ({}, 3)


def test_a_full_table_drops_the_oldest() -> None:
    folded, found = Folded(), remembered()
    most = SMALLEST + 10
    table = Packets(most * OCTETS_A_PACKET, folded)
    for number in range(most):
        table.add(b"%d" % number, REPLY, 5.0, found if number == 0 else remembered(), "")
    table.table[b"0"].hits = 7
    assert len(table.table) == most
    table.add(b"new", REPLY, 5.0, remembered(), "")
    assert len(table.table) == most - DROPPED_AT_ONCE + 1
    assert b"0" not in table.table
    assert b"%d" % DROPPED_AT_ONCE in table.table
    assert folded.hits == 7
    assert found.packets == []


def test_a_table_has_room_for_something_whatever_its_bound() -> None:
    table = Packets(0, Folded())
    for number in range(10 * SMALLEST):
        table.add(b"%d" % number, REPLY, 5.0, remembered(), "")
        assert len(table.table) <= SMALLEST
    assert b"%d" % (10 * SMALLEST - 1) in table.table


def spell(table: Packets, found: Entry, until: float, first: int = 0) -> None:
    for number in range(first, first + PACKET_AT_ONE_ENTRY_MAX):
        table.add(b"spelling %d" % number, REPLY, until, found, "")


def test_one_name_has_a_bounded_number_of_spellings() -> None:
    found = remembered()
    table = Packets(10**6, Folded())
    spell(table, found, 1.0)
    table.add(b"one more", REPLY, 1.0, found, "")
    assert b"one more" not in table.table
    assert len(table.table) == PACKET_AT_ONE_ENTRY_MAX
    table.add(b"spelling 0", REPLY, 1.0, found, "")  # a known one may always be renewed
    assert len(found.packets or ()) == PACKET_AT_ONE_ENTRY_MAX


def test_spellings_that_have_ended_make_room_for_others() -> None:
    found = remembered()
    table = Packets(10**6, Folded())
    spell(table, found, 1.0)
    table.add(b"plain", REPLY, 2.0, found, "")
    assert table.table[b"plain"].until == 2.0
    assert found.packets == [table.table[b"plain"]]
    spell(table, found, 3.0)
    assert len(found.packets) == PACKET_AT_ONE_ENTRY_MAX


def test_a_change_of_the_entry_ends_its_replies_in_both_tables() -> None:
    datagrams, streams, found = Packets(0, Folded()), Packets(0, Folded()), remembered()
    datagrams.add(b"tail", REPLY, 5.0, found, "")
    streams.add(b"tail", REPLY, 5.0, found, "")
    found.spoil()
    assert datagrams.table[b"tail"].until == streams.table[b"tail"].until == 0.0


def test_fold_counts_each_hit_once() -> None:
    folded, found = Folded(), remembered()
    table = Packets(0, folded)
    for number in range(3):
        table.add(b"%d" % number, REPLY, 5.0, found, "")
        table.table[b"%d" % number].hits = number
    table.fold()
    table.fold()
    assert folded.hits == 3
    assert len(folded.packets) == 2  # one had none


def test_clear_forgets_all_and_counts_what_was_not_counted() -> None:
    folded, found = Folded(), remembered()
    table = Packets(0, folded)
    table.add(b"tail", REPLY, 5.0, found, "")
    table.table[b"tail"].hits = 4
    table.clear()
    assert table.table == {}
    assert table.octets == 0
    assert folded.hits == 4
    assert found.packets is None
    table.add(b"tail", REPLY, 5.0, found, "")
    assert found.packets == [table.table[b"tail"]]


NAMES = st.integers(0, 3)
SPELLINGS = st.integers(0, 3 * PACKET_AT_ONE_ENTRY_MAX)


class Life(RuleBasedStateMachine):
    """Two small tables over a few entries, as the engine uses them."""

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.folded = Folded()
        self.tables = (Packets(0, self.folded), Packets(0, self.folded))
        self.entries = {name: self._new() for name in range(4)}
        self.given: Counter[bytes] = Counter()

    def _new(self) -> Entry:
        found = remembered()
        found.stored = self.now
        return found

    @rule(seconds=st.floats(0, 1.5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=NAMES, spelling=SPELLINGS, table=st.integers(0, 1))
    def ask(self, name: int, spelling: int, table: int) -> None:
        """A hit, or what the engine does when there is none."""
        tail = b"%d %d" % (name, spelling)
        packet = self.tables[table].table.get(tail)
        if packet is not None and self.now < packet.until:
            assert packet.entry is self.entries[name]
            packet.hits += 1
            self.given[tail] += 1
        else:
            found = self.entries[name]
            tick = found.stored + int(self.now - found.stored) + 1
            until = (tick, self.now + 1, self.now + 1000)[spelling % 3]  # fresh, stale, in outage
            self.tables[table].add(tail, REPLY, until, found, "")

    @rule(name=NAMES, spellings=st.integers(1, 20))
    def ask_in_many_ways(self, name: int, spellings: int) -> None:
        for spelling in range(spellings):
            self.ask(name, spelling, 0)

    @rule(name=NAMES)
    def refresh(self, name: int) -> None:
        self.entries[name].spoil()
        self.entries[name] = self._new()

    @rule(number=st.integers(0, 10**6))
    def flood(self, number: int) -> None:
        for index in range(SMALLEST // 2):
            self.tables[0].add(b"flood %d %d" % (number, index), REPLY, self.now, remembered(), "")

    @rule()
    def change_of_zone(self) -> None:
        for table in self.tables:
            table.clear()

    @rule()
    def scrape(self) -> None:
        for table in self.tables:
            table.fold()
        assert self.folded.hits == sum(self.given.values())

    @invariant()
    def what_holds_can_be_called_back(self) -> None:
        for table in self.tables:
            assert len(table.table) <= SMALLEST
            for packet in table.table.values():
                if self.now < packet.until:
                    assert packet.entry.packets is not None
                    assert packet in packet.entry.packets
        for found in self.entries.values():
            assert len(found.packets or ()) <= PACKET_AT_ONE_ENTRY_MAX


TestLife = Life.TestCase


@pytest.mark.parametrize("hits", [0, 1])
def test_a_dropped_packet_of_a_spoiled_entry_is_no_trouble(hits: int) -> None:
    folded, found = Folded(), remembered()
    table = Packets(0, folded)
    table.add(b"first", REPLY, 5.0, found, "")
    table.table[b"first"].hits = hits
    found.spoil()
    for number in range(SMALLEST):
        table.add(b"%d" % number, REPLY, 5.0, remembered(), "")
    assert b"first" not in table.table
    assert folded.hits == hits
