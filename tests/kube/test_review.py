"""Admission reviews: pods, things that are no pods, and bytes that are no reviews."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dnsguard.kube.inject import apply, plan
from dnsguard.kube.profile import Profile
from dnsguard.kube.review import NotAReview, answer
from tests.kube.pods import PROFILE, annotated, pod, review

ON = {"dnsguard.io/inject": "enabled"}


def answered(body: bytes, **how: Any) -> tuple[dict[str, Any], str]:
    verdict = answer(body, PROFILE, **how)
    said = json.loads(verdict.body)
    assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = said["response"]
    assert (response["uid"], response["allowed"]) == ("u-1", True)
    return response, verdict.outcome


def test_the_patch_is_the_one_of_the_command_line() -> None:
    response, outcome = answered(review(pod()))
    assert (outcome, response["patchType"]) == ("injected", "JSONPatch")
    patched, expected = pod(), pod()
    apply(patched, json.loads(base64.b64decode(response["patch"])))
    apply(expected, plan(pod(), "shop", PROFILE, "Pod web").patch)
    assert patched == expected


def test_the_namespace_is_the_requests() -> None:
    """A pod's own may be empty, as is its name."""
    body = review({"metadata": {"generateName": "web-"}, "spec": {"containers": []}})
    verdict = answer(body, PROFILE)
    assert verdict.pod == "Pod shop/web-*"
    patch = json.loads(base64.b64decode(json.loads(verdict.body)["response"]["patch"]))
    (dns,) = [op["value"] for op in patch if op["path"] == "/spec/dnsConfig"]
    assert dns["searches"][0] == "shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("given", "warned"),
    [(pod(hostNetwork=True), False), (annotated(ON, hostNetwork=True), True)],
)
def test_whoever_asked_for_it_is_told_why_not(given: dict[str, Any], warned: bool) -> None:
    response, outcome = answered(review(given))
    assert outcome == "skipped"
    assert "patch" not in response
    assert ("warnings" in response) is warned


@pytest.mark.parametrize(
    "thing",
    [
        {},
        {"spec": None},
        {"spec": {"containers": "x"}},
        {"spec": {"containers": [], "volumes": {"a": 1}}},
        {"metadata": {"annotations": "x"}, "spec": {"containers": "x", "volumes": "y"}},
    ],
)
def test_a_patch_that_cannot_be_carried_out_is_not_given(thing: dict[str, Any]) -> None:
    """It would cost the pod (found by fuzzing)."""
    response, outcome = answered(review(thing))
    assert outcome == "failed"
    assert "patch" not in response
    assert "cannot make sense" in response["warnings"][0]


def test_a_pod_as_deep_as_json_goes_is_let_through() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    response, _ = answered(review(pod(dnsConfig={"options": deep})))
    assert response["allowed"]


def test_a_mistake_lets_the_pod_through_with_a_warning() -> None:
    response, outcome = answered(review(annotated({"dnsguard.io/sidecar": "x" * 300 + "\n\x00"})))
    assert outcome == "failed"
    (warning,) = response["warnings"]
    assert warning.startswith(
        "dnsguard is not injected: Pod shop/web: annotation dnsguard.io/sidecar"
    )
    assert len(warning) <= 250
    assert warning.isprintable()


def test_without_an_upstream_nothing_is_injected() -> None:
    verdict = answer(review(pod()), Profile())
    assert (verdict.outcome, json.loads(verdict.body)["response"]["allowed"]) == ("failed", True)


@pytest.mark.parametrize(
    "spec",
    [{"containers": 5}, {"containers": [5]}, {"volumes": [None]}, {"dnsConfig": {"options": [1]}}],
)
def test_a_pod_that_makes_no_sense_is_left_to_the_api_server(spec: dict[str, Any]) -> None:
    response, outcome = answered(review({"metadata": {"name": "web"}, "spec": spec}))
    assert (outcome, "patch" in response) == ("failed", False)


@pytest.mark.parametrize(
    "changes",
    [
        {"object": None},
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"subResource": "ephemeralcontainers"},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
        {"kind": "Pod"},
    ],
)
def test_what_is_no_new_pod_is_let_through(changes: dict[str, Any]) -> None:
    response, outcome = answered(review(pod(), **changes))
    assert (outcome, set(response)) == ("skipped", {"uid", "allowed"})


def test_annotated_pods_only() -> None:
    assert answered(review(pod()), annotated_only=True)[1] == "skipped"
    assert answered(review(annotated(ON)), annotated_only=True)[1] == "injected"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000,
        b'{"kind": "Pod"}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": 5}}',
    ],
)  # fmt: skip
def test_what_is_no_review_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NotAReview):
        answer(body, PROFILE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "spec", "annotations", "containers", "initContainers", "name", "volumes",
             "dnsConfig", "dnsPolicy", "options", "nameservers", "searches", "securityContext",
             "sysctls", "dnsguard.io/inject", "dnsguard.io/status", "ports", "value", "os"]
        ),
        inner, max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(JSON, JSON)
def test_no_object_at_all_makes_it_fail_or_refuse(found: Any, spec: Any) -> None:
    for thing in (found, {"metadata": found, "spec": spec}):
        answered(review(thing))
