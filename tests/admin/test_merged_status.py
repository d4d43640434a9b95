"""The status of several workers as that of one, from plain facts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from dnsguard.admin.merged_status import (
    merged_cache,
    merged_explanation,
    merged_status,
    workers_words,
)

BOTH = workers_words(2, 2, {})
PARENT = {"pid": 1, "uptime": 60.0, "process": {"resident_bytes": 100}, "events": []}


def facts(**changed: Any) -> dict[str, Any]:
    """A worker that is well."""
    zone = {
        "name": ".", "state": "normal", "since": None, "denied": 0, "upstreams": ["u"],
        "asked": 10, "covered": 9, "runway": 50.0, "words": "",
    }  # fmt: skip
    server = {
        "upstream": "u", "state": "up", "since": 5.0, "reason": None, "round_trip": 0.002,
        "usual_round_trip": 0.002, "zones": ["."], "outcomes": {"good": 4}, "words": "up",
        "history": [0.001, 0.002],
    }  # fmt: skip
    found = {
        "version": "1", "pid": 7, "uptime": 9.0, "headline": {}, "zones": [zone],
        "upstreams": [server],
        "answers": {
            "total": {"hit": 3}, "every": 5.0, "sampled": 1.0, "series": {"hit": [1, 2]},
        },
        "stale": {"reasons": {"outage": 1}, "oldest_age": 3.0},
        "readiness": {
            "words": "w", "window": 3600, "asked": 10, "covered": 9, "ratio": 0.9,
            "runway": 50.0, "taken": 0.0, "lost": {"evicted": {"count": 1, "words": "x"}},
            "names": [{"name": "a.", "type": "A", "why": "evicted"}],
        },
        "guard": {"verdicts": {"believed": 1}, "held": 2, "modes": {}, "words": ""},
        "hot": [{"name": "a.", "type": "A", "hits": 2}],
        "cache": {"entries": {"main": 2}, "evicted": {"main": 1}, "bytes": 10, "max_bytes": 20},
        "store": None,
        "process": {"resident_bytes": 1000},
        "events": [{"ago": 1.0, "level": "info", "event": "e", "text": "t"}],
        "drill": None,
    }  # fmt: skip
    return deepcopy(found) | changed


def test_counts_add_up_and_states_are_the_worst() -> None:
    one, two = facts(), facts()
    two["zones"][0].update(state="outage", since=12.0, covered=4, runway=20.0)
    two["upstreams"][0].update(state="down", history=[0.5, None, 0.1], words="down for 12 s")
    two["readiness"].update(covered=4)
    two["readiness"]["names"] = [{"name": "b.", "type": "A", "why": "evicted"}]
    two["store"] = {
        "up": True, "rows": 5, "bytes": 9, "loaded": 2, "writes": 3, "errors": {"row": 1},
        "flushed": 0.0, "words": "5 answers on disk",
    }  # fmt: skip
    found = merged_status({1: one, 2: two}, BOTH, PARENT)
    assert (found["pid"], found["uptime"]) == (1, 60.0)
    (zone,) = found["zones"]
    assert (zone["state"], zone["covered"], zone["runway"]) == ("outage", 4, 20.0)
    assert zone["words"].startswith("All names (zone .): outage for 12 s")
    (server,) = found["upstreams"]
    assert (server["state"], server["outcomes"]) == ("down", {"good": 8})
    assert server["history"] == [0.5, None, 0.1]
    assert found["answers"]["total"] == {"hit": 6}
    assert found["answers"]["series"] == {"hit": [2, 4]}
    assert found["stale"] == {"reasons": {"outage": 2}, "oldest_age": 3.0}
    assert [name["name"] for name in found["readiness"]["names"]] == ["a.", "b."]
    assert found["readiness"]["covered"] == 4
    assert found["hot"] == [{"name": "a.", "type": "A", "hits": 4}]
    assert (found["cache"]["bytes"], found["cache"]["max_bytes"]) == (20, 40)
    assert found["process"]["resident_bytes"] == 2100
    assert found["store"]["rows"] == 5
    assert (found["guard"]["verdicts"], found["guard"]["held"]) == ({"believed": 2}, 2)
    assert found["guard"]["words"].endswith("2 believed; 2 names in doubt now")
    assert len(found["events"]) == 1
    assert found["headline"]["tone"] == "bad"


def test_who_is_missing_is_in_the_first_sentence() -> None:
    workers = workers_words(1, 2, {2: "does not answer"})
    found = merged_status({1: facts()}, workers, PARENT)
    assert found["headline"]["tone"] == "warn"
    said = "1 of 2 workers answered: worker 2 does not answer"
    assert found["headline"]["text"].endswith(said)


def test_names_are_not_shown_where_the_settings_say_so() -> None:
    hidden = facts(hot=None)
    hidden["readiness"]["names"] = None
    found = merged_status({1: hidden, 2: deepcopy(hidden)}, BOTH, PARENT)
    assert (found["hot"], found["readiness"]["names"]) == (None, None)


ENTRY = {
    "name": "a.", "type": "A", "class": "IN", "do": False, "cd": False, "age": 5.0, "hits": 1,
}  # fmt: skip
ZONE: dict[str, Any] = {"name": ".", "state": "normal", "since": None, "denied": 0, "upstreams": []}


def test_an_answer_is_shown_once_and_the_newest() -> None:
    newer = ENTRY | {"age": 1.0, "hits": 2}
    found = merged_cache({1: {"entries": [ENTRY]}, 2: {"entries": [newer]}}, BOTH)
    assert found["entries"] == [newer | {"hits": 3}]


def test_an_explanation_says_where_workers_differ() -> None:
    knows = {"source": "hit", "words": {"answer": "x"}, "entry": ENTRY, "zone": ZONE}
    other = {
        "source": "failure",
        "words": {"answer": "SERVFAIL"},
        "entry": None,
        "zone": ZONE | {"state": "outage"},
    }
    found = merged_explanation({1: other, 2: knows}, BOTH)
    assert (found["source"], found["zone"]["state"]) == ("hit", "outage")
    assert found["words"]["workers"] == (
        "this is what worker 2 says; worker 1 would answer: SERVFAIL"
    )
    assert "workers" not in merged_explanation({1: knows, 2: knows}, BOTH)["words"]
