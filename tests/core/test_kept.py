"""What comes back after a restart: stale until an upstream says otherwise, dead when it was to die.

And what comes back damaged or forged: refused, whatever it is, and never by any other error.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from dnsguard.core.engine import Engine
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.kept import RESTORE_SHARE, older, read_kept, restore
from dnsguard.core.policy import CachePolicy, Policy, StalePolicy
from dnsguard.core.zones import KNOWN_MAX
from dnsguard.errors import WireError
from tests.core import build
from tests.core.watch import read
from tests.core.world import START, World, one_zone

NAME = "web.cluster.local"
QUERY = build.query(NAME)
KEY = build.read(QUERY).key
A = f"{NAME} 30 IN A 10.1.0.1"
SOA = build.soa("cluster.local", 30, 30)
DAY = 86400.0


def wire(records: str = A, asked: bytes = QUERY, rcode: int = 0, authority: str = "") -> bytes:
    return build.answer_wire(asked, records, rcode, authority=authority, edns=None)


def policy(max_age: float = 3 * DAY, **cache: int) -> Policy:
    whole = one_zone()
    zone = replace(whole.zones[0], stale=StalePolicy(max_age=max_age))
    return replace(whole, zones=(zone,), cache=CachePolicy(**cache))


def begin(max_age: float = 3 * DAY, **cache: int) -> Engine:
    return Engine(policy(max_age, **cache), random.Random(1), START)


def known(world: World, stored: float) -> None:
    """Have the world's engine remember a web address from before its start."""
    assert restore(world.engine, KEY, wire(), stored, world.now)
    world.watch.said(KEY, read(wire()), stored)


def put_back(engine: Engine, stored: float, now: float) -> Entry | None:
    return engine.cache.get(KEY) if restore(engine, KEY, wire(), stored, now) else None


# -- what it is good for ------------------------------------------------------------------------


def test_with_a_dead_upstream_it_is_served_stale() -> None:
    world = World()
    world.behave("silent")
    known(world, START - 7200)
    asked = world.ask(NAME)
    world.until_answered(asked)
    found = asked.read()
    assert found.data == ("10.1.0.1",)
    assert [code for code, _ in found.ede] == [3]
    assert max(found.ttls) <= 30


def test_with_a_live_upstream_it_is_verified_first() -> None:
    world = World()
    world.put(NAME, "A", 30, "10.1.0.2")
    known(world, START - 10)  # its TTL has not ended yet, and yet it is not trusted
    found = world.resolve(NAME).read()
    assert found.data == ("10.1.0.2",)
    assert not found.ede
    world.finish()


def test_it_is_a_name_to_probe_with() -> None:
    engine = begin()
    for number in range(KNOWN_MAX + 3):
        asked = build.query(f"n{number}.cluster.local")
        answer = wire(f"n{number}.cluster.local 30 IN A 10.1.0.1", asked)
        assert restore(engine, build.read(asked).key, answer, 0.0, START)
    assert len(engine.zones.root.known) == KNOWN_MAX


def test_a_denial_is_no_name_to_probe_with() -> None:
    engine = begin()
    assert restore(engine, KEY, wire("", rcode=3, authority=SOA), 0.0, START)
    assert not engine.zones.root.known


def test_a_failure_from_before_it_came_back_is_a_refresh_that_failed() -> None:
    world = World()
    world.behave("servfail")
    assert world.resolve(NAME).read().rcode == "SERVFAIL"
    known(world, START - 60)
    packets = world.packets()
    asked = world.resolve(NAME)
    assert asked.read().data == ("10.1.0.1",)
    assert (asked.wait, world.packets()) == (0.0, packets)
    assert not world.engine.failures


def test_it_survives_a_flood_of_names_like_one_that_was_asked_often() -> None:
    engine = begin(max_bytes=1 << 20)
    entry = put_back(engine, 0.0, START)
    assert entry is not None
    for number in range(5000):
        asked = build.query(f"n{number}.cluster.local")
        flood = build.entry(asked, wire(f"n{number}.cluster.local 30 IN A 10.1.0.1", asked))
        flood.zone = engine.zones.root
        engine.cache.put(flood, START)
    assert engine.cache.get(KEY) is entry


# -- its life -----------------------------------------------------------------------------------


