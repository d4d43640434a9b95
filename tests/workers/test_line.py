"""What supervisor and worker say to each other: whole, in order, and silence at the end."""

from __future__ import annotations

import asyncio
import signal

import pytest

from dnsguard.workers.line import (
    MESSAGE_MAX,
    Beat,
    Failed,
    Line,
    Message,
    Orders,
    Post,
    Serving,
    describe,
    packed,
    pair,
    receive_orders,
    unpacked,
)
from tests.settings_from import flag, loaded


def test_settings_come_out_as_they_went_in() -> None:
    settings = loaded(flag("workers", "3"), flag("access.allow", "10.0.0.0/8"))
    back = unpacked(packed(Orders(2, "/run/x", settings, ("192.0.2.1",))))
    assert isinstance(back, Orders)
    assert back.settings == settings
    assert dict(back.settings.effective) == dict(settings.effective)
    with pytest.raises(TypeError):
        back.settings.effective["workers"] = None  # type: ignore[index]
    assert unpacked(packed(settings)) == settings
    assert unpacked(packed(Beat())) == Beat()


def test_orders_of_a_thousand_zones_fit_in_one_message() -> None:
    zones = [flag(f"zones.z{n}.example.upstreams", f"10.0.{n >> 8}.{n & 255}") for n in range(1000)]
    orders = packed(Orders(1, "/run/x", loaded(*zones), ()))
    assert len(orders) < MESSAGE_MAX
    ours, theirs = pair()
    with ours, theirs:
        ours.send(orders)
        assert len(receive_orders(theirs).settings.policy.zones) == 1001


def test_each_side_hears_the_other_and_its_end() -> None:
    async def story() -> None:
        ours, theirs = pair()
        heard: list[Message] = []
        changed, alone, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        post = Post(Orders(1, "/run/x", loaded(), ()), theirs)
        line = Line(ours, heard.append, gone.set)
        post.begin(changed.set, alone.set)
        post.serving()
        line.say(loaded(flag("workers", "5")))
        line.say(Failed("not for a worker, which passes it over"))
        await changed.wait()
        assert post.settings().workers == 5
        assert heard == [Beat(), Serving()]
        line.close()
        line.close()
        await alone.wait()
        line.say(Beat())  # into the void, which is no error

        ours, theirs = pair()
        line = Line(ours, heard.append, gone.set)
        theirs.close()
        line.say(Beat())
        await gone.wait()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "ended with code 1"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str) -> None:
    assert describe(code) == words
