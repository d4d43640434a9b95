"""The state of an instance in words and numbers, through an outage and without names."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dnsguard import clock
from dnsguard.admin.metrics import Exporter
from dnsguard.admin.page.sections import sections
from dnsguard.admin.status import Reading, counted, span, status
from dnsguard.admin.watching import EVENTS_MAX, Watch
from dnsguard.cli.status import short_lines
from dnsguard.core.actions import Notice
from dnsguard.core.counters import SOURCES, StoreCounts
from dnsguard.core.drill import Plan, begin
from dnsguard.core.pins import Pin
from tests.net.running import Scene, later, on_a_loop, scene


def seen(stage: Scene, watch: Watch, **options: Any) -> dict[str, Any]:
    engine = stage.proxy.driver.engine
    watch.history.sample(engine, clock.now())
    return status(Reading(engine, watch, stage.proxy.driver.numbers, **options), clock.now())


@on_a_loop
async def test_from_well_into_outage_and_back() -> None:
    async with scene("upstream.deadline=20s", "stale.recheck=100ms") as stage:
        watch = Watch(stage.proxy.driver.engine)
        found = seen(stage, watch)
        assert found["headline"] == {
            "tone": "good", "text": "All well; nothing was asked within the hour",
        }  # fmt: skip
        assert found["upstreams"][0]["words"] == "not asked yet"
        stage.upstream.behave("short-lived")
        await stage.udp.resolve("www.test")
        found = seen(stage, watch)
        assert found["headline"]["text"] == (
            "All well; 1 of 1 question of the last hour would be answered in an outage"
        )
        assert found["answers"]["total"]["upstream"] == 1
        assert {len(series) for series in found["answers"]["series"].values()} == {2}
        assert found["upstreams"][0]["history"][-1] == pytest.approx(
            found["upstreams"][0]["round_trip"], abs=1e-6
        )
        assert [name["name"] for name in found["hot"]] == ["www.test."]
        stage.upstream.stop()
        later(2.0)
        await stage.udp.resolve("www.test")
        later(720.0)
        found = seen(stage, watch)
        assert found["headline"]["tone"] == "bad"
        assert found["headline"]["text"].startswith(
            "All names (zone .): outage for 12 min; serving last-known-good to 1 of 1 question"
        )
        assert found["zones"][0]["words"].startswith(
            "All names (zone .): outage for 12 min; serving last-known-good; "
            "1 of 1 question of the last hour covered; runway 2 d 23 h"
        )
        assert found["upstreams"][0]["history"][-1] is None
        assert "it refuses our packets" in found["upstreams"][0]["words"]
        assert found["stale"]["reasons"]


@on_a_loop
async def test_what_could_not_be_answered_has_its_reason_and_its_name() -> None:
    async with scene() as stage:
        watch = Watch(stage.proxy.driver.engine)
        stage.upstream.stop()
        await stage.udp.resolve("never.test")
        found = seen(stage, watch)
        ready = found["readiness"]
        assert ready["lost"]["never_answered"]["count"] == 1
        assert ready["names"] == [{"name": "never.test.", "type": "A", "why": "never_answered"}]
        assert ready["words"].endswith("0 of 1 question asked within the hour (0.0%) would still "
                                       "be answered")  # fmt: skip
        assert found["headline"]["text"].endswith("nothing is remembered to answer with")
        private = seen(stage, watch, names=False)
        assert private["hot"] is None
        assert private["readiness"]["names"] is None
        assert "never.test" not in str(private)


@on_a_loop
async def test_a_store_that_fails_is_told_and_events_are_bounded() -> None:
    async with scene() as stage:
        watch = Watch(stage.proxy.driver.engine)
        store = StoreCounts(clock.now())
        assert seen(stage, watch)["store"] is None
        told = seen(stage, watch, store=store)["store"]["words"]
        assert told.startswith("another process of this address writes them to disk")
        store.errors["full"] += 1
        assert seen(stage, watch, store=store)["store"]["words"].startswith("failing, serving from")
        store.up, store.rows = True, 1200
        assert seen(stage, watch, store=store)["store"]["words"].startswith("1,200 answers on disk")
        for number in range(EVENTS_MAX + 5):
            watch.note(Notice("info", "test", f"event {number}"))
        events = seen(stage, watch)["events"]
        assert len(events) == EVENTS_MAX
        assert events[0]["text"] == f"event {EVENTS_MAX + 4}"


@on_a_loop
async def test_the_clock_of_the_watch_takes_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsguard.admin.watching.SAMPLE_SECONDS", 0.001)
    monkeypatch.setattr("dnsguard.admin.watching.WALK_PAUSE", 0.0)
    monkeypatch.setattr("dnsguard.core.census.ENTRIES_AT_ONCE", 1)
    async with scene() as stage:
        for name in ("a.test", "b.test", "c.test"):
            await stage.udp.resolve(name)
        watch = Watch(stage.proxy.driver.engine)
        watch.start()
        while watch.census.coverage.whole.asked < 3 or len(watch.history.answers) < 3:
            await stage.udp.resolve("a.test")
        watch.stop()
        assert sum(map(sum, watch.history.answers)) >= 3


@on_a_loop
async def test_an_outage_of_what_nobody_asks_for_is_not_called_a_loss() -> None:
    async with scene() as stage:
        watch = Watch(stage.proxy.driver.engine)
        await stage.udp.resolve("www.test")
        assert "1 of 1 question" in seen(stage, watch)["headline"]["text"], "asked a moment ago"
        stage.upstream.stop()
        later(3601.0)
        await stage.udp.resolve("last.test")
        later(3601.0)
        reading = Reading(stage.proxy.driver.engine, watch, stage.proxy.driver.numbers)
        found = status(reading, clock.now())
        assert "outage for 1 h" in found["headline"]["text"]
        assert found["headline"]["text"].endswith("nothing was asked there within the hour")
        assert "<meter" not in sections(found)["readiness"], "nobody can tell"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (732, "12 min"), (3600, "1 h"), (3725, "1 h 2 min"),
     (212400, "2 d 11 h"), (86400, "1 d"), (90061, "1 d 1 h"), (-5, "0 s")],
)  # fmt: skip
def test_spans_as_people_say_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_nouns_follow_their_numbers() -> None:
    assert [counted(n, "name") for n in (1, 2, 1200)] == ["1 name", "2 names", "1,200 names"]
    assert counted(2, "query", "queries") == "2 queries"
    assert len(SOURCES) == len(set(SOURCES))


@on_a_loop
async def test_a_drill_is_seen_while_it_runs() -> None:
    async with scene() as stage:
        engine = stage.proxy.driver.engine
        watch = Watch(engine)
        await stage.udp.resolve("www.test")
        assert seen(stage, watch)["drill"] is None
        plan = Plan("test.", "silent", 60.0, 1.0)
        assert not isinstance(begin(engine, plan, Random(1), clock.now()), str)
        await stage.udp.resolve("www.test")
        later(10.0)
        found = seen(stage, watch)
        assert found["headline"]["tone"] == "warn"
        assert found["headline"]["text"].startswith(
            "A drill: all names in test as if every upstream were silent; 0 of 1 look-up failed; "
            "it ends in "
        )
        drill = found["drill"]
        assert (drill["zone"], drill["kind"], drill["lookups"]) == ("test.", "silent", 1)
        assert drill["left"] == pytest.approx(50, abs=2)
        parts = sections(found)
        assert "<h2>A drill runs</h2>" in parts["drill"]
        assert parts["said"].startswith("a drill runs; ")
        scraped = Exporter(Reading(engine, watch, stage.proxy.driver.numbers)).registry
        assert scraped.get_sample_value("dnsguard_drill_running") == 1
        assert scraped.get_sample_value(
            "dnsguard_drill_lookups_total", {"result": "answered"}) == 1  # fmt: skip


@on_a_loop
async def test_what_the_guard_judged_and_what_is_pinned_is_there_to_see() -> None:
    async with scene("guard.canaries=www.test", "cache.max_ttl=1s") as stage:
        engine = stage.proxy.driver.engine
        watch = Watch(engine)
        await stage.udp.resolve("www.test")
        found = seen(stage, watch)
        assert found["guard"]["words"] == "no good name was denied so far"
        assert list(short_lines(found)) == []
        assert "No good name was denied so far." in sections(found)["guard"]
        assert "Nothing is pinned." in sections(found)["pins"]
        stage.upstream.behave("denied")
        later(2.0)
        await stage.udp.resolve("www.test")
        engine.pin(Pin("db.test", ("10.0.0.9", "fd00::9"), until=clock.now() + 600))
        engine.pin(Pin("for.good.test", ("10.0.0.8",)))
        for notice in stage.proxy.notices:
            watch.note(notice)
        found = seen(stage, watch)
        assert "1 name denied and not believed to be gone" in found["zones"][0]["words"]
        assert found["guard"]["held"] == 1
        assert found["guard"]["verdicts"]["held"] == 1
        assert list(short_lines(found)) == [
            "guard     denials of good names so far: 1 held; 1 name in doubt now",
            "pins      2: db.test. 10.0.0.9 fd00::9, for.good.test. 10.0.0.8",
        ]
        parts = sections(found)
        assert "dnsguard doubt --accept" in parts["guard"]
        assert "the last good answer goes on" in parts["guard"]
        assert "in 9 min" in parts["pins"] or "in 10 min" in parts["pins"]
        assert "by the settings" in parts["pins"]
        assert "www.test" in str(found["events"])
        private = seen(stage, watch, names=False)
        assert not [name for name in ("www.test", "db.test") if name in str(private)]
        assert "2; names are switched off" in sections(private)["pins"]


@on_a_loop
async def test_a_guard_that_only_watches_says_so() -> None:
    async with scene("guard.mode=observe") as stage:
        assert "<code>.</code>: observe" in sections(seen(stage, Watch(stage.proxy.driver.engine)))[
            "guard"
        ]  # fmt: skip
