"""The cluster of the outage: Services, EndpointSlices and Corefiles, and what is true of each name.

Pure data, so that what a resolver ought to say can be told without asking one. Nodes that are not
heard of make the node controller set every pod on them unready; the controller of EndpointSlices
then writes `ready: false`, and CoreDNS denies headless names (RFC 2308) whose endpoints are all so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DOMAIN = "cluster.local"
TTL = 30  # what kubeadm and kubectl's own manifests set
HOST = "127.0.0.1"
OUTSIDE = {"www.example.net": "198.51.100.7", "api.example.net": "198.51.100.8"}
OUTSIDE_TTL = 60

# Services with a cluster address, and headless ones with their pods.
CLUSTER_IPS = {
    ("shop", "web"): "10.96.1.1", ("shop", "cart"): "10.96.1.2", ("shop", "checkout"): "10.96.1.3",
    ("data", "search"): "10.96.2.1",
}  # fmt: skip
HEADLESS: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("data", "db"): (("db-0", "10.1.1.10"), ("db-1", "10.1.2.10"), ("db-2", "10.1.3.10")),
    ("data", "cache"): (("cache-0", "10.1.1.20"), ("cache-1", "10.1.2.20")),
    ("data", "queue"): (("queue-0", "10.1.1.30"), ("queue-1", "10.1.3.30")),
    ("data", "ledger"): (("ledger-0", "10.1.2.40"),),
    ("shop", "workers"): (("workers-a", "10.1.1.50"), ("workers-b", "10.1.2.50")),
    ("shop", "sessions"): (("sessions-0", "10.1.3.60"), ("sessions-1", "10.1.1.60")),
}
# Where these pods are once all is well again: they were given other nodes meanwhile.
MOVED: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("data", "queue"): (("queue-0", "10.1.4.30"), ("queue-1", "10.1.5.30")),
    ("shop", "sessions"): (("sessions-0", "10.1.4.60"), ("sessions-1", "10.1.5.60")),
}
PORTS = {"db": ("pg", 5432)}
NAMESPACES = ("shop", "data")
ABSENT = (
    f"web.shop.svc.{DOMAIN}.shop.svc.{DOMAIN}",  # what a search list makes of a full name
    f"nothing.shop.svc.{DOMAIN}",
)


@dataclass(frozen=True)
class Truth:
    """A question and its right answer: the rcode and the records' data, in any order."""

    kind: str  # what the report calls names of this sort
    name: str
    qtype: str
    rcode: str
    data: frozenset[str]


def endpoints(moved: bool) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
    """The pods of each headless Service."""
    return HEADLESS | (MOVED if moved else {})


def truths(moved: bool = False) -> list[Truth]:
    """Every question that is asked, with what is true before, or after, the pods have moved."""
    found = []
    for (namespace, name), address in CLUSTER_IPS.items():
        full = f"{name}.{namespace}.svc.{DOMAIN}"
        found.append(Truth("ClusterIP", full, "A", "NOERROR", frozenset({address})))
        found.append(Truth("ClusterIP", full, "AAAA", "NOERROR", frozenset()))
    for (namespace, name), pods in endpoints(moved).items():
        full = f"{name}.{namespace}.svc.{DOMAIN}"
        addresses = frozenset(address for _, address in pods)
        found.append(Truth("headless", full, "A", "NOERROR", addresses))
        found.append(Truth("headless", full, "AAAA", "NOERROR", frozenset()))
        for pod, address in pods:
            own = f"{pod}.{full}"
            found.append(Truth("a pod's own", own, "A", "NOERROR", frozenset({address})))
            found.append(Truth("a pod's own", own, "AAAA", "NOERROR", frozenset()))
        if name in PORTS:
            port, number = PORTS[name]
            data = frozenset(f"0 {100 // len(pods)} {number} {pod}.{full}." for pod, _ in pods)
            found.append(Truth("headless", f"_{port}._tcp.{full}", "SRV", "NOERROR", data))
    for name, address in OUTSIDE.items():
        found.append(Truth("outside", name, "A", "NOERROR", frozenset({address})))
        found.append(Truth("outside", name, "AAAA", "NOERROR", frozenset()))
    return [*found, *(Truth("absent", name, "A", "NXDOMAIN", frozenset()) for name in ABSENT)]


