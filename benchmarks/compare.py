"""dnsguard beside every server that can be had: speed, latency, memory, start, idle, outage.

One run measures everyone in turn, several rounds, and writes the medians with tables, charts and
all samples. `--quick` takes minutes and shows that all of it works; its numbers are not worth
keeping. Without it the run wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accounting, footprint, harness, outage, rates
from benchmarks.harness import Bench, say
from benchmarks.meters import DnsperfMeter, OwnMeter
from benchmarks.peers.everyone import EVERYONE
from benchmarks.peers.peer import MissingError, Peer, first_line
from benchmarks.peers.sources import BUILD, DebianPackage
from benchmarks.reporting import write_json
from benchmarks.results import Facts, Report
from benchmarks.rounds import Run
from benchmarks.stage import Processors, Stage
from benchmarks.works import FULL, NORMAL, QUICK, SMOKE, Plan, Work

HERE = Path(__file__).resolve().parent
WORKS: tuple[Work, ...] = (*rates.WORKS, *footprint.WORKS, *outage.WORKS)
TOOLS = (
    DebianPackage("nsd", "nsd", ("nsd.service",)),
    DebianPackage("dnsperf", "dnsperf"),
)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    plans = parser.add_mutually_exclusive_group()
    for plan, meaning in (
        (QUICK, "a second of everything: does it work?"),
        (FULL, "more rounds, and memory with a million entries"),
        (SMOKE, "the harness's own test: no NSD, no dnsperf, nothing installed"),
    ):
        plans.add_argument(
            f"--{plan.name}", dest="plan", action="store_const", const=plan, help=meaning
        )
    parser.add_argument("--servers", help="only these, separated by commas")
    parser.add_argument("--works", help="only these, separated by commas")
    parser.add_argument("--rounds", type=int, help="instead of the plan's")
    parser.add_argument(
        "--meter", choices=("own", "dnsperf"), default="own", help="what loads the servers"
    )
    parser.add_argument("--output", type=Path, help="where RESULTS.md goes")
    parser.add_argument("--install-only", action="store_true", help="get all servers, and end")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the measured server on one processor, everything else on another",
    )
    options = parser.parse_args(words)
    options.plan = options.plan or NORMAL
    for what, known in (("servers", [p.name for p in EVERYONE]), ("works", [w.key for w in WORKS])):
        given = getattr(options, what)
        chosen = given.split(",") if given else known
        for word in set(chosen) - set(known):
            parser.error(f"--{what} {word}: known are {', '.join(known)}")
        setattr(options, what, [word for word in known if word in chosen])
    if options.output is None:
        # Only a run of full length writes where results are kept.
        options.output = BUILD / options.plan.name if options.plan in (QUICK, SMOKE) else HERE
    return options


def obtain(names: Sequence[str]) -> tuple[list[Peer], dict[str, str], dict[str, str]]:
    """The peers that are here, their versions, and why the others are not."""
    peers: list[Peer] = []
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in EVERYONE:
        if peer.name not in names:
            continue
        try:
            program = peer.source.obtain(BUILD)
        except MissingError as reason:
            missing[peer.name] = str(reason)
            say(f"{peer.name} is left out: {reason}")
            continue
        peers.append(peer)
        versions[peer.name] = peer.version(program)
        say(f"{peer.name} {versions[peer.name]}")
    return peers, versions, missing


def install_tools(smoke: bool) -> None:
    if smoke:
        return
    for tool in TOOLS:
        try:
            tool.obtain(BUILD)
        except MissingError as reason:
            raise SystemExit(f"{tool.program}: {reason}") from None
    harness.require("nsd", "dnsperf", "taskset")


def revision() -> str:
    run = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or "unknown"


def shortened(plan: Plan, rounds: int | None) -> Plan:
    if rounds is None:
        return plan
    few = min(plan.few_rounds, rounds)
    return replace(plan, rounds=rounds, few_rounds=few, start_rounds=min(plan.start_rounds, rounds))


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    plan = shortened(options.plan, options.rounds)
    smoke = options.plan is SMOKE
    install_tools(smoke)
    peers, versions, missing = obtain(options.servers)
    if options.install_only:
        return 0
    works = [work for work in WORKS if work.key in options.works]
    machine = accounting.machine()
    cpus = Processors.apart() if options.pin else Processors()
    meter = DnsperfMeter(cpus.load) if options.meter == "dnsperf" else OwnMeter(cpus.load)
    started, begun = time.strftime("%Y-%m-%d %H:%M %z"), time.monotonic()
    with Bench() as bench:
        stage = Stage(bench, meter, cpus, nsd=not smoke)
        # A run of hours that is cut off leaves its samples there.
        unfinished = options.output / "results" / "unfinished.json"
        keep = partial(write_json, unfinished)
        outcome = Run(stage, plan, works, peers, keep).carry_out()
    facts = Facts(
        command=shlex.join(["python", *sys.argv] if words is None else ["compare.py", *words]),
        meter=f"{meter.name} {meter.version()}",
        machine=machine,
        pinned=cpus.server is not None,
        upstream="a stand-in" if smoke else first_line(Path("nsd"), "-v"),
        revision=revision(),
        started=started,
        minutes=(time.monotonic() - begun) / 60,
        versions=versions,
        missing=missing,
    )
    report = Report(plan, works, peers, outcome, facts)
    print(report.plain())
    report.write(options.output, charts_wanted=not smoke)
    unfinished.unlink(missing_ok=True)
    say(f"written: {options.output / 'RESULTS.md'}")
    return 0


if __name__ == "__main__":
    harness.run_script(main)
