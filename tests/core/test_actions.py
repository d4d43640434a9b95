"""The outbox starts empty, and a notice is a value."""

from __future__ import annotations

import dataclasses

import pytest

from dnsguard.core.actions import Actions, Notice


def test_an_outbox_starts_empty_and_shares_nothing() -> None:
    one, other = Actions(), Actions()
    assert (one.replies, one.asks, one.notices) == ([], [], [])
    one.replies.append(("client", b"octets"))
    one.notices.append(Notice("info", "event", "text"))
    assert (other.replies, other.notices) == ([], [])


def test_equal_notices_are_equal_and_stay_as_they_are() -> None:
    notice = Notice("warning", "outage", "zone .: outage", (("zone", "."),))
    assert notice == Notice("warning", "outage", "zone .: outage", (("zone", "."),))
    assert notice != Notice("warning", "outage", "zone .: outage")
    with pytest.raises(dataclasses.FrozenInstanceError):
        notice.level = "info"  # type: ignore[misc]