@given(
    age=st.floats(-10, 10 * DAY),
    ttl=st.integers(1, 7 * int(DAY)),
    max_age=st.floats(0, 30 * DAY),
    max_ttl=st.integers(1, 7 * int(DAY)),
)
def test_it_is_stale_and_dies_no_later_than_without_the_restart(
    age: float, ttl: int, max_age: float, max_ttl: int
) -> None:
    engine = begin(max_age, max_ttl=max_ttl)
    now = START
    dies = min(now - age, now) + min(ttl, max_ttl) + max_age
    taken = restore(engine, KEY, wire(f"{NAME} {ttl} IN A 10.1.0.1"), now - age, now)
    entry = engine.cache.get(KEY)
    assert taken is (entry is not None)
    if entry is None:
        assert now >= min(now, dies - max_age) + max_age
        return
    assert entry.expires <= now < entry.dies() <= dies
    assert entry.stored <= now
    assert entry.written == (entry.stored if entry.stored > 0 else NEVER)


def test_the_dead_stay_dead() -> None:
    assert put_back(begin(max_age=60.0), START - 90.0, START) is None
    assert put_back(begin(max_age=60.0), START - 89.9, START) is not None


def test_the_settings_of_today_hold() -> None:
    engine = begin(max_negative_ttl=0)
    assert not restore(engine, KEY, wire("", rcode=3, authority=SOA), 0.0, START)
    engine = begin(max_ttl=10)
    entry = put_back(engine, START - 60, START)
    assert entry is not None
    assert entry.ttl == 10


@pytest.mark.parametrize(("stored", "wins"), [(START + 1, False), (START, True), (-5.0, True)])
def test_what_is_newer_wins(stored: float, wins: bool) -> None:
    engine = begin()
    there = build.entry(QUERY, wire(), now=START, zone=engine.zones.root)
    engine.cache.put(there, START)
    restore(engine, KEY, wire(), stored, START + 2)
    assert (engine.cache.get(KEY) is there) is wins


def test_there_is_room_left_for_what_is_new() -> None:
    engine = begin(max_bytes=1 << 20)
    taken = 0
    for number in range(4000):
        asked = build.query(f"n{number}.cluster.local")
        answer = wire(f"n{number}.cluster.local 30 IN A 10.1.0.1", asked)
        taken += restore(engine, build.read(asked).key, answer, 0.0, START)
    assert taken == len(engine.cache) < 4000
    assert sum(engine.cache.evicted) == 0
    assert engine.cache.total <= engine.cache.max_octets * RESTORE_SHARE + 1000


def test_answers_of_earlier_boots_can_turn_out_to_be_older() -> None:
    world = World()
    world.behave("silent")
    known(world, -5.0)
    world.resolve(NAME)
    entry = world.engine.cache.get(KEY)
    assert entry is not None
    other = build.query("new.cluster.local")
    assert restore(
        world.engine, build.read(other).key, wire("new.cluster.local 30 IN A 10.1.0.1", other),
        START - 5, world.now,
    )  # fmt: skip
    dies = {key: entry.dies() for key, entry in world.engine.cache.index.items()}
    older(world.engine.cache, DAY)
    assert entry.dies() == dies.pop(KEY) - DAY
    assert entry.written == NEVER  # what is on disk would be too young
    assert [world.engine.cache.index[key].dies() for key in dies] == list(dies.values())
    older(world.engine.cache, 3 * DAY)
    assert world.resolve(NAME).read().rcode == "SERVFAIL"


# -- what is no answer --------------------------------------------------------------------------

CD_DO = KEY[:-1] + b"\3"


@pytest.mark.parametrize("key", [KEY, CD_DO])
@pytest.mark.parametrize(
    ("answer", "rcode"),
    [((A, ""), 0), (("", SOA), 0), (("", SOA), 3)],
    ids=("A", "none", "no name"),
)
def test_what_would_be_kept_is_read(key: bytes, answer: tuple[str, str], rcode: int) -> None:
    found = read_kept(key, wire(answer[0], rcode=rcode, authority=answer[1]), CachePolicy())
    assert found.rcode == rcode
    assert found.ttl == 30


