"""How long a failed name is not asked for again, and how many failures are remembered."""

from __future__ import annotations

from dnsguard.core.failures import FAILURE_FIRST, FAILURE_MAX, FAILURES_MAX, Failures

KEY = b"\x03web\0\0\x01\0\x01\0"
NEVER = float("-inf")


def test_a_failure_holds_for_its_pause_and_twice_as_long_each_time() -> None:
    failures = Failures()
    pauses, now = [], 10.0
    for n in range(8):
        failures.note(KEY, 22, f"no answer {n}", NEVER, now)
        failure = failures[KEY]
        assert (failure.at, failure.until) == (now, now + failure.pause)
        assert (failure.code, failure.text) == (22, f"no answer {n}")
        pauses.append(failure.pause)
        now = failure.until
    assert pauses[:3] == [FAILURE_FIRST, 2 * FAILURE_FIRST, 4 * FAILURE_FIRST]
    assert pauses[-1] == FAILURE_MAX


def test_a_recovery_in_between_begins_anew() -> None:
    failures = Failures()
    for now in (10.0, 11.0, 13.0):
        failures.note(KEY, 22, "no answer", NEVER, now)
    failures.note(KEY, 22, "no answer", 15.0, 17.0)
    assert failures[KEY].pause == FAILURE_FIRST


def test_the_oldest_failure_gives_way() -> None:
    failures = Failures()
    for n in range(FAILURES_MAX):
        failures.note(b"%d" % n, 22, "no answer", NEVER, 10.0)
    failures.note(b"0", 22, "no answer", NEVER, 11.0)  # again: now it is the youngest
    failures.note(b"one more", 22, "no answer", NEVER, 12.0)
    assert len(failures) == FAILURES_MAX
    assert b"0" in failures
    assert b"1" not in failures
