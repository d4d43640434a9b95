"""Node mode out of the image: the DaemonSet's own pod on a node of network namespaces.

What the rules do when something dies is the part of tests/kube/test_node.py. Here it is whether
the image has what they need, whether the rights that the chart asks for are enough, and whether two
pods of the chart hand over to each other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.charts import UPSTREAM, of_kind, rendered
from tests.e2e.containers import IMAGE, Podman
from tests.e2e.kubelet import Place, Running, service_links, words
from tests.e2e.outage import wait_for
from tests.kube.node_world import HERE, LINK_LOCAL, NAME, SERVICE, WAY, World, missing

pytestmark = pytest.mark.e2e
Begin = Callable[..., Running]
NODE_IP = "10.244.0.1"
# The values that docs/kubernetes.md ends with, and a name that only dnsguard answers so.
VALUES = (
    "--set", f"mechanism=none,node.enabled=true,node.serviceAddress={SERVICE}",
    "--set-json", "node.config=" + json.dumps({"cache.max_bytes": "32MiB", f"pins.{NAME}": HERE}),
)  # fmt: skip


@pytest.fixture
def world() -> Iterator[World]:
    assert not missing(), missing()
    with World() as found:
        yield found


@pytest.fixture
def begin(podman: Podman, world: World, tmp_path: Path) -> Iterator[Begin]:
    """Starts a pod of the DaemonSet under a name of its own, by those values and a few more."""
    pods: list[Running] = []

    def start(name: str, *more: str, image: str = IMAGE) -> Running:
        documents = rendered(*UPSTREAM, *VALUES, *more)
        spec = of_kind(documents, "DaemonSet")["spec"]["template"]["spec"]
        (way,) = [each for each in documents if each["metadata"]["name"] == "dnsguard-upstream"]
        links = service_links("dnsguard-upstream", WAY, way["spec"]["ports"])
        fields = {"status.hostIP": NODE_IP, "metadata.name": f"dnsguard-node-{name}"}
        lock = tmp_path / "xtables.lock"
        lock.touch()
        volumes = {"state": tmp_path, "xtables-lock": lock}
        place = Place(world.node, fields, links, volumes, image)
        made = Running(podman, f"{name}-{os.getpid()}", spec, place)
        pods.append(made)
        assert "rules" in made.start()
        wait_for(f"{name} to answer", lambda: made.probe("dnsguard", "startupProbe"))
        return made

    yield start
    for pod in pods:
        pod.remove()


def kept(world: World) -> bool:
    return world.everyone() == {"dnsguard"}


def test_the_charts_pod_keeps_a_node_and_lets_go(begin: Begin, world: World) -> None:
    assert world.who(SERVICE) == "cluster"
    pod = begin("first")
    wait_for("the watcher to keep packets here", lambda: kept(world))
    pod.kill("dnsguard")
    wait_for("cluster DNS to answer", lambda: world.everyone() == {"cluster"})
    assert "go to cluster DNS" in pod.log("watcher")
    pod.start_one("dnsguard")
    wait_for("dnsguard to answer again", lambda: kept(world))
    assert pod.end("dnsguard") == 0
    assert pod.end("watcher") == 0
    assert world.left() == ""
    assert world.who(SERVICE) == "cluster"


def test_a_pod_takes_over_from_another_without_a_lost_question(begin: Begin, world: World) -> None:
    """What `maxSurge: 1` does: the new pod is ready before the old one is told to end."""
    old = begin("old")
    wait_for("the watcher to keep packets here", lambda: kept(world))
    with (
        world.asking(SERVICE, 50, patience=10.0) as service,
        world.asking(LINK_LOCAL, 50, patience=10.0) as link_local,
    ):
        new = begin("new")
        wait_for("the old watcher to yield", lambda: "a newer watcher" in old.log("watcher"))
        assert old.end("dnsguard") == 0
        assert old.end("watcher") == 0
        assert "rules and addresses stay" in old.log("watcher")
    for told in (service.told, link_local.told):
        assert set(told["answers"]) == {"192.0.2.1"}, told
        print(f"{told['asked']} questions, none lost, {told['gap'] * 1000:.0f} ms at most without")
    assert kept(world)
    assert new.end("dnsguard") == 0
    assert new.end("watcher") == 0
    assert world.left() == ""


def test_health_is_where_the_kubelet_asks(begin: Begin, world: World) -> None:
    """Probes and metrics of both containers, at the node's own address."""
    begin("probed")
    wait_for("the watcher to keep packets here", lambda: kept(world))
    ask = "import sys, urllib.request as r; [r.urlopen(url, timeout=5) for url in sys.argv[1:]]"
    world.inside(
        sys.executable, "-c", ask,
        *(f"http://{NODE_IP}:{port}{path}"
          for port in (9153, 9353) for path in ("/livez", "/readyz", "/metrics")),
    )  # fmt: skip


def test_helm_test_tells_who_answers(begin: Begin, world: World, podman: Podman) -> None:
    """The chart's test pod, run in a pod's namespace: it fails at cluster DNS and succeeds here."""
    (test,) = [each for each in rendered(*UPSTREAM, *VALUES) if each["kind"] == "Pod"]
    (container,) = test["spec"]["containers"]
    run = ("run", "--rm", *words(test["spec"], container, Place(world.pod)))
    with pytest.raises(SystemExit, match=r"another server answers"):
        podman(*run)
    begin("tested")
    wait_for("the watcher to keep packets here", lambda: kept(world))
    assert LINK_LOCAL in podman(*run)


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_iptables_of_either_kind_if_the_image_is_built_with_it(
    begin: Begin, world: World, podman: Podman, kind: str
) -> None:
    pod = begin("xt", "--set", "node.rules=iptables", image=podman.with_iptables(kind))
    wait_for("the watcher to keep packets here", lambda: kept(world))
    listed = world.inside(f"iptables-{kind}", "-t", "raw", "-S")
    assert "NOTRACK" in listed or "CT --notrack" in listed
    assert "--name dnsguard" in listed
    pod.kill("dnsguard")
    wait_for("cluster DNS to answer", lambda: world.who(SERVICE) == "cluster")
    pod.start_one("dnsguard")
    wait_for("dnsguard to answer again", lambda: kept(world))
    assert pod.end("dnsguard") == 0
    assert pod.end("watcher") == 0
    assert "dnsguard" not in world.inside(f"iptables-{kind}-save")
    assert world.left() == ""
