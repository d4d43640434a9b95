"""What the end-to-end run is made of, as far as it needs no cluster: manifests, truths, verdicts.

Manifests are judged by the Kubernetes schemas, the matrix by the injection itself, and the watch
and the report by a resolver on loopback, so that none of it waits for `make e2e` to be found out.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from dnslib.server import DNSLogger, DNSServer

from benchmarks.harness import free_port
from benchmarks.peers.sources import attempt
from dnsguard.errors import ConfigError
from dnsguard.kube.inject import plan
from tests.e2e import install, outage, parts, plane, report, shop, timeline, watch
from tests.e2e.admission import MANIFESTS, configuration
from tests.e2e.kubelet import Place, service_links, words
from tests.e2e.matrix import NAMESPACES, Case, cases
from tests.e2e.outage import OWN, UPSTREAM, Run
from tests.e2e.pods import (
    NAMES,
    Lookup,
    Usage,
    client_table,
    for_podman,
    injected,
    manifest,
    read_lookups,
    resolv_conf,
)  # fmt: skip
from tests.e2e.shop import HOST, Truth
from tests.e2e.timeline import Phase, judge
from tests.e2e.upstream import OneAddress
from tests.e2e.watch import Sight, Watch, ask_once
from tests.kube.pods import NEWEST, PROFILE


@pytest.mark.parametrize("ready", [True, False])
def test_the_shop_is_made_of_valid_manifests(ready: bool) -> None:
    made = [*shop.namespaces(), *shop.services(), *shop.slices(ready, moved=not ready)]
    for document in made:
        kubernetes_validate.validate(document, NEWEST, strict=True)
    slices = [each for each in made if each["kind"] == "EndpointSlice"]
    conditions = {str(end["conditions"]["ready"]) for each in slices for end in each["endpoints"]}
    assert conditions == {str(ready)}
    services = {(each["metadata"]["namespace"], each["metadata"]["name"])
                for each in made if each["kind"] == "Service"}  # fmt: skip
    assert services == set(shop.CLUSTER_IPS) | set(shop.HEADLESS)


def test_the_truth_changes_only_for_what_moves() -> None:
    before, after = shop.truths(), shop.truths(moved=True)
    assert [(one.name, one.qtype) for one in before] == [(one.name, one.qtype) for one in after]
    moved = {one.name for one, other in zip(before, after, strict=True) if one != other}
    assert moved == {
        f"{pod}{name}.{namespace}.svc.{shop.DOMAIN}"
        for (namespace, name), pods in shop.MOVED.items()
        for pod in ("", *(f"{pod}." for pod, _ in pods))
    }
    denied = {one.name for one in before if one.kind in ("headless", "a pod's own")}
    assert len(denied) > 10  # a mass event, by any setting of the guard
    assert set(outage.expected(True)) == set(NAMES)


def test_a_name_with_addresses_is_asked_for_both_families_and_denied_for_none() -> None:
    """musl asks for both, and takes the denial of one for the word on the name."""
    found = shop.truths()
    with_addresses = {one.name for one in found if one.qtype == "A" and one.data}
    other = {one.name: one.rcode for one in found if one.qtype == "AAAA"}
    assert other == dict.fromkeys(with_addresses, "NOERROR")
    outside = shop.outside_corefile(53)
    for name in shop.OUTSIDE:
        assert f"template ANY ANY {name} {{\n        rcode NOERROR\n" in outside


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_matrix_is_what_injection_does(case: Case) -> None:
    """Where the webhook is asked, `plan` says the same as the matrix does."""
    assert re.fullmatch(r"[a-z0-9-]{1,60}", case.name)
    if not case.asked:
        return
    if case.name == "mistaken":
        with pytest.raises(ConfigError, match=case.reason):
            plan(case.given, case.namespace, PROFILE, "Pod")
        return
    outcome = plan(case.given, case.namespace, PROFILE, "Pod")
    assert outcome.injected is case.injected
    assert case.reason in outcome.reason


def test_the_webhook_is_registered_as_it_is_shipped() -> None:
    made = configuration(9443, b"authority")
    kubernetes_validate.validate(made, NEWEST, strict=True)
    assert [hook["clientConfig"]["url"] for hook in made["webhooks"]] == [
        f"https://{HOST}:9443/inject", f"https://{HOST}:9443/inject/annotated",
    ]  # fmt: skip
    excluded = made["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
    assert set(excluded) >= {"kube-system", "dnsguard"}
    assert set(NAMESPACES) >= {"kube-system", "dnsguard"}


def test_a_kubernetes_module_replaces_what_is_staged() -> None:
    part = parts.Kubernetes("kube-apiserver", "1.36.3")
    assert "require k8s.io/kubernetes v1.36.3\n" in part.go_mod()
    assert "\tk8s.io/api => k8s.io/api v0.36.3\n" in part.go_mod()
    assert "k8s.io/component-base/version.gitVersion=v1.36.3" in part.ldflags()
    assert "gitMajor=1 " in part.ldflags()


def test_certificates_are_signed_for_loopback(tmp_path: Path) -> None:
    made = plane.Certificates(tmp_path)
    certificate, key = made.signed("server")
    assert "PRIVATE KEY" in key.read_text()
    shown = subprocess.run(
        ["openssl", "verify", "-CAfile", str(made.authority), "-verify_ip", HOST, str(certificate)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr


def test_the_injected_pod_as_podman_plays_it(tmp_path: Path) -> None:
    pod = injected(manifest(), "10.96.0.10", "--classic")
    kubernetes_validate.validate(pod, NEWEST, strict=True)
    resolv = tmp_path / "resolv.conf"
    assert resolv_conf(pod["spec"]["dnsConfig"]) == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 127.0.0.1\noptions ndots:5\n"
    )
    played, sysctls = for_podman(pod, resolv, {"glibc": tmp_path / "lookup"})
    assert sysctls == {"net.ipv4.ip_unprivileged_port_start": "53"}
    by_name = {each["name"]: each for each in played["spec"]["containers"]}
    assert set(by_name) == {"glibc", "musl", "dnsguard"}
    for each in by_name.values():
        assert "/etc/resolv.conf" in {mount["mountPath"] for mount in each["volumeMounts"]}
    assert by_name["dnsguard"]["securityContext"]["readOnlyRootFilesystem"] is True
    assert "--listen=127.0.0.1:53" in by_name["dnsguard"]["args"]
    assert "dnsPolicy" in pod["spec"]  # what was given is not changed


def test_the_client_prints_what_is_read(tmp_path: Path) -> None:
    """The C program itself, with the compiler that is here."""
    program = tmp_path / "lookup"
    attempt("compiling", ["cc", "-O2", "-o", str(program), str(parts.CLIENT)])
    with subprocess.Popen(
        [program, "9", "127.0.0.1", "::1"], stdout=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stdout is not None
        lines = ran.stdout.readline() + ran.stdout.readline()
        ran.terminate()
    assert ran.returncode == 0
    assert [(one.name, one.result) for one in read_lookups(lines + "17 cut")] == [
        ("127.0.0.1", "127.0.0.1"), ("::1", "::1"),
    ]  # fmt: skip


def test_the_pages_commands_are_found() -> None:
    assert [len(install.commands(title)) for title in ("Webhook", "Manifests")] == [3, 3]
    node = install.commands("One on each node")
    assert len(node) == 3
    assert [each for each in node if each.startswith(install.NEEDS_KUBELET)] == [node[1]]
    assert install.inline("Install", "--set mechanism=policy") == "--set mechanism=policy"
    with pytest.raises(AssertionError, match="no command that begins"):
        install.inline("Undo", "rm -rf")


def test_a_pod_finds_every_variable_of_a_service() -> None:
    """As kubernetes.io/docs/concepts/services-networking/service has them."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"},
             {"name": "dns-tcp", "port": 5353, "protocol": "TCP"}]  # fmt: skip
    assert service_links("cluster-dns", "10.96.0.10", ports) == {
        "CLUSTER_DNS_SERVICE_HOST": "10.96.0.10", "CLUSTER_DNS_SERVICE_PORT": "53",
        "CLUSTER_DNS_SERVICE_PORT_DNS": "53", "CLUSTER_DNS_SERVICE_PORT_DNS_TCP": "5353",
        "CLUSTER_DNS_PORT": "udp://10.96.0.10:53",
        "CLUSTER_DNS_PORT_53_UDP": "udp://10.96.0.10:53",
        "CLUSTER_DNS_PORT_53_UDP_ADDR": "10.96.0.10", "CLUSTER_DNS_PORT_53_UDP_PORT": "53",
        "CLUSTER_DNS_PORT_53_UDP_PROTO": "udp",
        "CLUSTER_DNS_PORT_5353_TCP": "tcp://10.96.0.10:5353",
        "CLUSTER_DNS_PORT_5353_TCP_ADDR": "10.96.0.10", "CLUSTER_DNS_PORT_5353_TCP_PORT": "5353",
        "CLUSTER_DNS_PORT_5353_TCP_PROTO": "tcp",
    }  # fmt: skip


