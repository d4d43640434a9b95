"""An outage as data: who asks, who answers, what goes wrong and when; read from a YAML file.

A scenario says nothing of the caches that are put through it. What stands in a file is documented
in docs/scenarios.md, which a test holds against the fields below. Every mistake in a file is told,
with its line and what would be right. Durations are seconds, shares are between 0 and 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dnsguard.config import units
from dnsguard.config.yaml_file import FILE_BYTES_MAX, compose
from dnsguard.errors import ConfigError, Mistake

GROUPS = ("all", "cluster", "services", "headless", "external")
KINDS = (
    "ok", "silent", "refused", "unreachable", "servfail", "nxdomain", "empty", "partial",
    "crashloop", "ports",
)  # fmt: skip
DEEDS = ("create", "delete", "scale-down", "scale-up", "move", "restart", "kill", "new-node")
OF_THE_CACHE = ("restart", "kill", "new-node")
MODELS = ("glibc", "musl", "go", "java")
SERVES = ("all", "cluster", "external")
LENGTH_MAX = 14 * 86400.0
PEOPLE_MAX = 100_000

Thing = TypeVar("Thing")
Read = Callable[[str], Any]


# -- how a text becomes a value -------------------------------------------------------------


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("some text")
    return " ".join(text.split())


def _share(text: str) -> float:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError("a share such as 30% or 0.3")
    return value


def _shares(text: str) -> tuple[float, float]:
    """One share, or two with dots between: from the begin of the phase to its end."""
    first, dots, last = text.partition("..")
    return (_share(first), _share(last)) if dots else (_share(first), _share(first))


def _number(low: float, high: float) -> Read:
    def read(text: str) -> float:
        value = units.read_number(text)
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return read


def _count(low: int, high: int) -> Read:
    def read(text: str) -> int:
        value = units.read_integer(text)
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


def _duration(low: float, high: float = LENGTH_MAX) -> Read:
    def read(text: str) -> float:
        value = units.read_duration(text)
        if not low <= value <= high:
            bounds = units.show_duration(low), units.show_duration(high)
            raise ValueError(f"a duration from {bounds[0]} to {bounds[1]}")
        return value

    return read


def _one_of(*words: str) -> Read:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return read


def _key(read: Read | None, means: str, default: Any = MISSING) -> Any:
    """A field that a file may set; `read` None: it is a section or a list of its own."""
    metadata = {"read": read, "means": means}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


# -- what a scenario is made of -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Names:
    """What there is to be found. Names are drawn by a Zipf law over all groups together."""

    services: int = _key(_count(0, 100_000), "Services with one stable address", 200)
    headless: int = _key(_count(0, 10_000), "headless Services: addresses of pods", 40)
    pods: int = _key(_count(1, 50), "pods of each headless Service", 3)
    external: int = _key(_count(0, 10_000), "names outside of the cluster", 40)
    absent: int = _key(_count(0, 10_000), "names outside that are asked for and do not exist", 0)
    namespaces: int = _key(_count(1, 1000), "namespaces that the Services are in", 8)
    ttl: float = _key(_duration(0, 86400), "TTL of the cluster's records", 30.0)
    external_ttl: float = _key(_duration(0, 86400), "TTL of the others", 60.0)
    negative_ttl: float = _key(_duration(0, 86400), "TTL of every denial", 30.0)
    popularity: float = _key(_number(0, 3), "exponent of the Zipf law; 0: all alike", 1.0)
    churn: float = _key(_duration(0), "between two moves of a pod, over all; 0s: none", 0.0)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that caches forward to."""

    name: str
    serves: str = _key(_one_of(*SERVES), "the names it answers", "all")
    replicas: int = _key(_count(1, 20), "how many servers it is", 1)
    service: bool = _key(
        units.read_switch, "all behind one address, a flow to each (on), or an address each", True
    )
    median: float = _key(_duration(0, 60), "median round trip", 0.001)
    p99: float = _key(_duration(0, 60), "its 99th percentile", 0.005)
    capacity: float = _key(_number(0, 1e7), "queries a second of one replica; 0: no end", 0.0)
    queue: int = _key(_count(0, 1_000_000), "queries that wait there before more are lost", 1000)


