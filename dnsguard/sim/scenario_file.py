"""Reads a scenario from its YAML file, or tells every mistake in it.

Each mistake has the key, the file and the line, what stands there and what would be right. What
has been read is then looked at as a whole: keys that have no effect where they stand, upstreams and
names of nobody, an outage without a time before it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dnsguard.config import units
from dnsguard.config.yaml_file import FILE_BYTES_MAX, compose
from dnsguard.errors import ConfigError, Mistake
from dnsguard.sim import scenario_values as values
from dnsguard.sim.scenario import (
    KINDS,
    OF_AN_UPSTREAM,
    Clients,
    Does,
    Event,
    Names,
    Phase,
    Scenario,
    Upstream,
    keys_of,
)

Thing = TypeVar("Thing")
WHAT = "the scenario"  # that mistakes are in

# Keys that mean something beside some words only; elsewhere they would have no effect.
_LINK = ("unreachable", "crashloop")  # nothing gets as far as the server
_ANSWERS = tuple(kind for kind in KINDS if kind not in ("silent", *_LINK))
_DOES_ONLY = {
    "loss": _ANSWERS,
    "median": _ANSWERS,
    "p99": _ANSWERS,
    "capacity": _ANSWERS,
    "queue": _ANSWERS,
    "keep": ("partial",),
    "every": ("crashloop",),
    "up": ("crashloop",),
    "together": ("crashloop",),
}
_TO_NAMES = ("create", "delete", "scale-down", "scale-up", "move")
_DO_ONLY = {"names": _TO_NAMES, "share": _TO_NAMES, "upstream": ("roll",), "for": ("roll",)}


class _Reader:
    """One file and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.mistakes: list[Mistake] = []

    # -- forms ------------------------------------------------------------------------------

    def wrong(self, node: yaml.Node, key: str, value: object, expected: str) -> None:
        place = f"{key} ({self._path}:{node.start_mark.line + 1})"
        self.mistakes.append(Mistake(place, value, expected))

    def pairs(self, node: yaml.Node, key: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """The entries of a section, each once."""
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, key or "the file", "...", "keys with values below it")
            return []
        found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for name, value in node.value:
            text = name.value if isinstance(name, yaml.ScalarNode) else "?"
            if text in found:
                self.wrong(name, _join(key, text), text, "a key once; it stands above")
                continue
            found[text] = text, name, value
        return list(found.values())

    def items(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self.wrong(node, key, "...", "a list: lines that begin with '- '")
        return []

    def unknown(self, name: yaml.Node, key: str, text: str, known: Collection[str]) -> None:
        (near,) = difflib.get_close_matches(text, known, 1, cutoff=0.0)
        self.wrong(name, _join(key, text), text, f"no such key here; the nearest is {near}")

    def value(self, node: yaml.Node, key: str, read: values.Read) -> Any:
        """One value, or None if it cannot be read."""
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, key, "...", "a plain value")
            return None
        try:
            return read(node.value.strip())
        except ValueError as why:
            self.wrong(node, key, node.value, str(why))
            return None

    def several(self, node: yaml.Node, key: str, read: values.Read) -> tuple[Any, ...]:
        return tuple(self.value(item, key, read) for item in self.items(node, key))

    def plain(
        self, cls: type[Thing], node: yaml.Node, key: str, **given: Any
    ) -> tuple[Thing | None, dict[str, yaml.Node]]:
        """A section of plain values as an object of `cls`, and the nodes of what was given.

        None instead of the object if something is wrong with it.
        """
        known = keys_of(cls)
        before = len(self.mistakes)
        nodes: dict[str, yaml.Node] = {}
        for text, name, value in self.pairs(node, key):
            if text not in known:
                self.unknown(name, key, text, known)
                continue
            one, place = known[text], _join(key, text)
            read = one.metadata["read"]
            many = isinstance(one.default, tuple) and not one.default
            nodes[text] = value
            if read is not None:
                given[one.name] = (self.several if many else self.value)(value, place, read)
        self.missing(node, key, known, given | nodes)
        return (None if len(self.mistakes) > before else cls(**given)), nodes

    def missing(
        self, node: yaml.Node, key: str, known: dict[str, Field[Any]], given: Collection[str]
    ) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for name, one in known.items():
            if not {name, one.name} & set(given) and one.default is MISSING:
                why = f"this key; it must be given: {one.metadata['means']}"
                self.wrong(node, _join(key, name), None, why)

    def only(
        self, nodes: dict[str, yaml.Node], key: str, word: str, fitting: dict[str, tuple[str, ...]]
    ) -> None:
        """Keys without effect beside this word."""
        for name, words in fitting.items():
            if name in nodes and word not in words:
                why = f"this key only beside {' or '.join(words)}"
                self.wrong(nodes[name], _join(key, name), _text(nodes[name]), why)

    # -- the parts of a scenario ------------------------------------------------------------

    def scenario(self, root: yaml.Node, name: str) -> Scenario | None:
        known = keys_of(Scenario)
        given: dict[str, Any] = {"name": name}
        nodes: dict[str, yaml.Node] = {}
        for text, key, value in self.pairs(root, ""):
            if text not in known:
                self.unknown(key, "", text, known)
            elif known[text].metadata["read"] is not None:
                given[text] = self.value(value, text, known[text].metadata["read"])
            else:
                nodes[text] = value
        self.missing(root, "", known, given | nodes)
        if "sources" in nodes:
            given["sources"] = self.several(nodes["sources"], "sources", values.url)
            if not given["sources"] and given.get("date") != "none":
                self.wrong(nodes["sources"], "sources", [], "at least one: it has a date")
        if "names" in nodes:
            names, _ = self.plain(Names, nodes["names"], "names")
            if names is not None and not names.services + names.headless + names.external:
                self.wrong(nodes["names"], "names", 0, "services, headless or external names")
            given["names"] = names
        if "clients" in nodes:
            given["clients"] = self.clients(nodes["clients"])
        upstreams = self.upstreams(nodes["upstreams"]) if "upstreams" in nodes else ()
        given["upstreams"] = upstreams
        if "phases" in nodes:
            given["phases"], given["events"] = self.phases(nodes["phases"], upstreams)
        return None if self.mistakes else Scenario(**given)

    def clients(self, node: yaml.Node) -> Clients | None:
        found, _ = self.plain(Clients, node, "clients")
        if found is not None and not found.glibc + found.musl + found.go + found.java:
            self.wrong(node, "clients", 0, "a share above 0 of glibc, musl, go or java")
        return found

    def upstreams(self, node: yaml.Node) -> tuple[Upstream, ...]:
        found = []
        for text, name, value in self.pairs(node, "upstreams"):
            key = f"upstreams.{text}"
            try:
                values.word(text)
            except ValueError as error:
                self.wrong(name, key, text, str(error))
            one, nodes = self.plain(Upstream, value, key, name=text)
            if one is not None and not one.capacity and "queue" in nodes:
                why = "a capacity beside it: without one nothing waits"
                self.wrong(nodes["queue"], f"{key}.queue", _text(nodes["queue"]), why)
            if one is not None:
                self.median(one.median, one.p99, nodes, key)
            found.append(one if one is not None else Upstream(text))
        for group in ("cluster", "external"):
            if not any(one.serves in ("all", group) for one in found):
                self.wrong(node, "upstreams", None, f"one that serves the {group} names, or all")
        return tuple(found)

    def median(
        self, median: float | None, p99: float | None, nodes: dict[str, yaml.Node], key: str
    ) -> None:
        if median is not None and p99 is not None and p99 < median:
            node = nodes.get("p99") or nodes["median"]
            why = "at least the median: 99 of 100 are quicker than this"
            self.wrong(node, f"{key}.p99", units.show_duration(p99), why)

    def phases(
        self, node: yaml.Node, upstreams: tuple[Upstream, ...]
    ) -> tuple[tuple[Phase, ...], tuple[tuple[float, Event], ...]]:
        phases: list[Phase] = []
        events: list[tuple[float, Event]] = []
        begin = 0.0
        for number, item in enumerate(self.items(node, "phases")):
            key = f"phases[{number}]"
            phase, below = self.phase(item, key, begin, upstreams)
            if "events" in below:
                events += self.events(below["events"], f"{key}.events", phase, upstreams)
            if any(phase.name == other.name for other in phases):
                self.wrong(item, f"{key}.name", phase.name, "a name that no phase above has")
            phases.append(phase)
            begin = phase.end
        if not any(phase.outage for phase in phases):
            self.wrong(node, "phases", None, "a phase with 'outage: on', or nothing is wrong")
        elif phases[0].outage and phases[0].seconds:
            why = "a phase before the outage, in which names become known"
            self.wrong(node, "phases[0].outage", True, why)
        if begin > values.LENGTH_MAX:
            self.wrong(node, "phases", units.show_duration(begin), "two weeks in all at the most")
        return tuple(phases), tuple(sorted(events, key=lambda event: event[0]))

    def phase(
        self, node: yaml.Node, key: str, begin: float, upstreams: tuple[Upstream, ...]
    ) -> tuple[Phase, dict[str, yaml.Node]]:
        """A phase and the nodes below it; one that takes no time where it cannot be read."""
        here: list[tuple[yaml.Node, yaml.Node]] = []
        below: dict[str, yaml.Node] = {}
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if getattr(name, "value", None) == "events":
                    below["events"] = value
                else:
                    here.append((name, value))
            node = yaml.MappingNode(node.tag, here, node.start_mark, node.end_mark)
        found, nodes = self.plain(Phase, node, key, begin=begin)
        does: tuple[Does, ...] = ()
        if "does" in nodes:
            does = self.does(nodes["does"], f"{key}.does", upstreams)
        if found is None:
            return Phase(_text(nodes.get("name")) or key, 0.0, "", outage=True, begin=begin), below
        return (
            Phase(
                found.name, found.seconds, found.what, does, found.outage, found.load,
                found.still, begin,
            ),
            below,
        )  # fmt: skip

    def does(self, node: yaml.Node, key: str, upstreams: tuple[Upstream, ...]) -> tuple[Does, ...]:
        found = []
        for number, item in enumerate(self.items(node, key)):
            place = f"{key}[{number}]"
            one, nodes = self.plain(Does, item, place)
            if one is None:
                continue
            self.only(nodes, place, one.does, _DOES_ONLY)
            self.median(one.median, one.p99, nodes, place)
            upstream = self.named(item, f"{place}.upstream", one.upstream, upstreams)
            if upstream is not None and one.replicas > upstream.replicas:
                why = f"at most {upstream.replicas}: {upstream.name} has no more"
                self.wrong(nodes["replicas"], f"{place}.replicas", one.replicas, why)
            found.append(one)
        return tuple(found)

    def named(
        self, node: yaml.Node, key: str, name: str, upstreams: tuple[Upstream, ...]
    ) -> Upstream | None:
        for upstream in upstreams:
            if upstream.name == name:
                return upstream
        known = ", ".join(upstream.name for upstream in upstreams)
        self.wrong(node, key, name, f"one of the upstreams: {known}")
        return None

    def events(
        self, node: yaml.Node, key: str, phase: Phase, upstreams: tuple[Upstream, ...]
    ) -> Iterator[tuple[float, Event]]:
        for number, item in enumerate(self.items(node, key)):
            place = f"{key}[{number}]"
            one, nodes = self.plain(Event, item, place)
            if one is None:
                continue
            self.only(nodes, place, one.do, _DO_ONLY)
            if one.do in OF_AN_UPSTREAM:
                self.named(item, f"{place}.upstream", one.upstream, upstreams)
            elif one.do == "scale-down" and one.names not in ("headless", "cluster", "all"):
                why = "headless: the names of others stay without any pod"
                self.wrong(nodes.get("names", item), f"{place}.names", one.names, why)
            if phase.seconds and one.at > phase.seconds:
                expected = f"within the phase, which lasts {units.show_duration(phase.seconds)}"
                self.wrong(nodes["at"], f"{place}.at", units.show_duration(one.at), expected)
            yield phase.begin + one.at, one


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "..."


def read(path: Path) -> Scenario:
    """Return the scenario in a file. Raises `ConfigError` with every mistake that is in it."""
    reader = _Reader(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            [Mistake("scenario", str(path), f"a readable file ({why})")], WHAT
        ) from None
    if len(content) > FILE_BYTES_MAX:
        expected = f"a file of at most {FILE_BYTES_MAX} bytes"
        raise ConfigError([Mistake("scenario", str(path), expected)], WHAT)
    try:
        root = compose(content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(
            [Mistake("scenario", place, f"valid YAML: {error.problem}")], WHAT
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError([Mistake("scenario", str(path), f"valid YAML: {reason}")], WHAT) from None
    if root is None:
        raise ConfigError([Mistake("scenario", str(path), "a scenario; the file is empty")], WHAT)
    found = reader.scenario(root, path.stem)
    if found is None:
        raise ConfigError(reader.mistakes, WHAT)
    return found
