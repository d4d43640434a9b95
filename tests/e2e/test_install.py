"""The chart at a real API server, and the page's install commands typed one by one.

The kinds of others, of cert-manager, Cilium and the Prometheus operator, are those projects' own
definitions, so that what the chart makes of them is judged by the same schemas as in a cluster.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from benchmarks.harness import Bench
from deploy.manifests.render import RENDERED
from tests.deploy.charts import CASES, CHART, UPSTREAM, case, helm, rendered
from tests.e2e import install, parts
from tests.e2e.admission import MANIFESTS, has_sidecar
from tests.e2e.containers import Podman
from tests.e2e.install import DNS_SERVICE, Reader
from tests.e2e.kubelet import Place, Running, service_links, words
from tests.e2e.outage import wait_for
from tests.e2e.plane import ControlPlane
from tests.e2e.pods import Network

pytestmark = pytest.mark.e2e
MODES = {
    "sidecar": UPSTREAM,
    "policy": (*UPSTREAM, "--set", "mechanism=policy"),
    "node": ("--set", "mechanism=none,node.enabled=true"),
    "both": (*UPSTREAM, "--set", f"node.enabled=true,node.serviceAddress={DNS_SERVICE}"),
    **{f"ci-{name}": case(name) for name in CASES},
}
EVERYTHING = (
    "all,secrets,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets,"
    "mutatingwebhookconfigurations,mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)
UPSTREAM_ARGUMENT = f"--upstream={DNS_SERVICE}"
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new", "namespace": "shop"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane) -> ControlPlane:
    """The namespaces, the Service of cluster DNS, and the kinds that the chart may make."""
    plane.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
          for name in ("dnsguard", "shop")),
        install.cluster_dns(),
    )  # fmt: skip
    # Those of other tests; one of the pods has dnsguard's own label, by which names() finds things.
    plane.kubectl("delete", "mutatingwebhookconfigurations", "--all")
    plane.kubectl("delete", "pods", "--all", "--all-namespaces", "--force", "--grace-period=0")
    for source in parts.DEFINITIONS:
        for path in source.obtain():
            plane.kubectl("apply", "--server-side", "-f", str(path))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return plane


@pytest.fixture(scope="module")
def checkout(bench: Bench, cluster: ControlPlane) -> Reader:
    return Reader(bench, cluster)


@pytest.fixture
def reader(checkout: Reader) -> Iterator[Reader]:
    """A namespace shop without a label and with a Deployment, as before when the test is over."""
    checkout.types("kubectl apply -f shop.yaml")
    yield checkout
    checkout.types("kubectl -n shop delete deployment web")
    checkout.types("kubectl label namespace shop dnsguard.io/inject-")


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


def created(reader: Reader) -> dict[str, Any]:
    """A pod of namespace shop as the API server would make it."""
    made: dict[str, Any] = json.loads(
        reader.plane.kubectl("create", "-f", "-", "-o", "json", "--dry-run=server", given=POD)
    )
    return made


def webhook_place(reader: Reader, network: Network) -> Place:
    """Where the webhook's pod runs: its Secret and its ConfigMap as files, its Service at it."""
    folders = {}
    for kind, volume, name in (
        ("secret", "tls", "dnsguard-webhook-tls"), ("configmap", "values", "dnsguard-webhook"),
    ):  # fmt: skip
        folders[volume] = folder = reader.folder / volume
        folder.mkdir()
        for key, text in reader.sees("-n", "dnsguard", kind, name)["data"].items():
            octets = base64.b64decode(text) if kind == "secret" else text.encode()
            (folder / key).write_bytes(octets)
    reader.folder.parent.chmod(0o755)  # the webhook is not root
    service = reader.sees("-n", "dnsguard", "service", "dnsguard-webhook")
    links = service_links("dnsguard-webhook", network.pod, service["spec"]["ports"])
    return Place(network.name, links=links, volumes=folders)


