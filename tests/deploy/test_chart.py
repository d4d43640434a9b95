"""The Helm chart over a matrix of values: judged by helm, Kubernetes' schemas and our promises."""

from __future__ import annotations

import base64
import json
import re
import ssl
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dnsguard.cli.inject import check_settings
from dnsguard.kube.inject import complete
from dnsguard.kube.profile import VALUES, Profile, read_values
from dnsguard.kube.sidecar import container, volume
from tests.deploy.charts import (
    CASES,
    CHART,
    ROOT,
    UPSTREAM,
    case,
    documented,
    from_cel,
    helm,
    of_kind,
    rendered,
)

OLDEST, NEWEST = "1.29", "1.36"
NOT_KUBERNETES = (
    "cert-manager.io/",
    "cilium.io/",
    "monitoring.coreos.com/",
)  # no schema of theirs at hand


def check(document: dict[str, Any], version: str) -> None:
    if not document["apiVersion"].startswith(NOT_KUBERNETES):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", ["defaults", *CASES])
def test_helm_and_the_schemas_have_nothing_to_say(name: str) -> None:
    linted = helm("lint", "--strict", str(CHART), *case(name))
    assert linted.returncode == 0, linted.stdout
    for document in rendered(*case(name)):
        check(document, NEWEST)
        if not document["kind"].startswith("MutatingAdmissionPolicy"):
            check(document, OLDEST)
        if "namespace" in document["metadata"]:
            node = document["metadata"]["labels"]["app.kubernetes.io/component"] == "node"
            node = node or document["metadata"]["name"] == "dnsguard-node-test"
            wanted = "kube-system" if node and name != "node-six" else "dnsguard"
            assert document["metadata"]["namespace"] == wanted


@pytest.mark.parametrize("name", ["defaults", *CASES])
def test_names_are_unique(name: str) -> None:
    found = [(document["kind"], document["metadata"]["name"]) for document in rendered(*case(name))]
    assert len(found) == len(set(found))


