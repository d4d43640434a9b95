"""What is worth writing down: each rule by itself, then an hour of a name with a TTL of 5 s.

`Disk` stands for whoever writes: it takes, and keeps the latest of each key.
"""

from __future__ import annotations

import pytest

from dnsguard.core import learned
from dnsguard.core.cache import Cache
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.learned import (
    CHANGE_PAUSE,
    RENEW_MAX,
    Change,
    Learned,
    alike,
)
from dnsguard.core.policy import StalePolicy
from tests.core import build
from tests.core.world import World

NAME = "web.cluster.local"
DAY = 86400.0
FIVE = StalePolicy(max_age=5 * DAY)
SHORT = StalePolicy(max_age=200.0)  # a tenth is 20 s
ZONES = {policy: build.zone_state(policy) for policy in (FIVE, SHORT, StalePolicy(max_age=0.0))}


def made(
    records: str = "{name} 5 IN A 10.1.0.1", name: str = NAME, now: float = 0.0,
    stale: StalePolicy = FIVE, rcode: int = 0, serial: int = 1,
) -> Entry:  # fmt: skip
    """What is remembered of an answer with these records; without any, of a denial."""
    asked = build.query(name)
    soa = f"cluster.local 30 IN SOA ns.cluster.local. h.cluster.local. {serial} 1 1 1 30"
    wire = build.answer_wire(
        asked, records.format(name=name), rcode, authority="" if records else soa
    )
    return build.entry(asked, wire, now=now, zone=ZONES[stale])


class Disk:
    """A cache, what it learns, and what of that has been written."""

    def __init__(self) -> None:
        self.cache = Cache(1 << 20)
        self.learned = Learned(self.cache)
        self.rows: dict[bytes, bytes] = {}
        self.writes = 0

    def learn(self, entry: Entry) -> Entry:
        """Do what the engine does with a new answer."""
        self.learned.note(entry, self.cache.get(entry.key))
        self.cache.put(entry, entry.stored)
        return entry

    def flush(self, now: float, everything: bool = False) -> list[Change]:
        changes = self.learned.take(now, everything)
        for key, entry in changes:
            self.writes += 1
            if entry is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = entry.wire
        return changes


def test_a_new_name_is_written_once() -> None:
    disk = Disk()
    entry = disk.learn(made())
    assert disk.flush(1.0) == [(entry.key, entry)]
    assert entry.written == entry.stored
    assert disk.flush(2.0) == []


def test_the_same_answer_is_not_written_again_until_its_row_is_old() -> None:
    disk = Disk()
    disk.learn(made(now=0.0))
    disk.flush(1.0)
    again = disk.learn(made("{name} 3 IN A 10.1.0.1", now=RENEW_MAX - 1))
    assert disk.flush(RENEW_MAX) == []
    assert again.written == 0.0
    later = disk.learn(made(now=RENEW_MAX))
    assert disk.flush(RENEW_MAX + 1) == [(later.key, later)]


@pytest.mark.parametrize(
    ("max_age", "pause"), [(50.0, CHANGE_PAUSE), (200.0, 20.0), (3 * DAY, RENEW_MAX)]
)
def test_a_restart_costs_a_tenth_of_the_stale_life_and_an_hour_at_most(
    max_age: float, pause: float
) -> None:
    disk, zone = Disk(), build.zone_state(StalePolicy(max_age=max_age))
    for now in (0.0, pause - 0.1, pause):
        entry = made(now=now)
        entry.zone = zone
        disk.learn(entry)
        disk.flush(now)
    assert disk.writes == 2


def test_a_changed_answer_is_written_at_once() -> None:
    disk = Disk()
    disk.learn(made(now=0.0))
    disk.flush(0.0)
    changed = disk.learn(made("{name} 5 IN A 10.1.0.2", now=60.0))
    assert disk.flush(60.0) == [(changed.key, changed)]


def test_a_name_that_changes_all_the_time_is_written_once_a_pause() -> None:
    disk = Disk()
    for now in range(61):
        disk.learn(made(f"{{name}} 5 IN A 10.1.0.{now}", now=float(now)))
        disk.flush(float(now))
    assert disk.writes == 1 + 60 / CHANGE_PAUSE


