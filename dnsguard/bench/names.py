"""Which questions are asked and in which order, read from a file or made up.

Files are in dnsperf's format: a name and a type on each line. Made-up names: a plain list, one with
Zipf's popularity (few names get most questions, as in every cache), names that never come twice,
and what a pod's glibc makes of a name by its search list (`ndots:5`). Questions come out in wire
form (RFC 1035 section 4.1.2). Knows no server and no time.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from dnsguard.core import wire
from dnsguard.errors import DnsguardError, WireError

FORMS = "zipf:N[:S], list:N, unique, search:N, search:FILE or a FILE"
SUFFIX = "default.svc.cluster.local"
SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
SEARCH_SUFFIX = "example.com"  # external names are what a search list makes expensive
NDOTS = 5  # what Kubernetes writes into a pod's resolv.conf
NAMES_MAX = 2_000_000  # some 250 octets of memory each
# A drawn order is repeated after so many questions: long enough that its end has left small caches,
# short enough to be drawn within seconds.
ORDER_MIN, ORDER_MAX = 1 << 17, 1 << 21
_CLASS_IN = b"\0\1"
_PLAIN = re.compile(rb"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class BadNames(DnsguardError):
    """The names cannot be read or made: which, and what would be right."""


@dataclass(frozen=True, slots=True)
class Names:
    """Distinct questions in wire form, and which of them is asked at each turn.

    With `unique` there is one question, whose first label is to be made anew each time.
    """

    questions: Sequence[bytes]
    order: Sequence[int]
    unique: bool = False


def read_names(
    spec: str, qtype: str, suffix: str | None = None, search: Sequence[str] = SEARCH, seed: int = 1
) -> Names:
    """Read `spec`, one of FORMS. Raises BadNames."""
    kind, found, rest = spec.partition(":")
    number = type_number(qtype)
    if spec == "unique":
        return Names([question(suffix or SUFFIX, number)], [0], unique=True)
    if found and kind == "list":
        names = made_up(_count(rest, spec), suffix or SUFFIX)
        return _in_turn(question(name, number) for name in names)
    if found and kind == "zipf":
        size, found, exponent = rest.partition(":")
        names = made_up(_count(size, spec), suffix or SUFFIX)
        questions = [question(name, number) for name in names]
        return Names(questions, zipf(len(questions), _exponent(exponent or "1", spec), seed))
    if found and kind == "search":
        return _in_turn(_searched(rest, suffix, search))
    return _in_turn(question(name, number) for name, number in from_file(Path(spec), number))


def made_up(count: int, suffix: str) -> Iterator[str]:
    """`n0`, `n1`, … under `suffix`."""
    under = suffix.strip(".")
    return (f"n{number}.{under}" for number in range(count))


def zipf(size: int, exponent: float, seed: int) -> Sequence[int]:
    """Draw an order in which number k comes with a frequency of 1 / (k + 1) ** exponent."""
    weights = list(accumulate((k + 1) ** -exponent for k in range(size)))
    turns = min(max(4 * size, ORDER_MIN), ORDER_MAX)
    return array("I", random.Random(seed).choices(range(size), cum_weights=weights, k=turns))


def fan_out(name: str, search: Sequence[str] = SEARCH, ndots: int = NDOTS) -> list[str]:
    """The names that glibc asks for in turn until one exists (resolv.conf(5), ndots and search)."""
    if name.endswith("."):
        return [name]
    if name.count(".") >= ndots:
        return [name]  # asked as it is; the search list only follows when that fails
    return [*(f"{name}.{suffix.strip('.')}" for suffix in search), name]


def from_file(path: Path, default: int) -> Iterator[tuple[str, int]]:
    """Names and types of a file in dnsperf's format; `;` and `#` begin a comment."""
    numbers: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line_number, line in enumerate(lines, 1):
                words = line.split()
                if not words or words[0][0] in ";#":
                    continue
                name, kind = words[0], words[1] if len(words) > 1 else ""
                if kind and kind not in numbers:
                    try:
                        numbers[kind] = type_number(kind)
                    except BadNames as error:
                        raise BadNames(f"{path}, line {line_number}: {error}") from None
                yield name, numbers[kind] if kind else default
    except OSError as error:
        hint = f" (--names takes {FORMS})" if isinstance(error, FileNotFoundError) else ""
        raise BadNames(f"The names in {path} cannot be read: {error.strerror}{hint}.") from None
    except UnicodeDecodeError:
        raise BadNames(f"{path} is not a text file of names and types.") from None


def type_number(text: str) -> int:
    """`AAAA`, `TYPE65`, `65` in any case. Raises BadNames."""
    from dnslib import QTYPE

    upper = text.upper()
    number = upper.removeprefix("TYPE")
    if upper in QTYPE.reverse:
        return int(QTYPE.reverse[upper])
    if number.isascii() and number.isdecimal() and 0 < int(number) < 65536:
        return int(number)
    raise BadNames(f"{text!r} is not a record type: write A, AAAA, SRV, … or TYPE65.")


def question(name: str, number: int) -> bytes:
    """Name, type and class IN in wire form. Raises BadNames."""
    octets = name.lower().removesuffix(".").encode("ascii", "replace")
    if _PLAIN.fullmatch(octets) and len(octets) < wire.NAME_MAX - 1:
        # Files may have a million names: this is ten times as fast as reading letter by letter.
        labels = b"".join(bytes((len(label),)) + label for label in octets.split(b".")) + b"\0"
    else:
        try:
            labels = wire.name_octets(name)
        except WireError as error:
            raise BadNames(f"{error}.") from None
    return labels + wire.U16.pack(number) + _CLASS_IN


def _searched(what: str, suffix: str | None, search: Sequence[str]) -> Iterator[bytes]:
    """A and AAAA for each name of the fan-out, as getaddrinfo asks for both."""
    if what.isascii() and what.isdecimal():
        names: Iterable[str] = made_up(_count(what, f"search:{what}"), suffix or SEARCH_SUFFIX)
    else:
        names = (name for name, _ in from_file(Path(what), 1))
    for name in names:
        for longer in fan_out(name, search):
            yield question(longer, 1)
            yield question(longer, 28)


def _in_turn(questions: Iterable[bytes]) -> Names:
    found = []
    for one in questions:
        found.append(one)
        if len(found) > NAMES_MAX:
            raise BadNames(f"These are more than {NAMES_MAX:,} names, the most that can be asked.")
    if not found:
        raise BadNames("There are no names to ask for: the file has none.")
    return Names(found, range(len(found)))


def _count(text: str, spec: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() else 0
    if not 0 < count <= NAMES_MAX:
        raise BadNames(f"{spec!r}: the number of names is to be from 1 to {NAMES_MAX:,}.")
    return count


def _exponent(text: str, spec: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise BadNames(f"{spec!r}: the exponent is to be a number from 0 to 10, as in zipf:1000:1.")
    return value
