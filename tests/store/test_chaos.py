"""Kills at every system call that touches the store, errors from them, files cut and turned, disks
that are full or read-only. After each of them a real server starts, in an outage, and answers.

Run by `make chaos`: this takes minutes, strace, and root for small file systems. What may be lost
is what was not on disk yet; each name has an answer of the old state or of the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from dnsguard import clock
from dnsguard.store import keeper
from tests.net.asking import datagrams
from tests.net.running import HOST, serve
from tests.store.running import NAME, running
from tests.store.story import CHANGED, COUNT, GONE, NAMES, generation_of
from tests.store.test_serve import numbers

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parents[2]
FILES = ("answers.sqlite", "answers.sqlite-wal", "answers.sqlite-journal", "aside.sqlite")
# Every call that SQLite and we make on these files; a test below holds this list to be whole.
CALLS = (
    "close", "fchmod", "fchown", "fcntl", "fdatasync", "flock", "fsync", "ftruncate", "mkdir",
    "newfstatat", "openat", "pread64", "pwrite64", "rename", "renameat", "renameat2", "unlink",
    "unlinkat",
)  # fmt: skip
PAGE = 4096
DEAD = f"{HOST}:9"  # nobody listens at the port of discard
ASKED = NAMES[::3]


def traced(root: Path, *options: str) -> list[str]:
    """A strace that sees only calls on the files of the store."""
    place = root / NAME
    paths = (root, place, *(place / file for file in FILES))
    strace = shutil.which("strace")
    assert strace is not None, "make chaos needs strace: apt-get install strace"
    watched = [option for path in paths for option in ("-P", str(path))]
    return [strace, "-f", "-qq", *watched, *options]


def live(root: Path, generation: int, *before: str) -> tuple[int, list[str]]:
    """Live one generation, in a process of its own; return its exit code and what it said."""
    command = [*before, sys.executable, "-m", "tests.store.story", str(root), str(generation)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def serves(root: Path, generations: Collection[int], least: int) -> int:
    """Start a server while the upstream is dead: at least so many names, of these generations.

    Returns how many names came back.
    """

    async def check() -> int:
        arguments = ("--upstream", DEAD, "--state-dir", str(root))
        async with (
            asyncio.timeout(60),
            serve(*arguments) as server,
            datagrams(server.port) as client,
        ):
            found = 0
            for name in ASKED:
                reply = await client.resolve(name)
                if reply.rcode == "NOERROR":
                    assert reply.ede == [3]
                    (address,) = reply.addresses
                    assert is_of(name, address, generations)
                    found += 1
                else:
                    assert reply.rcode == "SERVFAIL"
            loaded = int((await numbers(server))["loaded"])
            assert loaded >= least
            assert found == len(ASKED) or loaded < COUNT
            assert not [line for line in server.lines if "Traceback" in line]
            return loaded

    return asyncio.run(check())


def is_of(name: str, address: str, generations: Collection[int]) -> bool:
    """True if the name had this address in one of these generations."""
    generation = generation_of(name, address)
    return generation in generations or (name in CHANGED and generation - 1 in generations)


def comes_back(root: Path, generations: Collection[int], least: int) -> None:
    """The same in this process, where it takes no second: what a server would start from."""

    async def check() -> None:
        async with running(root) as run:
            for name in NAMES:
                entry = run.entry(name)
                if entry is not None:
                    address = ".".join(map(str, entry.wire[-4:]))
                    assert is_of(name, address, generations)
                    assert clock.now() >= entry.expires
            assert run.counts.loaded >= least, run.notices
            assert run.counts.errors["defect"] == 0, run.notices

    asyncio.run(check())


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is what comes back, on a machine that may have other things to do."""
    monkeypatch.setattr(keeper, "READY_SECONDS", 60.0)


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A store that was left by generation 1."""
    root = tmp_path / "before"
    assert live(root, 1) == (0, ["loaded 0", "written", "ended"])
    return root


def copy(root: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    if root.exists():
        shutil.copytree(root, to)
    return to


def calls_of(root: Path, generation: int, log: Path) -> Counter[str]:
    """How often a life makes each call on the files of the store."""
    code, _ = live(root, generation, *traced(root, "-o", str(log)))
    assert code == 0
    lines = log.read_text().splitlines()
    return Counter(line.split(maxsplit=1)[1].partition("(")[0] for line in lines if "(" in line)


# -- kills --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["empty", "filled", "damaged"])
def test_a_kill_at_every_system_call(tmp_path: Path, before: Path, start: str) -> None:
    """`empty` is a first start, `filled` one with an older state, `damaged` one that sets aside."""
    if start == "empty":
        shutil.rmtree(before)
    if start == "damaged":
        file = before / NAME / FILES[0]
        file.write_bytes(file.read_bytes()[:PAGE] + b"\xff" * PAGE + file.read_bytes()[2 * PAGE :])
    old = start == "filled"
    calls = calls_of(copy(before, tmp_path / "counted"), 3, tmp_path / "log")
    assert calls["pwrite64"] > 20
    assert set(calls) <= {*CALLS, "+++"}, "a call that is not in the list"
    killed = 0
    for call, count in sorted(calls.items()):
        for number in range(1, count + 1):
            root = copy(before, tmp_path / "killed")
            inject = f"inject={call}:signal=SIGKILL:when={number}"
            code, said = live(root, 3, *traced(root, "-e", f"trace={call}", "-e", inject))
            if "ended" in said:
                continue  # a batch more or less makes the counts of two lives differ
            assert code in (-9, 137), (call, number, code, said)
            killed += 1
            if "written" in said:
                serves(root, {3}, COUNT)
            else:
                serves(root, {1, 3} if old else {3}, COUNT if old else 0)
    assert killed > 0.8 * sum(calls[call] for call in calls)


# -- errors -------------------------------------------------------------------------------------

ERRORS = (
    ("openat", "EROFS"), ("openat", "EACCES"), ("openat", "EMFILE"), ("openat", "EIO"),
    ("openat", "ENOSPC"), ("mkdir", "EROFS"), ("mkdir", "ENOSPC"), ("mkdir", "EACCES"),
    ("flock", "EAGAIN"), ("flock", "ENOLCK"), ("fcntl", "EAGAIN"), ("fcntl", "EIO"),
    ("newfstatat", "EIO"), ("pread64", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC"),
    ("pwrite64", "EROFS"), ("fdatasync", "EIO"), ("ftruncate", "EIO"), ("unlink", "EIO"),
    ("close", "EIO"),
)  # fmt: skip


@pytest.mark.parametrize(("call", "error"), ERRORS)
def test_an_error_from_every_system_call(
    tmp_path: Path, before: Path, call: str, error: str
) -> None:
    """Once, and from then on for ever: nothing crashes, and a restart finds the old or the new."""
    count = calls_of(copy(before, tmp_path / "counted"), 3, tmp_path / "log")[call]
    for number in range(1, count + 1):
        for until in ("", "+") if number in (1, 2, count // 2, count) else ("",):
            root = copy(before, tmp_path / "failed")
            inject = f"inject={call}:error={error}:when={number}{until}"
            code, said = live(root, 3, *traced(root, "-e", f"trace={call}", "-e", inject))
            assert (code, said[-1:]) == (0, ["ended"]), (call, error, number, said)
            if "written" in said and not until:
                comes_back(root, {3}, COUNT)
            else:
                comes_back(root, {1, 3}, COUNT - 30 if call == "pread64" else COUNT)


# -- damage -------------------------------------------------------------------------------------


def with_log(root: Path) -> Path:
    """A store whose last generation is still in its log, as after a kill."""
    inject = "inject=fdatasync:signal=SIGKILL:when=3"  # the first of the final checkpoint
    code, said = live(root, 3, *traced(root, "-e", "trace=fdatasync", "-e", inject))
    assert code in (-9, 137)
    assert "written" in said
    assert (root / NAME / FILES[1]).stat().st_size > 2 * PAGE
    return root


def test_a_file_cut_at_every_page(tmp_path: Path, before: Path) -> None:
    source = with_log(copy(before, tmp_path / "source"))
    for file in FILES[:2]:
        size = (source / NAME / file).stat().st_size
        assert size > 2 * PAGE
        for end in range(0, size, PAGE):
            root = copy(source, tmp_path / "cut")
            os.truncate(root / NAME / file, end)
            serves(root, {1, 3}, COUNT if file == FILES[1] else 0)


@pytest.mark.parametrize("seed", range(60))
def test_bits_turned_at_random(tmp_path: Path, before: Path, seed: int) -> None:
    chance = random.Random(seed)
    root = with_log(copy(before, tmp_path / "turned")) if seed % 2 else before
    places = [root / NAME / file for file in FILES[: 1 + seed % 2]]
    for _ in range(chance.choice([1, 1, 1, 5, 100])):
        path = chance.choice(places)
        octets = bytearray(path.read_bytes())
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
        path.write_bytes(octets)
    comes_back(root, {1, 3}, 0)
    assert live(root, 3)[1][-1] == "ended"
    serves(root, {3}, COUNT)


def test_every_octet_of_the_first_pages_turned(tmp_path: Path, before: Path) -> None:
    """The header and the schema: where one octet can make a file mean something else."""
    whole = (before / NAME / FILES[0]).read_bytes()
    for at in range(2 * PAGE):
        root = copy(before, tmp_path / "turned")
        octets = bytearray(whole)
        octets[at] ^= 0xFF
        (root / NAME / FILES[0]).write_bytes(octets)
        comes_back(root, {1}, 0)


# -- disks --------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(at: Path, size: str) -> Iterator[Path]:
    """A file system of its own, in memory."""
    assert os.geteuid() == 0, "make chaos mounts small file systems, for which it has to be root"
    at.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(at))
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def events(said: Sequence[str]) -> list[str]:
    return [line.split()[0] for line in said if line.startswith("store_")]


@pytest.mark.parametrize("kib", [4, 8, 12, 16, 20, 28, 36, 44, 52, 64, 80, 96, 128, 256, 1024])
def test_a_disk_that_is_full_sooner_or_later(tmp_path: Path, kib: int) -> None:
    with disk(tmp_path / "disk", f"{kib}k") as root:
        for generation in (1, 3):
            code, said = live(root, generation)
            assert (code, said[-1]) == (0, "ended")
            assert events(said).count("store_down") <= 2
        serves(root, {1, 3}, COUNT if kib >= 128 else 0)
        room = "written" in said
    assert room or kib < 256


def test_a_disk_that_is_filled_by_others(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "1m") as root:
        assert live(root, 1)[1][1] == "written"
        filler = root / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        code, said = live(root, 3)
        assert (code, said[-1]) == (0, "ended")
        assert said[0] == f"loaded {COUNT}"
        assert events(said).count("store_down") == 1
        serves(root, {1, 3}, COUNT)
        filler.unlink()
        assert live(root, 5)[1][1] == "written"
        serves(root, {5}, COUNT)


def test_a_disk_that_has_become_read_only(tmp_path: Path, before: Path) -> None:
    with disk(tmp_path / "disk", "4m") as root:
        copy(before, root / "state")
        state = with_log(root / "state")
        mount("-o", "remount,ro", str(root))
        code, said = live(state, 5)
        assert (code, said[:2], said[-1]) == (0, [f"loaded {COUNT}", "not written"], "ended")
        assert events(said) == ["store_down"]
        serves(state, {3}, COUNT)
        mount("-o", "remount,rw", str(root))
        assert live(state, 5)[1][1] == "written"


def test_a_read_only_disk_with_nothing_on_it(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "1m") as root:
        mount("-o", "remount,ro", str(root))
        for place in (root, root / "state"):
            code, said = live(place, 1)
            assert (code, said[-1], events(said)) == (0, "ended", ["store_down"])
            assert serves(place, {1}, 0) == 0


def test_what_is_forgotten_stays_so(before: Path) -> None:
    async def check() -> None:
        arguments = ("--upstream", DEAD, "--state-dir", str(before))
        async with serve(*arguments) as server, datagrams(server.port) as client:
            assert (await client.resolve(GONE)).rcode == "SERVFAIL"

    asyncio.run(check())
