"""Pods for the tests of `kube`, and a patch carried out by a second, independent hand."""

from __future__ import annotations

import copy
import json
from typing import Any

import kubernetes_validate

from dnsguard.kube.inject import Outcome, apply, plan
from dnsguard.kube.profile import Profile

PROFILE = Profile(upstream=("10.96.0.10",))
NEWEST = "1.36"


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "web", "image": "nginx:1"}], **spec},
    }


def annotated(annotations: dict[str, str], **spec: Any) -> dict[str, Any]:
    made = pod(**spec)
    made["metadata"]["annotations"] = annotations
    return made


PORT_53 = [{"name": "d", "image": "i", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]
PORT_9153 = [{"name": "d", "image": "i", "ports": [{"containerPort": 9153}]}]


def sysctl(name: str, value: str) -> dict[str, Any]:
    return {"sysctls": [{"name": name, "value": value}]}


# Pods that are left alone, each with a word of the reason.
SKIPS: list[tuple[dict[str, Any], str]] = [
    (annotated({"dnsguard.io/inject": "disabled"}), "disabled"),
    (pod(hostNetwork=True), "hostNetwork"),
    (pod(dnsPolicy="Default"), "dnsPolicy Default"),
    (pod(dnsPolicy="ClusterFirstWithHostNet"), "ClusterFirstWithHostNet"),
    (pod(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.7"]}), "dnsPolicy None"),
    (pod(dnsPolicy="Sideways"), "unknown"),
    (pod(os={"name": "windows"}), "Windows"),
    (pod(nodeSelector={"kubernetes.io/os": "windows"}), "Windows"),
    (annotated({"kubernetes.io/config.mirror": "x"}, nodeName="node-1"), "static"),
    (pod(containers=PORT_53), "port 53"),
    (pod(containers=PORT_9153), "admin-port"),
    (pod(volumes=[{"name": "dnsguard-state", "emptyDir": {}}]), "volume"),
    (pod(securityContext=sysctl("net.ipv4.ip_unprivileged_port_start", "1024")), "sysctl"),
    ({**pod(), "metadata": {"labels": {"app.kubernetes.io/name": "dnsguard"}}}, "dnsguard itself"),
]


def planned(
    given: dict[str, Any], profile: Profile = PROFILE, namespace: str = "shop"
) -> tuple[dict[str, Any], Outcome]:
    """The pod with the patch carried out; the one that was given must not change."""
    before = copy.deepcopy(given)
    outcome = plan(given, namespace, profile, "Pod web")
    assert given == before
    after = copy.deepcopy(given)
    apply(after, copy.deepcopy(outcome.patch))
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **after}, NEWEST, strict=True)
    return after, outcome


def review(thing: Any, **changes: Any) -> bytes:
    """An AdmissionReview as an API server sends it."""
    request = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "shop",
        "object": thing,
        "oldObject": None,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    } | changes
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()
