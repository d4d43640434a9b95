"""What is kept when not everything can be: bounds in octets, and worth before date.

Floods are played at a small bound; a plain list of everything that was put in is the judge of the
cache's own accounts. The machine at the end does to it whatever the engine may do, in any order.
"""

from __future__ import annotations

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnsguard.core.answer import Answer, Kind
from dnsguard.core.cache import (
    HITS_TO_PROTECT,
    LAPS_MAX,
    NEGATIVE,
    NEGATIVE_SHARE,
    PROBATION,
    PROBATION_SHARE,
    PROTECTED,
    RECENT_MAX,
    SEATS_SLACK,
    SEGMENT_NAMES,
    Cache,
)
from dnsguard.core.entry import ENTRY_OVERHEAD, Entry
from dnsguard.core.packets import Packet
from dnsguard.core.policy import StalePolicy
from tests.core.build import zone_state

ZONE = zone_state(StalePolicy(max_age=1000.0))
KEY = len("name 0000000")
OCTETS = 500  # what `made` charges for one entry
ROOM = 80  # entries in the small cache
NEGATIVE_ROOM = int(ROOM * NEGATIVE_SHARE)
NOW = 50.0


def made(
    name: str | int, *, kind: Kind = Kind.POSITIVE, octets: int = OCTETS, now: float = 0.0,
    hits: int = 0,
) -> Entry:  # fmt: skip
    """An entry with a TTL of 60 that is charged `octets`."""
    answer = Answer()
    answer.wire = bytes(octets - ENTRY_OVERHEAD - KEY)
    answer.kind, answer.rcode, answer.ttl, answer.ad = kind, 0, 60, False
    answer.offsets, answer.additional = (), 0
    key = (f"name {name:07d}" if isinstance(name, int) else name).encode().ljust(KEY)
    entry = Entry(key, answer, ZONE, now)
    entry.hits = hits
    return entry


def small() -> Cache:
    return Cache(ROOM * OCTETS)


def fill(cache: Cache, first: int, count: int, kind: Kind = Kind.POSITIVE) -> None:
    """Names that nobody asks twice."""
    for number in range(first, first + count):
        cache.put(made(number, kind=kind), NOW)


def names(cache: Cache) -> set[str]:
    return {key.decode().rstrip() for key in cache.index}


# -- one entry ----------------------------------------------------------------------------------


def test_what_was_put_in_is_found_under_its_whole_key() -> None:
    cache, entry = small(), made("www")
    cache.put(entry, NOW)
    assert cache.get(entry.key) is entry
    assert cache.get(entry.key[:-1]) is None
    assert len(cache) == 1
    assert (cache.total, cache.octets[PROBATION], cache.live(PROBATION)) == (OCTETS, OCTETS, 1)


def test_removing_gives_back_what_it_cost() -> None:
    cache, entry = small(), made("www")
    packet = Packet(b"octets", 60.0, entry, "")
    cache.put(entry, NOW)
    entry.packets = [packet]
    assert cache.remove(entry.key) is entry
    assert cache.remove(entry.key) is None
    assert packet.until == 0.0  # no finished reply outlives it
    assert (len(cache), cache.total, cache.live(PROBATION)) == (0, 0, 0)
    assert sum(cache.evicted) == 0  # it was told to; that is no eviction


def test_who_wants_to_know_is_told_of_what_had_to_go() -> None:
    cache = small()
    gone: list[Entry] = []
    cache.on_evict = gone.append
    cache.put(made("hot", hits=HITS_TO_PROTECT), NOW)
    fill(cache, 0, ROOM)
    assert [entry.key for entry in gone] == [made(0).key]  # the other was promoted instead
    cache.remove(made(1).key)
    assert len(gone) == 1


@pytest.mark.parametrize("packets", [False, True])
def test_a_newer_answer_takes_over_the_name(packets: bool) -> None:
    cache, old, new = small(), made("www", hits=7), made("www", octets=600)
    packet = Packet(b"octets", 60.0, old, "")
    cache.put(old, NOW)
    old.recent = 2
    old.packets = [packet] if packets else None
    cache.put(new, NOW)
    assert cache.get(old.key) is new
    assert (new.hits, new.recent) == (7, 2)  # the name's, not the answer's
    assert cache.total == cache.octets[PROBATION] == 600
    assert len(cache) == 1
    if packets:
        assert packet.until == 0.0


@pytest.mark.parametrize("kind", [Kind.NODATA, Kind.NXDOMAIN])
def test_a_name_may_turn_and_turn_back(kind: Kind) -> None:
    cache = small()
    cache.put(made("www"), NOW)
    cache.put(made("www", kind=kind), NOW)
    assert [cache.live(segment) for segment in range(3)] == [0, 0, 1]
    assert cache.octets == [0, 0, OCTETS]
    cache.put(made("www"), NOW)
    assert cache.octets == [OCTETS, 0, 0]


