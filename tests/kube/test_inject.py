"""What a pod gets, what it is spared, and that taking it out again leaves nothing behind.

Every injected pod is judged by the Kubernetes schemas; the rules of the restricted Pod Security
Standard, which no schema knows, are written out here.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from dnsguard.errors import ConfigError
from dnsguard.kube.inject import apply, plan, restore
from dnsguard.kube.profile import STATUS, Profile, read_values
from tests.kube.pods import PORT_9153, PROFILE, SKIPS, annotated, planned, pod, sysctl

DNS: dict[str, Any] = {
    "nameservers": ["127.0.0.1"],
    "searches": ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    "options": [{"name": "ndots", "value": "5"}],
}
ON = {"dnsguard.io/inject": "enabled"}


def test_a_native_sidecar_comes_before_every_other_init_container() -> None:
    after, outcome = planned(pod(initContainers=[{"name": "migrate", "image": "m"}]))
    first, second = after["spec"]["initContainers"]
    assert (first["name"], first["restartPolicy"], second["name"]) == (
        "dnsguard",
        "Always",
        "migrate",
    )
    assert after["spec"]["dnsPolicy"] == "None"
    assert after["spec"]["dnsConfig"] == DNS
    assert outcome.injected
    assert "--upstream=10.96.0.10" in first["args"]


def test_it_meets_the_restricted_pod_security_standard() -> None:
    after, _ = planned(pod())
    context = after["spec"]["initContainers"][0]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 65532
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True
    assert [set(volume) for volume in after["spec"]["volumes"]] == [{"name", "emptyDir"}]
    # One of the sysctls that the standard calls safe, and not lower than it needs to be.
    assert after["spec"]["securityContext"]["sysctls"] == [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}
    ]


def test_something_lies_where_the_api_token_would_be() -> None:
    mounts = planned(pod())[0]["spec"]["initContainers"][0]["volumeMounts"]
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in {each["mountPath"] for each in mounts}


def test_probes_reach_the_pods_address_and_ask_about_no_upstream() -> None:
    sidecar = planned(pod())[0]["spec"]["initContainers"][0]
    assert "--admin=0.0.0.0:9153" in sidecar["args"]
    paths = {kind: sidecar[kind]["httpGet"]["path"]
             for kind in ("startupProbe", "livenessProbe", "readinessProbe")}  # fmt: skip
    assert paths == {
        "startupProbe": "/readyz",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert all("host" not in sidecar[kind]["httpGet"] for kind in paths)


@pytest.mark.parametrize(
    ("cache", "limit", "state"),
    [("16MiB", "80Mi", "96Mi"), ("64MiB", "140Mi", "96Mi"), ("1GiB", "1340Mi", "96Mi")],
)
def test_the_memory_limit_follows_the_cache(cache: str, limit: str, state: str) -> None:
    after, _ = planned(annotated({"dnsguard.io/config": f"cache.max_bytes={cache}"}))
    resources = after["spec"]["initContainers"][0]["resources"]
    assert resources == {
        "requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"memory": limit}
    }  # fmt: skip
    assert after["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": state}


def test_the_volume_follows_what_may_be_written_there() -> None:
    after, _ = planned(annotated({"dnsguard.io/config": "store.max_bytes=64MiB"}))
    assert after["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "160Mi"}


def test_classic_is_an_ordinary_container_and_init_containers_keep_cluster_dns() -> None:
    classic = read_values({"sidecar": "classic"}, "", PROFILE)
    after, _ = planned(pod(initContainers=[{"name": "migrate", "image": "m"}]), classic)
    assert [each["name"] for each in after["spec"]["containers"]] == ["web", "dnsguard"]
    assert "restartPolicy" not in after["spec"]["containers"][1]
    assert after["spec"]["dnsConfig"]["nameservers"] == ["127.0.0.1", "10.96.0.10"]
    assert planned(pod(), classic)[0]["spec"]["dnsConfig"] == DNS


@pytest.mark.parametrize(
    ("upstream", "servers"),
    [
        (("10.96.0.10", "tcp://10.96.0.11:53"), ["127.0.0.1", "10.96.0.10", "10.96.0.11"]),
        (("tls://192.0.2.1", "10.96.0.10:5353"), ["127.0.0.1"]),
        (("fd00::a",), ["::1", "fd00::a"]),
        (("[fd00::a]:53",), ["::1", "fd00::a"]),
    ],
)
def test_a_fallback_is_what_a_libc_can_ask(upstream: tuple[str, ...], servers: list[str]) -> None:
    profile = Profile(upstream=upstream, fallback="always")
    assert planned(pod(), profile)[0]["spec"]["dnsConfig"]["nameservers"] == servers


def test_ipv6_listens_and_is_probed_over_ipv6() -> None:
    args = planned(pod(), Profile(upstream=("fd00::a",)))[0]["spec"]["initContainers"][0]["args"]
    assert {"--listen=[::1]:53", "--admin=[::]:9153"} <= set(args)


def test_the_pods_own_dns_config_is_merged_as_a_kubelet_does() -> None:
    own = {
        "nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        "searches": ["corp.example", "cluster.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    after, outcome = planned(
        pod(dnsConfig=own), read_values({"searches": "ec2.internal"}, "", PROFILE)
    )
    assert after["spec"]["dnsConfig"] == {
        "nameservers": ["127.0.0.1", "192.0.2.1", "192.0.2.2"],
        "searches": [*DNS["searches"], "ec2.internal", "corp.example"],
        "options": own["options"],
    }
    assert outcome.warnings == ("nameservers beyond the third are left out: 192.0.2.3",)


def test_another_cluster_domain() -> None:
    after, _ = planned(pod(), read_values({"clusterDomain": "k8s.example."}, "", PROFILE), "a")
    assert after["spec"]["dnsConfig"]["searches"] == [
        "a.svc.k8s.example", "svc.k8s.example", "k8s.example"
    ]  # fmt: skip
    assert "--set=kubernetes.domain=k8s.example" in after["spec"]["initContainers"][0]["args"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("kubernetes.autopath=on", True),
        ("kubernetes.autopath=off", False),
        ("kubernetes.autopath=on\nkubernetes.namespace=other", False),
    ],
)
def test_a_sidecar_that_searches_is_told_its_namespace(config: str, told: bool) -> None:
    after, outcome = planned(annotated({"dnsguard.io/config": config}))
    assert outcome.injected
    first = after["spec"]["initContainers"][0]
    source = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    env = [{"name": "DNSGUARD_KUBERNETES__NAMESPACE", "valueFrom": source}]
    assert first.get("env") == (env if told else None)


def test_policy_none_is_opted_in_and_its_nameservers_become_the_upstream() -> None:
    own = {"nameservers": ["192.0.2.7"], "searches": ["corp.example"]}
    after, _ = planned(annotated(ON, dnsPolicy="None", dnsConfig=own))
    assert "--upstream=192.0.2.7" in after["spec"]["initContainers"][0]["args"]
    assert after["spec"]["dnsConfig"] == {
        "nameservers": ["127.0.0.1"],
        "searches": ["corp.example"],
    }


@pytest.mark.parametrize(("given", "reason"), SKIPS, ids=[reason for _, reason in SKIPS])
def test_a_pod_that_cannot_have_it_is_left_alone_with_a_reason(
    given: dict[str, Any], reason: str
) -> None:
    outcome = plan(given, "shop", PROFILE, "Pod web")
    assert not outcome.patch
    assert reason in outcome.reason


def test_kube_system_is_left_alone() -> None:
    assert "kube-system" in plan(pod(), "kube-system", PROFILE, "Pod web").reason


def test_another_admin_port_makes_room() -> None:
    given = annotated({"dnsguard.io/admin-port": "9154"}, containers=PORT_9153)
    assert planned(given)[0]["spec"]["initContainers"][0]["ports"][0]["containerPort"] == 9154


def test_a_second_time_changes_nothing() -> None:
    after, _ = planned(pod())
    again = plan(after, "shop", PROFILE, "Pod web")
    assert (again.patch, again.reason) == ([], "already injected")


def test_it_goes_to_the_front_again_when_another_webhook_took_the_place() -> None:
    after, _ = planned(pod())
    after["spec"]["initContainers"].insert(0, {"name": "mesh", "image": "m"})
    moved, outcome = planned(after)
    assert [each["name"] for each in moved["spec"]["initContainers"]] == ["dnsguard", "mesh"]
    assert "front" in outcome.reason


def test_a_manifest_made_for_another_namespace_gets_a_warning() -> None:
    after, _ = planned(pod())
    (warning,) = plan(after, "elsewhere", PROFILE, "Pod web").warnings
    assert "injected for namespace shop and is created in elsewhere" in warning


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"dnsguard.io/inject": "yes"}, "enabled or disabled"),
        ({"dnsguard.io/injekt": "enabled"}, "no such key"),
        ({"dnsguard.io/upstream": "dns.example"}, "addresses"),
        ({"dnsguard.io/sidecar": "fancy"}, "native, classic"),
        ({"dnsguard.io/fallback": "perhaps"}, "auto, always, never"),
        ({"dnsguard.io/admin-port": "53"}, "1024 to 65535"),
        ({"dnsguard.io/memory-limit": "lots"}, "40Mi"),
        ({"dnsguard.io/cpu-request": "1Gi"}, "10m"),
        ({"dnsguard.io/config": "stale.max_age"}, "KEY=VALUE"),
        ({"dnsguard.io/searches": "-.example"}, "domains"),
        ({"dnsguard.io/image": " "}, "text"),
    ],
)
def test_an_annotation_that_means_nothing_is_refused(
    annotations: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(annotated(annotations), "shop", PROFILE, "Pod web")
    (key,) = annotations
    assert key in str(refused.value)
    assert said in str(refused.value)


def test_without_upstream_and_namespace_both_are_asked_for() -> None:
    with pytest.raises(ConfigError) as refused:
        plan(pod(), "", Profile(), "Pod web")
    assert [mistake.path for mistake in refused.value.mistakes] == [
        "Pod web: upstream", "Pod web: namespace"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        pod(),
        {"spec": {"containers": [{"name": "a", "image": "b"}]}},
        pod(initContainers=[{"name": "m", "image": "m"}], volumes=[{"name": "v", "emptyDir": {}}]),
        pod(initContainers=[], volumes=[]),
        pod(securityContext={"fsGroup": 1}),
        pod(securityContext=sysctl("net.ipv4.ip_local_port_range", "1024 2048")),
        pod(securityContext=sysctl("net.ipv4.ip_unprivileged_port_start", "0")),
        pod(dnsPolicy="ClusterFirst", dnsConfig={"options": [{"name": "ndots", "value": "2"}]}),
        annotated({"team": "a"}),
        annotated({**ON, "dnsguard.io/sidecar": "classic"}),
        annotated(ON, dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.7"]}),
    ],
)  # fmt: skip
def test_restored_it_is_what_it_was(given: dict[str, Any]) -> None:
    after, _ = planned(given)
    assert after != given
    assert restore(after) == ""
    before = copy.deepcopy(given)
    for key in ("initContainers", "volumes"):
        if before["spec"].get(key) == []:
            del before["spec"][key]  # an empty list and none are the same to Kubernetes
    assert after == before


def test_what_was_not_injected_cannot_be_restored() -> None:
    assert restore(pod()) == "not injected"
    after, _ = planned(pod())
    after["metadata"]["annotations"][STATUS] = "lost"
    assert "says what was there before" in restore(after)


def test_the_patch_survives_json() -> None:
    """As a webhook sends it: what an API server applies is what the command line writes."""
    after, outcome = planned(annotated({"team": "a"}, initContainers=[{"name": "m", "image": "m"}]))
    sent = annotated({"team": "a"}, initContainers=[{"name": "m", "image": "m"}])
    apply(sent, json.loads(json.dumps(outcome.patch)))
    assert sent == after
