"""The demo's processes: they talk in lines, and none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from dnsguard.demo.child import Child, ChildDied

ECHO = """
import asyncio, json
from dnsguard.demo.child import obey, say
say({"here": 1})
asyncio.run(obey(lambda line: say({"heard": line})))
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True: time.sleep(3600)
"""
BROKEN = """
import asyncio
from dnsguard.demo.child import obey
async def main():
    asyncio.get_running_loop().call_later(0.01, lambda: 1 / 0)
    await obey(print)
asyncio.run(main())
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def start(code: str, lines: list[str], *, stderr: bool = False) -> Child:
    return await Child.start("The child", [sys.executable, "-c", code], lines.append, stderr=stderr)


async def until(lines: list[str], count: int) -> None:
    async with asyncio.timeout(30):
        while len(lines) < count:  # noqa: ASYNC110 - the lines come from a reader of its own
            await asyncio.sleep(0.01)


def test_it_hears_and_answers_in_lines() -> None:
    async def main() -> None:
        lines: list[str] = []
        child = await start(ECHO, lines)
        child.tell("healthy")
        await until(lines, 2)
        await child.stop()
        assert lines == ['{"here":1}', '{"heard":"healthy"}']
        assert gone(child.pid)
        child.tell("to nobody")  # is no error
        await child.stop()

    asyncio.run(main())


def test_a_frozen_child_is_stopped_too() -> None:
    async def main() -> None:
        lines: list[str] = []
        child = await start(ECHO, lines)
        await until(lines, 1)
        os.kill(child.pid, signal.SIGSTOP)
        await child.stop()
        assert gone(child.pid)

    asyncio.run(main())


def test_a_stubborn_child_is_killed() -> None:
    async def main() -> None:
        lines: list[str] = []
        child = await start(STUBBORN, lines)
        await until(lines, 1)
        await child.stop(patience=0.1)
        assert gone(child.pid)

    asyncio.run(main())


def test_the_end_of_the_demo_is_the_end_of_the_child() -> None:
    async def main() -> None:
        lines: list[str] = []
        child = await start(ECHO, lines)
        await until(lines, 1)
        child.hang_up()
        assert "exit code 0" in str(await child.ended())

    asyncio.run(main())


def test_last_words_are_kept() -> None:
    async def main() -> ChildDied:
        lines: list[str] = []
        child = await start("import sys; sys.exit('no such luck')", lines, stderr=True)
        died = await child.ended()
        assert lines == ["no such luck"]
        return died

    died = asyncio.run(main())
    assert str(died) == "The child ended with exit code 1. Its last words:\n  no such luck"


def test_an_error_in_a_callback_ends_the_child() -> None:
    async def main() -> ChildDied:
        child = await start(BROKEN, [])
        return await child.ended()

    assert "ZeroDivisionError" in str(asyncio.run(main()))


def test_a_killed_child_says_by_which_signal() -> None:
    async def main() -> ChildDied:
        lines: list[str] = []
        child = await start(STUBBORN, lines)
        await until(lines, 1)
        os.kill(child.pid, signal.SIGKILL)
        return await child.ended()

    assert str(asyncio.run(main())) == "The child was killed by signal 9."


def test_settings_of_another_dnsguard_do_not_reach_it() -> None:
    async def main() -> list[str]:
        lines: list[str] = []
        os.environ["DNSGUARD_STALE__MAX_AGE"] = "1s"
        try:
            code = "import os; print(sorted(k for k in os.environ if k.startswith('DNSGUARD_')))"
            child = await start(code, lines)
        finally:
            del os.environ["DNSGUARD_STALE__MAX_AGE"]
        await child.ended()
        return lines

    assert asyncio.run(main()) == ["[]"]