def test_a_protected_name_stays_where_it_is_when_it_is_refreshed() -> None:
    cache = small()
    cache.put(made("hot", hits=HITS_TO_PROTECT), NOW)
    fill(cache, 0, 2 * ROOM)
    assert cache.index[made("hot").key].segment == PROTECTED
    cache.put(made("hot", octets=700), NOW)
    assert cache.index[made("hot").key].segment == PROTECTED
    assert cache.octets[PROTECTED] == 700


# -- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.POSITIVE, Kind.NXDOMAIN])
def test_a_flood_stays_within_the_bound(kind: Kind) -> None:
    cache = small()
    for number in range(10 * ROOM):
        cache.put(made(number, kind=kind), NOW)
        assert cache.total <= cache.max_octets
    most = ROOM if kind is Kind.POSITIVE else NEGATIVE_ROOM
    assert len(cache) == most
    assert names(cache) == {f"name {n:07d}" for n in range(10 * ROOM - most, 10 * ROOM)}
    segment = PROBATION if kind is Kind.POSITIVE else NEGATIVE
    assert cache.evicted[segment] == 10 * ROOM - most
    assert sum(cache.evicted) == cache.evicted[segment]


def test_one_answer_that_is_too_big_for_the_cache_is_not_kept() -> None:
    cache = small()
    cache.put(made("big", octets=ROOM * OCTETS + 1), NOW)
    assert (len(cache), cache.total) == (0, 0)


def test_a_big_negative_may_need_the_room_of_many() -> None:
    cache = small()
    fill(cache, 0, NEGATIVE_ROOM, Kind.NXDOMAIN)
    cache.put(made("big", kind=Kind.NXDOMAIN, octets=5 * OCTETS), NOW)
    assert cache.octets[NEGATIVE] <= cache.max_octets * NEGATIVE_SHARE
    assert "big" in names(cache)
    assert cache.live(NEGATIVE) == NEGATIVE_ROOM - 4


