"""Node mode beside the real kube-proxy, in both of its modes that translate by netfilter.

The node is that of tests/kube/test_node.py without the rules that play kube-proxy there. kube-proxy
is told by the real API server of two Services, that of cluster DNS and dnsguard's own way to it,
and of the one pod behind both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from benchmarks.harness import Bench, Program
from dnsguard.kube.node_plan import LEASE_SECONDS
from tests.e2e import install, parts
from tests.e2e.outage import wait_for
from tests.e2e.plane import ControlPlane
from tests.kube.node_world import (
    CLUSTER,
    DNS_POD,
    LINK_LOCAL,
    SERVICE,
    WAY,
    World,
    missing,
    run,
)  # fmt: skip

pytestmark = pytest.mark.e2e
SLACK = 5.0  # for the processes of the test itself, on a busy machine
NODE = "node-e2e"
SERVICES = {"kube-dns": SERVICE, "dnsguard-upstream": WAY}


def service(name: str) -> dict[str, Any]:
    found = install.cluster_dns()
    found["metadata"]["name"] = name
    found["spec"]["clusterIP"] = SERVICES[name]
    return found


def endpoints(name: str, *more: str) -> dict[str, Any]:
    """The pods behind a Service: cluster DNS, and perhaps more that are not ready."""
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "kube-system", "name": f"{name}-e2e",
                     "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                  {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        "endpoints": [{"addresses": [DNS_POD], "conditions": {"ready": True}},
                      *({"addresses": [each], "conditions": {"ready": False}} for each in more)],
    }  # fmt: skip


def configuration(plane: ControlPlane, mode: str) -> str:
    """kube-proxy's, as kubeadm writes it, but that it leaves the machine's own limits alone."""
    return yaml.safe_dump({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": mode, "clientConnection": {"kubeconfig": str(plane.kubeconfig)},
        "hostnameOverride": NODE, "clusterCIDR": "10.244.0.0/16",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s",
                      "tcpCloseWaitTimeout": "0s"},
    })  # fmt: skip


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane) -> Iterator[ControlPlane]:
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    address = '{"status":{"addresses":[{"type":"InternalIP","address":"10.244.0.1"}]}}'
    plane.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", address)
    plane.apply(*map(service, SERVICES), *map(endpoints, SERVICES))
    yield plane
    plane.kubectl("-n", "kube-system", "delete", "service,endpointslice", "--all")


@pytest.fixture
def world() -> Iterator[World]:
    assert not missing(), missing()
    with World(proxied=False) as found:
        yield found


class Proxy:
    """kube-proxy on the node, started and, if need be, started again."""

    def __init__(self, bench: Bench, plane: ControlPlane, world: World, mode: str) -> None:
        self._bench, self._world = bench, world
        self._config = bench.file(f"kube-proxy-{mode}.yaml", configuration(plane, mode))
        self._relay = bench.start(
            "relay", [sys.executable, "-m", "tests.e2e.relay", world.node, str(plane.port)]
        )
        self._program = self.start()

    def start(self) -> Program:
        self._program = self._bench.start(
            "kube-proxy",
            ["ip", "netns", "exec", self._world.node, str(parts.kube_proxy()),
             f"--config={self._config}", "-v=2"],
        )  # fmt: skip
        return self._program

    def translates(self) -> None:
        """Wait until cluster DNS answers at its Service's address, for everyone."""
        wait_for(
            "kube-proxy to translate",
            lambda: {
                self._world.who(SERVICE, tcp, pod, patience=1.0)
                for tcp in (False, True) for pod in (False, True)
            } == {"cluster"},
            self._program,
        )  # fmt: skip

    def kill(self) -> None:
        self._program.kill()

    def stop(self) -> None:
        self._program.stop()
        self._relay.stop()


@pytest.fixture(params=["nftables", "iptables"])
def proxy(
    request: pytest.FixtureRequest, bench: Bench, cluster: ControlPlane, world: World
) -> Iterator[Proxy]:
    made = Proxy(bench, cluster, world, request.param)
    made.translates()
    yield made
    made.stop()


def test_dnsguard_answers_and_whatever_dies_cluster_dns_does(
    proxy: Proxy, world: World, cluster: ControlPlane
) -> None:
    watched = world.begin()
    watched.said("stay here")
    assert world.everyone() == {"dnsguard"}
    through = ["ip", "netns", "exec", world.pod, sys.executable, "-m", "dnsguard", "query",
               "--server", f"{SERVICE}:53", "somebody.else.test"]  # fmt: skip
    assert CLUSTER in run(*through)  # by the way upstream, which kube-proxy translates
    watched.kill()
    took = max(world.until(address, "cluster") for address in (LINK_LOCAL, SERVICE))
    assert took < LEASE_SECONDS + SLACK
    assert world.everyone() == {"cluster"}

    watched = world.begin()
    watched.said("stay here")
    assert world.everyone() == {"dnsguard"}
    # kube-proxy writes its rules anew: for a change of endpoints, and when it is started again.
    cluster.apply(*(endpoints(name, "10.244.9.3") for name in SERVICES))
    proxy.kill()
    assert world.everyone() == {"dnsguard"}
    proxy.start()
    wait_for("kube-proxy to be back", lambda: "10.244.9.2" in rules(world))
    assert world.everyone() == {"dnsguard"}
    assert CLUSTER in run(*through[:-1], "another.test")
    assert watched.end() == 0
    assert world.left() == ""
    proxy.translates()


def rules(world: World) -> str:
    """What kube-proxy has written, of either mode."""
    return world.inside("nft", "list", "ruleset") + world.inside("iptables-save")
