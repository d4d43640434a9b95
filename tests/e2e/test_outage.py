"""The outage with the real parts: dnsguard answers every known name throughout, others do not.

The run is made once; the tests read what was seen. What cluster DNS and the other resolvers did is
held to as well: a run in which nothing broke would prove nothing.
"""

from __future__ import annotations

import pytest

from benchmarks.harness import Bench
from tests.e2e import outage, report, shop, timeline
from tests.e2e.outage import OWN, UPSTREAM, Run
from tests.e2e.parts import ROOT
from tests.e2e.plane import ControlPlane
from tests.e2e.pods import LIBCS, NAMES
from tests.e2e.timeline import GOOD, Judged, during

pytestmark = pytest.mark.e2e
PLAIN, VERIFY, POSITIVE = shop.CACHES
LOOKUPS_MIN = 10  # of each name in each phase


@pytest.fixture(scope="module")
def run(bench: Bench, plane: ControlPlane) -> Run:
    found = outage.carry_out(bench, plane)
    report.write(found, ROOT / "build" / "e2e")
    return found


@pytest.fixture(scope="module")
def seen(run: Run) -> list[Judged]:
    return report.all_judged(run)


def verdicts(seen: list[Judged], run: Run, phase: str, system: str) -> set[str]:
    (found,) = (each for each in run.phases if each.name == phase)
    return {one.verdict for one in during(seen, found) if one.sight.system == system}


def test_dnsguard_answers_every_known_name_throughout(run: Run, seen: list[Judged]) -> None:
    mine = [one for one in seen if one.sight.system == OWN]
    assert len(mine) > 200 * len(shop.truths())
    bad = [one for one in mine if one.verdict not in GOOD]
    assert not bad, f"{len(bad)} of {len(mine)}, the first: {bad[:5]}"


def test_what_moved_is_learned_after_the_outage(run: Run, seen: list[Judged]) -> None:
    for system in (UPSTREAM, OWN):
        assert timeline.recovery_seconds(seen, system, run.moved_at) is not None


def test_cluster_dns_did_fail_as_it_was_meant_to(run: Run, seen: list[Judged]) -> None:
    assert verdicts(seen, run, "healthy", UPSTREAM) == {"right"}
    assert verdicts(seen, run, "API server killed", UPSTREAM) == {"right"}
    assert "SERVFAIL" in verdicts(seen, run, "CoreDNS restarted", UPSTREAM)
    assert "NXDOMAIN" in verdicts(seen, run, "API server back, pods unready", UPSTREAM)


def test_the_other_resolvers_passed_some_of_it_on(run: Run, seen: list[Judged]) -> None:
    """The report says so; if it changes, that must not go unnoticed."""
    assert "SERVFAIL" in verdicts(seen, run, "CoreDNS restarted", PLAIN)
    for system in (PLAIN, VERIFY):
        assert "NXDOMAIN" in verdicts(seen, run, "API server back, pods unready", system)


def test_the_injected_pod_runs_as_it_was_meant_to(run: Run) -> None:
    assert not run.pod_failed, run.pod_failed
    assert run.status["Uid"].split() == ["65532"] * 4
    assert int(run.status["CapEff"], 16) == 0
    assert run.status["NoNewPrivs"] == "1"
    assert run.status["Seccomp"] == "2"


@pytest.mark.parametrize("libc", LIBCS)
def test_getaddrinfo_finds_every_name_in_every_phase(run: Run, libc: str) -> None:
    assert not run.pod_failed, run.pod_failed
    before, after = outage.expected(False), outage.expected(True)
    for phase in run.phases:
        here = [one for one in run.lookups[libc] if phase.start <= one.at < phase.end]
        for name in NAMES:
            found = [one for one in here if one.name == name]
            assert len(found) >= LOOKUPS_MIN, (phase, name)
            wrong = [one for one in found if one.result not in (before[name], after[name])]
            assert not wrong, (phase.name, wrong[:3])
    last = {one.name: one.result for one in run.lookups[libc]}
    assert last == after


def test_probes_know_nothing_of_the_outage(run: Run) -> None:
    assert not run.pod_failed, run.pod_failed
    assert run.probes == {phase.name: (200, 200) for phase in run.phases}
