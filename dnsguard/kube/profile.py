"""What an injected sidecar is like: the wishes of whoever injects, and those of one pod's own.

A profile comes from a values file (the keys are those of the chart's `injection:` section) and the
command line; a pod's annotations override it for that pod. All mistakes are found at once, each
with the place where it stands. Knows no pod, no file and no Kubernetes API.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dnsguard import __version__
from dnsguard.errors import ConfigError, Mistake

PREFIX = "dnsguard.io/"
INJECT, STATUS, NAMESPACE = f"{PREFIX}inject", f"{PREFIX}status", f"{PREFIX}namespace"

DOMAIN = "cluster.local"  # what `serve` takes for granted, too

# Measured with the cache full of small answers (docs/kubernetes.md, Sizing): 41 to 45 MiB and the
# cache. A quarter on top of it, because a sidecar that is killed for its memory takes the pod's DNS
# along.
BASE_MIB, HEADROOM = 48, 1.25
# A pod asks for fewer names than a node does: smaller than the defaults of `serve`.
SIDECAR_SETTINGS = {"cache.max_bytes": "16MiB", "store.max_bytes": "32MiB"}
LOG_MIB = 8  # SQLite's log beside the answers: docs/settings.md, `store.max_bytes`

_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB|)")
_MEBIBYTES = {"": 2**-20, "B": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 2.0**10}
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?")
_CPU = re.compile(r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?")
_MEMORY = re.compile(r"[0-9]+(Ki|Mi|Gi|k|M|G)?")
_URL = re.compile(
    r"((udp|tcp|tls)://)?(\[(?P<six>[^]]+)\]|(?P<four>[^:#]+)|(?P<bare>[^#]+))"
    r"(:(?P<port>\d+))?(#.+)?"
)

# Given KEY=VALUE settings and upstreams, says why `serve` would refuse them.
Check = Callable[[Sequence[str], Sequence[str]], Sequence[Mistake]]


@dataclass(frozen=True, slots=True)
class Profile:
    """The sidecar's shape; VALUES says how a values file and annotations spell its fields."""

    image: str = f"dnsguard:{__version__}"
    pull_policy: str = "IfNotPresent"
    upstream: tuple[str, ...] = ()
    cluster_domain: str = DOMAIN
    searches: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    sidecar: str = "native"
    fallback: str = "auto"
    sysctl: bool = True
    user: int | None = 65532
    admin_port: int = 9153
    cpu_request: str = "10m"
    memory_request: str = "40Mi"
    cpu_limit: str = ""
    memory_limit: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """What the sidecar is told with --set."""
        domain = {"kubernetes.domain": self.cluster_domain} if self.cluster_domain != DOMAIN else {}
        return {**SIDECAR_SETTINGS, **domain, **self.config}

    @property
    def searches_for_clients(self) -> bool:
        """Whether dnsguard is to walk search lists, for which it must know the namespace."""
        asked = self.settings.get("kubernetes.autopath", "off")
        return asked not in ("off", "false") and "kubernetes.namespace" not in self.settings

    @property
    def limit(self) -> str:
        """The memory limit that was asked for, or else what a full cache needs."""
        cache = mebibytes(self.settings["cache.max_bytes"])
        return self.memory_limit or f"{math.ceil((BASE_MIB + cache) * HEADROOM)}Mi"

    @property
    def state_limit(self) -> str:
        """The volume's size: answers, as many set aside, logs. Over it the pod would be evicted."""
        answers = mebibytes(self.settings["store.max_bytes"])
        return f"{math.ceil(2 * (answers + LOG_MIB) + 2 * LOG_MIB)}Mi"


def mebibytes(size: str) -> float:
    """A size as settings spell it; what cannot be read is found by whoever checks the settings."""
    parts = _SIZE.fullmatch(size)
    return int(parts[1]) * _MEBIBYTES[parts[2]] if parts else 64.0


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value.strip()
    raise ValueError("text")


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value in words:
            return str(value)
        raise ValueError(f"one of {', '.join(words)}")

    return read


