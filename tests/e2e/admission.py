"""The webhook and the policy, each as deploy/ has it, before a real API server.

Only the way to the webhook is another: an address on loopback with the run's own authority in place
of a Service with cert-manager's. Selectors, conditions and time-outs are those that are shipped.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import Bench, Broken, Program
from tests.e2e.matrix import NAMESPACES
from tests.e2e.plane import HOST, ControlPlane

MANIFESTS = Path(__file__).resolve().parents[2] / "deploy" / "manifests"
READY = re.compile(r"reviews on port (\d+)")
WAIT_SECONDS = 60.0
PROBE = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": "enabled"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}  # fmt: skip


def documents(kind: str) -> list[dict[str, Any]]:
    """The rendered manifests of `webhook` or `policy`."""
    return list(yaml.safe_load_all((MANIFESTS / kind / "dnsguard.yaml").read_text()))


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one document of that kind."""
    (document,) = (each for each in found if each["kind"] == kind)
    return document


def configuration(port: int, authority: bytes) -> dict[str, Any]:
    """The MutatingWebhookConfiguration, its client pointed at loopback."""
    made = copy.deepcopy(of_kind(documents("webhook"), "MutatingWebhookConfiguration"))
    for hook in made["webhooks"]:
        path = hook["clientConfig"]["service"]["path"]
        hook["clientConfig"] = {
            "url": f"https://{HOST}:{port}{path}",
            "caBundle": base64.b64encode(authority).decode(),
        }
    # What cert-manager would be told to fill in.
    made["metadata"].pop("annotations", None)
    return made


class Admission:
    """A control plane with the namespaces of the matrix, and the webhook's process."""

    def __init__(self, bench: Bench, plane: ControlPlane) -> None:
        self._bench = bench
        self.plane = plane
        self.webhook: Program | None = None
        plane.apply(
            *({"apiVersion": "v1", "kind": "Namespace",
               "metadata": {"name": name, "labels": dict(labels)}}
              for name, labels in NAMESPACES.items())
        )  # fmt: skip

    def start_webhook(self) -> None:
        """Start `dnsguard webhook` with the values that deploy/ mounts, and register it."""
        certificate, key = self.plane.certificates.signed("webhook")
        values = of_kind(documents("webhook"), "ConfigMap")["data"]["values.yaml"]
        self.webhook = self._bench.start(
            "webhook",
            [sys.executable, "-m", "dnsguard", "webhook", "--tls-cert", str(certificate),
             "--tls-key", str(key), "--values", str(self._bench.file("values.yaml", values)),
             "--listen", f"{HOST}:0", "--admin", f"{HOST}:0"],
        )  # fmt: skip
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := READY.search(self.webhook.output())):
            if time.monotonic() > deadline or self.webhook.process.poll() is not None:
                raise Broken(f"the webhook is not ready. It said:\n{self.webhook.tail()}")
            time.sleep(0.05)
        authority = self.plane.certificates.authority.read_bytes()
        self.plane.apply(configuration(int(found[1]), authority))
        self.await_probe(injected=True)

    def remove_webhook(self) -> None:
        """Take its registration away and wait until the API server has noticed."""
        self.plane.kubectl("delete", "mutatingwebhookconfigurations", "--all")
        self.await_probe(injected=False)

    def apply_policy(self) -> None:
        """Apply the policy of deploy/ and wait until it holds."""
        self.plane.apply(*documents("policy"))
        self.await_probe(injected=True)

    def remove_policy(self) -> None:
        """Take the policy away."""
        self.plane.kubectl(
            "delete", "mutatingadmissionpolicies,mutatingadmissionpolicybindings", "--all"
        )
        self.await_probe(injected=False)

    def await_probe(self, injected: bool) -> None:
        """Wait until a pod that is tried, and not created, comes out so."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            done = self.create(PROBE, "--dry-run=server")
            if done.returncode == 0 and has_sidecar(json.loads(done.stdout)) is injected:
                return
            if time.monotonic() > deadline:
                raise Broken(
                    f"after {WAIT_SECONDS:.0f} s a pod still {'lacks' if injected else 'has'} the "
                    f"sidecar. kubectl said: {done.stderr.strip() or 'nothing'}"
                )
            time.sleep(0.3)

    def create(self, manifest: Any, *flags: str) -> subprocess.CompletedProcess[str]:
        """kubectl create; standard output is the pod as the API server has it, as JSON."""
        return self.plane.run("create", "-f", "-", "-o", "json", *flags, given=manifest)

    def said(self, namespace: str, name: str) -> str:
        """What the webhook's log has of that pod, or nothing if it was not asked."""
        assert self.webhook is not None
        where = f"Pod {namespace}/{name}: "
        return "\n".join(line for line in self.webhook.output().splitlines() if where in line)


def has_sidecar(pod: dict[str, Any]) -> bool:
    """Whether the pod's first init container is a native sidecar of ours."""
    first = (pod["spec"].get("initContainers") or [{}])[0]
    return (first.get("name"), first.get("restartPolicy")) == ("dnsguard", "Always")


def comparable(pod: dict[str, Any]) -> dict[str, Any]:
    """What injection may change: the spec, and annotations but for the record of the webhook."""
    annotations = dict(pod["metadata"].get("annotations") or {})
    annotations.pop("dnsguard.io/status", None)
    return {"annotations": annotations, "spec": pod["spec"]}
