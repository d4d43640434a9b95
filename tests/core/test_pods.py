"""Which answers are of pods, by their names and their records, as CoreDNS gives them."""

from __future__ import annotations

import pytest

from dnsguard.core.pods import of_pods
from dnsguard.core.wire import name_octets
from tests.core import build

NS = "shop.svc.cluster.local"
SERVICE = f"web.{NS}. 30 IN A 10.101.0.1"
TWO = f"pods.{NS}. 30 IN A 10.1.0.1\npods.{NS}. 30 IN A 10.1.0.2"
CHAIN = f"ext.{NS}. 30 IN CNAME a.example.\na.example. 30 IN A 192.0.2.1"


def judged(name: str, rtype: str, answer: str, domain: str = "cluster.local") -> bool:
    query = build.query(name, rtype)
    return of_pods(build.read(query).key, build.answer_wire(query, answer), name_octets(domain))


@pytest.mark.parametrize(
    ("name", "rtype", "answer", "pods"),
    [
        (f"web.{NS}", "A", SERVICE, False),
        (f"web.{NS}", "AAAA", f"web.{NS}. 30 IN AAAA fd00::1", False),
        (f"pods.{NS}", "A", TWO, True),
        (f"web-0.pods.{NS}", "A", f"web-0.pods.{NS}. 30 IN A 10.1.0.1", True),
        ("10-1-0-1.shop.pod.cluster.local", "A",
         "10-1-0-1.shop.pod.cluster.local. 30 IN A 10.1.0.1", True),
        (f"ext.{NS}", "A", CHAIN, False),
        (f"_http._tcp.pods.{NS}", "SRV",
         f"_http._tcp.pods.{NS}. 30 IN SRV 0 50 80 10-1-0-1.pods.{NS}.", True),
        (f"_http._tcp.web.{NS}", "SRV", f"_http._tcp.web.{NS}. 30 IN SRV 0 1 80 web.{NS}.", False),
        (f"_http._tcp.web.{NS}", "SRV", f"_http._tcp.web.{NS}. 30 IN SRV 0 1 80 a.b.c.d.", False),
        (f"web.{NS}", "TXT", f'web.{NS}. 30 IN TXT "text"', False),
        ("10-1-0-1.shop.pod.cluster.local", "SRV",
         "10-1-0-1.shop.pod.cluster.local. 30 IN SRV 0 1 80 a.b.c.d.", False),
        ("dns-version.cluster.local", "A", "dns-version.cluster.local. 30 IN A 10.1.0.1", False),
        ("cluster.local", "A", "cluster.local. 30 IN A 10.1.0.1\ncluster.local. 30 IN A 10.1.0.2",
         False),
        ("www.example", "A", "www.example. 30 IN A 192.0.2.1\nwww.example. 30 IN A 192.0.2.2",
         False),
    ],
)  # fmt: skip
def test_what_is_of_pods(name: str, rtype: str, answer: str, pods: bool) -> None:
    assert judged(name, rtype, answer) is pods


def test_another_cluster_has_another_domain() -> None:
    name = "pods.shop.svc.k8s.example"
    two = f"{name}. 30 IN A 10.1.0.1\n{name}. 30 IN A 10.1.0.2"
    assert judged(name, "A", two, "k8s.example")
    assert not judged(name, "A", two)
