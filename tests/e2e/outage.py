"""The outage with the real parts: `python -m tests.e2e.outage --keep benchmarks` writes the report.

etcd, kube-apiserver and CoreDNS with its kubernetes plugin are cluster DNS. dnsguard and three
more CoreDNS, each caching in its own way, stand before it and are asked the same at the same
moments. The API server is killed, CoreDNS is restarted without it, the API server comes back to
nodes that it holds for dead, and in the end everything is well, with some pods in new places.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import Bench, Broken, Program, free_port, run_script, say
from benchmarks.peers.peer import MissingError
from tests.e2e import parts, report, shop
from tests.e2e.plane import HOST, ControlPlane
from tests.e2e.pods import NAMES, Lookup, Network, Pod, Usage
from tests.e2e.timeline import Phase
from tests.e2e.watch import Sight, Watch, ask_once

UPSTREAM, OWN = "cluster DNS itself", "dnsguard"
BEAT_SECONDS = 1.0
SETTLE_SECONDS = 120.0
# Longer than any TTL here: what was cached when the outage began is past it when a phase ends.
HEALTHY, KILLED, RESTARTED, DENIED, WELL = 45.0, 40.0, 100.0, 100.0, 90.0
READY = re.compile(r"ready")


@dataclass
class Run:
    """What came of it."""

    phases: list[Phase] = field(default_factory=list)
    moved_at: float = 0.0
    sights: list[Sight] = field(default_factory=list)
    systems: tuple[str, ...] = ()
    probes: dict[str, tuple[int, int]] = field(default_factory=dict)  # liveness, readiness
    lookups: dict[str, list[Lookup]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)  # of the sidecar's process
    usage: Usage | None = None  # of the same, during the phases
    pod_failed: str = ""  # why there was no pod, if there was none


class Cast:
    """Everyone who answers: cluster DNS, what it forwards to, and those before it."""

    def __init__(self, bench: Bench, plane: ControlPlane, here: str) -> None:
        self._bench, self._plane = bench, plane
        self._program = str(parts.core_dns())
        self._hosts = tuple(dict.fromkeys((HOST, here)))
        self.port = free_port()
        self._ready, self._outside = free_port(), free_port()
        self.ports = {UPSTREAM: self.port}
        self._core_dns("outside", shop.outside_corefile(self._outside), self._outside)
        self.cluster_dns = self.start_cluster_dns()

    def start_cluster_dns(self) -> Program:
        text = shop.cluster_corefile(
            self.port, self._hosts, str(self._plane.kubeconfig), self._ready, self._outside
        )
        return self._core_dns("cluster-dns", text, self.port)

    def restart_cluster_dns(self) -> None:
        """As a kubelet restarts a container that has died."""
        self.cluster_dns.kill()
        self.cluster_dns = self.start_cluster_dns()

    def start_caches(self) -> None:
        """Everyone who stands before cluster DNS; only once it answers rightly."""
        for name, options in shop.CACHES.items():
            self.ports[name] = port = free_port()
            self._core_dns(name, shop.cache_corefile(port, self.port, options), port)
        self.ports[OWN] = port = free_port()
        state = self._bench.directory / "state"
        state.mkdir()
        guard = self._bench.start(
            OWN,
            # As injection starts it, but for the port.
            [sys.executable, "-m", "dnsguard", "serve", f"--listen={HOST}:{port}",
             f"--admin={HOST}:0", f"--state-dir={state}", f"--upstream={HOST}:{self.port}",
             "--set=cache.max_bytes=16MiB", "--set=store.max_bytes=32MiB"],
            port=port,
        )  # fmt: skip
        wait_for(f"{OWN} to be ready", lambda: READY.search(guard.output()) is not None, guard)

    def right(self, moved: bool = False) -> bool:
        """Whether cluster DNS says the truth about everything."""
        truths = shop.truths(moved)
        seen = ask_once((HOST, self.port), truths)
        return all(
            one is not None and one == (truth.rcode, truth.data)
            for one, truth in zip(seen, truths, strict=True)
        )

    def denies(self) -> bool:
        """Whether cluster DNS denies every headless name."""
        truths = [truth for truth in shop.truths() if truth.kind == "headless"]
        seen = ask_once((HOST, self.port), truths)
        return all(one is not None and one[0] == "NXDOMAIN" for one in seen)

    def unsynced(self) -> bool:
        """Whether cluster DNS says SERVFAIL for what is in the cluster."""
        truths = [truth for truth in shop.truths() if truth.kind == "ClusterIP"]
        seen = ask_once((HOST, self.port), truths)
        return all(one is not None and one[0] == "SERVFAIL" for one in seen)

    def _core_dns(self, name: str, corefile: str, port: int) -> Program:
        file = self._bench.file(f"{name.replace(' ', '-')}.Corefile", corefile)
        return self._bench.start(name, [self._program, "-conf", str(file)], port=port)


def wait_for(
    what: str,
    true: Callable[[], bool],
    program: Program | None = None,
    seconds: float = SETTLE_SECONDS,
) -> None:
    """Wait until it is so. Raises Broken, with the program's last words, if it does not get so."""
    deadline = time.monotonic() + seconds
    while not true():
        dead = program is not None and program.process.poll() is not None
        if dead or time.monotonic() > deadline:
            said = f" {program.name} said:\n{program.tail()}" if program else ""
            raise Broken(f"waited {seconds:.0f} s in vain for {what}.{said}")
        time.sleep(0.2)


