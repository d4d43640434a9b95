"""Reads and plays the scenarios in `scenarios/*.txt`: settings, upstreams, questions, expectations.

The language is described in `scenarios/README.md`. A scenario is played in virtual time in a
`World`, so everything that `Watch` promises holds in it as well. What goes wrong is reported with
the file's name and the line's number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dns.flags
import dns.rdatatype

from dnsguard.config.keys import Given, Origin
from dnsguard.config.loading import load
from dnsguard.config.units import read_duration
from dnsguard.core.explain import explain
from dnsguard.core.pins import Pin
from dnsguard.core.wire import name_octets
from tests.core.watch import Asked
from tests.core.world import START, World

FOLDER = Path(__file__).parent / "scenarios"
DEFAULT_UPSTREAM = "10.0.0.53"
INSTANT = 1e-6  # seconds: what rounding makes of "at once"


class Unmet(AssertionError):
    """A line of a scenario that did not come true, or that makes no sense."""


@dataclass(frozen=True)
class Line:
    """One statement, and where it stands."""

    place: str
    words: tuple[str, ...]


def read(text: str, name: str) -> list[Line]:
    """The statements of a scenario; comments and empty lines are left out."""
    lines = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = tuple(raw.partition("#")[0].split())
        if words:
            lines.append(Line(f"{name}:{number}: {' '.join(words)}", words))
    return lines


def play(text: str, name: str) -> World:
    """Play a scenario to its end; raise `Unmet` at the first line that does not come true."""
    lines = read(text, name)
    player = Player([line for line in lines if line.words[0] == "set"])
    for line in lines:
        try:
            player.do(line.words)
        except AssertionError as why:
            raise Unmet(f"{line.place}\n    {why}") from why
        except (KeyError, IndexError, ValueError) as why:
            raise Unmet(f"{line.place}\n    not understood: {why!r}") from why
    player.world.finish()
    return player.world


class Words:
    """The rest of a statement, taken word by word."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = list(words)

    def next(self) -> str:
        return self._words.pop(0)

    def end(self) -> bool:
        return not self._words

    def option(self, word: str) -> str | None:
        """Take `word` and what follows it, wherever they stand; None if it is not there."""
        if word not in self._words:
            return None
        at = self._words.index(word)
        value = self._words[at + 1]
        del self._words[at : at + 2]
        return value

    def flag(self, word: str) -> bool:
        """Take `word`, wherever it stands; False if it is not there."""
        found = word in self._words
        if found:
            self._words.remove(word)
        return found

    def rest(self) -> list[str]:
        rest, self._words = self._words, []
        return rest


