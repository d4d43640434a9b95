"""The matrix of pods for a real API server: what the webhook and the policy each do with them.

The pods that are left alone are those of the tests of `kube`, so that every reason that there is
meets an API server. Where the policy knows less than the webhook it leaves a pod alone, as
docs/kubernetes.md says; those cases are marked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dnsguard.kube.profile import INJECT
from tests.kube.pods import SKIPS, annotated, pod, sysctl

ON, OFF = {INJECT: "enabled"}, {INJECT: "disabled"}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
NAMESPACES: Mapping[str, Mapping[str, str]] = {
    "enabled": ON,
    "unlabelled": {},
    "disabled": OFF,
    "restricted": ON | RESTRICTED,
    "dnsguard": ON,
    "kube-system": ON,
}
UNPRIVILEGED = "net.ipv4.ip_unprivileged_port_start"


@dataclass(frozen=True)
class Case:
    """A pod and what comes of it. `reason` is a word of why it is left alone; "" if injected."""

    name: str
    namespace: str
    given: Mapping[str, Any]
    reason: str = ""
    asked: bool = True  # whether the webhook is asked at all, or its configuration leaves it out
    refused: str = ""  # what the API server itself says against such a pod
    policy: bool = True  # whether the policy injects what the webhook does

    @property
    def injected(self) -> bool:
        return not self.reason

    def manifest(self, suffix: str) -> dict[str, Any]:
        """The pod as kubectl is given it, under a name of its own."""
        made = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(dict(self.given))}
        made["metadata"] = made.get("metadata", {}) | {
            "name": f"{self.name}-{suffix}", "namespace": self.namespace
        }  # fmt: skip
        return made


def cases() -> list[Case]:
    """Every case; names are DNS labels."""
    return [*_injected(), *_skipped(), *_namespaces()]


def _injected() -> list[Case]:
    own = {
        "nameservers": ["192.0.2.1"], "searches": ["corp.example", "cluster.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }  # fmt: skip
    three = {"nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]}
    init = [{"name": "migrate", "image": "m"}]
    named = {"nameservers": ["192.0.2.7"], "searches": ["corp.example"]}
    busy_init = [{"name": "i", "image": "i", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]
    found = {
        "plain": pod(),
        "init-containers": pod(initContainers=init),
        "volumes": pod(volumes=[{"name": "data", "emptyDir": {}}]),
        "security-context": pod(securityContext={"fsGroup": 2000}),
        "other-sysctl": pod(securityContext=sysctl("net.ipv4.ip_local_port_range", "1024 2048")),
        "port-sysctl-there": pod(securityContext=sysctl(UNPRIVILEGED, "0")),
        "own-dns-config": pod(dnsConfig=own),
        "three-nameservers": pod(dnsConfig=three),
        "one-option": pod(dnsConfig={"options": [{"name": "timeout", "value": "1"}]}),
        "linux": pod(os={"name": "linux"}, nodeSelector={"kubernetes.io/os": "linux"}),
        "annotated": annotated(ON),
        "other-annotation": annotated({"example.org/team": "shop"}),
    }
    made = [Case(name, "enabled", given) for name, given in found.items()]
    return [
        *made,
        Case("restricted", "restricted", _restricted()),
        Case("settings", "enabled", annotated({"dnsguard.io/config": "stale.max_age=1d"}),
             policy=False),
        Case("policy-none-opted-in", "enabled",
             annotated(ON, dnsPolicy="None", dnsConfig=named), policy=False),
        Case("port-53-init", "enabled", pod(initContainers=busy_init), reason="port 53"),
    ]  # fmt: skip


def _restricted() -> dict[str, Any]:
    """A pod that a namespace with the restricted Pod Security Standard lets in."""
    given = pod(
        securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    )
    given["spec"]["containers"][0]["securityContext"] = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    return given


def _skipped() -> list[Case]:
    """What `kube` leaves alone, in a namespace where pods are injected."""
    found = []
    for number, (given, reason) in enumerate(SKIPS):
        found.append(
            Case(
                f"skip-{number}", "enabled", given, reason=reason,
                # The configuration's own conditions come first for these two.
                asked=reason not in ("hostNetwork", "dnsguard itself"),
                refused="dnsPolicy" if reason == "unknown" else "",
            )
        )  # fmt: skip
    mistaken = annotated({INJECT: "yes"})
    return [*found, Case("mistaken", "enabled", mistaken, reason="enabled or disabled")]


def _namespaces() -> list[Case]:
    """The same pod in namespaces of every sort."""
    left = "left out by the configuration"
    return [
        Case("opted-in", "unlabelled", annotated(ON)),
        Case("not-asked-for", "unlabelled", pod(), reason=left, asked=False),
        Case("namespace-off", "disabled", annotated(ON), reason=left, asked=False),
        Case("of-the-cluster", "kube-system", annotated(ON), reason=left, asked=False),
        Case("beside-itself", "dnsguard", annotated(ON), reason=left, asked=False),
    ]
