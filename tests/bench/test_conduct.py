"""The generating process from the outside: what it says, how it is stopped, how it fails."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any

import pytest

from dnsguard.bench import conduct
from dnsguard.bench.load import Load, Progress
from dnsguard.bench.usage import Processes
from tests.bench.serving import aimed, forget, good, silent
from tests.cli.scripted import Scripted

LOAD = Load(host="127.0.0.1", port=0, names="list:10", qps=500, duration=0.4, warmup=0.1)


def test_a_load_is_carried_out_in_another_process() -> None:
    told: list[Progress] = []
    processes = Processes([os.getpid()], groups=False)
    with Scripted(good) as server:
        outcome = conduct.conduct(aimed(LOAD, server.port), told.append, processes)
    assert outcome.measured.sent == outcome.measured.answered == 200
    assert not outcome.measured.interrupted
    assert [one.measuring for one in told] == sorted(one.measuring for one in told)
    assert told[-1].measuring
    assert outcome.usage
    assert outcome.usage.seconds > 0.3
    assert outcome.measured.cpu_user + outcome.measured.cpu_system > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_there_is(number: signal.Signals) -> None:
    def stop(progress: Progress) -> None:
        if progress.measuring and progress.answered:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with Scripted(good) as server:
        endless = dataclasses.replace(aimed(LOAD, server.port), duration=3600)
        outcome = conduct.conduct(endless, stop)
    assert outcome.measured.interrupted
    assert outcome.measured.sent == outcome.measured.answered > 0
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("changes", "usage", "told"),
    [
        ({"names": "nowhere"}, True, "names in nowhere cannot be read"),
        ({"qtype": "FOO"}, True, "not a record type"),
        ({"warmup": 0.0, "timeout": 0.2}, False, "answers nothing over UDP"),
        ({"host": "255.255.255.255"}, False, "cannot be reached over UDP: Permission denied"),
    ],
)
def test_a_failure_is_told(changes: dict[str, Any], usage: bool, told: str) -> None:
    with Scripted(silent) as server:
        load = dataclasses.replace(aimed(LOAD, server.port), **changes)
        with pytest.raises(conduct.LoadFailed, match=told) as failed:
            conduct.conduct(load, forget)
    assert failed.value.usage is usage


@pytest.mark.parametrize("tcp", [False, True])
def test_the_ceiling_is_measured_by_an_echo(tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conduct, "CEILING_SECONDS", 0.2)
    monkeypatch.setattr(conduct, "CEILING_WARMUP", 0.05)
    found = conduct.ceiling(dataclasses.replace(LOAD, tcp=tcp), forget)
    assert found.qps > 0
    assert found.language in {"C", "Python"}