class Player:
    """Does what the lines say, one after the other."""

    def __init__(self, settings: list[Line]) -> None:
        given = []
        for line in settings:
            _, key, *values = line.words
            value = values[0] if len(values) == 1 else tuple(values)
            given.append(Given(key, value, Origin("flag", line.place)))
        self.world = World(load(given, system_resolvers=lambda: (DEFAULT_UPSTREAM,)).policy)
        self._asked: dict[str, list[Asked]] = {}
        self._counted: dict[tuple[str, bool], int] = {}
        self._verbs: dict[str, Callable[[Words], None]] = {
            "data": self._data,
            "gone": self._gone,
            "upstream": self._upstream,
            "at": lambda words: self.world.advance_to(START + read_duration(words.next())),
            "pass": lambda words: self.world.advance(read_duration(words.next())),
            "ask": self._ask,
            "hammer": self._hammer,
            "expect": self._expect,
            "packets": self._packets,
            "zone": self._zone,
            "explain": self._explain,
            "pin": self._pin,
            "unpin": self._unpin,
            "said": self._said,
            "stop": lambda words: self.world.stop(),
        }

    def do(self, line: tuple[str, ...]) -> None:
        words = Words(line[1:])
        if line[0] == "set":
            return
        self._verbs[line[0]](words)
        assert words.end(), f"what does {words.rest()} mean here?"

    # -- the stage --------------------------------------------------------------------------

    def _data(self, words: Words) -> None:
        name, rtype, ttl = words.next(), words.next(), int(words.next())
        values = words.rest()
        for each in _names(name):
            self.world.put(each, rtype, ttl, *values)

    def _gone(self, words: Words) -> None:
        for name in _names(words.next()):
            self.world.drop(name)

    def _upstream(self, words: Words) -> None:
        at = words.next()
        kind = words.next()
        rtt = read_duration(words.option("rtt") or "1ms")
        loss = float((words.option("loss") or "0%").removesuffix("%")) / 100
        suffix = words.option("for") or "."
        self.world.behave(kind, rtt, loss, suffix, "" if at == "all" else f"{at}:53")

    # -- clients ----------------------------------------------------------------------------

    def _ask(self, words: Words) -> None:
        name = words.next()
        over = read_duration(words.option("over") or "0s")
        tag = words.option("as") or ""
        times = int(words.option("times") or "1")
        size = words.option("size")
        plain, do, cd = words.flag("plain"), words.flag("do"), words.flag("cd")
        stream = words.flag("tcp")
        rtype = "A" if words.end() else words.next()
        edns = None if plain else int(size or "1232")
        asked = self._asked[tag] = []
        names = [each for each in _names(name) for _ in range(times)]
        for each in names:
            asked.append(self.world.ask(each, rtype, edns, do, cd, stream=stream))
            if over:
                self.world.advance(over / len(names))

    def _hammer(self, words: Words) -> None:
        """Ask again and again; what comes back is held to what holds always."""
        name = words.next()
        every, duration = read_duration(words.option("every") or ""), words.option("for") or ""
        fresh = words.flag("fresh")
        rtype = "A" if words.end() else words.next()
        until = self.world.now + read_duration(duration)
        while self.world.now < until:
            asked = self.world.ask(name, rtype)
            self._asked[""] = [asked]
            self.world.advance(every)
            assert not fresh or asked.read().ede == (), f"{asked.read()} at {asked.at - START:.3f}"

    # -- expectations -----------------------------------------------------------------------

    def _expect(self, words: Words) -> None:
        tag = words.option("from") or ""
        within = read_duration(words.option("within") or "0s") + INSTANT
        after = read_duration(words.option("after") or "0s") - INSTANT
        ttl, ede, text = words.option("ttl"), words.option("ede"), words.option("text")
        cut, ad = words.flag("cut"), words.flag("ad")
        rcode, data = words.next(), sorted(words.rest())
        assert self._asked[tag], "nothing was asked"
        for asked in self._asked[tag]:
            self.world.until_answered(asked)
            found = asked.read()
            what = f"{found.rcode} {' '.join(found.data)} TTLs {found.ttls} EDE {found.ede}"
            assert found.rcode == rcode, what
            assert data in ([item.lower() for item in found.data], ["any"]), what
            assert ttl is None or set(found.ttls) == {int(ttl)}, what
            codes = [code for code, _ in found.ede]
            assert codes == ([] if ede is None else [int(ede)]), what
            assert text is None or any(text in t for _, t in found.ede), what
            assert cut is bool(found.flags & dns.flags.TC), what
            assert ad is bool(found.flags & dns.flags.AD), what
            assert after <= asked.wait <= within, f"answered after {asked.wait:.4f} s"

    def _packets(self, words: Words) -> None:
        """Packets to upstreams since the last time this was asked."""
        to, probes = words.option("to"), not words.flag("unprobed")
        place = (f"{to}:53" if to else "", probes)
        most = words.flag("atmost")
        wanted = int(words.next())
        total = self.world.packets(*place)
        found = total - self._counted.get(place, 0)
        self._counted[place] = total
        assert found == wanted or (most and found < wanted), f"there were {found}"

    def _zone(self, words: Words) -> None:
        name, state = words.next(), words.next()
        zones = {zone.name: zone for zone in self.world.engine.zones.all}
        found = zones[name].state
        assert found == state, f"the zone is in {found}"

    def _pin(self, words: Words) -> None:
        name, ttl, now = words.next(), int(words.option("ttl") or "30"), self.world.now
        until = now + read_duration(words.option("for") or "1h")
        assert self.world.engine.pin(Pin(name, tuple(words.rest()), ttl, now, until))

    def _unpin(self, words: Words) -> None:
        assert self.world.engine.pins.remove(name_octets(words.next())), "it is not pinned"

    def _explain(self, words: Words) -> None:
        """Where the answer to a question would come from, and words that say so."""
        name, rtype, source = words.next(), words.next(), words.next()
        text = " ".join(words.rest())
        world = self.world
        found = explain(world.engine, name, dns.rdatatype.from_text(rtype), world.now)
        assert found.source == source, f"it is {found.source}: {dict(found.words)}"
        assert any(text in sentence for sentence in found.words.values()), dict(found.words)

    def _said(self, words: Words) -> None:
        """A notice with this text was made so many times."""
        times = int(words.next())
        found = len(self.world.said(" ".join(words.rest())))
        assert found == times, f"it was said {found} times"


def _names(text: str) -> list[str]:
    """`web[3].local` stands for web0.local, web1.local and web2.local."""
    head, bracket, rest = text.partition("[")
    if not bracket:
        return [text]
    count, _, tail = rest.partition("]")
    return [f"{head}{index}{tail}" for index in range(int(count))]
