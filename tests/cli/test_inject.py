"""`dnsguard inject` and `uninject` on manifests as people keep them.

Run in this process through click, except where exit codes and streams are what counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dnsguard.cli import inject, uninject

SHOP = """\
# The shop.
apiVersion: v1
kind: ConfigMap
metadata: {name:   odd,   namespace: shop}   # spacing nobody would write
data:
    text: |
        --- not a marker
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web   # the front
  namespace: shop
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
    spec:
      # what customers see
      containers:
        - name: web
          image: "nginx:1.27"
      dnsConfig:
        options:
          - name: ndots
            value: "2"
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick, namespace: shop}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          hostNetwork: true
          containers: [{name: tick, image: busybox}]
"""
FLAT = SHOP.replace(
    "        - name: web\n          image", "      - name: web\n        image"
).replace("          - name: ndots\n            value", "        - name: ndots\n          value")
UPSTREAM = ("--upstream", "10.96.0.10")


def injected(text: str, *args: str) -> Result:
    return CliRunner().invoke(inject.command, ["-f", "-", *args], input=text)


def restored(text: str, *args: str) -> Result:
    return CliRunner().invoke(uninject.command, ["-f", "-", *args], input=text)


def template(kind: str, path: tuple[str, ...]) -> dict[str, Any]:
    inner: dict[str, Any] = {"spec": {"containers": [{"name": "a", "image": "b"}]}}
    for key in reversed(path):
        inner = {key: inner}
    meta = {"name": "a", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **inner}


def test_what_is_not_changed_stays_byte_for_byte() -> None:
    result = injected(SHOP, *UPSTREAM)
    before, _, rest = SHOP.partition("---\napiVersion: apps/v1")
    assert result.stdout.startswith(before)
    assert result.stdout.endswith(rest[rest.index("---\napiVersion: batch/v1") :])
    assert "name: web   # the front" in result.stdout
    assert "# what customers see" in result.stdout
    assert result.stderr.splitlines() == [
        "injected  Deployment shop/web: native sidecar, upstream 10.96.0.10",
        "skipped   CronJob shop/tick: hostNetwork: 127.0.0.1:53 would be the node's",
        "1 injected, 1 skipped",
    ]


@pytest.mark.parametrize("text", [SHOP, FLAT], ids=["indented", "flat"])
def test_there_and_back_is_the_same_text(text: str) -> None:
    there = injected(text, *UPSTREAM).stdout
    assert there != text
    assert restored(there).stdout == text


def test_a_second_time_writes_the_same() -> None:
    once = injected(SHOP, *UPSTREAM).stdout
    again = injected(once, *UPSTREAM)
    assert again.stdout == once
    assert "already injected" in again.stderr


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Pod", ()),
        ("PodTemplate", ("template",)),
        ("CronJob", ("spec", "jobTemplate", "spec", "template")),
        *(
            (kind, ("spec", "template"))
            for kind in (
                "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet",
                "ReplicationController", "Job",
            )
        ),
    ],
)  # fmt: skip
def test_every_kind_with_a_pod_template(kind: str, path: tuple[str, ...]) -> None:
    found = yaml.safe_load(injected(yaml.safe_dump(template(kind, path)), *UPSTREAM).stdout)
    for key in path:
        found = found[key]
    assert [each["name"] for each in found["spec"]["initContainers"]] == ["dnsguard"]


def test_a_list_and_json() -> None:
    both = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [template("Pod", ()), {"kind": "Secret"}, template("Job", ("spec", "template"))],
    }
    result = injected(json.dumps(both), *UPSTREAM)
    pod, secret, _ = json.loads(result.stdout)["items"]
    assert pod["spec"]["dnsPolicy"] == "None"
    assert secret == {"kind": "Secret"}
    assert json.loads(restored(result.stdout).stdout) == both


def test_the_namespace_comes_from_manifest_annotation_or_command_line() -> None:
    bare = {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}
    noted = {**bare, "metadata": {"annotations": {"dnsguard.io/namespace": "noted"}}}
    for given, args, expected in (
        (template("Pod", ()), ("-n", "other"), "shop"),
        (noted, ("-n", "other"), "noted"),
        (bare, ("-n", "other"), "other"),
    ):
        found = yaml.safe_load(injected(yaml.safe_dump(given), *UPSTREAM, *args).stdout)
        assert found["spec"]["dnsConfig"]["searches"][0] == f"{expected}.svc.cluster.local"


def test_a_dry_run_prints_a_difference() -> None:
    lines = injected(SHOP, *UPSTREAM, "--dry-run").stdout.splitlines()
    assert lines[:2] == ["--- stdin", "+++ stdin"]
    assert "+      dnsPolicy: None" in lines
    assert not any(line.startswith("-") for line in lines[2:])


def test_one_mistake_and_nothing_is_written(tmp_path: Path) -> None:
    bad = SHOP.replace("labels: {app: web}", 'annotations: {dnsguard.io/inject: "maybe"}')
    file = tmp_path / "shop.yaml"
    file.write_text(bad + "---\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n")
    done = subprocess.run(
        [sys.executable, "-m", "dnsguard", "inject", "-f", str(file), *UPSTREAM],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "Deployment shop/web: annotation dnsguard.io/inject: 'maybe'" in done.stderr
    assert "Pod a: namespace" in done.stderr


def test_a_setting_that_serve_would_refuse_is_found_before_a_pod_starts() -> None:
    result = injected(SHOP, *UPSTREAM, "--set", "stale.maxage=1d")
    assert result.stdout == ""
    assert "no such key; the nearest is stale.max_age" in str(result.exception)


def test_values_files_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("injection:\n  upstream: [10.0.0.1]\n  sidecar: classic\n")
    assert "classic sidecar, upstream 10.0.0.1" in injected(SHOP, "--values", str(values)).stderr
    for text, said in (("a: [", "readable YAML"), ("upstrem: x", "no such key")):
        values.write_text(text)
        assert said in str(injected(SHOP, "--values", str(values)).exception)
    assert "readable YAML" in str(injected(SHOP, "--values", str(tmp_path / "none")).exception)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [\n", "YAML or JSON"),
        ('{"kind": ', "YAML or JSON"),
        ("kind: Pod\nmetadata: {name: a, namespace: b}\nspec: {containers: 5}\n", "valid pod"),
    ],
)
def test_rubbish_is_said_to_be_rubbish(text: str, said: str) -> None:
    result = injected(text, *UPSTREAM)
    assert (result.stdout, said in str(result.exception)) == ("", True)


@pytest.mark.parametrize("text", ["", "# nothing\n", "5\n", "- a\n", "kind: Deployment\n"])
def test_what_holds_no_workload_passes_through(text: str) -> None:
    result = injected(text, *UPSTREAM)
    assert (result.exit_code, result.stdout) == (0, text)


def test_files_and_directories_become_one_stream(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.txt"):
        (tmp_path / name).write_text(f"kind: ConfigMap\nname: {name}")
    args = ["-f", str(tmp_path), "-f", str(tmp_path / "b.yaml")]
    result = CliRunner().invoke(inject.command, [*args, *UPSTREAM])
    names = [document["name"] for document in yaml.safe_load_all(result.stdout)]
    assert names == ["a.yml", "b.yaml", "b.yaml"]
    assert "no workload found" in result.stderr


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        result = CliRunner().invoke(inject.command, ["-f", str(path), *UPSTREAM])
        assert str(path) in str(result.exception)


def test_help_needs_no_manifest() -> None:
    assert "kubectl apply" in CliRunner().invoke(inject.command, ["--help"]).stdout
