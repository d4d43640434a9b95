"""The whole demo with the real `dnsguard serve`, in a few seconds; and how it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence

import pytest

from dnsguard.config import Address
from dnsguard.demo.child import ChildDied
from dnsguard.demo.lines import Lines
from dnsguard.demo.show import Screen, Settings, Show
from dnsguard.demo.stage import Stage, StageError, free_address, perform
from dnsguard.demo.tally import GUARD, PLAIN, Summary
from dnsguard.demo.timeline import Mode, timeline

ANYWHERE = Address("127.0.0.1", 0)
# Short, and yet the outage is longer than the TTL by enough for stale answers.
SHORT = timeline(0.8, 1.4, 0.6, 0.5)


def serve(listen: Address, upstream: Address) -> list[str]:
    where = ("--listen", str(listen), "--upstream", str(upstream), "--admin", "off", "--no-state")
    return [sys.executable, "-m", "dnsguard", "serve", *where]


def settings(*, once: bool = True, command: Sequence[str] = ()) -> Settings:
    proxy = (lambda _listen, _upstream: command) if command else serve
    return Settings(SHORT, proxy, ANYWHERE, qps=100.0, ttl=1, once=once)


class Watching(Lines):
    """Lines that keep what they were shown."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.pids: set[int] = set()
        self.found: dict[str, Summary] = {}
        self.modes: list[Mode] = []
        super().__init__(self.said.append)

    def frame(self, show: Show) -> None:
        super().frame(show)
        self.pids.add(show.cluster_pid)

    def summary(self, show: Show, summaries: dict[str, Summary]) -> None:
        super().summary(show, summaries)
        self.found = summaries
        self.modes = [mode for mode, _ in show.changes]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_dnsguard_survives_and_the_plain_cache_does_not() -> None:
    screen = Watching()
    code = asyncio.run(perform(settings(), screen))
    assert code == 0, screen.said
    guard, plain = screen.found[GUARD], screen.found[PLAIN]
    assert guard.sent > 100
    assert guard.answered == guard.sent
    assert guard.stale > 0
    assert guard.first_stale is not None
    assert guard.oldest is not None
    assert guard.oldest >= 1
    assert plain.stale == 0
    assert plain.lost + plain.failed > 0
    assert plain.failed > 0
    assert screen.modes == [Mode.DEAD, Mode.SERVFAIL, Mode.HEALTHY]
    assert all(gone(pid) for pid in screen.pids)
    told = [line[:5] for line in screen.said if " of 00:04 " in line]
    assert told == ["00:01", "00:02", "00:03", "00:04"]


class Interrupted(Watching):
    """Cancels the demo at its first idle moment, as Ctrl-C does."""

    def idle(self, show: Show) -> None:
        super().idle(show)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


def test_it_stays_up_until_it_is_interrupted() -> None:
    screen = Interrupted()
    assert asyncio.run(perform(settings(once=False), screen)) == 0
    assert any("kill -STOP" in line for line in screen.said)
    assert screen.said[-1].startswith("cluster DNS healthy")
    assert all(gone(pid) for pid in screen.pids)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit('no such luck')", "no such luck"),
        ("import sys; print('ready', file=sys.stderr)", "dnsguard serve ended with exit code 0"),
    ],
)
def test_a_proxy_that_ends_ends_the_demo_with_its_last_words(code: str, told: str) -> None:
    screen = Watching()
    with pytest.raises(ChildDied, match=told):
        asyncio.run(perform(settings(command=(sys.executable, "-c", code)), screen))
    assert all(gone(pid) for pid in screen.pids)


def test_a_proxy_that_is_never_ready_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dnsguard.demo import stage

    monkeypatch.setattr(stage, "READY_SECONDS", 1.0)
    silent = (sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(StageError, match=r"dnsguard serve was not ready within 1 s"):
        asyncio.run(perform(settings(command=silent), Watching()))


def test_a_program_that_does_not_exist_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(perform(settings(command=("/nowhere/at/all",)), Watching()))


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(ANYWHERE)
        taken = Address(*other.getsockname())
        with pytest.raises(StageError) as error:
            free_address(taken)
    assert f"{taken} is taken by another program" in str(error.value)
    assert "--listen" in str(error.value)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(StageError, match="not an address of this machine"):
        free_address(Address("192.0.2.1", 0))


def test_a_port_of_nought_is_any_free_one() -> None:
    assert free_address(ANYWHERE).port > 0


def test_keys_and_signals_reach_the_cluster_dns() -> None:
    async def main() -> list[Mode]:
        screen: Screen = Watching()
        async with Stage(settings(), screen) as stage:
            await stage.begin()
            for mode in (Mode.DEAD, Mode.SERVFAIL, Mode.HEALTHY):
                stage.set_mode(mode)
                async with asyncio.timeout(30):
                    while stage.show.mode is not mode:  # noqa: ASYNC110 - another process says so
                        await asyncio.sleep(0.01)
            return [mode for mode, _ in stage.show.changes]

    assert asyncio.run(main()) == [Mode.DEAD, Mode.SERVFAIL, Mode.HEALTHY]