def test_the_charts_containers_get_what_their_manifest_says_and_no_more() -> None:
    documents = yaml.safe_load_all((MANIFESTS / "node" / "dnsguard.yaml").read_text())
    (spec,) = [
        each["spec"]["template"]["spec"] for each in documents if each["kind"] == "DaemonSet"
    ]
    by_name = {each["name"]: each for each in spec["containers"]}
    fields = {"status.hostIP": "192.0.2.5", "metadata.name": "dnsguard-node-x"}
    links = {"DNSGUARD_UPSTREAM_SERVICE_HOST": "10.96.33.44"}
    place = Place("node", fields, links, {"state": Path("/somewhere")})
    told = words(spec, by_name["watcher"], place)
    assert {"--cap-drop=ALL", "--cap-add=NET_ADMIN", "--user=0:0", "--read-only",
            "--security-opt=no-new-privileges", "--network=ns:/run/netns/node",
            "--env=OWN_NAME=dnsguard-node-x.dnsguard.invalid", "--node-admin=192.0.2.5:9353",
            "--upstream=10.96.33.44"} <= set(told)  # fmt: skip
    told = words(spec, by_name["dnsguard"], place)
    assert [each for each in told if each.startswith("--cap-add")] == ["--cap-add=NET_BIND_SERVICE"]
    assert "--volume=/somewhere:/var/lib/dnsguard" in told
    assert "--tmpfs=/tmp:size=1m,mode=1777" in told


