"""The evidence for the guard, in small: a history is the same for everyone, and is judged right."""

from __future__ import annotations

from benchmarks.guard_evidence import CLASSES, START, Failure, History, Judge, live, one, table


def test_a_seed_is_one_history_for_all() -> None:
    first, again = History(7), History(7)
    assert [s.name for s in first.services] == [s.name for s in again.services]
    assert list(first.queries()) == list(again.queries())
    assert live(first, 7, guard=True) == live(again, 7, guard=True)


def test_the_guard_prevents_what_rfc_8767_serves() -> None:
    seed = next(seed for seed in range(1, 50) if History(seed).failures)
    found = one(seed)
    assert found["RFC 8767"].wrong > 100
    assert found["guard"].wrong < found["RFC 8767"].wrong / 20
    assert found["prefer_positive"].wrong == 0
    assert sum(found["prefer_positive"].masked.values()) >= sum(found["guard"].masked.values())
    lines = table(found, seed, 1)
    assert len(lines) == 9
    assert all(kind in lines[3] and kind in lines[-1] for kind in CLASSES)


def test_the_judge_knows_truth_from_memory() -> None:
    history = History(7)
    service = history.services[0]
    service.gone = [(START + 100, float("inf"), "single")]
    history.failures = []
    judge = Judge(history)
    judge.told(0, False, START + 10)  # never known before: not the cache's fault
    judge.told(0, True, START + 20)
    judge.told(0, False, START + 30)
    judge.told(0, True, START + 105)
    judge.told(0, True, START + 130)
    tally = judge.done()
    assert tally.wrong == 1
    assert tally.masked["single"] == 1
    assert tally.longest["single"] == 30


def test_what_is_first_asked_for_in_a_failure_is_counted_apart() -> None:
    history = History(7)
    history.services[0].gone = [(START + 100, float("inf"), "single")]
    history.services[1].gone = [(START + 100, float("inf"), "single")]
    history.failures = [Failure("knows nothing", START + 200, START + 300, frozenset())]
    judge = Judge(history)
    judge.told(0, False, START + 150)
    for number in (0, 1):
        judge.told(number, True, START + 210)
    tally = judge.done()
    assert (tally.masked["single"], tally.unseen["single"]) == (2, 1)


def test_what_is_gone_is_not_deleted_again() -> None:
    service, forever = History(7).services[0], float("inf")
    service.gone = [(30.0, 40.0, "single"), (10.0, 20.0, "rolled"), (15.0, forever, "namespace")]
    service.merge()
    assert service.gone == [(10.0, forever, "namespace")]
    service.gone = [(10.0, 20.0, "rolled"), (12.0, 14.0, "rolled"), (20.0, 30.0, "single")]
    service.merge()
    assert service.gone == [(10.0, 20.0, "rolled"), (20.0, 30.0, "single")]


def test_one_pod_knows_few_names() -> None:
    history = History(7, small=True)
    assert 4 <= len(history.services) <= 20
    seed = next(s for s in range(1, 50) if History(s, small=True).failures)
    found = one(seed, small=True)
    assert found["guard"].wrong < found["RFC 8767"].wrong
