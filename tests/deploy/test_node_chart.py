"""Node mode in the chart: what it runs is what the commands take, with as few rights as can be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dnsguard.cli.node import _plan, _upstreams, command
from dnsguard.kube.node_check import PINNED
from tests.deploy.charts import CHART, ROOT, case, helm, of_kind, rendered

UPSTREAM_VARIABLE = "$(DNSGUARD_UPSTREAM_SERVICE_HOST)"


def pod(name: str, *more: str) -> dict[str, Any]:
    daemonset = of_kind(rendered(*case(name), *more), "DaemonSet")
    found: dict[str, Any] = daemonset["spec"]["template"]["spec"]
    return found


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        each["name"]: each for each in (*spec.get("initContainers", ()), *spec["containers"])
    }  # fmt: skip


def filled(args: list[str], six: bool = False) -> list[str]:
    """Arguments as a kubelet fills them in."""
    way, node = ("fd00:10:96::b", "fd00::5") if six else ("10.96.33.44", "192.0.2.5")
    return [
        arg.replace(UPSTREAM_VARIABLE, way)
        .replace("$(NODE_IP)", node)
        .replace("$(POD_IP)", node)
        .replace("$(POD_NAME)", "dnsguard-node-x1y2z")
        for arg in args
    ]


@pytest.mark.parametrize(("name", "six"), [("node", False), ("node-six", True)])
def test_the_commands_take_what_the_chart_gives_them(name: str, six: bool) -> None:
    found = containers(pod(name))
    setup, watch = filled(found["setup"]["args"], six), filled(found["watcher"]["args"], six)
    shown = CliRunner().invoke(command, [*setup[1:], "--dry-run"])
    assert shown.exit_code == 0, shown.output
    watcher = command.commands[watch[1]]
    options = watcher.make_context(watch[1], watch[2:]).params
    plan = _plan(options, _upstreams(options["upstream"]))
    serve = filled(found["dnsguard"]["args"], six)
    listen = [arg.removeprefix("--listen=") for arg in serve if arg.startswith("--listen=")]
    assert listen == [f"[{a}]:53" if ":" in a else f"{a}:53" for a in plan.addresses]
    assert f"--set=pins.{PINNED}={','.join(plan.addresses)}" in serve
    assert "--takeover" in serve
    own = "dnsguard-node-x1y2z.dnsguard.invalid"
    assert f"--set=pins.{own}={plan.link_local[0]}" in serve
    for each in (found["dnsguard"], found["watcher"]):
        environ = {variable["name"]: variable.get("value") for variable in each["env"]}
        assert environ["OWN_NAME"] == "$(POD_NAME).dnsguard.invalid"
    probe = found["dnsguard"]["startupProbe"]["exec"]["command"]
    assert probe[0] == "/usr/local/bin/dnsguard"
    command.commands["ready"].make_context("ready", [*probe[3:], "--own", own])
    checked = helm_check(serve)
    assert checked["workers"] == 2


def helm_check(serve: list[str]) -> dict[str, Any]:
    """The settings that such arguments of `serve` come to; fails for any mistake."""
    from dnsguard.cli.main import commands

    done = CliRunner().invoke(commands, ["check", *serve[1:]], env={"STATE_DIRECTORY": "/tmp"})
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = yaml.safe_load(done.output)
    return found


def test_rights_are_those_that_are_needed() -> None:
    spec = pod("node")
    found = containers(spec)
    assert spec["hostNetwork"] is True
    assert spec["automountServiceAccountToken"] is False
    rights = {name: each["securityContext"]["capabilities"] for name, each in found.items()}
    assert rights == {
        "setup": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        "dnsguard": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "watcher": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    }
    for each in found.values():
        security = each["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert "ports" not in each  # two pods of a node at a time could not both have them
    assert [volume["name"] for volume in spec["volumes"] if "hostPath" in volume] == ["state"]


def test_with_iptables_the_lock_is_the_nodes() -> None:
    """iptables of the legacy kind opens it before anything else, and the root is read-only."""
    spec = pod("node-six")
    (volume,) = [each for each in spec["volumes"] if each["name"] == "xtables-lock"]
    assert volume["hostPath"] == {"path": "/run/xtables.lock", "type": "FileOrCreate"}
    holders = {
        name for name, each in containers(spec).items()
        for mount in each.get("volumeMounts", ()) if mount["mountPath"] == "/run/xtables.lock"
    }  # fmt: skip
    assert holders == {"setup", "watcher"}


def test_with_cilium_there_are_none() -> None:
    documents = rendered(*case("node-cilium"))
    spec = pod("node-cilium")
    (only,) = spec["containers"]
    assert "hostNetwork" not in spec
    assert "initContainers" not in spec
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    policy = of_kind(documents, "CiliumLocalRedirectPolicy")["spec"]
    matcher = policy["redirectFrontend"]["serviceMatcher"]
    assert matcher == {"serviceName": "kube-dns", "namespace": "kube-system"}
    ports = {port["name"]: port["containerPort"] for port in only["ports"]}
    for port in policy["redirectBackend"]["toPorts"]:
        assert ports[port["name"]] == int(port["port"])
    labels = policy["redirectBackend"]["localEndpointSelector"]["matchLabels"]
    daemonset = of_kind(documents, "DaemonSet")["spec"]
    assert labels == daemonset["selector"]["matchLabels"]
    helm_check(filled(only["args"]))


def test_the_new_pod_is_there_before_the_old_one_goes() -> None:
    spec = of_kind(rendered(*case("node")), "DaemonSet")["spec"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] >= 10
    template = spec["template"]["spec"]
    assert template["terminationGracePeriodSeconds"] >= 60
    assert template["priorityClassName"] == "system-node-critical"
    assert template["tolerations"] == [{"operator": "Exists"}]
    probes = containers(template)["watcher"]
    assert probes["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert probes["startupProbe"]["httpGet"]["path"] == "/livez"  # a dead resolver is not its fault


def test_the_way_upstream_is_a_service_of_its_own() -> None:
    documents = rendered(*case("node"))
    (way,) = [d for d in documents if d["metadata"]["name"] == "dnsguard-upstream"]
    assert (way["kind"], way["metadata"]["namespace"]) == ("Service", "kube-system")
    assert way["spec"]["selector"] == {"k8s-app": "kube-dns"}
    args = containers(pod("node"))["dnsguard"]["args"]
    assert f"--upstream={UPSTREAM_VARIABLE}" in args
    named = [d for d in rendered(*case("node-six")) if d["metadata"]["name"].endswith("upstream")]
    assert not named


def test_alerts_and_dashboards_are_those_of_deploy() -> None:
    from deploy.manifests import render

    for source, copy in render.COPIED.items():
        copied = (CHART / copy).read_bytes()
        assert copied == (ROOT / "deploy" / source).read_bytes(), f"run {render.__file__}"
    there = {path.name for path in (ROOT / "deploy/dashboards").glob("*.json")}
    assert there == {path.name for path in (CHART / "files/dashboards").glob("*.json")}
    documents = rendered(*case("node"))
    rules = [document for document in documents if document["kind"] == "PrometheusRule"]
    (rule,) = [each for each in rules if each["metadata"]["name"] == "dnsguard"]
    alerts = (CHART / "files/alerts.yaml").read_text()
    alerts = alerts.replace("https://dnsguard.example/docs", "https://wiki.example/dns")
    assert rule["spec"] == yaml.safe_load(alerts)
    boards = [d for d in documents if d["metadata"]["name"].startswith("dnsguard-dashboard-")]
    for board in boards:
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((name, text),) = board["data"].items()
        source = ROOT / "deploy/dashboards" / name.removeprefix("dnsguard-")
        assert json.loads(text) == json.loads(source.read_text())
    assert len(boards) == len(there)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("node-cilium", "Cilium gives it what pods ask kube-dns"),
        ("node-six", "It answers at fd00:20::10 and for fd00:10:96::a"),
        ("node", "kubectl -n kube-system rollout status daemonset/dnsguard-node"),
    ],
)
def test_the_notes_say_what_comes_next(name: str, said: str, tmp_path: Path) -> None:
    """helm shows them to who installs; here they are made a manifest, which it renders."""
    chart = tmp_path / "dnsguard"
    shutil.copytree(CHART, chart)
    notes = (chart / "templates/NOTES.txt").read_text()
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |\n"
    (chart / "templates/notes.yaml").write_text(
        '{{- define "notes" }}'
        + notes
        + "{{ end }}\n"
        + head
        + '    {{- include "notes" . | nindent 4 }}\n'
    )
    done = helm(
        "template", "dnsguard", str(chart), *case(name), "--show-only", "templates/notes.yaml"
    )
    assert said in done.stdout, done.stderr
