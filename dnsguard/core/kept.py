"""Answers that come back from outside of this process, as after a restart.

What lay on a disk may have been damaged, or written by someone else, so it is read as a stranger's:
the key must be one that a query could have had, the message a reply to just that question, and the
answer one that would have been kept had it come from an upstream. It counts as expired until an
upstream has confirmed it (RFC 8767 section 4), and it dies when it would have died without the
restart, or a little sooner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsguard.core.answer import Answer, Kind, read_answer
from dnsguard.core.cache import HITS_TO_PROTECT, Cache
from dnsguard.core.entry import NEVER, Entry
from dnsguard.core.guard import pool_of
from dnsguard.core.policy import CachePolicy
from dnsguard.core.wire import (
    HEADER_OCTETS,
    KEY_TAILS,
    NOERROR,
    NXDOMAIN,
    OPCODE,
    QR,
    RCODE,
    STREAM_MAX,
    T_ANY,
    T_OPT,
    TC,
    read_name,
)
from dnsguard.core.zones import KNOWN_MAX
from dnsguard.errors import WireError

if TYPE_CHECKING:
    from dnsguard.core.engine import Engine

RESTORE_SHARE = 0.9  # of the cache, for answers of earlier runs: the rest is for what is new
TYPE_CLASS_TAIL = 5  # octets of a key after its name
META_FIRST = 249  # TKEY and above up to ANY: never data (RFC 6895 section 3.1)
_NO_HEADER = bytes(HEADER_OCTETS)
_KEPT = (Kind.POSITIVE, Kind.NODATA, Kind.NXDOMAIN)


def read_kept(key: bytes, wire: bytes, limits: CachePolicy) -> Answer:
    """Return the answer in `wire` to the question in `key`; TTLs are cut to `limits`.

    Raises `WireError` if either is not what this process would have kept.
    """
    _check_key(key)
    question = key[:-1]
    end = HEADER_OCTETS + len(question)
    if not end < len(wire) <= STREAM_MAX:
        raise WireError("an answer of a size that no answer has")
    flags = wire[2] << 8 | wire[3]
    if flags & (QR | OPCODE | TC) != QR or flags & RCODE not in (NOERROR, NXDOMAIN):
        raise WireError("a message that is not a whole, usable reply")
    asked = wire[HEADER_OCTETS:end]
    if wire[4:6] != b"\0\1" or asked[:-4].lower() != key[:-5] or asked[-4:] != question[-4:]:
        raise WireError("a reply to another question")
    qtype = question[-4] << 8 | question[-3]
    answer = read_answer(wire, question, qtype, limits.max_ttl, limits.max_negative_ttl)
    if answer.kind not in _KEPT or answer.rcode > RCODE:
        raise WireError("an answer that is never kept")
    return answer


def _check_key(key: bytes) -> None:
    """Raise `WireError` unless `key` is a lowered name, a type of data, a class and a tail."""
    # The walk refuses pointers, because in front of the name there is nothing to point to.
    if read_name(_NO_HEADER + key, HEADER_OCTETS) != key[:-TYPE_CLASS_TAIL]:
        raise WireError("a key that is not one whole name in lower case")
    qtype = key[-5] << 8 | key[-4]
    if key[-1:] not in KEY_TAILS or qtype == T_OPT or META_FIRST <= qtype <= T_ANY:
        raise WireError("a key that no kept answer has")


def restore(
    engine: Engine,
    key: bytes,
    wire: bytes,
    stored: float,
    now: float,
    beside: bool = False,
    verified: bool = False,
) -> bool:
    """Take back an answer of an earlier run; `stored` is its instant on the clock of `now`.

    That instant is before zero for an answer that is older than this boot. Returns False if it is
    dead, if what is remembered already is newer, if the settings of today would not keep it, or if
    there is no room for it. Raises `WireError` for what is no answer. One of a process `beside` us,
    which asks the upstreams that we ask, is as fresh here as there: not at all unless `verified`.
    But a good answer does not give way to another's denial, about which this process may know more.
    """
    answer = read_kept(key, wire, engine.policy.cache)
    zone = engine.zones.find(key)
    entry = Entry(key, answer, zone, min(stored, now))
    # Stale from here on. To say so the expiry moves to an earlier instant, and so does the death.
    if not verified:
        entry.expires = min(entry.expires, now)
    if entry.stored > 0:
        entry.written = entry.stored  # one of an earlier boot is written again, dated by this one
    old = engine.cache.get(key)
    if old is not None and old.stored >= entry.stored:
        if old.stored == entry.stored:
            old.written = entry.written  # the very same
        return False
    if beside and old is not None and entry.kind and not old.kind and now < old.dies():
        return False
    if now >= entry.dies() or answer.ttl == 0:
        return False
    if engine.cache.total > engine.cache.max_octets * RESTORE_SHARE:
        return False
    entry.hits = HITS_TO_PROTECT  # last-known-good: a flood of new names must not push it out
    engine.cache.put(entry, now)
    failure = engine.failures.pop(key, None)
    if failure is not None:
        entry.failed = failure.at  # someone asked before it was there, and its pause goes on
    if entry.kind is Kind.POSITIVE and len(zone.known) < KNOWN_MAX:
        zone.known.append(key)  # a name to probe with
    if entry.kind is Kind.POSITIVE:
        zone.guard.affirmed(key, pool_of(entry), NEVER)
    return True


def older(cache: Cache, seconds: float) -> None:
    """Take note that answers of earlier boots are this much older than the wall clock had it."""
    for entry in cache.index.values():
        if entry.stored <= 0:
            entry.stored -= seconds
            entry.expires -= seconds
            entry.written = NEVER
            entry.spoil()
