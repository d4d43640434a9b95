"""The judgement on denials: what counts together, what is a mass event, whom to ask about it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dnsguard.core import guard as module
from dnsguard.core.entry import NEVER
from dnsguard.core.guard import LOOKS, LOOKS_DISPUTED, Guard, pool_of
from dnsguard.core.policy import GuardPolicy
from dnsguard.core.wire import name_octets
from dnsguard.core.zones import CLUSTER_DOMAIN
from tests.core import build

NOW = 1000.0
POOL = (1, 10, 6)
OTHER = (1, 10, 15)
CHANCE = random.Random(1)


def key(name: str) -> bytes:
    return name_octets(name) + b"\0\1\0\1\0"


def names(count: int, namespace: str = "shop", start: int = 0) -> list[bytes]:
    return [key(f"n{n}.{namespace}.svc.cluster.local") for n in range(start, start + count)]


def guard(**policy: object) -> Guard:
    return Guard(GuardPolicy(**policy), CLUSTER_DOMAIN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rtype", "data", "pool"),
    [
        ("A", "10.96.0.1", (1, 10, 6)),
        ("A", "10.97.255.1", (1, 10, 6)),
        ("A", "10.244.0.1", (1, 10, 15)),
        ("AAAA", "fd00:10:96::1", (28, 0xFD, 0, 0, 0x10, 0)),
        ("TXT", '"hello"', (16,)),
    ],
)
def test_names_are_alike_whose_addresses_lie_near(
    rtype: str, data: str, pool: tuple[int, ...]
) -> None:
    asked = build.query("web.test", rtype)
    wire = build.answer_wire(asked, f"web.test. 5 IN {rtype} {data}")
    assert pool_of(build.entry(asked, wire)) == pool


def test_many_deletions_do_not_each_walk_through_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    watching = guard()
    for n, other in enumerate([*names(1000, "bank"), *names(200)]):
        watching.affirmed(other, (1, 10, n % 8), NOW)
    walks: list[object] = []
    one_alone = watching._one_alone

    def counted(*given: Any) -> bool:
        walks.append(given)
        return one_alone(*given)

    monkeypatch.setattr(watching, "_one_alone", counted)
    for n, denied in enumerate(names(200)):
        watching.denied(denied, POOL, NOW + n / 1000)
        assert not watching.suspicion(denied, POOL, NOW + n / 1000)
    assert 10 < len(walks) < 60
    last = NOW + 0.2
    assert not watching.suspicion(names(1)[0], POOL, last)
    assert len(watching._calm) == 1
    for n in range(100):  # other kinds of names are judged for themselves, and not all remembered
        watching.suspicion(names(1)[0], (1, 172, n), last)
    assert len(watching._calm) <= module.POOLS_MAX


def test_few_denials_are_deletions() -> None:
    watching = guard()
    for other in [*names(4), *names(1, "bank")]:
        watching.affirmed(other, POOL, NEVER)
    for n, denied in enumerate(names(4)):
        watching.denied(denied, POOL, NOW + n)
        assert not watching.suspicion(denied, POOL, NOW + n)


def pair(namespaces: tuple[str, str], apart: float, *stand: str) -> str:
    """What is said of two names, all that are known of their kind, that fall within a while."""
    watching = guard()
    for other in stand:
        watching.affirmed(key(f"other.{other}.svc.cluster.local"), OTHER, NOW)
    one, two = (key(f"n{n}.{space}.svc.cluster.local") for n, space in enumerate(namespaces))
    watching.affirmed(one, POOL, NEVER)
    watching.affirmed(two, POOL, NEVER)
    watching.denied(one, POOL, NOW)
    assert not watching.suspicion(one, POOL, NOW)
    watching.denied(two, POOL, NOW + apart)
    return watching.suspicion(two, POOL, NOW + apart)


def test_where_two_are_known_it_is_an_event_if_they_fall_in_the_same_moment() -> None:
    assert pair(("one", "two"), 2.0, "three").startswith("all 2 names like them")
    assert pair(("one", "one"), 2.0, "one", "two"), "their namespace is still there"
    assert pair(("one", "one"), 2.0), "nothing is known beside them"
    assert not pair(("one", "one"), 2.0, "two"), "a namespace was deleted"
    assert not pair(("one", "two"), 3.0, "three"), "they fell one after the other"


def test_where_few_names_are_known_all_of_them_are_an_event() -> None:
    """A pod that knows three headless names, and a hundred Services that stand."""
    watching = guard()
    for other in names(100, "bank"):
        watching.affirmed(other, OTHER, NOW)
    for known in names(3):
        watching.affirmed(known, POOL, NEVER)
    for denied in names(2):
        watching.denied(denied, POOL, NOW)
        assert not watching.suspicion(denied, POOL, NOW)  # there is a third
    watching.denied(names(3)[2], POOL, NOW)
    assert watching.suspicion(names(3)[2], POOL, NOW).startswith(
        "all 3 names like them that are known are denied, n0.shop"
    )
    watching.begin(NOW)
    for held in names(3):
        watching.hold(held)
        watching.denied(held, POOL, NOW + 20)
    assert not watching.healed(NOW + 20)  # they are denied still, few as they are


def test_a_zone_of_which_few_names_are_known_may_be_denied_as_a_whole() -> None:
    watching = guard()
    watching.affirmed(names(1)[0], POOL, NEVER)
    for known in names(2, "bank"):
        watching.affirmed(known, OTHER, NEVER)
    watching.denied(names(1)[0], POOL, NOW)
    watching.denied(names(2, "bank")[1], OTHER, NOW)
    assert not watching.suspicion(names(1)[0], POOL, NOW)
    watching.denied(names(1, "bank")[0], OTHER, NOW)
    assert watching.suspicion(names(1)[0], POOL, NOW).startswith("all 3 names")


def test_names_that_were_asked_for_once_are_few_of_who_knows_how_many() -> None:
    watching = guard()
    for denied in names(4):
        watching.denied(denied, POOL, NOW)
        assert not watching.suspicion(denied, POOL, NOW)


def test_a_service_that_goes_with_all_its_pods_is_one_deletion() -> None:
    """A StatefulSet is scaled to zero, which is all that a pod knows of pods."""
    watching = guard()
    for name in ("db", "db-0.db", "db-1.db", "db-2.db"):
        watching.affirmed(key(f"{name}.data.svc.cluster.local"), POOL, NEVER)
        watching.denied(key(f"{name}.data.svc.cluster.local"), POOL, NOW)
    assert not watching.suspicion(key("db.data.svc.cluster.local"), POOL, NOW)
    queue = key("queue.data.svc.cluster.local")
    watching.denied(queue, POOL, NOW)
    assert watching.suspicion(queue, POOL, NOW)  # five, of which nothing stands


def test_what_was_affirmed_before_an_event_says_nothing_of_it() -> None:
    """A hundred names were good a moment ago, and since then every single one was denied."""
    watching = guard()
    for good in names(100, "shop") + names(100, "bank"):
        watching.affirmed(good, POOL, NOW - 1)
    fallen = [*names(3, "shop"), *names(3, "bank")]
    said = []
    for n, denied in enumerate(fallen):
        watching.denied(denied, POOL, NOW + n / 10)
        watching.denied(denied, POOL, NOW + n / 10 + 0.01)  # a second look is no second event
        said.append(watching.suspicion(denied, POOL, NOW + n / 10 + 0.01))
    assert said[:4] == [""] * 4
    assert said[4].startswith(
        "5 of the 5 names that were asked for within the last 0.4 s are denied"
    )


def test_names_that_stand_since_speak_for_the_source() -> None:
    watching = guard()
    for good in names(100, "shop") + names(100, "bank"):
        watching.affirmed(good, POOL, NOW - 1)
    for n, (denied, stands) in enumerate(
        zip([*names(3, "shop"), *names(3, "bank")], names(60, "shop", 30)[::10], strict=True)
    ):
        watching.denied(denied, POOL, NOW + n / 10)
        watching.affirmed(stands, POOL, NOW + n / 10)
        watching.affirmed(names(1, "bank", 50 + n)[0], POOL, NOW + n / 10)
        assert not watching.suspicion(denied, POOL, NOW + n / 10)


def test_a_namespace_that_goes_all_at_once_is_its_own_business_still() -> None:
    watching = guard()
    for good in names(100, "shop") + names(100, "bank"):
        watching.affirmed(good, POOL, NOW - 1)
    for denied in names(6, "shop"):
        watching.denied(denied, POOL, NOW)
    watching.affirmed(names(1, "bank")[0], POOL, NOW)
    assert not watching.suspicion(names(1, "shop")[0], POOL, NOW)


def test_many_denials_of_different_names_are_an_event() -> None:
    watching = guard()
    for denied in [*names(4), *names(1, "bank")]:
        watching.denied(denied, POOL, NOW)
    assert "5 of 5 names" in watching.suspicion(names(1)[0], POOL, NOW)


def test_one_name_that_is_denied_often_is_one() -> None:
    watching = guard()
    for n in range(20):
        watching.denied(names(1)[0], POOL, NOW + n)
    assert not watching.suspicion(names(1)[0], POOL, NOW + 19)


def test_denials_far_apart_are_no_event() -> None:
    watching = guard()
    for n, denied in enumerate([*names(5), *names(5, "bank")]):
        watching.denied(denied, POOL, NOW + 4 * n)
        assert not watching.suspicion(denied, POOL, NOW + 4 * n)


def test_few_among_many_that_stand_are_no_event() -> None:
    watching = guard()
    for other in names(20, "bank"):
        watching.affirmed(other, POOL, NOW)
    for denied in [*names(3), *names(2, "mail")]:
        watching.denied(denied, POOL, NOW)
    assert watching.suspicion(names(1)[0], POOL, NOW)
    watching.affirmed(names(1, "bank", 99)[0], POOL, NOW)
    assert not watching.suspicion(names(1)[0], POOL, NOW)


def test_only_names_alike_speak_for_each_other() -> None:
    """Service addresses stand while pod addresses go: kubernetes#77864."""
    watching = guard()
    for other in names(100, "bank"):
        watching.affirmed(other, OTHER, NOW)
    for denied in [*names(4), *names(1, "mail")]:
        watching.denied(denied, POOL, NOW)
    assert watching.suspicion(names(1)[0], POOL, NOW)


