"""Admission reviews (admission.k8s.io/v1): the bytes of one in, the bytes of its answer out.

A pod is never refused: what cannot be injected is let through as it is, with a warning that kubectl
shows. Only what is no review at all is an error, and the API server's to handle. The patch is the
one that the command line carries out. Knows nothing of HTTP.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dnsguard.errors import ConfigError, DnsguardError
from dnsguard.kube.inject import Outcome, apply, plan
from dnsguard.kube.profile import INJECT, Check, Profile
from dnsguard.kube.sidecar import mapping

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
WARNING_CHARS_MAX = 250  # what is longer, the API server cuts
WARNINGS_MAX = 8


class NotAReview(DnsguardError):
    """The bytes are no admission review that can be answered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one review; `outcome` and `reason` are for metrics and the log."""

    body: bytes
    outcome: Literal["injected", "skipped", "failed"]
    pod: str
    reason: str


def answer(
    body: bytes, profile: Profile, check: Check | None = None, annotated_only: bool = False
) -> Verdict:
    """Answer a review. Raises NotAReview."""
    request = _request(body)
    uid: str = request["uid"]
    pod = request.get("object")
    kind = mapping(request, "kind")
    if (
        not isinstance(pod, dict)
        or (kind.get("group"), kind.get("version"), kind.get("kind")) != ("", "v1", "Pod")
        or request.get("operation") != "CREATE"
        or request.get("subResource")
    ):
        title = str(kind.get("kind") or "nothing")
        return _verdict(uid, "skipped", title, "not a pod that is being created")
    meta = mapping(pod, "metadata")
    namespace = str(request.get("namespace") or "")
    name = meta.get("name") or f"{meta.get('generateName') or ''}*"
    where = f"Pod {namespace}/{name}"
    wish = mapping(meta, "annotations").get(INJECT)
    if annotated_only and wish is None:
        return _verdict(uid, "skipped", where, f"no annotation {INJECT}")
    try:
        outcome = plan(pod, namespace, profile, where, check)
        # A patch that the API server cannot carry out would cost the pod.
        apply(copy.deepcopy(pod), outcome.patch)
    except ConfigError as error:
        said = [f"dnsguard is not injected: {mistake}" for mistake in error.mistakes]
        return _verdict(uid, "failed", where, "; ".join(said), said)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        # The API server has yet to judge this pod; it will say better what is wrong with it.
        reason = f"dnsguard cannot make sense of it: {type(error).__name__}: {error}"
        return _verdict(uid, "failed", where, reason, [reason])
    warnings = list(outcome.warnings)
    if not outcome.injected and wish == "enabled" and outcome.reason != "already injected":
        warnings.insert(0, f"dnsguard is not injected: {outcome.reason}")
    word: Literal["injected", "skipped"] = "injected" if outcome.injected else "skipped"
    return _verdict(uid, word, where, outcome.reason, warnings, outcome)


def _request(body: bytes) -> Mapping[str, Any]:
    try:
        review = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAReview("the body is not JSON") from None
    if not isinstance(review, dict) or review.get("kind") != KIND:
        raise NotAReview(f"the body is not an {KIND}")
    if review.get("apiVersion") != API_VERSION:
        raise NotAReview(f"apiVersion {review.get('apiVersion')!r}; this is {API_VERSION}")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise NotAReview("the review has no request with a uid")
    return request


def _verdict(
    uid: str,
    word: Literal["injected", "skipped", "failed"],
    pod: str,
    reason: str,
    warnings: list[str] | None = None,
    outcome: Outcome | None = None,
) -> Verdict:
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if outcome is not None and outcome.patch:
        patch = json.dumps(outcome.patch, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if warnings:
        response["warnings"] = [_short(warning) for warning in warnings[:WARNINGS_MAX]]
    review = {"apiVersion": API_VERSION, "kind": KIND, "response": response}
    return Verdict(json.dumps(review, separators=(",", ":")).encode(), word, pod, reason)


def _short(warning: str) -> str:
    """One printable line, not too long for the header that carries it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in warning).split())
    return line if len(line) <= WARNING_CHARS_MAX else f"{line[: WARNING_CHARS_MAX - 1]}…"
