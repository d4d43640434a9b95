"""The verbs of the control socket where there are several workers: each is passed on to all.

What is told to one of them and not to another would be answered by chance, so a change goes to all,
one change after the other, and to those that are just starting as well. Every answer says how many
have answered: one that is dead or stands still costs its time and no more, and another takes its
place, which learns from those beside it what was changed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dnsguard import __version__
from dnsguard.admin.control import Arguments, Facts, Last, Verb
from dnsguard.admin.merged_drill import merged_drill_verbs
from dnsguard.admin.merged_status import (
    entry_id,
    merged_explanation,
    merged_status,
    workers_words,
    worst_zone,
)
from dnsguard.admin.telling import Silent, tell
from dnsguard.errors import ControlError

NOT_SERVING, SILENT = "does not serve at present", "does not answer"
PATIENCE = 5.0  # seconds for each reply; a pin waits for a disk for two of them


@dataclass(frozen=True, slots=True)
class Group:
    """The workers: how many there should be, the numbers of those that serve and that exist."""

    wanted: int
    serving: Callable[[], Sequence[int]]
    alive: Callable[[], Sequence[int]]
    directory: Callable[[int], str]  # of a worker's control socket


@dataclass(slots=True)
class Said:
    """What they have said."""

    wanted: int
    facts: dict[int, Facts] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def workers(self) -> dict[str, Any]:
        """Return who has answered, in words and numbers."""
        return workers_words(len(self.facts), self.wanted, self.missing | self.refused)

    def check(self) -> None:
        """Raise `ControlError` if none of them has done it."""
        if not self.facts:
            why = next(iter(self.refused.values()), self.workers()["words"])
            raise ControlError(why)


async def ask_all(group: Group, verb: str, arguments: Mapping[str, Any]) -> Said:
    """Return what all that serve say to one request."""
    said = Said(group.wanted)
    numbers = group.serving()
    for number in range(1, group.wanted + 1):
        if number not in numbers:
            said.missing[number] = NOT_SERVING

    async def ask(number: int) -> None:
        try:
            async for kind, facts in tell(group.directory(number), verb, arguments, PATIENCE):
                if kind == "done":
                    said.facts[number] = facts
        except Silent:
            said.missing[number] = SILENT
        except ControlError as error:
            said.refused[number] = str(error)

    await asyncio.gather(*(ask(number) for number in numbers))
    return said


def merged_verbs(
    group: Group, listening: Sequence[str], process: Callable[[], Facts]
) -> Mapping[str, Verb]:
    """Return the table of verbs for all workers.

    `listening` is where queries are answered, in words; `process` is asked for what a status says
    of the process above them (see `merged_status`).
    """
    changing = asyncio.Lock()

    def instance(arguments: Arguments) -> Facts:
        arguments.end()
        missing = dict.fromkeys(range(1, group.wanted + 1), NOT_SERVING)
        for number in group.serving():
            missing.pop(number, None)
        workers = workers_words(group.wanted - len(missing), group.wanted, missing)
        return {
            "version": __version__, "pid": os.getpid(), "listening": list(listening),
            "workers": workers,
        }  # fmt: skip

    async def explain(arguments: Arguments) -> Facts:
        said = await _checked(group, "explain", arguments.rest())
        return merged_explanation(said.facts, said.workers())

    async def status(arguments: Arguments) -> Facts:
        said = await _checked(group, "status", arguments.rest())
        return merged_status(said.facts, said.workers(), process())

    async def change(verb: str, arguments: Mapping[str, Any]) -> Said:
        async with changing:
            said = await _checked(group, verb, arguments)
            # One that began to serve meanwhile has asked the others before they were told, so it
            # is told afterwards; where it has no socket yet, it will ask those that know.
            starting = {n for n, why in said.missing.items() if why == NOT_SERVING}
            for number in sorted(starting.intersection(group.alive())):
                await _quietly(group.directory(number), verb, arguments)
            return said

    return {
        "instance": Verb(instance),
        "explain": Verb(explain),
        "status": Verb(status),
        **_pin_verbs(group, change),
        **_cache_verbs(group, change),
        "doubt": Verb(_doubt_verb(group, change)),
        **merged_drill_verbs(group),
    }


Change = Callable[[str, Mapping[str, Any]], Awaitable[Said]]


async def _checked(group: Group, verb: str, arguments: Mapping[str, Any]) -> Said:
    said = await ask_all(group, verb, arguments)
    said.check()
    return said


async def _quietly(directory: str, verb: str, arguments: Mapping[str, Any]) -> None:
    try:
        async for _ in tell(directory, verb, arguments, PATIENCE):
            pass
    except ControlError:
        return


def _first(said: Said) -> dict[str, Any]:
    return dict(said.facts[min(said.facts)]) | {"workers": said.workers()}


def _pin_verbs(group: Group, change: Change) -> Mapping[str, Verb]:
    def changed(verb: str) -> Verb:
        async def run(arguments: Arguments) -> Facts:
            said = await change(verb, arguments.rest())
            trouble = next((f["trouble"] for f in said.facts.values() if f["trouble"]), "")
            return _first(said) | {"kept": not trouble, "trouble": trouble}

        return Verb(run)

    async def pins(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        given = arguments.rest()
        names: set[str] = set()
        said = Said(group.wanted)
        async for pin in _items(group, "pins", given, said):
            if pin["name"] not in names:
                names.add(pin["name"])
                yield pin
        yield Last(workers=said.workers())

    return {"pin": changed("pin"), "unpin": changed("unpin"), "pins": Verb(pins)}


async def _items(
    group: Group, verb: str, arguments: Mapping[str, Any], said: Said
) -> AsyncGenerator[Facts, None]:
    """Yield the items of one worker after the other; who answers is noted in `said`.

    Who is known not to answer is not asked. Raises `ControlError` if none of them does.
    """
    numbers = group.serving()
    for number in range(1, group.wanted + 1):
        if number not in numbers:
            said.missing[number] = NOT_SERVING
        if number in said.missing:
            continue
        try:
            async for kind, facts in tell(group.directory(number), verb, arguments, PATIENCE):
                if kind == "item":
                    yield facts
                else:
                    said.facts[number] = facts
        except Silent:
            said.missing[number] = SILENT
        except ControlError as error:
            said.refused[number] = str(error)
    said.check()


def _cache_verbs(group: Group, change: Change) -> Mapping[str, Verb]:
    async def listed(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        """Yield each answer once, with the hits of all.

        All of them know nearly the same. So only the hits of each answer are held here, and the
        answers themselves pass through; what the first does not know is asked for once more.
        """
        given = arguments.rest()
        hits: Counter[tuple[Any, ...]] = Counter()
        said = Said(group.wanted)
        async for facts in _items(group, "cache.list", given | {"records": False}, said):
            hits[entry_id(facts)] += facts["hits"]
        async for facts in _items(group, "cache.list", given, said):
            count = hits.pop(entry_id(facts), None)
            if count is not None:
                yield dict(facts) | {"hits": count}
        yield Last(workers=said.workers())

    async def export(arguments: Arguments) -> AsyncGenerator[Facts, None]:
        said = Said(group.wanted)
        keys: set[bytes] = set()
        async for row in _items(group, "cache.export", arguments.rest(), said):
            key = bytes.fromhex(row["key"])
            if key not in keys:
                keys.add(key)
                yield row
        yield Last(workers=said.workers())

    async def take(arguments: Arguments) -> Facts:
        said = await change("cache.import", arguments.rest())
        best = max(said.facts.values(), key=lambda facts: facts["taken"])
        return dict(best) | {"workers": said.workers()}

    async def purge(arguments: Arguments) -> Facts:
        """Purge twice: what one was told by another while it purged is there again.

        Each counts what it has had itself, so what there is to purge is counted before.
        """
        given = arguments.rest()
        wanted = {name: value for name, value in given.items() if name != "everything"}
        found = {entry_id(f) async for f in _items(group, "cache.list", wanted, Said(group.wanted))}
        said = await change("cache.purge", given)
        count = max(len(found), *(facts["purged"] for facts in said.facts.values()))
        await change("cache.purge", given)
        return {"purged": count, "workers": said.workers()}

    return {
        "cache.list": Verb(listed),
        "cache.export": Verb(export),
        "cache.import": Verb(take),
        "cache.purge": Verb(purge),
    }


def _doubt_verb(group: Group, change: Change) -> Callable[[Arguments], Awaitable[Facts]]:
    async def doubt(arguments: Arguments) -> Facts:
        given = arguments.rest()
        if given.get("decision"):
            said = await change("doubt", given)
        else:
            said = await _checked(group, "doubt", given)
        decided: dict[str, dict[str, Any]] = {}
        zones: dict[str, list[Facts]] = {}
        for facts in said.facts.values():
            for one in facts["decided"]:
                known = decided.setdefault(one["zone"], dict(one))
                known["names"] = max(known["names"], one["names"])
            for zone in facts["zones"]:
                zones.setdefault(zone["name"], []).append(zone)
        return {
            "decided": list(decided.values()),
            "zones": [worst_zone(same) for same in zones.values()],
            "workers": said.workers(),
        }

    return doubt
