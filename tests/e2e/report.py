"""The report of the outage: kubernetes-outage.md and .svg, written from what one run saw."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import coredns
from tests.e2e import parts, shop, timeline
from tests.e2e.pods import client_table
from tests.e2e.timeline import Judged, Phase

if TYPE_CHECKING:
    from tests.e2e.outage import Run

NAME = "kubernetes-outage"
COMMAND = "python -m tests.e2e.outage --keep benchmarks"
HEAD = """\
# An outage of the control plane, watched

Written by `{command}` on {day}, Python {python}, Linux {linux}. `make e2e` carries out the same and
holds dnsguard to it.

kube-apiserver {kubernetes}, etcd and CoreDNS {coredns} with its kubernetes plugin (TTL {ttl} s) are
cluster DNS. {others} resolvers stand before it, and each is asked {names} questions every {beat} s,
at the same moments: dnsguard as injection starts it, and CoreDNS with `cache 30` and

"""
STORY = """\
What happens: the API server is killed. CoreDNS is restarted and, without the API, has no data
(SERVFAIL). The API server comes back, and all nodes are held for dead: every endpoint is set to
`ready: false`, as the controllers do, though the pods run (NXDOMAIN for headless names). In the end
all endpoints are ready again, and the pods of two Services have moved.

The share of right answers by phase, in bold where it is all of them. Answers from before the pods
moved count as right; how long it takes until they are gone is said further below.

"""
CLIENTS = """\
In an injected pod, run by podman, a glibc and a musl program look names up with getaddrinfo through
the sidecar, short names and whole ones:

"""


USAGE = """\
The sidecar's process had {peak:.1f} MiB at most, and took {cpu:.1f} s of CPU for {answers:,}
answers in these {seconds:.0f} s: {each:.0f} microseconds each, with all that it does by itself.
"""


def all_judged(run: Run) -> list[Judged]:
    """Every answer of the run with its verdict."""
    return timeline.judged(run.sights, shop.truths(), shop.truths(moved=True), run.moved_at)


def outage_phases(run: Run) -> list[Phase]:
    """From the death of the API server until all is well."""
    return run.phases[1:-1]


def markdown(run: Run, found: Sequence[Judged]) -> str:
    """The report's text."""
    from tests.e2e.outage import BEAT_SECONDS, expected

    day = time.strftime("%Y-%m-%d", time.gmtime(run.phases[0].start))
    head = HEAD.format(
        command=COMMAND, day=day, python=platform.python_version(), beat=f"{BEAT_SECONDS:.0f}",
        linux=platform.release().partition("-")[0], kubernetes=parts.KUBERNETES, ttl=shop.TTL,
        coredns=coredns.SOURCE.version[1:], others=len(run.systems) - 1, names=len(shop.truths()),
    )  # fmt: skip
    lines = [
        *head.splitlines(),
        *(f"- **{system}**: {'; '.join(f'`{option}`' for option in options) or 'nothing else'}"
          for system, options in shop.CACHES.items()),
        "",
        f"![the answers over time]({NAME}.svg)",
        "",
        *STORY.splitlines(),
        *timeline.table(found, run.phases, run.systems),
        "",
        "By sort of name, over the three phases of the outage:",
        "",
        *timeline.kinds_table(found, outage_phases(run), run.systems),
        "",
        "Median and longest time to an answer, in milliseconds:",
        "",
        *timeline.slowest_table(found, run.phases, run.systems),
        "",
        "Seconds after the move until the last answer that was not the new truth:",
        "",
        "| " + " | ".join(run.systems) + " |",
        "|---" * len(run.systems) + "|",
        "| " + " | ".join(_recovery(found, system, run.moved_at) for system in run.systems) + " |",
        "",
    ]  # fmt: skip
    if run.lookups:
        lines += [
            *CLIENTS.splitlines(),
            *client_table(run.lookups, run.phases, expected(False), expected(True)),
            "",
        ]
    if run.usage:
        used = run.usage
        text = USAGE.format(
            peak=used.peak_kib / 1024, cpu=used.cpu_seconds, answers=used.answers,
            seconds=run.phases[-1].end - run.phases[0].start,
            each=1e6 * used.cpu_seconds / max(used.answers, 1),
        )  # fmt: skip
        lines += [*text.splitlines(), ""]
    lines += [f"- *{verdict}*: {timeline.MEANINGS[verdict]}" for verdict in _seen(found)]
    return "\n".join([*lines, ""])


def _recovery(found: Sequence[Judged], system: str, moved_at: float) -> str:
    seconds = timeline.recovery_seconds(found, system, moved_at)
    return "not yet" if seconds is None else f"{seconds:.0f}"


def _seen(found: Sequence[Judged]) -> list[str]:
    there = {one.verdict for one in found}
    return [verdict for verdict in timeline.VERDICTS if verdict in there]


def write(run: Run, folder: Path) -> list[Path]:
    """Write both files into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = all_judged(run)
    text, picture = folder / f"{NAME}.md", folder / f"{NAME}.svg"
    text.write_text(markdown(run, found), encoding="utf-8")
    title = "What clients are answered while the control plane is gone, in % of the questions"
    timeline.draw(picture, title, found, run.phases, run.systems)
    return [text, picture]
