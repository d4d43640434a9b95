"""The sidecar, put into a pod: pod and profile in, a JSON patch (RFC 6902) or a reason out.

Pure: the command line, the webhook and the tests all call `plan`. What a pod gets, and why, stands
beside each piece; what was there before is kept in an annotation, so that `restore` can put it
back. Knows nothing of YAML, HTTP or a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dnsguard.errors import ConfigError, Mistake
from dnsguard.kube import profile as profiles
from dnsguard.kube.profile import INJECT, NAMESPACE, STATUS, Check, Profile
from dnsguard.kube.sidecar import DNS_PORT, NAME, STATE, container, dns_config, mapping, volume

SYSCTL = "net.ipv4.ip_unprivileged_port_start"
SYSTEM_NAMESPACES = ("kube-system", "kube-node-lease")

Patch = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be done to one pod: a patch, or none and the reason."""

    patch: Patch
    reason: str
    warnings: tuple[str, ...] = field(default=())

    @property
    def injected(self) -> bool:
        return bool(self.patch)


class _Skip(Exception):
    """This pod is left as it is; the text says why."""


def plan(
    pod: Mapping[str, Any],
    namespace: str,
    profile: Profile,
    where: str,
    check: Check | None = None,
) -> Outcome:
    """What to do with a pod, or a pod template, of that namespace ("" where nobody knows).

    Raises ConfigError for annotations that mean nothing, and for want of an upstream or namespace.
    """
    meta, spec = mapping(pod, "metadata"), mapping(pod, "spec")
    annotations = mapping(meta, "annotations")
    wish = annotations.get(INJECT)
    if wish not in (None, "enabled", "disabled"):
        raise ConfigError(
            [Mistake(f"{where}: annotation {INJECT}", wish, "enabled or disabled, in quotes")]
        )
    if (moved := _moved_to_front(spec)) is not None:
        return Outcome(moved, "dnsguard moved to the front of the init containers again")
    try:
        _leave_alone(meta, spec, namespace, wish)
        own = profiles.read_annotations(profile, annotations, where)
        _no_clash(spec, own)
    except _Skip as skip:
        return Outcome([], str(skip), _namespace_warning(annotations, namespace))
    if spec.get("dnsPolicy") == "None":
        own = _upstream_of(spec, own, where)
    complete(own, namespace, where, check)
    return _injected(pod, namespace, own)


def _leave_alone(
    meta: Mapping[str, Any], spec: Mapping[str, Any], namespace: str, wish: str | None
) -> None:
    """Raise _Skip for a pod that is not to have a sidecar, or cannot have one."""
    labels = mapping(meta, "labels")
    policy = spec.get("dnsPolicy", "ClusterFirst")
    reasons = (
        (wish == "disabled", f"annotation {INJECT}: disabled"),
        (labels.get("app.kubernetes.io/name") == NAME, "dnsguard itself"),
        (has_sidecar(spec), "already injected"),
        ("kubernetes.io/config.mirror" in mapping(meta, "annotations"), "a static pod's mirror"),
        (namespace in SYSTEM_NAMESPACES, f"namespace {namespace} belongs to the cluster"),
        (spec.get("hostNetwork") is True, "hostNetwork: 127.0.0.1:53 would be the node's"),
        (_windows(spec), "Windows"),
        (
            policy == "Default",
            "dnsPolicy Default: only the node knows those resolvers",
        ),
        (policy == "ClusterFirstWithHostNet", "dnsPolicy ClusterFirstWithHostNet"),
        (
            policy == "None" and wish != "enabled",
            f"dnsPolicy None: its nameservers are its own, unless annotated {INJECT}: enabled",
        ),
        (
            policy not in ("ClusterFirst", "Default", "ClusterFirstWithHostNet", "None"),
            f"dnsPolicy {policy} is unknown",
        ),
    )
    for applies, reason in reasons:
        if applies:
            raise _Skip(reason)


def _no_clash(spec: Mapping[str, Any], profile: Profile) -> None:
    """Raise _Skip if the pod's own containers, volumes or sysctls leave no room."""
    for each in _every_container(spec):
        for port in each.get("ports") or ():
            number = port.get("containerPort")
            if number == DNS_PORT:
                raise _Skip(f"container {each.get('name')} has port 53 for itself")
            if number == profile.admin_port:
                raise _Skip(
                    f"container {each.get('name')} has port {number}, which dnsguard's health "
                    f"needs: annotate {profiles.PREFIX}admin-port with another"
                )
    if any(volume.get("name") == STATE for volume in spec.get("volumes") or ()):
        raise _Skip(f"a volume is called {STATE} already")
    for sysctl in mapping(spec, "securityContext").get("sysctls") or ():
        if sysctl.get("name") == SYSCTL and int(sysctl.get("value", 0)) > DNS_PORT:
            raise _Skip(f"its sysctl {SYSCTL} keeps port 53 from everyone but root")


