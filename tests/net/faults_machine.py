"""Faults of the machine that dnsguard is on: clocks that jump, memory and descriptors that run out.

They are played by `faults.py` with the others. The wall clock is libfaketime's (Debian: `apt-get
install libfaketime`), which is told by a file where it stands, while the server runs. Memory is
bounded by a control group of the test's own, of either version.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.core.build import query

if TYPE_CHECKING:
    from tests.net.faults import World

DAY = 86400
FAKETIME = ("/usr/lib/{}/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")
MEMORY_1, MEMORY_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
ROOM = 6 << 20  # octets from where a server is idle to where the kernel kills it; a cache has more
DESCRIPTORS, CONNECTIONS = 64, 200
FLOOD = 60_000  # names that nobody has asked before


# -- clocks ----------------------------------------------------------------------------------------


def libfaketime() -> str:
    """Return where the library is."""
    for place in FAKETIME:
        found = place.format(f"{os.uname().machine}-linux-gnu")
        if os.path.exists(found):
            return found
    raise FileNotFoundError("install libfaketime (Debian: apt-get install libfaketime)")


def wall_clock(folder: Path) -> dict[str, str]:
    """The environment of a server whose wall clock is what `set_clock` says, and no other clock."""
    return every_clock(folder) | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def every_clock(folder: Path) -> dict[str, str]:
    """The same for all of its clocks: what a machine that has slept has on waking."""
    set_clock(folder, 0)
    return {
        "LD_PRELOAD": libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
    }


def set_clock(folder: Path, seconds: int) -> None:
    """Let the clock be so many seconds ahead of the real one."""
    new = folder / "clock.new"
    new.write_text(f"{seconds:+d}\n")
    new.replace(folder / "clock")  # it is never seen half-written


def step(seconds: int, killed: bool = False) -> Callable[[World], None]:
    """Take the upstream away and set the clock; `killed`: while the server is dead."""

    def begin(world: World) -> None:
        world.tell("silent")
        if killed:
            time.sleep(1.5)  # the flush interval is a second
            world.kill()
        set_clock(world.folder, seconds)
        if killed:
            world.start_server()

    return begin


def step_back(world: World) -> None:
    """Give the upstream back, and the right time."""
    world.tell("ok")
    set_clock(world.folder, 0)


# -- memory ----------------------------------------------------------------------------------------


class Group:
    """A control group that bounds the memory of one process."""

    def __init__(self, name: str, octets: int) -> None:
        old = (MEMORY_1 / "memory.limit_in_bytes").exists()
        self.place = (MEMORY_1 if old else MEMORY_2) / name
        self.place.mkdir()
        if old:
            self._write("memory.limit_in_bytes", octets)
            with contextlib.suppress(OSError):  # where swap is not counted
                self._write("memory.memsw.limit_in_bytes", octets)
        else:
            self._write("memory.max", octets)
            with contextlib.suppress(OSError):
                self._write("memory.swap.max", 0)

    def _write(self, name: str, value: int) -> None:
        (self.place / name).write_text(f"{value}\n")

    def take(self, pid: int) -> None:
        """Count what this process takes from now on."""
        self._write("cgroup.procs", pid)

    def kills(self) -> int:
        """How often the kernel has killed for this group's memory."""
        for name in ("memory.oom_control", "memory.events"):
            if (self.place / name).exists():
                text = (self.place / name).read_text()
                return int(text.rpartition("oom_kill ")[2].split()[0])
        raise AssertionError("the kernel does not count its kills")

    def remove(self) -> None:
        """Remove it; nobody may be in it any more."""
        for _ in range(50):
            try:
                self.place.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return


def resident(pid: int) -> int:
    """What a process has in memory, in octets."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def bound(world: World) -> None:
    """Bound the memory to what a full cache of the server's settings takes, and flood it."""
    assert world.server is not None
    warm(world)
    world.group = Group(world.tag, world.memory)
    world.group.take(world.server.pid)
    world.run("tests.net.faults_machine", "--flood", str(FLOOD))
    world.tell("silent")


def warm(world: World) -> None:
    """Have the names asked more than once: that is what sets them apart from a flood of others."""
    for _ in range(3):
        world.ask_all()


def starve(world: World) -> None:
    """Have the kernel kill it for its memory under load; it is started again, as by a kubelet."""
    assert world.server is not None
    warm(world)
    time.sleep(1.5)  # the flush interval is a second
    world.group = Group(world.tag, ROOM)  # what it has already counts for another group
    world.group.take(world.server.pid)
    while world.server.poll() is None:
        world.run("tests.net.faults_machine", "--flood", str(FLOOD))
        assert world.server.poll() is not None or resident(world.server.pid) < 10 * ROOM
    world.kill()  # it is gone; what we read of it is not
    world.tell("silent")
    world.start_server()


def unbound(world: World) -> None:
    """End the shortage."""
    world.tell("ok")


def flood(count: int) -> None:
    """Ask for names that nobody has asked before, and take what comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 5300))
        sock.setblocking(False)
        for number in range(count):
            with contextlib.suppress(OSError):
                sock.send(query(f"f{os.getpid()}-{number}.{'x' * 50}.example", edns=1232))
            with contextlib.suppress(OSError):
                while True:
                    sock.recv(4096)
            if number % 64 == 0:
                time.sleep(0.004)


# -- descriptors -----------------------------------------------------------------------------------


def hold(world: World) -> None:
    """Let a client hold more connections than the server has descriptors; no upstream."""
    world.holder = subprocess.Popen(
        ["ip", "netns", "exec", world.down, sys.executable, "-m", "tests.net.faults_machine",
         "--hold", str(CONNECTIONS)], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert world.holder.stdout is not None
    world.holder.stdout.readline()
    world.tell("silent")


def let_go(world: World) -> None:
    """Close them, and give the upstream back."""
    world.stop_holder()
    world.tell("ok")


def holding(count: int) -> Iterator[str]:
    """Be that client, for as long as nobody ends it."""
    held = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(0.2)
        with contextlib.suppress(OSError):
            sock.connect(("127.0.0.1", 5300))
            held.append(sock)
    yield f"{len(held)} connections"
    time.sleep(600)


def main(arguments: Sequence[str]) -> None:
    """Be one of the clients above."""
    if arguments[0] == "--flood":
        flood(int(arguments[1]))
        return
    for line in holding(int(arguments[1])):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
