"""`make fuzz`: every target for a while, guided by coverage where atheris can be had.

Each target runs in a process of its own. An input that breaks a promise is written to
`tests/fuzz/found/` and ends the run with its name; `--replay FILE` runs it again. Without atheris
(it has wheels for few systems) the same targets are fed mutations that know how messages are built.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

# Nothing of dnsguard is imported here: whoever guides must see it imported.

FOUND = Path(__file__).with_name("found")
TARGETS = (
    "query", "answer", "engine", "names", "options", "framing", "stored", "kept", "config",
    "control", "review", "graft", "cut", "walk", "drill", "imported", "zone-file", "resting",
    "pins", "scenario", "http", "shown", "judged-queries", "judged-answers",
)  # fmt: skip
COUNTS = re.compile(r"stat::number_of_executed_units: (\d+)|^executed (\d+)", re.MULTILINE)
FACES = "faces"  # no function, but a running server: see faces.py
LINE = 4096  # octets of an input: a message, a few records, a file of settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all (%(default)g)")
    parser.add_argument("--target", choices=[*TARGETS, FACES, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0, help="0: another one every time")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed one input to --target")
    parser.add_argument("--child", choices=["guided", "blind"], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    names = [*TARGETS, FACES] if given.target == "all" else [given.target]
    if given.replay is not None:
        from tests.fuzz import targets

        for name in names[: len(TARGETS)]:
            targets.TARGETS[name](given.replay.read_bytes())
        print(f"{given.replay}: no promise broken")
        return 0
    if given.child == "blind":
        return blind(given.target, given.seconds, given.seed)
    if given.child == "guided":
        return guided(given.target, given.seconds, given.seed)
    return everything(names, given.seconds / len(names), given.seed)


def everything(names: Sequence[str], seconds: float, seed: int) -> int:
    """Run the targets one after the other, and say what came of each."""
    kind = "guided" if find_spec("atheris") else "blind"
    print(f"{kind}: {len(names)} targets, {seconds:.0f} s each", flush=True)
    total = broken = 0
    for name in names:
        child = ["run", "--child", kind, "--target", name] if name != FACES else ["faces"]
        command = [
            sys.executable, "-m", f"tests.fuzz.{child[0]}", *child[1:],
            "--seconds", f"{seconds:.1f}", "--seed", str(seed),
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said = ran.stdout + ran.stderr
        counts = COUNTS.findall(said)
        count = max((int(a or b) for a, b in counts), default=0)
        total += count
        broken += ran.returncode != 0
        print(f"{name:14} {count:>11,} executions  {'BROKEN' if ran.returncode else 'ok'}")
        if ran.returncode:
            print("  " + "\n  ".join(said.splitlines()[-25:]))
        sys.stdout.flush()
    print(f"{total:,} executions, {broken} of {len(names)} targets broken")
    return 1 if broken else 0


def blind(name: str, seconds: float, seed: int) -> int:
    """Feed one target mutations of its corpus."""
    from tests.fuzz import targets
    from tests.fuzz.corpus import mutate, seeds

    chance = random.Random(seed or None)
    corpus = seeds(name)
    target, end, count = targets.TARGETS[name], time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(200):
            data = mutate(chance.choice(corpus), chance)
            count += 1
            try:
                target(data)
            except Exception:
                FOUND.mkdir(exist_ok=True)
                path = FOUND / f"{name}-{count}"
                path.write_bytes(data)
                print(f"written: {path}")
                raise
    print(f"executed {count}")
    return 0


def guided(name: str, seconds: float, seed: int) -> int:
    """Feed one target what atheris finds to lead somewhere new."""
    import atheris

    with atheris.instrument_imports(include=["dnsguard"]):
        from tests.fuzz import targets
        from tests.fuzz.corpus import mutate, seeds

    FOUND.mkdir(exist_ok=True)
    folder = FOUND / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(name)):
        (folder / f"seed-{number}").write_bytes(data)
    chance = random.Random(seed or None)

    def custom(data: bytes, limit: int, number: int) -> bytes:
        if number % 2:
            return bytes(atheris.Mutate(data, limit))
        return mutate(data, chance)[:limit]

    atheris.Setup(
        [
            "fuzz", f"-max_total_time={max(1, int(seconds))}", f"-max_len={LINE}", "-timeout=20",
            f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", f"-seed={seed}",
            "-rss_limit_mb=1500", str(folder),
        ],
        targets.TARGETS[name],
        custom_mutator=custom,
    )  # fmt: skip
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