def test_the_last_of_several_changes_is_written_when_the_pause_ends() -> None:
    disk = Disk()
    disk.learn(made(now=0.0))
    disk.flush(0.0)
    disk.learn(made("{name} 5 IN A 10.1.0.2", now=1.0))
    last = disk.learn(made("{name} 5 IN A 10.1.0.3", now=2.0))
    assert disk.flush(CHANGE_PAUSE - 0.1) == []
    assert disk.flush(CHANGE_PAUSE) == [(last.key, last)]


def test_a_change_that_waits_is_replaced_even_by_the_old_answer() -> None:
    disk = Disk()
    disk.learn(made(now=0.0))
    disk.flush(0.0)
    disk.learn(made("{name} 5 IN A 10.1.0.2", now=1.0))
    back = disk.learn(made(now=2.0))
    assert disk.flush(CHANGE_PAUSE) == [(back.key, back)]


def test_at_the_end_nothing_waits() -> None:
    disk = Disk()
    disk.learn(made(now=0.0))
    disk.flush(0.0)
    changed = disk.learn(made("{name} 5 IN A 10.1.0.2", now=1.0))
    assert disk.flush(1.0, everything=True) == [(changed.key, changed)]


def test_what_can_never_be_stale_is_not_written() -> None:
    disk = Disk()
    disk.learn(made(stale=StalePolicy(max_age=0.0)))
    disk.learned.restart()
    assert disk.flush(1.0) == []


def test_what_is_forgotten_is_deleted() -> None:
    disk = Disk()
    entry = disk.learn(made())
    disk.flush(0.0)
    disk.cache.remove(entry.key)
    disk.learned.forget(entry.key)
    assert disk.flush(1.0) == [(entry.key, None)]
    assert not disk.rows


def test_what_the_cache_has_no_room_for_is_deleted_too() -> None:
    disk = Disk()
    written = disk.learn(made())
    disk.flush(0.0)
    waiting = disk.learn(made(name="other.cluster.local"))
    disk.cache.resize(0, 1.0)
    assert not disk.cache.index
    assert disk.flush(2.0) == [(written.key, None)]
    assert waiting.key not in disk.rows


def test_what_came_from_the_disk_is_not_overwritten_by_what_is_older() -> None:
    disk = Disk()
    entry = disk.learn(made(now=5.0))
    newer = made(now=6.0)
    newer.written = 6.0
    disk.cache.put(newer, 7.0)  # as `kept.restore` does
    assert disk.cache.get(entry.key) is newer
    assert disk.flush(8.0) == []


# -- bounds -------------------------------------------------------------------------------------


def many(disk: Disk, count: int, **more: int | str) -> list[Entry]:
    return [disk.learn(made(name=f"n{n}.cluster.local", **more)) for n in range(count)]  # type: ignore[arg-type]


def test_what_finds_no_room_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "WAITING_MAX", 4)
    monkeypatch.setattr(learned, "LOOKED_AT_ONCE", 5)
    disk = Disk()
    entries = many(disk, 11)
    sizes = [len(disk.flush(1.0)) for _ in range(8)]
    assert max(sizes) <= 4
    assert sizes[-1] == 0
    assert disk.rows == {entry.key: entry.wire for entry in entries}
    assert disk.writes == 11


def test_names_that_do_not_exist_leave_room_for_those_that_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learned, "NEGATIVES_MAX", 2)
    disk = Disk()
    many(disk, 5, records="", rcode=3)
    good = disk.learn(made())
    first = disk.flush(1.0)
    assert len(first) == 3
    assert (good.key, good) in first
    for now in range(2, 6):
        disk.flush(float(now))
    assert len(disk.rows) == 6


def test_no_room_for_deletions_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "WAITING_MAX", 1)
    disk = Disk()
    disk.learned.forget(b"a")
    disk.learned.forget(b"b")
    disk.learned.forget(b"a")
    assert disk.flush(1.0) == [(b"a", None)]


# -- trouble ------------------------------------------------------------------------------------


