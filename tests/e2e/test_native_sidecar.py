"""Native sidecars where they are known: pods injected without --classic, under a real kubelet.

The kubelet and its containerd are those of a node; the API server and cluster DNS are real as well.
What a native sidecar is chosen for is held to here: it is there before the init containers, it
comes back by itself, it ends after everything else, and a pod that is done is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import Bench
from tests.e2e import outage, parts, pods, shop
from tests.e2e.containers import BASE, IMAGE, Podman
from tests.e2e.outage import Cast, wait_for
from tests.e2e.plane import ControlPlane
from tests.e2e.pods import LIBCS, MUSL_IMAGE, NAMES
from tests.e2e.real_node import RealNode

pytestmark = pytest.mark.e2e
NAMESPACE = "shop"
ROUNDS = 3  # of look-ups, until they are judged
ONCE = "import socket; print(socket.getaddrinfo('cart', None, socket.AF_INET)[0][4][0])"
# Goes on asking for three seconds after it was told to end, and then writes what came of it.
LATE = """\
import signal, socket, sys, time
signal.sigwait({signal.SIGTERM})
with open("/out/late", "w") as out:
    for _ in range(30):
        try:
            print(socket.getaddrinfo("cart", None, socket.AF_INET)[0][4][0], file=out, flush=True)
        except OSError as error:
            print(error, file=out, flush=True)
        time.sleep(0.1)
    print("end", file=out)