def test_without_an_upstream_it_says_how_to_find_one() -> None:
    done = helm("template", "dnsguard", str(CHART))
    assert done.returncode != 0
    assert "kubectl -n kube-system get service" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "mechanism=magic", "webhook.replica=2", "injection.upstreams={10.0.0.1}", "nonsense=1",
        "injection.adminPort=53", "webhook.timeoutSeconds=60", "selection.namespaces=some",
        "certificate.source=thin-air", "node.variant=magic", "node.rules=ebtables",
        "node.interface=longer-than-it-may-be", "node.workers=0", "node.address=dns.example",
    ],
)  # fmt: skip
def test_the_schema_refuses_what_means_nothing(wrong: str) -> None:
    done = helm("template", "dnsguard", str(CHART), *UPSTREAM, "--set", wrong)
    assert done.returncode != 0
    assert "schema" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--set", "certificate.source=secret"), "caBundle"),
        (("--set", "certificate.source=secret,certificate.caBundle=x"), "secretName"),
        (("--set", "mechanism=policy,injection.sidecar=classic"), "native"),
        (("--set", "mechanism=policy,injection.fallback=always"), "webhook"),
        (("--set", "node.enabled=true,node.namespace=dns"), "node.upstream is needed"),
        (
            (
                "--set",
                "node.enabled=true,node.serviceAddress=10.96.0.10,node.upstream={10.96.0.10}",
            ),
            "every question would come back",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(args: tuple[str, ...], said: str) -> None:
    done = helm("template", "dnsguard", str(CHART), *UPSTREAM, *args)
    assert (done.returncode != 0, said in done.stderr) == (True, True)


def test_every_value_is_documented_and_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    keys = [
        f"{section}.{key}" if isinstance(inner, dict) else section
        for section, inner in values.items()
        for key in (inner if isinstance(inner, dict) else [""])
    ]
    assert [key for key, _, _ in documented()] == keys
    known = [
        f"{section}.{key}" if "properties" in inner else section
        for section, inner in schema.items()
        for key in inner.get("properties", [""])
    ]
    assert sorted(known) == sorted([*keys, "global"])
    table = (CHART / "README.md").read_text()
    rows = [f"| `{key}` | `{default}` | {text} |" for key, default, text in documented()]
    assert re.findall(r"^\| `.*$", table, re.MULTILINE) == rows


def test_the_charts_injection_is_the_profile_of_the_command_line() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["injection"]
    assert set(values) == {key for key, *_ in VALUES} - {"imagePullPolicy"}
    assert read_values({**values, "image": Profile().image}, "values") == Profile()


@pytest.mark.parametrize("name", ["defaults", "webhook", "secret"])
def test_the_webhook_can_use_what_it_is_given(name: str) -> None:
    config = of_kind(rendered(*case(name)), "ConfigMap")["data"]["values.yaml"]
    complete(read_values(yaml.safe_load(config), name), "shop", name, check_settings)


@pytest.mark.parametrize("name", ["defaults", "policy", "webhook"])
def test_the_policys_sidecar_is_the_webhooks(name: str) -> None:
    args = (*case(name), "--set", "mechanism=webhook")
    config = yaml.safe_load(of_kind(rendered(*args), "ConfigMap")["data"]["values.yaml"])
    profile = read_values(config, name)
    policy = of_kind(rendered(*case(name), "--set", "mechanism=policy"), "MutatingAdmissionPolicy")
    (mutation,) = policy["spec"]["mutations"]
    end = r"(?=\] \+| [:\]]|,| JSON|$)"
    values = dict(
        re.findall(r'path: "(/spec/\w+)(?:/[0-])?", value: (\{.*?\}|\[.*?\])}' + end,
                   mutation["jsonPatch"]["expression"])
    )  # fmt: skip
    assert from_cel(values["/spec/initContainers"]) == [container(profile)]
    assert from_cel(values["/spec/volumes"]) == [volume(profile)]


def test_no_pod_ever_waits_long_or_is_refused() -> None:
    hooks = of_kind(rendered(*UPSTREAM), "MutatingWebhookConfiguration")["webhooks"]
    assert [hook["clientConfig"]["service"]["path"] for hook in hooks] == [
        "/inject", "/inject/annotated"
    ]  # fmt: skip
    for hook in hooks:
        assert (hook["failurePolicy"], hook["sideEffects"]) == ("Ignore", "None")
        assert (hook["reinvocationPolicy"], hook["timeoutSeconds"]) == ("IfNeeded", 5)
        (excluded, _) = hook["namespaceSelector"]["matchExpressions"]
        assert {"kube-system", "dnsguard"} <= set(excluded["values"])
        assert hook["objectSelector"]["matchExpressions"][0]["values"] == ["dnsguard"]
        assert "hostNetwork" in hook["matchConditions"][0]["expression"]


def test_nothing_has_rights() -> None:
    for name in ("defaults", *CASES):
        kinds = {document["kind"] for document in rendered(*case(name))}
        assert not kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


def test_the_certificate_that_helm_makes_is_good_for_the_service(tmp_path: Path) -> None:
    """A whole handshake in memory, as the API server would do it."""
    documents = rendered(*UPSTREAM)
    data = of_kind(documents, "Secret")["data"]
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes(base64.b64decode(data[name]))
    hooks = of_kind(documents, "MutatingWebhookConfiguration")["webhooks"]
    (authority,) = {hook["clientConfig"]["caBundle"] for hook in hooks}
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client_side = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(there, back, server_side=True)
    client = client_side.wrap_bio(back, there, server_hostname="dnsguard-webhook.dnsguard.svc")
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == "TLSv1.3"


def test_the_plain_manifests_are_as_the_chart_renders_them() -> None:
    from deploy.manifests import render

    for kind in render.RENDERED:
        file = ROOT / "deploy" / "manifests" / kind / "dnsguard.yaml"
        assert file.read_text() == render.rendered(kind), f"run {render.__file__}"
        for document in yaml.safe_load_all(file.read_text()):
            check(document, NEWEST)


def test_every_kustomization_names_files_that_are_there() -> None:
    for file in (ROOT / "deploy" / "manifests").rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(file.read_text())
        check_all = [file.parent / resource for resource in kustomization["resources"]]
        assert all(resource.is_file() for resource in check_all)
