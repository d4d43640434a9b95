"""The demo's zone: names, kinds of answers, and ages that can be read from them."""

from __future__ import annotations

import pytest
from dnslib import QTYPE, DNSRecord

from dnsguard.demo.zone import Question, Zone, age_of, pod_address, questions
from tests.demo.asking import addresses, query

PODS = "postgres.data.svc.cluster.local"


def answer(name: str, qtype: str = "A", now: float = 100.5) -> DNSRecord:
    return Zone(5).answer(query(name, qtype), now)


@pytest.mark.parametrize("question", questions(), ids=lambda q: f"{q.name}{q.qtype}")
def test_every_question_has_the_answer_that_clients_expect(question: Question) -> None:
    reply = answer(question.name, question.qtype)
    assert reply.header.rcode == question.rcode
    assert bool(reply.rr) == question.data
    assert {record.ttl for record in reply.rr + reply.auth} == {5}
    if not question.data:
        assert [QTYPE[record.rtype] for record in reply.auth] == ["SOA"]


def test_questions_are_a_few_dozen_and_differ() -> None:
    asked = questions()
    assert len(set(asked)) == len(asked)
    assert len([q for q in asked if q.qtype == "A" and q.data]) > 24
    assert {q.qtype for q in asked} == {"A", "AAAA", "SRV", "CNAME"}


def test_pods_are_new_every_second_and_services_are_not() -> None:
    now, later = answer(PODS, now=100.2), answer(PODS, now=101.1)
    assert addresses(now) == ["10.240.0.100", "10.241.0.100", "10.242.0.100"]
    assert addresses(later) == ["10.240.0.101", "10.241.0.101", "10.242.0.101"]
    web = "web.shop.svc.cluster.local"
    assert addresses(answer(web, now=100.2)) == addresses(answer(web, now=900))


def test_services_have_an_address_each() -> None:
    steady = [q.name for q in questions() if q.qtype == "A" and q.data and ".data." not in q.name]
    found = [address for name in steady for address in addresses(answer(name))]
    assert len(set(found)) == len(steady)


def test_srv_brings_the_addresses_along() -> None:
    reply = answer(f"_pg._tcp.{PODS}", "SRV")
    targets = [str(record.rdata.target) for record in reply.rr]
    extra = {str(r.rname): str(r.rdata) for r in reply.ar if QTYPE[r.rtype] == "A"}
    assert sorted(extra) == sorted(targets)
    for target in targets:
        assert addresses(answer(target)) == [extra[target]]


def test_an_external_name_is_followed() -> None:
    reply = answer("cards.pay.svc.cluster.local")
    assert [QTYPE[record.rtype] for record in reply.rr] == ["CNAME", "A"]
    assert str(reply.rr[0].rdata) == str(reply.rr[1].rname)


@pytest.mark.parametrize(
    ("name", "rcode", "apex"),
    [
        ("data.svc.cluster.local", 0, "cluster.local."),
        ("nobody.data.svc.cluster.local", 3, "cluster.local."),
        ("postgres-9.postgres.data.svc.cluster.local", 3, "cluster.local."),
        ("kafka-0.postgres.data.svc.cluster.local", 3, "cluster.local."),
        ("example.com", 3, "."),
    ],
)
def test_denials_carry_the_soa(name: str, rcode: int, apex: str) -> None:
    reply = answer(name)
    assert (reply.header.rcode, reply.rr) == (rcode, [])
    assert [str(record.rname) for record in reply.auth] == [apex]


def test_any_letter_case_is_the_same_name_and_is_echoed() -> None:
    reply = answer("PostGres.data.svc.cluster.local")
    assert len(reply.rr) == 3
    assert str(reply.q.qname).startswith("PostGres.")


@pytest.mark.parametrize("born", [0, 255, 256, 65535, 65536, 70000])
def test_an_address_tells_its_age(born: int) -> None:
    assert age_of(pod_address(2, born), born + 7.5) == 7.5


def test_a_service_address_has_no_age() -> None:
    assert age_of("10.96.0.11", 50.0) is None
    assert age_of("192.0.2.10", 50.0) is None
