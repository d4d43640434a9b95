"""`dnsguard node` on a node of three network namespaces: who answers, whatever is killed.

As root, with `ip` and `nft`; nothing outside the namespaces is touched. What takes longer is part
of `make chaos`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsguard.kube.node_plan import LEASE_SECONDS
from tests.kube.node_world import LINK_LOCAL, SERVICE, WAY, Watched, World, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"NOT TESTED: {missing()}")
SLACK = 3.0  # for the processes of the test itself, on a busy machine


@pytest.fixture
def world() -> Iterator[World]:
    with World() as found:
        yield found


def keeping(world: World, *words: str) -> Watched:
    watched = world.begin(*words)
    watched.said("stay here")
    return watched


def kill(pids: list[int]) -> None:
    """Kill processes, and wait until each has let go of its sockets."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while any(state(pid) not in "ZX" or threads(pid) > 1 for pid in pids):
        time.sleep(0.01)


def threads(pid: int) -> int:
    """How many threads a process has left: sockets are open until the last one is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def state(pid: int) -> str:
    """The state of a process: see proc_pid_stat(5); X if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def test_a_node_is_set_up_survives_its_resolver_and_is_left_as_it_was(world: World) -> None:
    """The blackhole of kubernetes/dns#438: killed for its memory, and packets still kept for it."""
    assert world.who(SERVICE) == "cluster"
    watched = keeping(world)
    assert world.everyone() == {"dnsguard"}
    supervisor, *workers = watched.workers()
    assert len(workers) == 2
    kill(workers[:1])
    assert world.everyone() == {"dnsguard"}  # the other one answers
    os.kill(supervisor, signal.SIGSTOP)  # so that nobody starts them again
    while state(supervisor) != "T":
        time.sleep(0.01)
    kill(watched.workers()[1:])
    watched.said("go to cluster DNS")
    assert world.everyone() == {"cluster"}
    os.kill(supervisor, signal.SIGCONT)
    watched.said("stay here", times=2)
    assert world.everyone() == {"dnsguard"}
    assert watched.end() == 0
    assert world.left() == ""
    assert world.who(SERVICE) == "cluster"


@pytest.mark.chaos
def test_a_watcher_that_is_killed_leaves_nobody_in_the_dark(world: World) -> None:
    """Its word to the kernel ends by itself; the next one finds what it left and clears up."""
    watched = keeping(world)
    watched.kill()
    took = max(world.until(address, "cluster") for address in (LINK_LOCAL, SERVICE))
    assert took < LEASE_SECONDS + SLACK
    assert world.everyone() == {"cluster"}
    assert "dnsguard" in world.left()
    watched = keeping(world)
    assert world.everyone() == {"dnsguard"}
    refused = subprocess.run(
        world.dnsguard("node", "teardown"), capture_output=True, text=True, check=False
    )
    assert (refused.returncode, "stop it first" in refused.stderr) == (1, True)
    watched.kill()
    said = world.inside(*world.dnsguard("node", "teardown")[4:])
    assert said.splitlines() == ["rules (nftables)", "interface dnsguard0"]
    assert world.left() == ""
    assert "nothing was there" in world.inside(*world.dnsguard("node", "teardown")[4:])


@pytest.mark.chaos
def test_a_newer_one_takes_over_and_no_query_is_lost(world: World) -> None:
    old = keeping(world)
    with (
        world.asking(SERVICE, 200, patience=10.0) as service,
        world.asking(LINK_LOCAL, 200, patience=10.0) as link_local,
    ):
        new = world.begin()
        new.said("taking over from 1 watcher")
        old.said("a newer watcher acts")
        time.sleep(1)
        assert old.end() == 0
        old.said("rules and addresses stay")
        time.sleep(1)
    for told in (service.told, link_local.told):
        assert list(told["answers"]) == ["192.0.2.1"], told
        assert told["asked"] > 300
        print(f"{told['asked']} questions, none lost, {told['gap'] * 1000:.0f} ms at most without")
    assert world.everyone() == {"dnsguard"}
    assert new.end() == 0
    assert world.left() == ""


@pytest.mark.chaos
def test_an_older_one_acts_again_when_its_successor_is_killed(world: World) -> None:
    old = keeping(world)
    new = world.begin()
    new.said("taking over from 1 watcher")
    old.said("a newer watcher acts")
    new.kill()
    old.said("this one acts again")
    time.sleep(LEASE_SECONDS + 1)
    assert world.everyone() == {"dnsguard"}


@pytest.mark.chaos
def test_how_long_nobody_answers(world: World) -> None:
    """All of it killed at once: nobody answers for the lease's length."""
    watched = keeping(world)
    with world.asking(SERVICE, 200, patience=1.0) as asking:
        time.sleep(1)
        watched.kill()
        time.sleep(LEASE_SECONDS + 3)
    told = asking.stop()
    print(f"{told['gap']:.1f} s without an answer after everything was killed; {told}")
    assert 1 < told["gap"] < LEASE_SECONDS + SLACK
    assert {"192.0.2.1", "192.0.2.2"} <= set(told["answers"])