TRUE = Truth("headless", "db", "A", "NOERROR", frozenset({"10.1.1.1"}))
MOVED = Truth("headless", "db", "A", "NOERROR", frozenset({"10.1.1.2"}))


def sight(rcode: str, *data: str, at: float = 0.0, system: str = OWN, took: float = 0.001) -> Sight:
    return Sight(at, system, 0, rcode, frozenset(data), took)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (sight("NOERROR", "10.1.1.2"), "right"),
        (sight("NOERROR", "10.1.1.1"), "old"),
        (sight("NOERROR", "10.1.1.1", "10.1.1.2"), "wrong"),
        (sight("NOERROR"), "empty"),
        (sight("NXDOMAIN"), "NXDOMAIN"),
        (sight("SERVFAIL"), "SERVFAIL"),
        (sight("REFUSED"), "refused"),
        (sight("", took=5.0), "nothing"),
    ],
)
def test_every_answer_gets_its_verdict(seen: Sight, verdict: str) -> None:
    assert judge(seen, TRUE, MOVED) == verdict
    assert verdict in timeline.MEANINGS
    assert verdict in timeline.COLOURS


def made_up_run() -> Run:
    """Twenty seconds: well, an outage that one of two passes on, well again in another place."""
    run = Run(systems=(UPSTREAM, OWN), moved_at=15.0, pod_failed="none was asked for")
    run.phases = [Phase("healthy", 0, 5), Phase("dead", 5, 15), Phase("well", 15, 20)]
    for second in range(20):
        for question, truth in enumerate(shop.truths(moved=second >= 17)):
            dead = 5 <= second < 15
            run.sights.append(
                Sight(second, UPSTREAM, question, "SERVFAIL" if dead else truth.rcode,
                      frozenset() if dead else truth.data, 0.001)
            )  # fmt: skip
            run.sights.append(Sight(second, OWN, question, truth.rcode, truth.data, 0.002))
    return run