def test_a_smaller_bound_holds_at_once() -> None:
    cache = small()
    fill(cache, 0, ROOM - NEGATIVE_ROOM)
    fill(cache, 1000, NEGATIVE_ROOM, Kind.NXDOMAIN)
    cache.resize(ROOM * OCTETS // 4, NOW)
    assert cache.total <= ROOM * OCTETS // 4
    assert cache.octets[NEGATIVE] <= ROOM * OCTETS // 4 * NEGATIVE_SHARE
    cache.resize(0, NOW)
    assert (len(cache), cache.total, cache.octets) == (0, 0, [0, 0, 0])
    cache.resize(ROOM * OCTETS, NOW)
    fill(cache, 0, ROOM)
    assert len(cache) == ROOM


# -- worth --------------------------------------------------------------------------------------


def hot(cache: Cache, count: int) -> set[str]:
    """Put in `count` names that were asked twice, with a short pause between any two."""
    for number in range(count):
        cache.put(made(f"hot {number}", hits=HITS_TO_PROTECT), NOW)
    return {f"hot {number}" for number in range(count)}


@pytest.mark.parametrize("kind", [Kind.POSITIVE, Kind.NXDOMAIN, Kind.NODATA])
def test_names_that_are_asked_again_survive_a_flood(kind: Kind) -> None:
    """A thousand random names a second, each asked once: nobody's good data is lost by it."""
    cache = small()
    protected = hot(cache, ROOM // 2)
    for number in range(50 * ROOM):
        cache.put(made(number, kind=kind), NOW)
    assert protected <= names(cache)


def test_a_flood_of_negatives_takes_only_their_own_share() -> None:
    cache = small()
    fill(cache, 0, ROOM - NEGATIVE_ROOM)  # good names that were asked only once
    kept = names(cache)
    for size in (OCTETS, OCTETS + 100, OCTETS - 20, OCTETS + 400):
        for number in range(1000, 1000 + 5 * ROOM):
            cache.put(made(number, kind=Kind.NXDOMAIN, octets=size), NOW)
    assert kept <= names(cache)
    assert cache.evicted[PROBATION] == cache.evicted[PROTECTED] == 0


def test_a_second_flood_finds_them_protected() -> None:
    cache = small()
    protected = hot(cache, ROOM // 4)
    fill(cache, 0, 5 * ROOM)
    assert {e.segment for e in cache.index.values() if e.hits} == {PROTECTED}
    fill(cache, 10**4, 5 * ROOM)
    assert protected <= names(cache)
    assert cache.octets[PROBATION] >= cache.max_octets * PROBATION_SHARE - OCTETS


def test_what_is_dead_is_not_protected() -> None:
    cache = small()
    hot(cache, ROOM // 2)
    late = 60.0 + 1000.0  # the TTL and the zone's max_age
    for number in range(2 * ROOM):
        cache.put(made(number, now=late), late)
    assert not {name for name in names(cache) if name.startswith("hot")}


def only_protected(cache: Cache) -> list[Entry]:
    """Leave nothing but protected names in the cache; return them, oldest seat first."""
    hot(cache, ROOM)
    fill(cache, 0, 5 * ROOM)
    for entry in list(cache.index.values()):
        if entry.segment != PROTECTED:
            cache.remove(entry.key)
    return list(cache.index.values())


def test_among_the_protected_those_not_asked_lately_go_first() -> None:
    cache = small()
    found = only_protected(cache)
    asked = found[::2]
    for entry in asked:
        entry.recent = RECENT_MAX
    cache.resize(sum(entry.size for entry in asked), NOW)
    assert list(cache.index) == [entry.key for entry in asked]


def test_second_chances_are_used_up() -> None:
    """If everything was asked lately, something goes all the same, after a bounded search."""
    cache = small()
    found = only_protected(cache)
    for entry in found:
        entry.recent = RECENT_MAX
    before = cache.evicted[PROTECTED]
    cache.resize(cache.total - 1, NOW)
    assert cache.evicted[PROTECTED] == before + 1
    spent = sum(RECENT_MAX - entry.recent for entry in found if entry.key in cache.index)
    assert spent == LAPS_MAX


# -- seats --------------------------------------------------------------------------------------


def seats(cache: Cache, segment: int) -> list[bytes]:
    return list(cache._queues[segment])


def test_empty_seats_are_swept_out() -> None:
    """Names that come and go leave nothing behind, though the cache is never full."""
    cache = Cache(10**9)
    cache.put(made("stays"), NOW)
    for number in range(50 * SEATS_SLACK):
        entry = made(number)
        cache.put(entry, NOW)
        cache.remove(entry.key)
    assert len(seats(cache, PROBATION)) <= SEATS_SLACK + 2
    assert made("stays").key in seats(cache, PROBATION)


def test_names_that_turn_leave_no_seats_behind() -> None:
    """One name, in and out of protection, while a flood keeps the cache full."""
    cache = small()
    for number in range(20 * SEATS_SLACK):
        cache.put(made("turns", hits=HITS_TO_PROTECT), NOW)
        fill(cache, number * ROOM, ROOM)
        assert cache.index[made("turns").key].segment == PROTECTED
        cache.put(made("turns", kind=Kind.NXDOMAIN), NOW)
    for segment in range(3):
        assert len(seats(cache, segment)) <= 2 * cache.live(segment) + SEATS_SLACK + 1


class Account(RuleBasedStateMachine):
    """A cache of twenty entries and thirty names, with all that can happen to them."""

    NAMES = st.integers(0, 29)

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.cache = Cache(20 * OCTETS)

    @rule(
        name=NAMES,
        kind=st.sampled_from([Kind.POSITIVE, Kind.POSITIVE, Kind.NODATA, Kind.NXDOMAIN]),
        octets=st.sampled_from([470, OCTETS, 900, 5000]),
    )
    def put(self, name: int, kind: Kind, octets: int) -> None:
        self.cache.put(made(name, kind=kind, octets=octets, now=self.now), self.now)

    @rule(names=st.lists(NAMES, max_size=10))
    def ask(self, names: list[int]) -> None:
        for name in names:
            entry = self.cache.get(made(name).key)
            if entry is not None:
                entry.hits += 1
                entry.recent = 2

    @rule(name=NAMES)
    def remove(self, name: int) -> None:
        self.cache.remove(made(name).key)

    @rule(seconds=st.sampled_from([1.0, 600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(entries=st.integers(0, 25))
    def resize(self, entries: int) -> None:
        self.cache.resize(entries * OCTETS, self.now)

    @rule(first=st.integers(100, 10**6))
    def flood(self, first: int) -> None:
        for number in range(first, first + 30):
            self.cache.put(made(number, now=self.now), self.now)

    @rule(first=st.integers(100, 10**6), count=st.integers(1, 200))
    def come_and_go(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.cache.put(made(number, now=self.now), self.now)
            self.cache.remove(made(number).key)

    @invariant()
    def accounts_are_right(self) -> None:
        cache = self.cache
        assert cache.total == sum(entry.size for entry in cache.index.values())
        assert cache.total == sum(cache.octets) <= cache.max_octets
        assert cache.octets[NEGATIVE] <= cache.max_octets * NEGATIVE_SHARE
        for segment in range(len(SEGMENT_NAMES)):
            found = [entry for entry in cache.index.values() if entry.segment == segment]
            assert cache.live(segment) == len(found)
            assert cache.octets[segment] == sum(entry.size for entry in found)
            assert all(entry.negative is (segment == NEGATIVE) for entry in found)
            assert {entry.key for entry in found} <= set(seats(cache, segment))
        assert all(entry.key == key for key, entry in cache.index.items())


TestAccount = Account.TestCase
TestAccount.settings = settings(stateful_step_count=60)