def _upstream_of(spec: Mapping[str, Any], profile: Profile, where: str) -> Profile:
    """A pod that names its own nameservers has them asked by dnsguard instead."""
    servers = mapping(spec, "dnsConfig").get("nameservers") or []
    return profiles.read_values(
        {"upstream": list(servers)}, f"{where}: spec.dnsConfig.nameservers", profile
    )


def complete(profile: Profile, namespace: str, where: str, check: Check | None) -> None:
    """Raise ConfigError if something is missing without which the pod would have no DNS."""
    mistakes = []
    if not profile.upstream:
        mistakes.append(
            Mistake(
                f"{where}: upstream", "", "the address of the cluster's DNS Service: --upstream"
            )
        )
    if not namespace:
        mistakes.append(
            Mistake(
                f"{where}: namespace", "",
                "the search list begins with it and the manifest has none: --namespace NAME, "
                f"metadata.namespace, or annotation {NAMESPACE}",
            )
        )  # fmt: skip
    if check is not None and profile.upstream:
        settings = [f"{key}={value}" for key, value in profile.settings.items()]
        if profile.searches_for_clients:
            settings.append(f"kubernetes.namespace={namespace or 'default'}")
        mistakes += [
            Mistake(f"{where}: setting {wrong.path}", wrong.value, wrong.expected)
            for wrong in check(settings, profile.upstream)
        ]
    if mistakes:
        raise ConfigError(mistakes)


def _injected(pod: Mapping[str, Any], namespace: str, profile: Profile) -> Outcome:
    spec = mapping(pod, "spec")
    warnings: list[str] = []
    native = profile.sidecar == "native"
    patch: Patch = []
    patch += _inserted(spec, "/spec", "initContainers" if native else "containers",
                       container(profile), front=native)  # fmt: skip
    patch += _inserted(spec, "/spec", "volumes", volume(profile))
    patch.append(_add("/spec/dnsPolicy", "None"))
    patch.append(_add("/spec/dnsConfig", dns_config(spec, namespace, profile, warnings)))
    if profile.sysctl and not _has_sysctl(spec):
        # The port that resolv.conf means is 53, and it has no way to name another. A capability
        # would not do: without root or a file capability a process does not get NET_BIND_SERVICE.
        # This sysctl is one of those that Kubernetes calls safe, and the pod has it for itself.
        sysctl = {"name": SYSCTL, "value": str(DNS_PORT)}
        if isinstance(spec.get("securityContext"), Mapping):
            patch += _inserted(spec["securityContext"], "/spec/securityContext", "sysctls", sysctl)
        else:
            patch.append(_add("/spec/securityContext", {"sysctls": [sysctl]}))
    patch += _status(pod, namespace, patch)
    annotations = mapping(mapping(pod, "metadata"), "annotations")
    warnings += _namespace_warning(annotations, namespace)
    return Outcome(patch, f"{profile.sidecar} sidecar, upstream {', '.join(profile.upstream)}",
                   tuple(warnings))  # fmt: skip


def _status(pod: Mapping[str, Any], namespace: str, patch: Patch) -> Patch:
    """The annotation by which `restore` knows what was there before."""
    spec = mapping(pod, "spec")
    before = {key: spec[key] for key in ("dnsPolicy", "dnsConfig") if key in spec}
    made = [op["path"] for op in patch if op["path"] not in ("/spec/dnsPolicy", "/spec/dnsConfig")]
    meta = pod.get("metadata")
    annotated = isinstance(meta, Mapping) and isinstance(meta.get("annotations"), Mapping)
    if not annotated:
        made.append("/metadata/annotations" if isinstance(meta, Mapping) else "/metadata")
    status = json.dumps(
        {"namespace": namespace, "before": before, "made": made},
        sort_keys=True, separators=(",", ":"),
    )  # fmt: skip
    if annotated:
        return [_add(f"/metadata/annotations/{_escaped(STATUS)}", status)]
    if isinstance(meta, Mapping):
        return [_add("/metadata/annotations", {STATUS: status})]
    return [_add("/metadata", {"annotations": {STATUS: status}})]