def test_denials_of_all_kinds_are_an_event_too() -> None:
    watching = guard()
    for n, denied in enumerate([*names(3), *names(3, "mail")]):
        watching.denied(denied, (1, n, 0), NOW)
    assert watching.suspicion(names(1)[0], (1, 0, 0), NOW)


def test_one_namespace_that_goes_while_others_stand_was_deleted() -> None:
    watching = guard()
    for denied in names(30):
        watching.denied(denied, POOL, NOW)
    assert watching.suspicion(names(1)[0], POOL, NOW)
    watching.affirmed(names(1, "bank")[0], POOL, NOW)
    assert not watching.suspicion(names(1)[0], POOL, NOW)


def test_a_rollout_elsewhere_makes_no_event_of_a_deleted_namespace() -> None:
    watching = guard()
    for denied in [*names(30), *names(1, "bank")]:
        watching.denied(denied, POOL, NOW)
    watching.affirmed(names(2, "bank")[1], POOL, NOW)
    assert watching.suspicion(names(1)[0], POOL, NOW)  # nobody is there who stands
    watching.affirmed(names(1, "mail")[0], POOL, NOW)
    assert not watching.suspicion(names(1)[0], POOL, NOW)
    later = NOW + module.CALM_SECONDS
    watching.denied(names(3, "bank")[2], POOL, later)
    assert watching.suspicion(names(1)[0], POOL, later)


