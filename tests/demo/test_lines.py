"""The demo in plain lines: one a second, none missing, the summary at the end."""

from __future__ import annotations

from dnsguard.demo.lines import Lines
from tests.demo.staged import show_at


def test_every_second_is_told_once_and_the_summary_at_the_end() -> None:
    said: list[str] = []
    screen = Lines(said.append)
    for second in (1, 1, 2, 9, 30):
        screen.frame(show_at(second))
    show = show_at(36)
    screen.summary(show, show.summaries())
    screen.close()
    told = [line for line in said if " of 00:36" in line]
    assert [line[:5] for line in told] == [f"00:{second:02}" for second in range(1, 37)]
    assert "dead" in told[8]
    assert "dnsguard 100 % of 20" in told[12]
    assert "plain cache 0 % of 20" in told[12]
    assert "SERVFAIL" in told[20]
    end = said[said.index(told[-1]) + 1 :]
    assert any(line.split() == ["answered", "100", "%", "0", "%"] for line in end)
    assert end[-1].startswith("dnsguard answered all 720 queries")


def test_a_lost_query_is_not_hidden() -> None:
    said: list[str] = []
    show = show_at(36, lost=1)
    Lines(said.append).summary(show, show.summaries())
    assert said[-1].startswith("dnsguard lost 1 of 720 queries")


def test_while_it_stays_up_changes_are_told_at_once() -> None:
    said: list[str] = []
    screen = Lines(said.append)
    show = show_at(40)
    screen.staying(show, keys=False)
    assert any("kill -STOP 4711" in line for line in said)
    said.clear()
    screen.idle(show)
    screen.idle(show)
    assert len(said) == 1
    show.reported = 0.0
    screen.idle(show)
    assert "FROZEN" in said[-1]
    screen.idle(show_at(55))
    assert len(said) == 3