def has_sidecar(spec: Mapping[str, Any]) -> bool:
    """Whether a container of this name is there already."""
    return any(each.get("name") == NAME for each in _every_container(spec))


def _moved_to_front(spec: Mapping[str, Any]) -> Patch | None:
    """Another webhook put its init container before ours, which would then wait for DNS in vain."""
    names = [each.get("name") for each in spec.get("initContainers") or ()]
    if NAME not in names[1:] or names.index(NAME) == 0:
        return None
    at = names.index(NAME)
    ours = spec["initContainers"][at]
    if ours.get("restartPolicy") != "Always":
        return None
    out = {"op": "remove", "path": f"/spec/initContainers/{at}"}
    return [out, _add("/spec/initContainers/0", ours)]


def _namespace_warning(annotations: Mapping[str, Any], namespace: str) -> tuple[str, ...]:
    """What was injected for one namespace and is created in another looks in the wrong one."""
    try:
        written = json.loads(annotations.get(STATUS, "{}")).get("namespace", namespace)
    except (ValueError, AttributeError, TypeError):
        return ()
    if written == namespace or not namespace:
        return ()
    warning = (
        f"this pod was injected for namespace {written} and is created in {namespace}: "
        f"its search list looks in {written}"
    )
    return (warning,)


def _windows(spec: Mapping[str, Any]) -> bool:
    selected = mapping(spec, "nodeSelector").get("kubernetes.io/os")
    return "windows" in (mapping(spec, "os").get("name"), selected)


def _has_sysctl(spec: Mapping[str, Any]) -> bool:
    sysctls = mapping(spec, "securityContext").get("sysctls") or ()
    return any(each.get("name") == SYSCTL for each in sysctls)


def _every_container(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _inserted(
    holder: Mapping[str, Any], path: str, key: str, item: dict[str, Any], front: bool = False
) -> Patch:
    if holder.get(key):
        return [_add(f"{path}/{key}/{'0' if front else '-'}", item)]
    return [_add(f"{path}/{key}", [item])]


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def apply(pod: Any, patch: Sequence[Mapping[str, Any]]) -> None:
    """Carry out a patch of `plan` in place. Keeps the order and the comments of what is there."""
    for op in patch:
        *above, last = (
            part.replace("~1", "/").replace("~0", "~") for part in op["path"][1:].split("/")
        )
        holder = pod
        for part in above:
            holder = holder[int(part) if isinstance(holder, list) else part]
        if op["op"] == "remove":
            del holder[int(last)]
        elif isinstance(holder, list):
            holder.insert(len(holder) if last == "-" else int(last), op["value"])
        else:
            holder[last] = op["value"]


def restore(pod: Any) -> str:
    """Take the sidecar out again, in place; return why not, or nothing."""
    spec = pod.get("spec")
    if not isinstance(spec, dict) or not has_sidecar(spec):
        return "not injected"
    annotations = mapping(mapping(pod, "metadata"), "annotations")
    try:
        status = json.loads(annotations[STATUS])
        before, made = status["before"], status["made"]
    except (KeyError, ValueError, TypeError):
        return (
            f"it has a container {NAME}, but no annotation {STATUS} that says what was there before"
        )
    for key in ("initContainers", "containers"):
        _drop(spec, key, NAME, f"/spec/{key}" in made)
    _drop(spec, "volumes", STATE, "/spec/volumes" in made)
    if "/spec/securityContext" in made:
        del spec["securityContext"]
    elif "/spec/securityContext/sysctls" in made:
        del spec["securityContext"]["sysctls"]
    elif "/spec/securityContext/sysctls/-" in made:
        _drop(spec["securityContext"], "sysctls", SYSCTL, False)
    for key in ("dnsPolicy", "dnsConfig"):
        if key in before:
            spec[key] = before[key]
        else:
            spec.pop(key, None)
    if "/metadata" in made:
        del pod["metadata"]
    elif "/metadata/annotations" in made and len(annotations) == 1:
        del pod["metadata"]["annotations"]
    else:
        del pod["metadata"]["annotations"][STATUS]
    return ""


def _drop(holder: Any, key: str, name: str, made: bool) -> None:
    items = holder.get(key)
    if not isinstance(items, list):
        return
    for at, item in enumerate(items):
        if item.get("name") == name:
            del items[at]
            break
    if made and not items:
        del holder[key]