def test_a_name_that_is_back_counts_no_more() -> None:
    watching = guard()
    for denied in [*names(4), *names(1, "bank")]:
        watching.denied(denied, POOL, NOW)
    watching.affirmed(names(1)[0], POOL, NOW + 1)
    assert not watching.suspicion(names(2)[1], POOL, NOW + 1)


def test_canaries_need_no_company() -> None:
    watching = guard(canaries=("db.corp",))
    assert "canary db.corp." in watching.suspicion(key("db.corp"), POOL, NOW)
    assert watching.suspicion(key("kubernetes.default.svc.cluster.local"), POOL, NOW)
    assert not watching.suspicion(key("web.corp"), POOL, NOW)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("web.shop.svc.cluster.local", "shop.svc.cluster.local"),
        ("web-0.web.shop.svc.cluster.local", "shop.svc.cluster.local"),
        ("10-0-0-1.shop.pod.cluster.local", "shop.pod.cluster.local"),
        ("svc.cluster.local", "svc.cluster.local"),
        ("cluster.local", "cluster.local"),
        ("a.b.example.com", "example.com"),
        ("com", "com"),
        (".", "."),
    ],
)
def test_what_a_name_belongs_to(name: str, group: str) -> None:
    assert guard().group(name_octets(name)) == name_octets(group)


def test_a_disputed_name_needs_more_looks_for_a_while() -> None:
    watching = guard()
    one = names(1)[0]
    assert watching.looks(one, NOW) == LOOKS
    watching.dispute(one, NOW)
    assert watching.looks(one, NOW + 599) == LOOKS_DISPUTED
    assert watching.looks(one, NOW + 600) == LOOKS
    assert guard(second_look=False).looks(one, NOW) == 1


def test_two_disputed_names_make_a_liar_of_the_source_for_a_while() -> None:
    watching = guard()
    for one in names(2):
        watching.dispute(one, NOW)
    other = names(1, "bank")[0]
    assert watching.looks(other, NOW + 59) == LOOKS_DISPUTED
    assert watching.looks(other, NOW + 60) == LOOKS


