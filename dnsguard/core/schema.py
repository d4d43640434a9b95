"""Names that an outage may deny at once, because they cannot exist or are known not to.

With `ndots:5` a name is tried under each search suffix first, and a musl client gives up the whole
lookup if one of these steps fails with anything but "no such name". While a zone is in outage a
step that was never asked before has no answer in the cache; made up is one only where it cannot
deny what is there:

- the name has a shape that the Kubernetes DNS schema (its DNS specification, 1.1.0) does not have;
- the name, its service or its namespace was found missing not long before (RFC 8020: what is below
  a name that does not exist does not exist either);
- a later step of the same search is known to exist, so that this one was only on the way to it;
- the name has addresses of the other family: then there is no such record, where there is a name.

Everything else could exist, and fails; so does what was there once and has died.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

from dnsguard.core.answer import Kind
from dnsguard.core.entry import Entry
from dnsguard.core.policy import Kubernetes
from dnsguard.core.wire import KEY_TAILS, NOERROR, NXDOMAIN, U16, name_octets
from dnsguard.core.zones import ZoneState

# Seconds before an outage within which a name was found missing. A new Service is usually asked for
# within minutes of being made, and was then found; what was missing an hour ago says little.
MISSING_SECONDS = 3600.0

SVC, POD = b"svc", b"pod"
SVC_SUFFIX = bytes((len(SVC),)) + SVC
SVC_LABELS_MAX = 4  # _port._protocol.service.namespace before `svc`
PROTOCOLS = (b"tcp", b"udp", b"sctp")  # of Service ports
# What may stand beside svc and pod: one label, such as dns-version, or a host that an operator has
# added; and the name that CoreDNS gives itself in its SOA.
ITSELF = [b"ns", b"dns"]
_A, _AAAA = 1, 28
_SIBLINGS = {_A: _AAAA, _AAAA: _A}


class Denial(NamedTuple):
    """An answer made up: its rcode, why, and the offset in the name of the zone that says so."""

    rcode: int
    why: str
    apex: int


class Schema:
    """What may be denied under one cluster domain, by what `index` remembers."""

    def __init__(self, domain: str, index: Mapping[bytes, Entry]) -> None:
        self._domain = name_octets(domain)
        self._index = index

    def denial(self, key: bytes, zone: ZoneState, now: float) -> Denial | None:
        """Return what to say of a name of which nothing usable is remembered, or None."""
        name, qtype = key[:-5], key[-5] << 8 | key[-4]
        if key[-3:-1] != b"\0\1":
            return None  # a class of its own is no Kubernetes name
        before = self._index.get(key)
        if before is not None and before.kind is Kind.POSITIVE:
            return None  # dead, but it shows that there is such a name
        sibling = _SIBLINGS.get(qtype)
        if sibling is not None and self._stands(name, (sibling,), now):
            return Denial(NOERROR, "it has addresses of the other family", 0)
        since = (zone.outage_since if zone.outage else now) - MISSING_SECONDS
        if self._missing(name, since, now):
            return Denial(NXDOMAIN, "it was found missing", 0)
        starts = self._starts(name)
        if not starts:
            return None
        labels = [name[start + 1 : start + 1 + name[start]] for start in starts]
        apex = len(name) - len(self._domain)
        if impossible(labels):
            return Denial(NXDOMAIN, "the Kubernetes DNS schema has no such name", apex)
        if labels[-1] in (SVC, POD):
            for start in starts[1:-1][-2:]:  # its service, its namespace
                if self._missing(name[start:], since, now):
                    return Denial(NXDOMAIN, "what it belongs to was found missing", apex)
        if self._on_the_way(name, labels, starts, now):
            return Denial(NXDOMAIN, "a name further on in the same search is known", apex)
        return None

    def _starts(self, name: bytes) -> list[int]:
        """Return where the labels before the cluster domain start; none for other names."""
        starts, position = [], 0
        end = len(name) - len(self._domain)
        while position < end:
            starts.append(position)
            position += name[position] + 1
        return starts if position == end and name[end:] == self._domain else []

    def _missing(self, name: bytes, since: float, now: float) -> bool:
        for qtype in (_A, _AAAA):
            entry = self._find(name, qtype, now)
            if entry is not None and entry.kind is Kind.NXDOMAIN and entry.stored >= since:
                return True
        return False

    def _on_the_way(self, name: bytes, labels: list[bytes], starts: list[int], now: float) -> bool:
        """True if a client that searches would come to a known name after this one.

        The search list of a pod is `namespace.svc.D`, `svc.D`, `D` and at last nothing.
        """
        domain = len(name) - len(self._domain)
        walks: list[tuple[int, tuple[bytes, ...]]] = [(domain, (b"\0",))]
        if labels[-1] == SVC:
            walks.append((starts[-1], (self._domain, b"\0")))
            if len(starts) > 2:
                walks.append((starts[-2], (SVC_SUFFIX + self._domain, self._domain, b"\0")))
        for end, suffixes in walks:
            searched = name[:end]  # one label alone is a host of nobody's: not what is searched for
            if len(searched) > searched[0] + 1 and any(
                self._stands(searched + suffix, (_A, _AAAA), now) for suffix in suffixes
            ):
                return True
        return False

    def _stands(self, name: bytes, types: tuple[int, ...], now: float) -> bool:
        """True if the name is known to have records of one of these types."""
        for qtype in types:
            entry = self._find(name, qtype, now)
            if entry is not None and entry.kind is Kind.POSITIVE:
                return True
        return False

    def _find(self, name: bytes, qtype: int, now: float) -> Entry | None:
        """Return what may still be served of a name, to whomever it was said."""
        question = name + U16.pack(qtype) + b"\0\1"
        for tail in KEY_TAILS:
            entry = self._index.get(question + tail)
            if entry is not None and now < entry.dies():
                return entry
        return None


def schema_of(kubernetes: Kubernetes, index: Mapping[bytes, Entry]) -> Schema | None:
    """Return what the settings let be denied, if anything."""
    return Schema(kubernetes.domain, index) if kubernetes.schema_negatives else None


def impossible(labels: list[bytes]) -> bool:
    """True if no object of a cluster has the name made of these labels and the cluster domain."""
    *before, kind = labels
    if kind == SVC:
        if len(before) < SVC_LABELS_MAX:
            return False
        return len(before) > SVC_LABELS_MAX or before[1].lstrip(b"_") not in PROTOCOLS
    if kind == POD:
        return len(before) > 2 or (len(before) == 2 and not _dashed_address(before[0]))
    return bool(before) and labels != ITSELF


def _dashed_address(label: bytes) -> bool:
    """True for 10-1-2-3 and 2001-db8--1: an address with dashes, which is a pod's name."""
    text = label.decode("latin-1")
    for dot in ".:":
        try:
            ipaddress.ip_address(text.replace("-", dot))
        except ValueError:
            continue
        return True
    return False