@pytest.mark.chaos
def test_a_stopped_resolver_is_found_out_by_its_silence(world: World) -> None:
    watched = keeping(world)
    for pid in watched.workers():
        os.kill(pid, signal.SIGSTOP)
    watched.said("does not answer")
    assert world.everyone() == {"cluster"}
    for pid in watched.workers():
        os.kill(pid, signal.SIGCONT)
    watched.said("stay here", times=2)
    assert world.everyone() == {"dnsguard"}


@pytest.mark.chaos
def test_rules_and_addresses_that_somebody_removes_come_back(world: World) -> None:
    watched = keeping(world)
    world.inside("nft", "delete", "table", "ip", "dnsguard")
    watched.said("the rules were gone")
    world.inside("nft", "flush", "chain", "ip", "dnsguard", "from_pods")
    world.inside("ip", "address", "del", f"{LINK_LOCAL}/32", "dev", "dnsguard0")
    watched.said("somebody had changed the rules")
    assert LINK_LOCAL in watched.said("put back: address")
    world.until(LINK_LOCAL, "dnsguard")
    assert world.everyone() == {"dnsguard"}


@pytest.mark.chaos
def test_a_resolver_in_a_container_of_its_own(world: World) -> None:
    """`node setup`, `serve` and `node watch`, as the chart has them; the watcher is killed."""
    place = ("--address", LINK_LOCAL, "--service-address", SERVICE, "--upstream", WAY)
    world.inside(*world.dnsguard("node", "setup", *place)[4:])
    assert world.everyone() == {"cluster"}
    pins = f"pins.alive.dnsguard.invalid={LINK_LOCAL},{SERVICE}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DNSGUARD_")}
    resolver = Watched(
        world.dnsguard(
            "serve", "--takeover", "--listen", f"{LINK_LOCAL}:53", "--listen", f"{SERVICE}:53",
            "--upstream", WAY, "--no-state", "--admin", "off", "--set", "workers=2", "--set", pins,
            "--set", "pins.here.test=192.0.2.1",
        ),
        environ,
    )  # fmt: skip
    try:
        watched = world.begin(kind="watch")
        watched.said("stay here")
        assert world.everyone() == {"dnsguard"}
        watched.kill()
        world.until(SERVICE, "cluster")
        watched = world.begin(kind="watch")
        watched.said("stay here")
        assert world.everyone() == {"dnsguard"}
        assert watched.end() == 0
        assert world.left() == ""
    finally:
        resolver.kill()
        resolver.close()


@pytest.mark.chaos
def test_what_is_left_at_the_end_if_one_wishes_answers_from_cluster_dns(world: World) -> None:
    watched = keeping(world, "--at-end", "fallback")
    assert watched.end() == 0
    assert world.everyone() == {"cluster"}
    world.inside(*world.dnsguard("node", "teardown")[4:])
    assert world.left() == ""


@pytest.mark.chaos
def test_iptables_instead(world: World) -> None:
    """NodeLocal DNSCache's rules, with a lease by xt_recent; the fallback is a server itself."""
    watched = keeping(world, "--rules", "iptables", "--fallback", "10.244.9.2")
    assert world.everyone() == {"dnsguard"}
    assert "recent" in world.inside("iptables", "-t", "raw", "-S")
    watched.kill()
    took = world.until(SERVICE, "cluster")
    assert took < LEASE_SECONDS + SLACK
    assert world.who(LINK_LOCAL) == world.who(LINK_LOCAL, tcp=True) == "cluster"
    world.inside(*world.dnsguard("node", "teardown")[4:])
    for table in ("raw", "filter", "nat"):
        assert "dnsguard" not in world.inside("iptables", "-t", table, "-S")
    assert world.left() == ""


@pytest.mark.chaos
def test_an_address_that_somebody_has_is_left_to_them(world: World) -> None:
    world.inside("ip", "link", "add", "nodelocaldns", "type", "bridge")
    world.inside("ip", "address", "add", f"{LINK_LOCAL}/32", "dev", "nodelocaldns")
    watched = world.begin()
    assert watched.process.wait(30) == 1
    assert "NodeLocal DNSCache has it" in watched.said("nodelocaldns")
    world.inside("ip", "link", "del", "nodelocaldns")
    world.inside("ip", "link", "add", "kube-ipvs0", "type", "bridge")
    watched = world.begin()
    assert watched.process.wait(30) == 1
    watched.said("IPVS mode")


@pytest.mark.chaos
def test_a_resolver_that_cannot_start_is_said_and_leaves_nothing(world: World) -> None:
    other = (
        "import socket; s = socket.socket(2, 2); s.bind(('', 53)); print('', flush=True); input()"
    )
    stranger = subprocess.Popen(
        ["ip", "netns", "exec", world.node, sys.executable, "-c", other],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        watched = world.begin()
        assert watched.process.wait(60) == 1
        watched.said("Address already in use")
        watched.said("before it ever answered")
        assert world.left() == ""
    finally:
        stranger.communicate(b"\n", timeout=10)