def _fits(pattern: re.Pattern[str], expected: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value in (None, "") or (type(value) in (str, int) and pattern.fullmatch(str(value))):
            return "" if value is None else str(value)
        raise ValueError(expected)

    return read


def _list(value: Any) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("a list, or text with commas")
    return [item.strip() for item in items if item.strip()]


def _upstreams(value: Any) -> tuple[str, ...]:
    """Addresses only: the pod's resolv.conf names dnsguard itself, so who could look up names?"""
    texts = _list(value)
    for text in texts:
        if upstream_ip(text) is None:
            raise ValueError(
                "upstream addresses such as 10.96.0.10 or tls://192.0.2.53#dns.example; "
                "a name cannot be looked up before dnsguard runs"
            )
    return tuple(texts)


def _searches(value: Any) -> tuple[str, ...]:
    texts = _list(value)
    if not all(_DOMAIN.fullmatch(text) for text in texts):
        raise ValueError("domains such as corp.example")
    return tuple(texts)


def _domain(value: Any) -> str:
    if isinstance(value, str) and _DOMAIN.fullmatch(value):
        return value.rstrip(".")
    raise ValueError("the cluster's domain, such as cluster.local")


def _config(value: Any) -> dict[str, str]:
    """KEY=VALUE lines, or a mapping of dotted keys."""
    expected = "KEY=VALUE settings, one a line, such as stale.max_age=1d"
    if isinstance(value, str):
        pairs = [line.partition("=") for line in value.splitlines() if line.strip()]
        if not all(mark and key.strip() for key, mark, _ in pairs):
            raise ValueError(expected)
        return {key.strip(): text.strip() for key, _, text in pairs}
    if not isinstance(value, dict) or any(isinstance(text, dict | list) for text in value.values()):
        raise ValueError(f"{expected}; as a mapping, dotted keys with plain values")
    return {str(key): _plain(text) for key, text in value.items()}


def _plain(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError("true or false")


def _user(value: Any) -> int | None:
    if value is None or (type(value) is int and 0 < value < 2**31):
        return value
    raise ValueError("a numeric user above 0, or null to leave it to the image")


def _port(value: Any) -> int:
    if type(value) in (int, str) and str(value).isdecimal() and 1024 <= int(value) <= 65535:
        return int(value)
    raise ValueError("a port from 1024 to 65535")


_CPU_WORD = _fits(_CPU, "CPU such as 10m")
_MEMORY_WORD = _fits(_MEMORY, "memory such as 40Mi")

# The spelling in a values file, the annotation (or none), the field, and how its value is read.
VALUES: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("image", "image", "image", _text),
    ("imagePullPolicy", "", "pull_policy", _one_of("Always", "IfNotPresent", "Never")),
    ("upstream", "upstream", "upstream", _upstreams),
    ("clusterDomain", "", "cluster_domain", _domain),
    ("searches", "searches", "searches", _searches),
    ("config", "config", "config", _config),
    ("sidecar", "sidecar", "sidecar", _one_of("native", "classic")),
    ("fallback", "fallback", "fallback", _one_of("auto", "always", "never")),
    ("unprivilegedPortSysctl", "", "sysctl", _flag),
    ("runAsUser", "", "user", _user),
    ("adminPort", "admin-port", "admin_port", _port),
    ("cpuRequest", "cpu-request", "cpu_request", _CPU_WORD),
    ("memoryRequest", "memory-request", "memory_request", _MEMORY_WORD),
    ("cpuLimit", "cpu-limit", "cpu_limit", _CPU_WORD),
    ("memoryLimit", "memory-limit", "memory_limit", _MEMORY_WORD),
)
ANNOTATIONS = {PREFIX + word: (name, read) for _, word, name, read in VALUES if word}
OTHER_ANNOTATIONS = (INJECT, NAMESPACE, STATUS)


def read_values(values: Any, where: str, base: Profile | None = None) -> Profile:
    """A values file's profile. Raises ConfigError with every mistake."""
    known = {key: (name, read) for key, _, name, read in VALUES}
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError([Mistake(where, type(values).__name__, "keys with values")])
    # The chart's whole values file may be given; what concerns injection is one section of it.
    if isinstance(values.get("injection"), dict):
        values = values["injection"]
        where = f"{where}: injection"
    return _read(base or Profile(), values, known, where, "")


def read_annotations(base: Profile, annotations: Mapping[str, Any], where: str) -> Profile:
    """The profile for one pod. An annotation of ours that nobody knows is a mistake, too."""
    ours = {key: value for key, value in annotations.items() if key.startswith(PREFIX)}
    ours = {key: value for key, value in ours.items() if key not in OTHER_ANNOTATIONS}
    return _read(base, ours, ANNOTATIONS, where, "annotation ")


def _read(
    base: Profile,
    values: Mapping[Any, Any],
    known: Mapping[str, tuple[str, Callable[[Any], Any]]],
    where: str,
    kind: str,
) -> Profile:
    found: dict[str, Any] = {}
    mistakes = []
    for key, value in values.items():
        path = f"{where}: {kind}{key}"
        if key not in known:
            mistakes.append(
                Mistake(path, value, f"there is no such key; there are: {' '.join(known)}")
            )
            continue
        name, read = known[key]
        try:
            found[name] = read(value)
        except ValueError as wrong:
            mistakes.append(Mistake(path, value, str(wrong)))
    if mistakes:
        raise ConfigError(mistakes)
    if "config" in found:
        found["config"] = {**base.config, **found["config"]}
    return replace(base, **found)


def upstream_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in an upstream URL, or None where there is a name or rubbish."""
    parts = _URL.fullmatch(text)
    if parts is None:
        return None
    try:
        return ipaddress.ip_address(parts["six"] or parts["four"] or parts["bare"])
    except ValueError:
        return None


def answers_libc(text: str) -> bool:
    """Whether a libc could ask this upstream: resolv.conf has neither ports nor TLS."""
    parts = _URL.fullmatch(text)
    return parts is not None and not text.startswith("tls://") and parts["port"] in (None, "53")


assert {name for _, _, name, _ in VALUES} == {each.name for each in fields(Profile)}