def changed(offset: int, octets: bytes) -> bytes:
    good = wire()
    return good[:offset] + octets + good[offset + len(octets) :]


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        (b"", wire()),
        (b"\0", wire()),
        (KEY[:-1], wire()),
        (KEY + b"\0", wire()),
        (KEY.replace(b"web", b"Web"), wire()),
        (KEY[:-1] + b"\4", wire()),
        (KEY[:-5] + b"\0\x29" + KEY[-3:], wire()),
        (KEY[:-5] + b"\0\xff" + KEY[-3:], wire()),
        (KEY[:-5] + b"\0\xfa" + KEY[-3:], wire()),
        (b"\xc0\x0c" + KEY[-5:], wire()),
        (b"\x40" + KEY, wire()),
        (b"\x3f" + bytes(63) + b"\x3f" + bytes(63) + KEY, wire()),
        (build.read(build.query("other.cluster.local")).key, wire()),
        (build.read(build.query(NAME, "AAAA")).key, wire()),
        (build.read(build.query(NAME, rdclass="CH")).key, wire()),
        (KEY, b""),
        (KEY, wire()[:11]),
        (KEY, wire()[: 12 + len(KEY) - 1]),
        (KEY, wire()[:-1]),
        (KEY, wire() + b"\0"),
        (KEY, wire() + bytes(65536)),
        (KEY, changed(2, b"\x01")),  # a query
        (KEY, changed(2, b"\x89")),  # another opcode
        (KEY, changed(2, b"\x83")),  # truncated
        (KEY, changed(3, b"\x82")),  # SERVFAIL
        (KEY, changed(4, b"\0\2")),
        (KEY, changed(4, b"\0\0")),
        (KEY, wire(rcode=5)),
        (KEY, wire("", rcode=3)),  # nothing proves it
        (KEY, wire("")),
        (KEY, wire(f"{NAME} 30 IN CNAME nowhere.example.")),
        (KEY, build.answer_wire(QUERY, "", 16, authority=SOA)),
    ],
)
def test_what_would_not_be_kept_is_refused(key: bytes, answer: bytes) -> None:
    engine = begin()
    with pytest.raises(WireError):
        restore(engine, key, answer, 0.0, START)
    assert not engine.cache.index


@given(st.binary(max_size=300), st.binary(max_size=600))
def test_anything_at_all_is_read_or_refused(key: bytes, answer: bytes) -> None:
    for pair in ((key, answer), (KEY, answer), (KEY, wire()[: 12 + len(KEY) - 1] + answer)):
        try:
            read_kept(*pair, CachePolicy())
        except WireError:
            continue


@given(st.integers(0, len(wire()) - 1), st.integers(0, 255), st.integers(0, len(KEY) - 1))
def test_no_damaged_octet_is_an_error_of_ours(at: int, octet: int, key_at: int) -> None:
    for key, answer in (
        (KEY, changed(at, bytes((octet,)))),
        (KEY[:key_at] + bytes((octet,)) + KEY[key_at + 1 :], wire()),
    ):
        engine = begin()
        try:
            taken = restore(engine, key, answer, 0.0, START)
        except WireError:
            taken = False
        assert len(engine.cache) == taken
        if taken:
            query = build.read(b"\0\7\1\0\0\1" + bytes(6) + key[:-1])
            engine.client(b"\0\7\1\0\0\1" + bytes(6) + query.question, None, START)


# -- from a process beside us -------------------------------------------------------------------


def test_what_a_process_beside_us_has_verified_is_as_fresh_here() -> None:
    engine = begin()
    assert restore(engine, KEY, wire(), START - 10, START, beside=True, verified=True)
    entry = engine.cache.index[KEY]
    assert (entry.stored, entry.expires) == (START - 10, START + 20)


def test_a_good_answer_does_not_give_way_to_the_denial_of_another() -> None:
    engine = begin()
    entry = put_back(engine, START - 60, START)
    denial = wire("", rcode=3, authority=SOA)
    assert not restore(engine, KEY, denial, START - 1, START, beside=True, verified=True)
    assert engine.cache.index[KEY] is entry
    assert restore(engine, KEY, wire(), START - 1, START, beside=True, verified=True)
    dead = START + 4 * DAY
    assert restore(engine, KEY, denial, dead - 1, dead, beside=True, verified=True)


def test_the_very_same_answer_is_found_to_be_on_disk() -> None:
    engine = begin()
    entry = put_back(engine, START - 60, START)
    assert entry is not None
    entry.written = NEVER
    assert put_back(engine, START - 60, START) is None
    assert entry.written == entry.stored
    entry.written = NEVER
    assert put_back(engine, START - 61, START) is None
    assert entry.written == NEVER
