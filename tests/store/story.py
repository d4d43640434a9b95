"""A short life of a store, for a process that will be killed or fed errors on the way.

`python -m tests.store.story ROOT GENERATION` takes back what is there, learns its names anew with
addresses of this generation, waits until they are written, changes some once more and ends in
order. What it says on stdout is how far it has come, and then every notice.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dnsguard.core import learned
from dnsguard.store import writer
from tests.store.running import Run, key_of, running

COUNT = 70
NAMES = [f"n{number}.cluster.local" for number in range(COUNT)]
GONE = "gone.cluster.local"  # learned and forgotten again in every generation
CHANGED = NAMES[::7]  # learned once more, with an address of the next generation
PATIENCE = 100  # looks at a disk that takes nothing; this life, too, must end


def address(generation: int, name: str) -> str:
    return f"10.{generation}.0.{NAMES.index(name)}"


def generation_of(name: str, found: str) -> int:
    """The generation of an address that was found for `name`; fails if none ever had it."""
    ten, generation, zero, number = map(int, found.split("."))
    assert (ten, zero, number) == (10, 0, NAMES.index(name)), f"{name} never had {found}"
    return generation


async def written(run: Run) -> bool:
    """Wait until everything is on disk; False if that takes too long."""
    changes = run.keeper._learned
    for _ in range(PATIENCE):
        if run.quiet and not changes.waiting and not changes.missed and run.counts.rows >= COUNT:
            return True
        await asyncio.sleep(0.005)
    return False


async def live(root: Path, generation: int) -> None:
    writer.RETRY_FIRST = writer.RETRY_MAX = 0.01
    learned.CHANGE_PAUSE = 0.0
    async with running(root) as run:
        print("loaded", run.counts.loaded, flush=True)
        run.knows(GONE)
        for name in NAMES:
            run.knows(name, address(generation, name))
        print("written" if await written(run) else "not written", flush=True)
        run.engine.forget(key_of(GONE))
        for name in CHANGED:
            run.knows(name, address(generation + 1, name))
    for notice in run.notices:
        print(notice.event, notice.text, flush=True)
    print("ended", flush=True)


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
