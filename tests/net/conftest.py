"""Fixtures of the network's tests."""

from __future__ import annotations

from typing import Any

import pytest

from dnsguard.net import mmsg, plain
from dnsguard.net._libc import ffi

LIBC: Any = ffi.dlopen(None)


@pytest.fixture(params=["in batches", "one by one"])
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read and write many datagrams: with the calls for that, and without."""
    if request.param == "one by one":
        monkeypatch.setattr(mmsg, "recvmmsg", plain.recvmmsg_by(LIBC.recvmsg))
        monkeypatch.setattr(mmsg, "sendmmsg", plain.sendmmsg_by(LIBC.sendmsg))