def test_what_could_not_be_written_is_taken_again() -> None:
    disk = Disk()
    entry = disk.learn(made())
    changes = disk.learned.take(1.0)
    disk.learned.again(changes)
    assert disk.flush(2.0) == [(entry.key, entry)]


def test_of_what_could_not_be_written_the_newest_is_taken() -> None:
    disk = Disk()
    disk.learn(made(now=0.0))
    changes = disk.learned.take(1.0)
    newer = disk.learn(made(now=2.0))
    disk.learned.again(changes)
    assert newer.written == NEVER
    assert disk.flush(3.0) == [(newer.key, newer)]


def test_a_deletion_that_failed_is_taken_again() -> None:
    disk = Disk()
    entry = disk.learn(made())
    disk.flush(0.0)
    disk.learned.forget(entry.key)
    disk.cache.remove(entry.key)
    changes = disk.learned.take(1.0)
    disk.learned.again(changes)
    assert disk.flush(2.0) == [(entry.key, None)]


def test_on_an_empty_disk_everything_is_written_again() -> None:
    disk = Disk()
    entries = many(disk, 20)
    disk.flush(0.0)
    disk.learned.restart()
    assert {key for key, _ in disk.flush(1.0)} == {entry.key for entry in entries}
    assert disk.flush(2.0) == []


# -- alike --------------------------------------------------------------------------------------

TWO = "{name} 5 IN A 10.1.0.1\n{name} 5 IN A 10.1.0.2"
CHAIN = "{name} 5 IN CNAME lb.example.\nlb.example. 5 IN A 10.1.0.1\nlb.example. 5 IN A 10.1.0.2"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (TWO, TWO, True),
        (TWO, TWO.replace(" 5 ", " 4 "), True),
        (TWO, "\n".join(reversed(TWO.splitlines())), True),
        (TWO, TWO.replace("0.2", "0.3"), False),
        (TWO, TWO.splitlines()[0], False),
        (TWO.splitlines()[0], TWO, False),
        (CHAIN, CHAIN.replace(" 5 ", " 300 "), True),
        (CHAIN, CHAIN.replace("lb.", "lc."), False),
        (CHAIN, CHAIN.splitlines()[0] + "\n" + "\n".join(reversed(CHAIN.splitlines()[1:])), True),
    ],
)
def test_alike_is_what_has_the_same_records(one: str, other: str, same: bool) -> None:
    assert alike(made(one), made(other)) is same


def test_a_denial_is_like_any_other_of_its_kind() -> None:
    assert alike(made("", rcode=3, serial=1), made("", rcode=3, serial=2))
    assert not alike(made("", rcode=3), made("", rcode=0))
    assert not alike(made("", rcode=3), made())


def test_records_beside_the_answer_do_not_count() -> None:
    asked = build.query(NAME)
    one, other = (
        build.entry(
            asked,
            build.answer_wire(
                asked, f"{NAME} 5 IN A 10.1.0.1", authority=f"cluster.local 5 IN NS {ns}."
            ),
        )
        for ns in ("ns1.cluster.local", "ns2.cluster.local")
    )
    assert one.wire != other.wire
    assert alike(one, other)


# -- time ---------------------------------------------------------------------------------------


def test_a_ttl_of_five_seconds_does_not_grind_the_disk() -> None:
    world = World()
    world.put(NAME, "A", 5, "10.1.0.1", "10.1.0.2", "10.1.0.3")
    mind = world.engine.learned = Learned(world.engine.cache)
    writes = 0
    for _ in range(3 * 3600):
        world.resolve(NAME)
        world.advance(1.0)
        writes += len(mind.take(world.now))
    asked = sum(ask.flight.key[1:4] == b"web" for _, ask in world.sent)
    assert asked > 2000
    assert writes == 3
    world.finish()


def test_what_another_process_has_learned_is_written_by_this_one() -> None:
    disk = Disk()
    entry = made()
    entry.written = entry.stored  # on the disk, as that process has it
    disk.cache.put(entry, 0.0)
    assert disk.flush(1.0) == []
    disk.learned.adopt(entry)
    assert disk.flush(2.0) == [(entry.key, entry)]
