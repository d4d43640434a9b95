"""The commands of docs/kubernetes.md, run as they stand there, against the run's own API server.

kubectl, helm and dnsguard are found by name, as a reader finds them; the working directory has what
a checkout has, and a shop.yaml. No kubelet runs, so the one command that waits for a pod to start
is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import Bench, Broken
from tests.e2e import parts
from tests.e2e.plane import ControlPlane

PAGE = parts.ROOT / "docs" / "kubernetes.md"
NEEDS_KUBELET = "kubectl run "
DIFFERS = 1  # kubectl diff's exit code where there is a difference
DNS_SERVICE = "10.96.0.10"
SHOP = """\
# What a team has in its repository.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
        - name: web
          image: registry.example/web:1
"""


def commands(title: str) -> list[str]:
    """The commands of the block below a bold title of the page, continued lines as one."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(
        rf"^\*\*{re.escape(title)}\*\*.*?^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"{PAGE} has no commands for {title}"
    return found[1].replace("\\\n", " ").splitlines()


def inline(title: str, start: str) -> str:
    """The first command of a section that stands within the text, and begins so."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = re.search(rf"`({re.escape(start)}[^`]*)`", section)
    assert found, f"{PAGE}, {title}, has no command that begins with {start}"
    return found[1].replace("\n", " ")


class Reader:
    """Somebody with a checkout, who types what the page says."""

    def __init__(self, bench: Bench, plane: ControlPlane) -> None:
        self.plane = plane
        self.folder = bench.directory / "reader"
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        beside = Path(sys.executable).parent
        for name, path in {
            "kubectl": parts.kubectl(), "helm": beside / "helm", "dnsguard": beside / "dnsguard"
        }.items():  # fmt: skip
            (programs / name).symlink_to(path)
        (self.folder / "deploy").symlink_to(parts.ROOT / "deploy")
        (self.folder / "shop.yaml").write_text(SHOP)
        self._environ = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": str(plane.kubeconfig),
            "HOME": str(self.folder),
        }  # fmt: skip

    def types(self, command: str, *fine: int) -> str:
        """Run one command in a shell; return what it prints. Raises Broken unless it succeeds."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.folder, env=self._environ,
            capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode not in (0, *fine):
            raise Broken(f"{command}\nended with {done.returncode} and said:\n{done.stderr}")
        return done.stdout

    def follows(self, title: str) -> None:
        """Type all commands below a title that need no kubelet."""
        for command in commands(title):
            if not command.startswith(NEEDS_KUBELET):
                self.types(command, *((DIFFERS,) if command.startswith("kubectl diff") else ()))

    def sees(self, *words: str) -> Any:
        """What kubectl get has, as JSON."""
        return yaml.safe_load(self.plane.kubectl("get", *words, "-o", "json"))

    def names(self, kinds: str, *words: str) -> list[str]:
        """The names of what there is, as kind/name, that dnsguard's chart has put there."""
        said = self.plane.kubectl(
            "get", kinds, *words, "-l", "app.kubernetes.io/name=dnsguard", "-o", "name"
        )
        return said.split()


def cluster_dns() -> dict[str, Any]:
    """The Service of cluster DNS, as kubeadm has it."""
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {
            "clusterIP": DNS_SERVICE, "selector": {"k8s-app": "kube-dns"},
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                      {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        },
    }  # fmt: skip
