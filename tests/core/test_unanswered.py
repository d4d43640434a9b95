"""What is remembered of questions that nothing could be kept for."""

from __future__ import annotations

from dnsguard.core.unanswered import EVICTED, NEVER_ANSWERED, TTL_ZERO, UNANSWERED_MAX, Unanswered
from tests.core import build


def test_the_latest_are_kept_and_no_more_than_so_many() -> None:
    memory = Unanswered()
    for number in range(UNANSWERED_MAX):
        memory.note(b"%d" % number, NEVER_ANSWERED, float(number))
    memory.note(b"0", TTL_ZERO, 5000.0)
    memory.note(b"new", NEVER_ANSWERED, 5001.0)
    assert len(memory) == UNANSWERED_MAX
    assert list(memory.since(5000.0)) == [(b"0", TTL_ZERO), (b"new", NEVER_ANSWERED)]
    assert b"1" not in dict(memory.since(0.0))  # the oldest gave way, and not the one asked again


def test_an_evicted_answer_is_a_loss_if_it_was_asked_twice() -> None:
    memory = Unanswered()
    asked = build.query("www.test")
    entry = build.entry(asked, build.answer_wire(asked, "www.test 60 IN A 192.0.2.1"))
    entry.asked, entry.hits = 7.0, 1
    memory.evicted(entry)
    assert len(memory) == 0
    entry.hits = 2
    memory.evicted(entry)
    assert list(memory.since(7.0)) == [(entry.key, EVICTED)]
