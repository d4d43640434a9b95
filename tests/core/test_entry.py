"""What an entry takes over from its answer, when it dies, and what it does to finished replies."""

from __future__ import annotations

import pytest

from dnsguard.core.answer import Kind
from dnsguard.core.entry import ENTRY_OVERHEAD, NEVER, Entry
from dnsguard.core.packets import Packet
from dnsguard.core.policy import StalePolicy
from tests.core.build import answer_wire, entry, meaning, query, read, soa, zone_state

ASKED = query("www.example.", do=True)
A = "www.example. 60 IN A 192.0.2.1"


def test_an_entry_is_its_answer_and_its_instants() -> None:
    wire = answer_wire(ASKED, A, additional="ns.example. 9 IN A 192.0.2.53", ad=True)
    answer, zone = meaning(ASKED, wire), zone_state()
    found = Entry(read(ASKED).key, answer, zone, 100.0)
    assert (found.wire, found.offsets, found.additional) == (answer.wire, answer.offsets, 1)
    assert (found.kind, found.rcode, found.ttl, found.ad) == (Kind.POSITIVE, 0, 60, True)
    assert (found.stored, found.expires) == (100.0, 160.0)
    assert (found.hits, found.recent, found.failed, found.packets) == (0, 0, NEVER, None)
    assert (found.reason, found.segment) == ("timeout", 0)
    assert found.zone is zone
    assert not found.negative


@pytest.mark.parametrize(
    ("rcode", "authority", "kind"),
    [(3, soa("example.", 60, 60), Kind.NXDOMAIN), (0, soa("example.", 60, 60), Kind.NODATA)],
)
def test_an_entry_may_deny(rcode: int, authority: str, kind: Kind) -> None:
    found = entry(ASKED, answer_wire(ASKED, "", rcode, authority=authority))
    assert found.kind is kind
    assert found.negative


def test_an_entry_is_charged_for_all_that_grows_with_it() -> None:
    small = entry(ASKED, answer_wire(ASKED, A))
    large = entry(ASKED, answer_wire(ASKED, f"{A}\nwww.example. 60 IN A 192.0.2.2"))
    assert large.size - small.size == 16  # one more record
    assert small.size == len(small.wire) + len(small.key) + ENTRY_OVERHEAD


def test_an_entry_dies_by_the_policy_of_its_zone_at_that_moment() -> None:
    found = entry(ASKED, answer_wire(ASKED, A), now=100.0,
                  zone=zone_state(StalePolicy(max_age=1000.0)))  # fmt: skip
    assert found.dies() == 1160.0
    found.hits, found.failed = 500, 1000.0  # neither use nor failure moves that instant
    assert found.dies() == 1160.0
    found.zone = zone_state(StalePolicy(max_age=0.0))  # settings were reloaded
    assert found.dies() == found.expires == 160.0


def test_a_spoiled_entry_leaves_no_reply_that_holds() -> None:
    found = entry(ASKED, answer_wire(ASKED, A))
    found.spoil()  # nothing to spoil
    packets = [Packet(b"octets", 60.0, found, "") for _ in range(2)]
    found.packets = packets[:]
    found.spoil()
    assert [packet.until for packet in packets] == [0.0, 0.0]
    assert found.packets is None