class Stage:
    """Carries the outage out, phase by phase."""

    def __init__(self, bench: Bench, plane: ControlPlane, cast: Cast, pod: Pod | None) -> None:
        self._bench, self._plane, self._cast, self._pod = bench, plane, cast, pod
        self.run = Run()

    def play(self) -> Run:
        """All of it; about six and a half minutes."""
        cast, run = self._cast, self.run
        cast.start_caches()
        run.systems = tuple(cast.ports)
        systems = {name: (HOST, port) for name, port in cast.ports.items()}
        watch = Watch(systems, shop.truths(), BEAT_SECONDS)
        before = self._pod.usage() if self._pod else None
        watch.start()
        try:
            with self._phase("healthy", HEALTHY):
                pass
            with self._phase("API server killed", KILLED):
                self._plane.kill()
            with self._phase("CoreDNS restarted", RESTARTED):
                cast.restart_cluster_dns()
                wait_for("CoreDNS to start unsynced", cast.unsynced, cast.cluster_dns)
            with self._phase("API server back, pods unready", DENIED):
                self._plane.start()
                self._plane.apply(*shop.slices(ready=False))
                wait_for("CoreDNS to deny headless names", cast.denies, cast.cluster_dns)
            with self._phase("all well again", WELL):
                run.moved_at = time.time()
                self._plane.apply(*shop.slices(moved=True))
                wait_for("CoreDNS to know where pods are", lambda: cast.right(moved=True))
        finally:
            watch.stop()
        run.sights = watch.sights
        if self._pod and before:
            run.usage = self._pod.usage().since(before)
            run.lookups = self._pod.lookups()
        return run

    @contextlib.contextmanager
    def _phase(self, name: str, seconds: float) -> Iterator[None]:
        """What happens in the block begins the phase; it lasts for `seconds` after that."""
        start = time.time()
        say(f"{name} ({seconds:.0f} s)")
        yield
        time.sleep(seconds)
        if self._pod is not None:
            self.run.probes[name] = (self._pod.probe("/livez"), self._pod.probe("/readyz"))
        self.run.phases.append(Phase(name, start, time.time()))


def expected(moved: bool) -> dict[str, str]:
    """What the clients in the pod are to see for their names."""
    known = {
        truth.name: ",".join(sorted(truth.data))
        for truth in shop.truths(moved)
        if truth.qtype == "A" and truth.data
    }
    found = {}
    for name in NAMES:
        for suffix in ("", f".shop.svc.{shop.DOMAIN}", f".svc.{shop.DOMAIN}", f".{shop.DOMAIN}"):
            if name + suffix in known:
                found[name] = known[name + suffix]
                break
    return found


def prepare(bench: Bench, plane: ControlPlane, here: str) -> Cast:
    """The shop in the cluster, and cluster DNS that knows it."""
    plane.apply(*shop.namespaces())
    plane.apply(*shop.services(), *shop.slices())
    cast = Cast(bench, plane, here)
    wait_for("CoreDNS to know the cluster", cast.right, cast.cluster_dns)
    return cast


def begin(pod: Pod, upstream: str) -> dict[str, str]:
    """Build and play the pod; return what the kernel has of its sidecar once that is ready."""
    pod.build()
    pod.play(upstream)
    wait_for("the sidecar to be ready", lambda: pod.probe("/readyz") == 200)
    return pod.status()


def carry_out(bench: Bench, plane: ControlPlane, with_pod: bool = True) -> Run:
    """The whole run. Where the pod cannot be had the rest goes on, and the run says why not."""
    with contextlib.ExitStack() as undo:
        network, why = None, "not asked for"
        if with_pod:
            try:
                network = undo.enter_context(Network())
                why = ""
            except Broken as error:
                why = str(error)
        cast = prepare(bench, plane, network.here if network else HOST)
        pod: Pod | None = None
        status: dict[str, str] = {}
        if network:
            try:
                pod = Pod(bench, network)
                undo.callback(pod.remove)
                status = begin(pod, f"{network.here}:{cast.port}")
            except (Broken, MissingError) as error:
                say(f"there is no pod: {error}")
                pod, why = None, str(error)
        run = Stage(bench, plane, cast, pod).play()
        run.pod_failed, run.status = why, status
        return run


def main() -> int:
    """The run and its report, without the tests' verdict."""
    parser = argparse.ArgumentParser(description="An outage of the control plane, watched.")
    parser.add_argument(
        "--keep", type=Path, default=Path("build/e2e"), help="where the report goes"
    )
    parser.add_argument("--no-pod", action="store_true", help="without podman")
    given = parser.parse_args()
    with Bench() as bench:
        plane = ControlPlane(bench)
        plane.start()
        run = carry_out(bench, plane, with_pod=not given.no_pod)
        for path in report.write(run, given.keep):
            say(f"written: {path}")
    return 0


if __name__ == "__main__":
    run_script(main)