def services() -> list[dict[str, Any]]:
    """The Services as manifests, without selectors: there are no pods behind them."""
    made = []
    for (namespace, name), address in CLUSTER_IPS.items():
        made.append(_service(namespace, name, address, [{"port": 80, "protocol": "TCP"}]))
    for namespace, name in HEADLESS:
        port, number = PORTS.get(name, ("main", 8080))
        ports = [{"name": port, "port": number, "protocol": "TCP"}]
        made.append(_service(namespace, name, "None", ports))
    return made


def slices(ready: bool = True, moved: bool = False) -> list[dict[str, Any]]:
    """The EndpointSlices, as the controller writes them for ready pods, or for unready ones."""
    made = []
    for (namespace, name), address in CLUSTER_IPS.items():
        pod = ((f"{name}-0", f"10.1.9.{address.rpartition('.')[2]}"),)
        made.append(_slice(namespace, name, pod, ready, None))
    for (namespace, name), pods in endpoints(moved).items():
        made.append(_slice(namespace, name, pods, ready, PORTS.get(name, ("main", 8080))))
    return made


def namespaces() -> list[dict[str, Any]]:
    """The namespaces of all that."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES
    ]


def _service(
    namespace: str, name: str, address: str, ports: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": address, "ports": list(ports)},
    }  # fmt: skip


def _slice(
    namespace: str,
    name: str,
    pods: Sequence[tuple[str, str]],
    ready: bool,
    port: tuple[str, int] | None,
) -> dict[str, Any]:
    label, number = port or ("", 80)
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": namespace, "name": f"{name}-e2e",
                     "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": label, "port": number, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "hostname": pod,
             "conditions": {"ready": ready, "serving": ready, "terminating": False},
             "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod}}
            for pod, address in pods
        ],
    }  # fmt: skip


# -- Corefiles ------------------------------------------------------------------------------------


def cluster_corefile(
    port: int, hosts: Sequence[str], kubeconfig: str, ready: int, outside: int
) -> str:
    """Cluster DNS as kubeadm configures it; `hosts` are the addresses it listens on."""
    return f"""\
.:{port} {{
    bind {" ".join(hosts)}
    errors
    ready {HOST}:{ready}
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} e2e
        endpoint_pod_names
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl {TTL}
    }}
    forward . {HOST}:{outside}
    cache 30 {{
        disable success {DOMAIN}
        disable denial {DOMAIN}
    }}
    loadbalance
}}
"""


def outside_corefile(port: int) -> str:
    """The rest of the world: a few names of example.net, which have an IPv4 address and no other.

    For the other types there is no data. To deny the name would be wrong (RFC 4074, 4.2), and musl,
    which asks for both families, would then have no address at all.
    """
    soa = "example.net. 60 IN SOA ns.example.net. root.example.net. 1 60 60 60 60"
    records = "\n".join(
        f"    template IN A {name} {{\n"
        f'        answer "{{{{ .Name }}}} {OUTSIDE_TTL} IN A {ip}"\n    }}\n'
        f"    template ANY ANY {name} {{\n        rcode NOERROR\n"
        f'        authority "{soa}"\n    }}'
        for name, ip in OUTSIDE.items()
    )
    return f"""\
.:{port} {{
    bind {HOST}
{records}
    template ANY ANY . {{
        rcode NXDOMAIN
        authority "{soa}"
    }}
}}
"""


# The arguments of `cache 30` in a CoreDNS that stands where dnsguard stands.
CACHES = {
    "CoreDNS cache": (),
    "serve_stale verify": ("serve_stale 24h verify 1800ms 30s 5s",),
    "prefer_positive": (
        "serve_stale 24h verify 1800ms 30s 5s", "serve_stale_policy prefer_positive"
    ),
}  # fmt: skip


def cache_corefile(port: int, upstream: int, options: Sequence[str]) -> str:
    """A node's or a pod's caching CoreDNS in front of cluster DNS."""
    inside = "".join(f"\n        {option}" for option in options)
    block = f" {{{inside}\n    }}" if options else ""
    return f"""\
.:{port} {{
    bind {HOST}
    forward . {HOST}:{upstream}
    cache 30{block}
}}
"""