@dataclass(frozen=True, slots=True)
class Does:
    """What an upstream does during a phase; the first that fits a question holds."""

    upstream: str = _key(_text, "its name above")
    does: str = _key(_one_of(*KINDS), "see below", "ok")
    names: str = _key(_one_of(*GROUPS), "only to questions for these names", "all")
    share: tuple[float, float] = _key(
        _shares, "only to this share of the names; `0%..100%` grows over the phase", (1.0, 1.0)
    )
    replicas: int = _key(_count(0, 20), "only the first so many replicas; 0: all", 0)
    loss: float = _key(_share, "share of the packets that get lost", 0.0)
    median: float | None = _key(_duration(0, 60), "median round trip, instead of its own", None)
    p99: float | None = _key(_duration(0, 60), "and its 99th percentile", None)
    every: float = _key(_duration(0), "of `crashloop`: from one start to the next", 60.0)
    up: float = _key(_share, "of `crashloop`: the share of that time in which it answers", 0.3)
    capacity: float | None = _key(_number(0, 1e7), "instead of its own", None)
    queue: int | None = _key(_count(0, 1_000_000), "instead of its own", None)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at an instant, to the cluster or to the cache under test."""

    at: float = _key(_duration(0), "after the phase's begin")
    do: str = _key(_one_of(*DEEDS), "see below")
    names: str = _key(_one_of(*GROUPS), "to these names (not for the cache)", "services")
    share: float = _key(_share, "to this share of them", 1.0)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time; `begin` and `end` are seconds since the scenario's start."""

    name: str
    begin: float
    end: float
    what: str
    outage: bool
    does: tuple[Does, ...] = ()