def test_disputes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISPUTES_MAX", 2)
    watching = guard()
    for one in names(3):
        watching.dispute(one, NOW)
    found = [watching.looks(one, NOW + 60) for one in names(3)]
    assert found == [LOOKS, *[LOOKS_DISPUTED] * 2]


def test_samples_are_names_alike_that_were_not_affirmed_just_now() -> None:
    watching = guard()
    for other in names(10):
        watching.affirmed(other, POOL, NEVER)
    for other in names(3, "bank"):
        watching.affirmed(other, POOL, NOW - 1.1)
    for other in names(10, "mail"):
        watching.affirmed(other, POOL, NOW - 0.9)
    for other in names(10, "pods"):
        watching.affirmed(other, OTHER, NOW - 60)
    denied = names(1)[0]
    watching.denied(denied, POOL, NOW)
    chosen = watching.samples(denied, POOL, CHANCE, NOW)
    assert chosen[:3] != names(3)
    assert set(names(3, "bank")) <= set(chosen)  # another namespace's first
    assert len(chosen) == 5
    assert set(chosen) - set(names(3, "bank")) < set(names(10)) - {denied}


def test_where_a_namespace_loses_two_names_all_of_them_are_asked_for() -> None:
    watching = guard()
    for other in names(40):
        watching.affirmed(other, POOL, NOW - 1)
    for other in [*names(3, "shop", 90), *names(3, "bank")]:
        watching.affirmed(other, OTHER, NOW - 1)
    watching.affirmed(key("www.example.org"), OTHER, NOW - 1)
    watching.denied(names(1)[0], POOL, NOW)
    assert watching.companions(names(1)[0], NOW) == []
    watching.affirmed(names(3)[2], POOL, NOW + 1)
    watching.denied(names(2)[1], POOL, NOW + 1)
    asked = watching.companions(names(2)[1], NOW + 1)
    rest = [(one, POOL) for one in names(37, start=3)]
    assert asked == [*rest, *[(one, OTHER) for one in names(3, "shop", 90)]]
    assert len(watching.companions(names(2)[1], NOW + 2)) == module.SAMPLES_MAX - len(asked)
    assert watching.companions(names(2)[1], NOW + 2) == []
    watching.denied(key("a.example.org"), OTHER, NOW + 2)
    watching.denied(key("b.example.org"), OTHER, NOW + 2)
    assert watching.companions(key("a.example.org"), NOW + 20) == []  # nobody's namespace


def test_there_may_be_nobody_to_ask() -> None:
    assert guard().samples(names(1)[0], POOL, CHANCE, NOW) == []


def test_the_guards_own_questions_are_bounded() -> None:
    watching = guard()
    for other in names(500, "bank"):
        watching.affirmed(other, POOL, NEVER)
    asked = [len(watching.samples(one, POOL, CHANCE, NOW)) for one in names(40)]
    assert sum(asked) == module.SAMPLES_MAX
    assert len(watching.samples(names(1)[0], POOL, CHANCE, NOW + 16)) == 5


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 3)
    monkeypatch.setattr(module, "POOLS_MAX", 2)
    watching = guard()
    for n in range(3):
        for other in names(5):
            watching.affirmed(other, (1, n, 0), NEVER)
    chosen = watching.samples(names(1, "bank")[0], (1, 0, 0), CHANCE, NOW)
    assert chosen == []  # the oldest pool went
    chosen = watching.samples(names(1, "bank")[0], (1, 2, 0), CHANCE, NOW)
    assert sorted(chosen) == sorted(names(5)[2:])
    watching.forget(names(5)[4], (1, 2, 0))
    watching.forget(names(5)[4], (1, 7, 0))
    assert len(watching.samples(names(1, "bank")[0], (1, 2, 0), CHANCE, NOW)) == 2


def test_names_without_addresses_are_noted_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EMPTIED_MAX", 2)
    watching = guard(hold_empty=60.0)
    for n, name in enumerate(("one.test", "two.test", "three.test")):
        assert watching.empty(key(name), NOW + n)
    assert list(watching.emptied) == [key("two.test"), key("three.test")]
    assert watching.empty(key("two.test"), NOW + 60)
    assert not watching.empty(key("two.test"), NOW + 61)


def test_other_settings_hold_from_then_on() -> None:
    watching = guard()
    watching.begin(NOW)
    obeying = watching.obeying(guard(mass_min=2, canaries=("db.corp",)))
    assert obeying is watching
    assert (watching.doubt, watching.policy.mass_min) == (True, 2)
    assert watching.suspicion(key("db.corp"), POOL, NOW)
