"""Renders the plain manifests from the Helm chart: `python deploy/manifests/render.py`.

A test runs the same and fails when the files here are older than the chart.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHART = HERE.parent / "helm" / "dnsguard"
HEAD = "# Rendered from deploy/helm/dnsguard by deploy/manifests/render.py; change it there.\n"
# The upstream is kubeadm's and kind's usual one; a kustomize patch or the chart sets another.
ALWAYS = ("--set", "injection.upstream={10.96.0.10}")
# Certificates are cert-manager's: a key in a repository would be everybody's.
RENDERED = {
    "webhook": ("--set", "certificate.source=certManager"),
    "policy": ("--set", "mechanism=policy"),
    "node": ("--set", "mechanism=none,node.enabled=true"),
    "node-cilium": ("--set", "mechanism=none,node.enabled=true,node.variant=cilium"),
}
# The chart reads files of its own folder only: what it shows of these is a copy.
COPIED = {
    "alerts/dnsguard.yaml": "files/alerts.yaml",
    "dashboards/fleet.json": "files/dashboards/fleet.json",
    "dashboards/instance.json": "files/dashboards/instance.json",
}


def helm() -> str:
    """The program that came with helm-binary, beside this interpreter."""
    return str(Path(sys.executable).with_name("helm"))


def rendered(kind: str) -> str:
    """One file's text."""
    done = subprocess.run(
        [helm(), "template", "dnsguard", str(CHART), "--namespace", "dnsguard", "--skip-tests",
         *ALWAYS, *RENDERED[kind]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.replace(
        "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize"
    )
    return (
        HEAD
        + "\n".join(line for line in lines.splitlines() if not line.startswith("# Source"))
        + "\n"
    )


def main() -> None:
    """Write them all."""
    for source, copy in COPIED.items():
        (CHART / copy).write_bytes((HERE.parent / source).read_bytes())
    for kind in RENDERED:
        (HERE / kind / "dnsguard.yaml").write_text(rendered(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