@dataclass(frozen=True, slots=True)
class Clients:
    """Who asks. The shares of the resolver libraries need not add up: they are weights."""

    count: int = _key(_count(1, PEOPLE_MAX), "how many, all of one node or pod", 100)
    rate: float = _key(_number(0.001, 1e6), "look-ups a second of all together", 100.0)
    glibc: float = _key(_share, "how many have glibc", 0.5)
    musl: float = _key(_share, "how many have musl", 0.2)
    go: float = _key(_share, "how many are Go's own resolver", 0.2)
    java: float = _key(_share, "how many are a JVM, which keeps 30 s itself", 0.1)
    search: bool = _key(units.read_switch, "ndots:5 and the search list of a pod", True)
    retries: int = _key(_count(0, 20), "how often a failed look-up is begun again", 0)
    retry_after: float = _key(_duration(0, 600), "and after how long", 1.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole outage. `name` is the file's name without its ending."""

    name: str
    title: str = _key(_text, "what it is called")
    date: str = _key(_text, "when it was; `none` for one that happens every day")
    summary: str = _key(_text, "one line for a list")
    known: str = _key(_text, "what the sources say")
    assumed: str = _key(_text, "what they do not say and is put here")
    sources: tuple[str, ...] = _key(None, "where that is said")
    upstreams: tuple[Upstream, ...] = _key(None, "who answers, by name")
    phases: tuple[Phase, ...] = _key(None, "what happens, in order")
    names: Names = field(
        default=Names(), metadata={"read": None, "means": "what there is to be found"}
    )
    clients: Clients = field(default=Clients(), metadata={"read": None, "means": "who asks"})
    events: tuple[tuple[float, Event], ...] = ()  # seconds since the start, in order

    @property
    def length(self) -> float:
        """Seconds from the start to the end."""
        return self.phases[-1].end

    def phase(self, at: float) -> Phase:
        """The phase at an instant."""
        return next((p for p in self.phases if at < p.end), self.phases[-1])


def keys_of(cls: type[Any]) -> dict[str, Field[Any]]:
    """The keys that a file may set of one of the classes above; metadata says what they mean."""
    return {f.name: f for f in fields(cls) if f.metadata}


# -- reading --------------------------------------------------------------------------------

_PHASE = ("name", "for", "what", "outage", "does", "events")


class _Reader:
    """One file and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.mistakes: list[Mistake] = []

    def wrong(self, node: yaml.Node, key: str, value: object, expected: str) -> None:
        place = f"{key} ({self._path}:{node.start_mark.line + 1})"
        self.mistakes.append(Mistake(place, value, expected))

    def pairs(self, node: yaml.Node, key: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """The entries of a section, each once."""
        if not isinstance(node, yaml.MappingNode):
            self.wrong(node, key or "the file", "...", "keys with values below it")
            return []
        found: list[tuple[str, yaml.Node, yaml.Node]] = []
        for name, value in node.value:
            text = name.value if isinstance(name, yaml.ScalarNode) else "?"
            if any(text == other for other, _, _ in found):
                self.wrong(name, f"{key}.{text}".lstrip("."), text, "a key once; it stands above")
                continue
            found.append((text, name, value))
        return found

    def items(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self.wrong(node, key, "...", "a list: lines that begin with '- '")
        return []

    def unknown(self, name: yaml.Node, key: str, text: str, known: list[str]) -> None:
        near = difflib.get_close_matches(text, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        self.wrong(name, f"{key}.{text}".lstrip("."), text, f"no such key here; {hint}")

    def value(self, node: yaml.Node, key: str, read: Read) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(node, key, "...", "a plain value")
            return None
        try:
            return read(node.value)
        except ValueError as why:
            self.wrong(node, key, node.value, str(why))
            return None

    def plain(self, cls: type[Thing], node: yaml.Node, key: str, **given: Any) -> Thing | None:
        """A section of plain values as an object of `cls`; None if something is wrong with it."""
        known = keys_of(cls)
        before = len(self.mistakes)
        for text, name, value in self.pairs(node, key):
            if text not in known:
                self.unknown(name, key, text, list(known))
            else:
                given[text] = self.value(value, f"{key}.{text}", known[text].metadata["read"])
        self.missing(node, key, known, given)
        return None if len(self.mistakes) > before else cls(**given)

    def missing(
        self, node: yaml.Node, key: str, known: dict[str, Field[Any]], given: dict[str, Any]
    ) -> None:
        for name, one in known.items():
            if name not in given and one.default is MISSING:
                self.wrong(node, f"{key}.{name}".lstrip("."), "", one.metadata["means"])

    # -- the parts of a scenario ------------------------------------------------------------

    def scenario(self, root: yaml.Node, name: str) -> Scenario | None:
        known = keys_of(Scenario)
        given: dict[str, Any] = {"name": name}
        nodes: dict[str, yaml.Node] = {}
        for text, key, value in self.pairs(root, ""):
            if text not in known:
                self.unknown(key, "", text, list(known))
            elif known[text].metadata["read"] is not None:
                given[text] = self.value(value, text, known[text].metadata["read"])
            else:
                nodes[text] = value
        self.missing(root, "", known, given | nodes)
        if "sources" in nodes:
            items = self.items(nodes["sources"], "sources")
            given["sources"] = tuple(self.value(item, "sources", _text) for item in items)
        for text, cls in (("names", Names), ("clients", Clients)):
            if text in nodes:
                given[text] = self.plain(cls, nodes[text], text)
        upstreams = self.upstreams(nodes["upstreams"]) if "upstreams" in nodes else ()
        given["upstreams"] = upstreams
        if "phases" in nodes:
            given["phases"], given["events"] = self.phases(nodes["phases"], upstreams)
        return None if self.mistakes else Scenario(**given)

    def upstreams(self, node: yaml.Node) -> tuple[Upstream, ...]:
        found = []
        for text, _, value in self.pairs(node, "upstreams"):
            one = self.plain(Upstream, value, f"upstreams.{text}", name=text)
            found.append(one if one is not None else Upstream(text))
        for group in ("cluster", "external"):
            if not any(one.serves in ("all", group) for one in found):
                self.wrong(node, "upstreams", "", f"one that serves the {group} names, or all")
        return tuple(found)

    def phases(
        self, node: yaml.Node, upstreams: tuple[Upstream, ...]
    ) -> tuple[tuple[Phase, ...], tuple[tuple[float, Event], ...]]:
        phases: list[Phase] = []
        events: list[tuple[float, Event]] = []
        begin = 0.0
        for number, item in enumerate(self.items(node, "phases")):
            key = f"phases[{number}]"
            parts = {text: (name, value) for text, name, value in self.pairs(item, key)}
            for text, (name, _) in parts.items():
                if text not in _PHASE:
                    self.unknown(name, key, text, list(_PHASE))
            for text in ("name", "for", "what"):
                if text not in parts:
                    self.wrong(item, f"{key}.{text}", "", "every phase has one")
            read: dict[str, Read] = {
                "name": _text, "what": _text, "for": _duration(0.1), "outage": units.read_switch,
            }  # fmt: skip
            plain = {
                text: self.value(parts[text][1], f"{key}.{text}", how)
                for text, how in read.items()
                if text in parts
            }
            does = self.does(parts["does"][1], f"{key}.does", upstreams) if "does" in parts else ()
            length = plain.get("for") or 0.0
            if "events" in parts:
                events += self.events(parts["events"][1], f"{key}.events", begin, length)
            end = begin + length
            outage = bool(plain.get("outage", False))
            phases.append(
                Phase(str(plain.get("name")), begin, end, str(plain.get("what")), outage, does)
            )
            begin = end
        if not phases:
            self.wrong(node, "phases", "", "at least one phase")
        elif begin > LENGTH_MAX:
            self.wrong(node, "phases", f"{begin:g}s", "two weeks in all at the most")
        return tuple(phases), tuple(sorted(events, key=lambda event: event[0]))

    def does(self, node: yaml.Node, key: str, upstreams: tuple[Upstream, ...]) -> tuple[Does, ...]:
        found = []
        known = [upstream.name for upstream in upstreams]
        for number, item in enumerate(self.items(node, key)):
            one = self.plain(Does, item, f"{key}[{number}]")
            if one is None:
                continue
            if one.upstream not in known:
                expected = f"one of the upstreams: {', '.join(known)}"
                self.wrong(item, f"{key}[{number}].upstream", one.upstream, expected)
            found.append(one)
        return tuple(found)

    def events(
        self, node: yaml.Node, key: str, begin: float, length: float
    ) -> list[tuple[float, Event]]:
        found = []
        for number, item in enumerate(self.items(node, key)):
            one = self.plain(Event, item, f"{key}[{number}]")
            if one is None:
                continue
            if length and one.at > length:
                expected = f"within the phase, which lasts {units.show_duration(length)}"
                self.wrong(item, f"{key}[{number}].at", units.show_duration(one.at), expected)
            found.append((begin + one.at, one))
        return found


def read(path: Path) -> Scenario:
    """Return the scenario in a file. Raises `ConfigError` with every mistake that is in it."""
    reader = _Reader(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError([Mistake("scenario", str(path), f"a readable file ({why})")]) from None
    if len(content) > FILE_BYTES_MAX:
        expected = f"a file of at most {FILE_BYTES_MAX} bytes"
        raise ConfigError([Mistake("scenario", str(path), expected)])
    try:
        root = compose(content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError([Mistake("scenario", place, f"valid YAML: {error.problem}")]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError([Mistake("scenario", str(path), f"valid YAML: {reason}")]) from None
    if root is None:
        raise ConfigError([Mistake("scenario", str(path), "a scenario; the file is empty")])
    found = reader.scenario(root, path.stem)
    if found is None:
        raise ConfigError(reader.mistakes)
    return found