def endpoints(address: str) -> dict[str, Any]:
    """What the controller writes for the webhook's Service once its pod is ready."""
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "dnsguard", "name": "dnsguard-webhook-e2e",
                     "labels": {"kubernetes.io/service-name": "dnsguard-webhook"}},
        "ports": [{"name": "reviews", "port": 9443, "protocol": "TCP"},
                  {"name": "admin", "port": 9153, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_the_api_server_takes_what_the_chart_renders(mode: str, cluster: ControlPlane) -> None:
    done = helm("template", "dnsguard", str(CHART), "--namespace", "dnsguard", *MODES[mode])
    assert done.returncode == 0, done.stderr
    documents = [each for each in yaml.safe_load_all(done.stdout) if each]
    if mode == "ci-none":
        assert documents == []
        return
    bundle = {"apiVersion": "v1", "kind": "List", "items": documents}
    said = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=bundle
    )
    assert len(said.splitlines()) == len(documents)


@pytest.mark.parametrize("kind", sorted(RENDERED))
def test_the_plain_manifests_are_taken_by_kustomize(kind: str, checkout: Reader) -> None:
    said = checkout.types(
        f"kubectl apply --server-side --dry-run=server -k deploy/manifests/{kind}"
    )
    documents = yaml.safe_load_all((MANIFESTS / kind / "dnsguard.yaml").read_text())
    assert len(said.splitlines()) >= len([each for each in documents if each])


def test_the_webhook_is_installed_by_three_commands(
    reader: Reader, podman: Podman, network: Network
) -> None:
    """What helm has made then really runs, and the API server finds it by its Service."""
    reader.follows("Webhook")
    restarted = reader.sees("-n", "shop", "deployment", "web")["spec"]["template"]["metadata"]
    assert "kubectl.kubernetes.io/restartedAt" in restarted["annotations"]
    assert not has_sidecar(created(reader))  # nobody answers yet, and the pod starts
    place = webhook_place(reader, network)
    deployment = reader.sees("-n", "dnsguard", "deployment", "dnsguard-webhook")
    running = Running(
        podman, f"webhook-{os.getpid()}", deployment["spec"]["template"]["spec"], place
    )
    try:
        running.start()
        reader.plane.apply(endpoints(network.pod))
        wait_for("pods to be injected", lambda: has_sidecar(created(reader)))
        assert UPSTREAM_ARGUMENT in created(reader)["spec"]["initContainers"][0]["args"]
        documents = rendered(*UPSTREAM)
        (test,) = [each for each in documents if each["metadata"]["name"].endswith("-test")]
        (container,) = test["spec"]["containers"]
        assert "ready" in podman("run", "--rm", *words(test["spec"], container, place))
        assert running.end("webhook") == 0
    finally:
        running.remove()
    reader.types(install.inline("Undo", "helm uninstall"))
    reader.plane.kubectl("-n", "dnsguard", "delete", "endpointslice", "--all")
    assert reader.names(EVERYTHING, "-A") == []
    assert not has_sidecar(created(reader))


def test_the_policy_is_installed_by_one_more_word(reader: Reader) -> None:
    more = install.inline("Install", "--set mechanism=policy")
    first, *others = install.commands("Webhook")
    for command in (f"{first} {more}", *others):
        reader.types(command)
    wait_for("pods to be injected", lambda: has_sidecar(created(reader)))
    assert UPSTREAM_ARGUMENT in created(reader)["spec"]["initContainers"][0]["args"]
    reader.types(install.inline("Undo", "helm uninstall"))
    assert reader.names(EVERYTHING, "-A") == []
    wait_for("pods to be left alone", lambda: not has_sidecar(created(reader)))


def test_manifests_are_injected_and_brought_back(reader: Reader) -> None:
    def template() -> dict[str, Any]:
        found: dict[str, Any] = reader.sees("-n", "shop", "deployment", "web")["spec"]["template"]
        return found

    before = template()
    shown = reader.types(install.inline("Roll it out safely", "dnsguard inject"))
    assert "dnsPolicy: None" in shown
    assert template() == before
    reader.follows("Manifests")
    assert has_sidecar(template())
    assert UPSTREAM_ARGUMENT in template()["spec"]["initContainers"][0]["args"]
    reader.types(install.inline("Undo", "dnsguard uninject"))
    assert template() == before


def test_a_node_is_answered_for_by_three_commands(reader: Reader) -> None:
    def listens() -> list[str]:
        daemonset = reader.sees("-n", "kube-system", "daemonset", "dnsguard-node")
        first = daemonset["spec"]["template"]["spec"]["containers"][0]
        return [arg for arg in first["args"] if arg.startswith("--listen=")]

    first, *others = install.commands("One on each node")
    reader.types(first)
    assert listens() == ["--listen=169.254.20.10:53"]
    way = reader.sees("-n", "kube-system", "service", "dnsguard-upstream")
    assert way["spec"]["clusterIP"] not in ("None", "", DNS_SERVICE)
    for command in others:
        if not command.startswith(install.NEEDS_KUBELET):
            reader.types(command)
    assert listens() == ["--listen=169.254.20.10:53", f"--listen={DNS_SERVICE}:53"]
    reader.types(install.inline("Undo", "helm uninstall dnsguard --namespace kube-system"))
    assert reader.names(EVERYTHING, "-A") == []