def test_the_report_says_what_was_seen(tmp_path: Path) -> None:
    run = made_up_run()
    run.lookups = {"glibc": [Lookup(6.0, "web", "10.96.1.1", 3), Lookup(7.0, "web", "no", 5004)]}
    run.usage = Usage(41 * 1024, 1.5, 6000).since(Usage(41 * 1024, 0.5, 1000))
    text, picture = report.write(run, tmp_path)
    told = text.read_text()
    assert "41.0 MiB at most, and took 1.0 s of CPU for 5,000\nanswers in these 20 s" in told
    assert ": 200 microseconds each" in told
    assert "| dead | 10 | 0 % (SERVFAIL 100 %) | **100 %** |" in told
    assert "| healthy | 5 | **100 %** | **100 %** |" in told
    assert "| dead | 1 of 2 | 5004 |" in told
    assert report.COMMAND in told
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    again = report.write(run, tmp_path / "again")[1]
    assert again.read_text() == drawn


def test_recovery_is_counted_until_the_last_that_was_not_right() -> None:
    found = report.all_judged(made_up_run())
    assert timeline.recovery_seconds(found, OWN, 15.0) == 1.0
    assert timeline.recovery_seconds(found, OWN, 99.0) is None
    never = [one for one in found if one.sight.at < 17]
    assert timeline.recovery_seconds(never, OWN, 15.0) is None


def test_a_share_is_whole_only_if_it_is() -> None:
    assert [timeline.percent(part, 10_000) for part in (0, 1, 5000, 9999, 10_000)] == [
        "0 %", "0.1 %", "50 %", "99.9 %", "100 %"
    ]  # fmt: skip


def test_no_lookup_is_no_division() -> None:
    assert client_table({"musl": []}, [Phase("p", 0, 1)], {}, {})[-1] == "| p | 0 of 0 | 0 |"


def test_the_watch_asks_everyone_the_same_and_counts_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real resolver, and a port where nobody listens."""
    monkeypatch.setattr(watch, "PATIENCE", 0.2)
    server = DNSServer(OneAddress(), address=HOST, port=0, logger=DNSLogger("-request,-reply"))
    port = server.server.server_address[1]
    server.start_thread()
    try:
        questions = shop.truths()[:3]
        asking = Watch({"there": (HOST, port), "nobody": (HOST, free_port())}, questions, 0.05)
        asking.start()
        while len(asking.sights) < 4 * len(questions):
            asking.join(0.02)
        asking.stop()
        assert ask_once((HOST, port), questions[:1]) == [("NOERROR", frozenset({"10.1.2.3"}))]
    finally:
        server.stop()
        server.server.server_close()
    assert ask_once((HOST, free_port()), questions) == [None] * len(questions)
    there = [one for one in asking.sights if one.system == "there"]
    assert {(one.rcode, one.data) for one in there if one.question == 0} == {
        ("NOERROR", frozenset({"10.1.2.3"}))
    }
    asked = {system: sorted(one.question for one in asking.sights if one.system == system)
             for system in ("there", "nobody")}  # fmt: skip
    assert asked["there"] == asked["nobody"]
    assert {one.rcode for one in asking.sights if one.system == "nobody"} == {""}
