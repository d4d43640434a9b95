"""Webhook and policy at a real API server: what pods look like that kubectl creates.

Each pod of the matrix is created for good under the webhook, and again under the policy; the two
must come out alike wherever both inject. Then the webhook goes, in two ways, and pods still start.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.harness import Bench, say
from tests.e2e.admission import Admission, comparable, has_sidecar
from tests.e2e.matrix import Case, cases
from tests.e2e.plane import ControlPlane

pytestmark = pytest.mark.e2e
CASES = cases()
IDS = [f"{case.name}-{case.reason or 'injected'}".replace(" ", "-") for case in CASES]
TIMEOUT_SECONDS = 5  # of the webhook's registration
Created = dict[str, tuple[dict[str, Any] | None, str]]  # the pod or none, and what kubectl said


@pytest.fixture(scope="module")
def admission(bench: Bench, plane: ControlPlane) -> Admission:
    return Admission(bench, plane)


def create_all(admission: Admission, suffix: str) -> Created:
    found: Created = {}
    for case in CASES:
        done = admission.create(case.manifest(suffix))
        pod = json.loads(done.stdout) if done.returncode == 0 else None
        found[case.name] = (pod, done.stderr)
    return found


@pytest.fixture(scope="module")
def by_webhook(admission: Admission) -> Created:
    admission.start_webhook()
    say(f"webhook registered; creating {len(CASES)} pods")
    return create_all(admission, "webhook")


@pytest.fixture(scope="module")
def by_policy(admission: Admission, by_webhook: Created) -> Iterator[Created]:
    admission.remove_webhook()
    admission.apply_policy()
    say(f"policy applied; creating {len(CASES)} pods")
    yield create_all(admission, "policy")
    admission.remove_policy()


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_webhook_does_what_the_matrix_says(
    case: Case, by_webhook: Created, admission: Admission
) -> None:
    pod, stderr = by_webhook[case.name]
    log = admission.said(case.namespace, f"{case.name}-webhook")
    if case.refused:
        assert pod is None
        assert case.refused in stderr
    else:
        assert pod is not None, stderr
        assert has_sidecar(pod) is case.injected
        assert ("dnsguard.io/status" in pod["metadata"].get("annotations", {})) is case.injected
    assert bool(log) is case.asked
    if case.asked:
        assert (": injected: " in log) is case.injected
        assert case.reason in log
    wish = (case.given["metadata"].get("annotations") or {}).get("dnsguard.io/inject")
    if case.asked and case.reason and wish not in (None, "disabled"):
        assert "Warning: dnsguard is not injected: " in stderr  # as kubectl shows it


def test_what_was_created_is_what_kubectl_reads_back(
    by_webhook: Created, admission: Admission
) -> None:
    listed = json.loads(admission.plane.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    there = {each["metadata"]["name"]: comparable(each) for each in listed}
    for case in CASES:
        pod, _ = by_webhook[case.name]
        if pod is not None:
            assert there[f"{case.name}-webhook"] == comparable(pod)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_policy_makes_the_same_pod(case: Case, by_webhook: Created, by_policy: Created) -> None:
    (first, _), (second, stderr) = by_webhook[case.name], by_policy[case.name]
    if case.refused:
        assert second is None
        return
    assert first is not None
    assert second is not None, stderr
    assert has_sidecar(second) is (case.injected and case.policy)
    if case.policy:
        assert comparable(second) == comparable(first)


def test_pods_start_without_the_webhook(admission: Admission, by_policy: Created) -> None:
    """By refusing and by hanging: the first costs nothing, the second the time-out."""
    admission.remove_policy()
    admission.start_webhook()
    assert admission.webhook is not None
    manifest = {case.name: case for case in CASES}["plain"].manifest
    admission.webhook.signal(signal.SIGSTOP)
    begun = time.monotonic()
    done = admission.create(manifest("hanging"))
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert not has_sidecar(json.loads(done.stdout))
    assert took >= TIMEOUT_SECONDS  # it was asked, and waited for no longer than said
    admission.webhook.signal(signal.SIGCONT)
    assert has_sidecar(json.loads(admission.create(manifest("awake")).stdout))
    admission.webhook.kill()
    done = admission.create(manifest("gone"))
    assert done.returncode == 0, done.stderr
    assert not has_sidecar(json.loads(done.stdout))
