"""Faults that a network and an operating system have, on a real `serve`, in namespaces of its own.

`python -m tests.net.faults` plays all of them and prints the table of docs/hardening.md; with names
it plays those. Needs root, `ip`, `nft`. The upstream is in one namespace, dnsguard and its clients
in another; nothing leaves them. For every fault it is seen that known names are answered while it
lasts (P1), loudly (P9), with few packets to the upstream (P5), and freshly once it is over (P3),
and that the process lives and answers every query once (P7).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dns.edns
import dns.flags
import dns.message

from tests.core.build import query
from tests.net.faults_machine import (
    DAY,
    DESCRIPTORS,
    Group,
    bound,
    every_clock,
    hold,
    let_go,
    starve,
    step,
    step_back,
    unbound,
    wall_clock,
)

UP, VIP, OTHER, HERE = "10.9.0.1", "10.96.0.10", "10.9.0.3", "10.9.0.2"
NAMES = [f"web{number}.cluster.local" for number in range(40)]
RECHECK = 1.0
PATIENCE = 1.9  # seconds: `stale.client_timeout` is at most 1.8
CACHE, MEMORY = 16 << 20, 80 << 20  # octets; what a sidecar's memory is bounded to for that cache
PACKETS_MAX = 12  # a second, to an upstream that is gone


def sh(*words: str, quiet: bool = False) -> None:
    """Run a command; raises if it fails, unless it may."""
    subprocess.run(words, check=not quiet, capture_output=True)


@dataclass
class Heard:
    """One reply and how long it took, in seconds."""

    rcode: int
    data: list[str]
    ede: list[int]
    took: float


@dataclass
class Row:
    """What was seen of one fault."""

    fault: str
    first: float = 0.0  # the longest wait for a known name, the first time
    later: float = 0.0  # and once it is known that the upstream is gone
    answered: int = 0
    loud: int = 0
    packets: float = 0.0  # a second
    fresh: float = 0.0  # seconds after its end until an answer is fresh
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "held" if not self.broken else "; ".join(self.broken)
        return (
            f"| {self.fault} | {self.answered} of {2 * len(NAMES)} | {self.first * 1000:.0f} ms | "
            f"{self.later * 1000:.1f} ms | {self.loud} | {self.packets:.1f} | {self.fresh:.1f} s | "
            f"{verdict} |"
        )


class World:
    """The two namespaces, the upstream in one and dnsguard in the other."""

    def __init__(
        self, *arguments: str, upstream: str = UP, folder: Path | None = None,
        before: Sequence[str] = (), environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder or Path()
        self.before = before
        self.environ = environ or {}
        self.memory = MEMORY
        self.group: Group | None = None
        self.holder: subprocess.Popen[str] | None = None
        self.tag = f"dg{os.getpid()}"
        self.up, self.down = f"{self.tag}u", f"{self.tag}d"
        self.upstream_url = upstream
        self.arguments = arguments
        self.behaviour: subprocess.Popen[str] | None = None
        self.server: subprocess.Popen[str] | None = None

    def __enter__(self) -> World:
        for name in (self.up, self.down):
            sh("ip", "netns", "add", name)
            self.inside(name, "ip", "link", "set", "lo", "up")
        sh("ip", "-n", self.up, "link", "add", "v", "type", "veth", "peer", "v", "netns", self.down)
        for name, addresses in ((self.up, (UP, OTHER)), (self.down, (HERE,))):
            for address in addresses:
                self.inside(name, "ip", "addr", "add", f"{address}/24", "dev", "v")
            self.inside(name, "ip", "link", "set", "v", "up")
        self.inside(self.down, "ip", "route", "add", "default", "via", UP)
        self.inside(self.up, "ip", "route", "add", "default", "via", HERE)
        self.start_upstream()
        self.start_server()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.server, self.behaviour, self.holder):
            if process is not None:
                _end(process)
        if self.group is not None:
            self.group.remove()
        for name in (self.up, self.down):
            sh("ip", "netns", "del", name, quiet=True)

    def kill(self) -> None:
        """Kill dnsguard."""
        assert self.server is not None
        _end(self.server)

    def stop_holder(self) -> None:
        """End the client that holds connections."""
        assert self.holder is not None
        _end(self.holder)

    def inside(self, name: str, *words: str) -> None:
        sh("ip", "netns", "exec", name, *words)

    def nft(self, name: str, rules: str) -> None:
        """Have these rules in a namespace, in place of what it had."""
        self.inside(name, "nft", "flush ruleset")
        if rules:
            self.inside(name, "nft", f"table ip t {{ {rules}; }}")

    def raise_interface(self) -> None:
        """Take up the interface of dnsguard's side again, with its route."""
        self.inside(self.down, "ip", "link", "set", "v", "up")
        self.inside(self.down, "ip", "route", "replace", "default", "via", UP)

    def signal(self, number: signal.Signals) -> None:
        """Send the upstream a signal."""
        assert self.behaviour is not None
        self.behaviour.send_signal(number)

    def start_upstream(self) -> None:
        self.behaviour = subprocess.Popen(
            ["ip", "netns", "exec", self.up, sys.executable, "-m", "tests.net.faults_upstream"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self.behaviour.stdout is not None
        self.behaviour.stdout.readline()

    def tell(self, order: str) -> int:
        """Have the upstream behave so; return how many packets it had had until then."""
        assert self.behaviour is not None
        assert self.behaviour.stdin is not None
        assert self.behaviour.stdout is not None
        self.behaviour.stdin.write(order + "\n")
        return int(self.behaviour.stdout.readline())

    def start_server(self) -> None:
        command = [
            "ip", "netns", "exec", self.down, *self.before, sys.executable, "-m", "dnsguard",
            "serve", "--listen", "127.0.0.1:5300", "--admin", "off",
            "--upstream", self.upstream_url,
            "--set", f"stale.recheck={RECHECK}s", *self.arguments,
        ]  # fmt: skip
        environ = {k: v for k, v in os.environ.items() if not k.startswith("DNSGUARD_")}
        environ.update(self.environ)
        self.server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)
        assert self.server.stderr is not None
        for line in self.server.stderr:
            if " ready " in line:
                return
        raise SystemExit("serve did not start")

    def run(self, module: str, *arguments: str) -> list[str]:
        """Run a module where dnsguard and its clients are; return the lines that it wrote."""
        child = subprocess.run(
            ["ip", "netns", "exec", self.down, sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        return child.stdout.splitlines()

    def until_fresh(self, name: str) -> float:
        """Ask until an answer is fresh; return how many seconds that took."""
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            (heard,) = self.ask([name])
            if heard.rcode == 0 and heard.data and not heard.ede:
                break
            time.sleep(0.1)
        return time.monotonic() - begun

    def ask_all(self) -> None:
        """Ask for every name once."""
        self.ask(NAMES)

    def ask(self, names: Sequence[str]) -> list[Heard]:
        """Ask from inside the namespace, one name after the other."""
        found = []
        for line in self.run("tests.net.faults", "--ask", *names):
            rcode, took, ede, *data = line.split(" ")
            codes = [int(code) for code in ede.split(",") if code != "-"]
            found.append(Heard(int(rcode), data, codes, float(took)))
        return found


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a process, whatever it is doing, and close what it was heard by."""
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def asked(names: Sequence[str]) -> Iterator[str]:
    """Be the client: one line for each name. A second reply to one query would end it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", 5300))
    for number, name in enumerate(names):
        wire = query(name, edns=1232, id=number + 1)
        begun = time.perf_counter()
        sock.settimeout(6.0)
        sock.send(wire)
        try:
            reply = dns.message.from_wire(sock.recv(4096))
        except (TimeoutError, OSError):
            yield f"-1 {time.perf_counter() - begun:.6f} -"
            continue
        took = time.perf_counter() - begun
        assert reply.id == number + 1, "a second reply to one query"
        codes = [o.code for o in reply.options if isinstance(o, dns.edns.EDEOption)]
        data = [item.to_text() for rrset in reply.answer for item in rrset]
        ede = ",".join(str(int(code)) for code in codes) or "-"
        yield " ".join([str(int(reply.rcode())), f"{took:.6f}", ede, *data])
    sock.close()


# -- the faults ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """How to begin and to end it.

    `gone` is whether the upstream cannot be had at all meanwhile, `dead` whether everything that
    is remembered has come to its end; `before` stands before the server's command, and `environ`
    is what its environment has besides.
    """

    begin: Callable[[World], object]
    end: Callable[[World], object]
    gone: bool = True
    upstream: str = UP
    dead: bool = False
    before: tuple[str, ...] = ()
    environ: Callable[[Path], Mapping[str, str]] = lambda _: {}
    also: tuple[str, ...] = ()  # promises that are judged besides

    def shows(self) -> set[str]:
        """The promises that this fault puts to the test."""
        if self.dead:
            return {"P2", "P7", "P3", *self.also}
        return {"P1", "P3", "P7", *self.also} | ({"P5", "P9"} if self.gone else set())


def _told(order: str, gone: bool = True, upstream: str = UP) -> Fault:
    return Fault(lambda w: w.tell(order), lambda w: w.tell("ok"), gone, upstream)


def _ruled(where: str, rules: str, gone: bool = True, upstream: str = UP) -> Fault:
    return Fault(
        lambda w: w.nft(getattr(w, where), rules), lambda w: w.nft(getattr(w, where), ""),
        gone, upstream,
    )  # fmt: skip


def _flow(address: str) -> str:
    return f"chain o {{ type nat hook output priority -100; ip daddr {VIP} dnat to {address}; }}"


def _stop(world: World) -> None:
    """Stop the process for a while, with the upstream gone when it wakes."""
    assert world.server is not None
    world.ask(NAMES[:1])
    world.server.send_signal(signal.SIGSTOP)
    world.tell("silent")
    time.sleep(STOPPED[0])
    world.server.send_signal(signal.SIGCONT)


def _kill(world: World) -> None:
    """Kill the process with the upstream gone, and start it again."""
    assert world.server is not None
    time.sleep(1.5)  # the flush interval is a second
    world.tell("silent")
    world.kill()
    world.start_server()


def _move(world: World) -> None:
    """Have new connections go elsewhere, and those that are open lead to where nobody is."""
    world.nft(world.down, _flow(OTHER))
    world.nft(world.up, HOOK + f"ip daddr {UP} tcp dport 53 drop; }}")


STOPPED = [60.0]
HOOK = "chain i { type filter hook input priority 0; "
LOSS = "udp dport 53 numgen random mod 2 0 drop; }"
FILTER = "chain i { type filter hook input priority 0; udp dport 53 %s; tcp dport 53 %s; }"
OUTPUT = "chain o { type filter hook output priority 0; udp dport 53 %s; tcp dport 53 %s; }"
FAULTS: dict[str, Fault] = {
    "upstream silent": _told("silent"),
    "upstream's port closed": _told("closed"),
    "SERVFAIL to everything": _told("servfail"),
    "REFUSED to everything": _told("refused"),
    "garbage": _told("garbage"),
    "answers five seconds late": _told("late"),
    "answers twice": _told("twice", gone=False),
    "answers out of order": _told("shuffled", gone=False),
    "answers from another port": _told("port"),
    "answers to another port of ours": _told("astray"),
    "upstream stopped (SIGSTOP)": Fault(
        lambda w: w.signal(signal.SIGSTOP), lambda w: w.signal(signal.SIGCONT)
    ),
    "packets dropped at the upstream (nft)": _ruled("up", FILTER % ("drop", "drop")),
    "packets rejected (nft, ICMP)": _ruled("up", FILTER % ("reject", "reject")),
    "sending forbidden (nft, EPERM)": _ruled("down", OUTPUT % ("drop", "drop")),
    "half of all packets lost (nft)": _ruled("up", HOOK + LOSS, gone=False),
    "TCP reset (nft), upstream over TCP": _ruled(
        "up", HOOK + "tcp dport 53 reject with tcp reset; }",
        upstream=f"tcp://{UP}",
    ),
    "interface down": Fault(
        lambda w: w.inside(w.down, "ip", "link", "set", "v", "down"),
        lambda w: w.raise_interface(),
    ),
    "no route (EHOSTUNREACH)": Fault(
        lambda w: w.inside(w.down, "ip", "route", "add", "unreachable", f"{VIP}/32"),
        lambda w: w.inside(w.down, "ip", "route", "del", "unreachable", f"{VIP}/32"),
        upstream=VIP,
    ),
    "address moved to a dead pod and back (conntrack)": Fault(
        lambda w: w.nft(w.down, _flow("10.9.0.77")), lambda w: w.nft(w.down, _flow(OTHER)),
        upstream=VIP,
    ),
    "dnsguard stopped for a minute (SIGSTOP)": Fault(_stop, lambda w: w.tell("ok")),
    "dnsguard killed (kill -9) and started again": Fault(
        _kill, lambda w: w.tell("ok"), also=("P4",)
    ),
    "address moved under an open connection (conntrack), upstream over TCP": Fault(
        _move, lambda _: None, gone=False, upstream=f"tcp://{VIP}"
    ),
    "wall clock a day ahead": Fault(step(DAY), step_back, environ=wall_clock, also=("P2",)),
    "wall clock a day behind": Fault(step(-DAY), step_back, environ=wall_clock, also=("P2",)),
    "wall clock a day ahead after a kill": Fault(
        step(DAY, killed=True), step_back, environ=wall_clock, also=("P2", "P4")
    ),
    "wall clock a day behind after a kill": Fault(
        step(-DAY, killed=True), step_back, environ=wall_clock, also=("P2", "P4")
    ),
    "wall clock four days ahead after a kill": Fault(
        step(4 * DAY, killed=True), step_back, environ=wall_clock, also=("P2", "P4")
    ),
    "the machine slept for an hour (every clock ahead)": Fault(
        step(3600), lambda w: w.tell("ok"), environ=every_clock
    ),
    "the machine slept for four days": Fault(
        step(4 * DAY), lambda w: w.tell("ok"), dead=True, environ=every_clock
    ),
    "memory bounded (control group), a flood of names": Fault(bound, unbound, also=("P6",)),
    "killed for memory under load (OOM) and started again": Fault(
        starve, unbound, also=("P4",)
    ),
    "64 descriptors, 200 connections": Fault(
        hold, let_go, before=("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"), also=("P6",)
    ),
}  # fmt: skip


PROMISES = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9")
# What is put to the test elsewhere, each by one command or test: a row of the table too.
ELSEWHERE: dict[str, tuple[str, set[str]]] = {
    "system calls of the network that fail, signals at them": (
        "tests/net/faults_calls.py", {"P1", "P3", "P7"}),
    "killed at every system call of the store": ("tests/store/test_chaos.py", {"P1", "P4", "P9"}),
    "every system call of the store fails": ("tests/store/test_chaos.py", {"P1", "P4", "P7"}),
    "disk full, disk read-only, files cut and turned": (
        "tests/store/test_chaos.py", {"P1", "P4", "P7"}),
    "a million names that nobody has asked before": ("benchmarks/floods.py", {"P1", "P6", "P7"}),
    "three times the questions that can be under way": ("benchmarks/floods.py", {"P1", "P6", "P7"}),
    "2,000 connections that idle or dribble": ("benchmarks/floods.py", {"P6", "P7"}),
    "mass denials and mass empty answers": ("tests/core/test_guarding.py", {"P2", "P8", "P9"}),
    "seeded storms of all of it, in virtual time": (
        "tests/core/storms.py", {"P1", "P2", "P3", "P5", "P6", "P7", "P8", "P9"}),
    "mutated messages at both faces of a running server": (
        "tests/fuzz/faces.py", {"P6", "P7"}),
    "a worker killed, a worker that stands still": (
        "tests/workers/test_supervisor.py", {"P1", "P4", "P7"}),
    "another instance in the place of a running one, its upstream gone": (
        "tests/test_takeover.py", {"P1", "P7"}),
    "the shared store stopped, killed, full of what is not ours": (
        "tests/store/test_shared.py", {"P1", "P7"}),
    "a node's resolver stopped or killed, its watcher, its rules gone": (
        "tests/kube/test_node.py", {"P7"}),
    "the library of outages, in virtual time": (
        "tests/sim/replays.py", {"P1", "P2", "P3", "P5", "P7"}),
}  # fmt: skip


def table() -> str:
    """Return the table of faults and promises in docs/hardening.md: what is judged under which."""
    lines = ["| fault | by | " + " | ".join(PROMISES) + " |", "|---|---|" + "---|" * len(PROMISES)]
    rows = {name: ("tests/net/faults.py", fault.shows()) for name, fault in FAULTS.items()}
    for name, (place, shown) in {**rows, **ELSEWHERE}.items():
        marks = ["x" if promise in shown else "" for promise in PROMISES]
        lines.append(f"| {name} | `{place}` | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


def play(name: str) -> Row:
    """Play one fault and return what was seen."""
    fault, row = FAULTS[name], Row(name)
    with (
        tempfile.TemporaryDirectory(prefix="dnsguard-fault-") as name_of_folder,
        _world(fault, Path(name_of_folder)) as world,
    ):
        if fault.upstream.endswith(VIP):
            world.nft(world.down, _flow(UP))
            world.inside(world.down, "ip", "route", "replace", "default", "via", UP)
        good = world.ask(NAMES)
        if [heard.rcode for heard in good] != [0] * len(NAMES):
            row.broken.append(f"not even before: {good[0]}")
            return row
        time.sleep(1.2)  # their TTL is a second
        fault.begin(world)
        first = world.ask(NAMES)
        before = world.tell("?") if "SIGSTOP" not in name or "dnsguard" in name else 0
        begun = time.monotonic()
        time.sleep(2.0)
        later = world.ask(NAMES)
        if before:
            row.packets = (world.tell("?") - before) / (time.monotonic() - begun)
        row.first = max(heard.took for heard in first)
        row.later = sorted(heard.took for heard in later)[-2]
        both = [*first, *later]
        row.answered = sum(heard.rcode == 0 and bool(heard.data) for heard in both)
        row.loud = sum(3 in heard.ede for heard in both)
        fault.end(world)
        row.fresh = world.until_fresh(NAMES[0])
        judge(row, fault, both)
        if world.server is None or world.server.poll() is not None:
            row.broken.append("P7: it ended")
        if fault.begin is bound and world.group is not None and world.group.kills():
            row.broken.append("P6: killed for its memory")
        if fault.begin is starve and world.group is not None and not world.group.kills():
            row.broken.append("it was not killed for its memory")
    return row


def _world(fault: Fault, folder: Path) -> World:
    state = folder / "state"
    return World(
        "--state-dir", str(state), "--set", f"cache.max_bytes={CACHE}", upstream=fault.upstream,
        folder=folder, before=fault.before, environ=fault.environ(folder),
    )  # fmt: skip


def judge(row: Row, fault: Fault, heard: Sequence[Heard]) -> None:
    """Hold what was seen against the promises."""
    if fault.dead:
        if row.answered:
            row.broken.append(f"P2: {row.answered} served past their end")
        if row.fresh > RECHECK + 2.0:
            row.broken.append(f"P3: fresh after {row.fresh:.1f} s")
        return
    if row.answered != len(heard):
        row.broken.append(f"P1: {len(heard) - row.answered} without data")
    if row.first > PATIENCE:
        row.broken.append(f"P1: the first took {row.first:.1f} s")
    if fault.gone and row.loud != len(heard):
        row.broken.append(f"P9: {len(heard) - row.loud} stale ones do not say so")
    if fault.gone and row.packets > PACKETS_MAX:
        row.broken.append(f"P5: {row.packets:.0f} packets a second")
    if row.fresh > RECHECK + 2.0:  # a probe's pause, a round trip, and the processes of the test
        row.broken.append(f"P3: fresh after {row.fresh:.1f} s")


def main(arguments: Sequence[str]) -> int:
    """Play the faults that are named, or all."""
    if arguments[:1] == ["--ask"]:
        for line in asked(arguments[1:]):
            print(line, flush=True)
        return 0
    if arguments[:1] == ["--table"]:
        print(table(), end="")
        return 0
    print("| fault | answered (P1) | slowest at first | slowest later | marked stale (P9) "
          "| packets a second (P5) | fresh after (P3) | |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    broken = 0
    for name in FAULTS:
        if not arguments or any(re.search(text, name) for text in arguments):
            row = play(name)
            broken += bool(row.broken)
            print(row, flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
