"""What is put into a pod: the container, its volume, and the DNS settings of the pod around it.

Why each field is as it is stands beside it. The Helm chart's policy writes the same container in
CEL, and a test compares the two. Knows nothing of patches and of what the pod looks like otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnsguard.kube import profile as profiles
from dnsguard.kube.profile import Profile

NAME = "dnsguard"  # of the container; a pod that has one of this name is injected
STATE = "dnsguard-state"
STATE_DIR = "/var/lib/dnsguard"
TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
DNS_PORT = 53
NAMESERVERS_MAX = 3  # the API server refuses a fourth


def container(profile: Profile) -> dict[str, Any]:
    """The sidecar. Meets the restricted Pod Security Standard by itself."""
    host, wild = ("[::1]", "[::]") if _six(profile) else ("127.0.0.1", "0.0.0.0")
    limits = {"cpu": profile.cpu_limit, "memory": profile.limit}
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if profile.user is not None:
        context |= {"runAsGroup": profile.user, "runAsUser": profile.user}
    found: dict[str, Any] = {
        "name": NAME,
        "image": profile.image,
        "imagePullPolicy": profile.pull_policy,
        "args": [
            "serve",
            f"--listen={host}:{DNS_PORT}",
            # Kubelets probe the pod's address and Prometheus scrapes it; what is served there is
            # read-only. Whatever changes an answer goes over a Unix socket that nobody else sees.
            f"--admin={wild}:{profile.admin_port}",
            f"--state-dir={STATE_DIR}",
            # Always said: the pod's resolv.conf names dnsguard itself.
            *(f"--upstream={each}" for each in profile.upstream),
            *(f"--set={key}={value}" for key, value in sorted(profile.settings.items())),
        ],
        "ports": [
            {"name": "dnsguard-admin", "containerPort": profile.admin_port, "protocol": "TCP"}
        ],
        "resources": {
            "requests": {"cpu": profile.cpu_request, "memory": profile.memory_request},
            "limits": {kind: value for kind, value in limits.items() if value},
        },
        "securityContext": context,
        # None of the three asks about upstreams: when cluster DNS is gone, a restart or a pod out
        # of service would only make it worse.
        "startupProbe": _probe("/readyz", profile, period=1, failures=60),
        "livenessProbe": _probe("/livez", profile, period=10, failures=3),
        "readinessProbe": _probe("/readyz", profile, period=10, failures=3),
        "volumeMounts": [
            {"name": STATE, "mountPath": STATE_DIR},
            # Something lies where the API token would be mounted, so that it is not.
            {"name": STATE, "mountPath": TOKEN_DIR, "subPath": "no-token", "readOnly": True},
        ],
    }  # fmt: skip
    if profile.sidecar == "native":
        found["restartPolicy"] = "Always"
    if profile.searches_for_clients:
        # The kubelet knows it of each pod, whoever injects.
        source = {"fieldRef": {"fieldPath": "metadata.namespace"}}
        found["env"] = [{"name": "DNSGUARD_KUBERNETES__NAMESPACE", "valueFrom": source}]
    return found


def volume(profile: Profile) -> dict[str, Any]:
    """Where last-known-good outlives a restart of the container; it goes with the pod."""
    return {"name": STATE, "emptyDir": {"sizeLimit": profile.state_limit}}


def _probe(path: str, profile: Profile, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": profile.admin_port},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def dns_config(
    spec: Mapping[str, Any], namespace: str, profile: Profile, warnings: list[str]
) -> dict[str, Any]:
    """What ClusterFirst would have written into resolv.conf, with dnsguard as the first server.

    The pod's own dnsConfig is merged as a kubelet merges it: its servers and domains come after,
    its options win. A pod with dnsPolicy None keeps its domains and options, and no more.
    """
    own = mapping(spec, "dnsConfig")
    servers, searches = ["::1" if _six(profile) else "127.0.0.1"], []
    options = [dict(option) for option in own.get("options") or ()]
    if spec.get("dnsPolicy") != "None":
        domain = profile.cluster_domain
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *profile.searches]
        servers += own.get("nameservers") or ()
        if not any(option.get("name") == "ndots" for option in options):
            options.insert(0, {"name": "ndots", "value": "5"})
    searches += own.get("searches") or ()
    if _falls_back(spec, profile):
        servers += [str(profiles.upstream_ip(each)) for each in profile.upstream
                    if profiles.answers_libc(each)]  # fmt: skip
    servers = list(dict.fromkeys(servers))
    if len(servers) > NAMESERVERS_MAX:
        warnings.append(f"nameservers beyond the third are left out: {', '.join(servers[3:])}")
    merged = {"nameservers": servers[:NAMESERVERS_MAX], "searches": list(dict.fromkeys(searches)),
              "options": options}  # fmt: skip
    return {key: value for key, value in merged.items() if value}


def _falls_back(spec: Mapping[str, Any], profile: Profile) -> bool:
    """Whether resolv.conf names the cluster's DNS behind dnsguard.

    A classic sidecar starts after the init containers, which would have no DNS at all. Otherwise
    it is better left out: musl asks all servers at once and takes the first word, also a wrong one.
    """
    if profile.fallback == "auto":
        return profile.sidecar == "classic" and bool(spec.get("initContainers"))
    return profile.fallback == "always"


def _six(profile: Profile) -> bool:
    """Whether the pod's first address is IPv6: the DNS Service's is of the same family."""
    first = profiles.upstream_ip(profile.upstream[0]) if profile.upstream else None
    return first is not None and first.version == 6


def mapping(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What is under the key, or an empty mapping."""
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}