"""
LATE_READY = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM});"
CART = shop.CLUSTER_IPS["shop", "cart"]


@pytest.fixture(scope="module")
def node(bench: Bench, plane: ControlPlane, podman: Podman) -> Iterator[RealNode]:
    bench.directory.chmod(0o755)  # the sidecar is not root
    pods.build_musl(podman)
    with RealNode(bench, plane) as found:
        found.load(podman, IMAGE, BASE, MUSL_IMAGE)
        yield found


@pytest.fixture(scope="module")
def cast(bench: Bench, plane: ControlPlane, node: RealNode) -> Iterator[Cast]:
    found = outage.prepare(bench, plane, node.here)
    yield found
    found.cluster_dns.stop()


def python(name: str, program: str) -> dict[str, Any]:
    """A container with a glibc and Python, and nothing of dnsguard."""
    return {"name": name, "image": BASE, "imagePullPolicy": "Never",
            "command": ["python3", "-c", program]}  # fmt: skip


def create(node: RealNode, plane: ControlPlane, cast: Cast, pod: dict[str, Any]) -> dict[str, Any]:
    """Inject a pod and have the node run it; return it as injected."""
    pod["spec"]["nodeName"] = node.name
    made = pods.injected(pod, f"{node.here}:{cast.port}")
    assert made["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    plane.apply(made)
    return made


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def made(node: RealNode, plane: ControlPlane, cast: Cast, out: Path) -> dict[str, Any]:
    """The pod of both clients, with an init container and one that is slow to end; it runs."""
    pod = pods.manifest()
    spec = pod["spec"]
    for container in spec["containers"]:
        container["imagePullPolicy"] = "Never"
    glibc = next(each for each in spec["containers"] if each["name"] == "glibc")
    glibc["volumeMounts"] = [{"name": "client", "mountPath": "/lookup", "readOnly": True}]
    late = python("late", LATE_READY + LATE)
    late["volumeMounts"] = [{"name": "out", "mountPath": "/out"}]
    spec["containers"].append(late)
    spec["initContainers"] = [python("first", ONCE)]
    spec["volumes"] = [
        {"name": "client", "hostPath": {"path": str(parts.client("glibc")), "type": "File"}},
        {"name": "out", "hostPath": {"path": str(out), "type": "Directory"}},
    ]
    injected = create(node, plane, cast, pod)
    wait_for("the pod to be ready", lambda: ready(seen(node)), node.kubelet)
    return injected


def seen(node: RealNode, name: str = "clients") -> dict[str, Any]:
    return node.pod(NAMESPACE, name)


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def restarts(node: RealNode) -> dict[str, int]:
    pod = seen(node)
    return {name: node.container(pod, name)["restartCount"] for name in ("dnsguard", *LIBCS)}


def looked_up(node: RealNode, libc: str, since: float) -> list[pods.Lookup]:
    """What a client has found since then."""
    return [one for one in pods.read_lookups(node.log(seen(node), libc)) if one.at > since]


def all_right(node: RealNode, since: float) -> None:
    """Wait until both clients have looked up each name often enough; all must be right."""
    wait_for(
        "the clients to look names up",
        lambda: all(
            len(looked_up(node, libc, since)) >= ROUNDS * len(NAMES) for libc in LIBCS
        ),
        node.kubelet,
    )  # fmt: skip
    for libc in LIBCS:
        found = looked_up(node, libc, since)
        truth = outage.expected(False)
        assert [one for one in found if one.result != truth[one.name]] == [], libc


def test_it_is_there_before_the_init_containers(node: RealNode, made: dict[str, Any]) -> None:
    pod = seen(node)
    first = node.container(pod, "first")["state"]["terminated"]
    assert first["exitCode"] == 0
    assert node.log(pod, "first").strip() == CART
    sidecar = node.container(pod, "dnsguard")
    assert sidecar["started"]
    assert sidecar["ready"]
    assert sidecar["state"]["running"]["startedAt"] <= first["startedAt"]
    all_right(node, 0)


def test_the_kubelet_gives_what_was_asked_for(node: RealNode, made: dict[str, Any]) -> None:
    """What tests of podman write themselves: resolv.conf, the sysctl; and the rights."""
    pod = seen(node)
    expected = pods.resolv_conf(made["spec"]["dnsConfig"])
    assert node.inside(pod, "glibc", "cat", "/proc/PID/root/etc/resolv.conf") == expected
    text = node.inside(pod, "dnsguard", "cat", "/proc/PID/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines())
    assert status["Uid"].split() == ["65532"] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    namespace = ("nsenter", "--target=PID", "--net", "--", "sysctl", "-n")
    port = node.inside(pod, "glibc", *namespace, "net.ipv4.ip_unprivileged_port_start")
    assert port.strip() == "53"


def test_what_dies_comes_back_and_knows_what_it_knew(
    node: RealNode, made: dict[str, Any], cast: Cast
) -> None:
    """The sidecar is killed while cluster DNS is dead: it is started again, and has its store."""
    all_right(node, time.time())
    before = restarts(node)
    cast.cluster_dns.kill()
    all_right(node, time.time())
    node.inside(seen(node), "dnsguard", "kill", "-KILL", "PID")
    wait_for(
        "the kubelet to start it again",
        lambda: restarts(node)["dnsguard"] == before["dnsguard"] + 1 and ready(seen(node)),
        node.kubelet,
    )  # fmt: skip
    all_right(node, time.time())
    assert restarts(node) == before | {"dnsguard": before["dnsguard"] + 1}
    cast.cluster_dns = cast.start_cluster_dns()
    wait_for("CoreDNS to know the cluster", cast.right, cast.cluster_dns)
    all_right(node, time.time())


def test_it_ends_after_everything_else(
    node: RealNode, made: dict[str, Any], plane: ControlPlane, out: Path
) -> None:
    """A container that is told to end still finds names until it has ended."""
    plane.kubectl("-n", NAMESPACE, "delete", "pod", "clients", "--timeout=60s")
    assert (out / "late").read_text().splitlines() == [CART] * 30 + ["end"]


def test_a_pod_that_is_done_is_done(node: RealNode, cast: Cast, plane: ControlPlane) -> None:
    """As a Job's: the sidecar, which would run for ever, keeps it from nothing, and ends well."""
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "job", "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "containers": [python("work", ONCE)]},
    }  # fmt: skip
    create(node, plane, cast, pod)
    wait_for(
        "the pod to be done",
        lambda: seen(node, "job")["status"]["phase"] in ("Succeeded", "Failed"),
        node.kubelet,
    )  # fmt: skip
    done = seen(node, "job")
    assert done["status"]["phase"] == "Succeeded"
    assert node.log(done, "work").strip() == CART
    assert node.container(done, "dnsguard")["state"]["terminated"]["exitCode"] == 0
    plane.kubectl("-n", NAMESPACE, "delete", "pod", "job", "--timeout=60s")
