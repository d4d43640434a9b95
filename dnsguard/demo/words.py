"""How numbers of the demo are put into words, the same on every screen."""

from __future__ import annotations

from dnsguard.config import Address
from dnsguard.demo.show import Show
from dnsguard.demo.tally import Summary

NOTHING = "-"
NO_ANSWER = "no answer"
ANSWERED = "answered"


def share(value: float | None) -> str:
    """Rounded towards the truth: 100 % only if nothing is missing."""
    if value is None:
        return NOTHING
    percent = value * 100
    if 99.9 < percent < 100:
        return "99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def latency(seconds: float | None) -> str:
    """None is a query that never got a right answer."""
    if seconds is None:
        return NO_ANSWER
    ms = seconds * 1000
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.0f} ms" if ms < 1000 else f"{seconds:.2f} s"


def latencies(p50: float | None, p99: float | None) -> str:
    if p50 is None and p99 is None:
        return NO_ANSWER
    return f"{latency(p50)} · {latency(p99)}"


def seconds(value: float | None) -> str:
    return NOTHING if value is None else latency(value) if value < 1 else f"{value:.1f} s"


def age(value: float | None) -> str:
    """Births are whole seconds, so no more is known."""
    return NOTHING if not value else f"{value:.0f} s"


def clock(value: float) -> str:
    return f"{int(value) // 60:02}:{int(value) % 60:02}"


def numbers(summary: Summary) -> dict[str, str]:
    """One column of the table that the demo ends with; every number was measured in this run."""
    return {
        "queries in the outage": f"{summary.sent:,}",
        ANSWERED: share(summary.share),
        "lost: no answer in 2 s": f"{summary.lost:,}",
        "failed: SERVFAIL": f"{summary.failed:,}",
        "latency p50 · p99": latencies(summary.p50, summary.p99),
        "slowest answer": _maybe(summary.slowest),
        "first stale answer took": _maybe(summary.first_stale),
        "oldest answer": age(summary.oldest),
        "queries sent upstream": f"{summary.upstream_asked:,}",
        "fresh again: first answer": seconds(summary.fresh_after),
        "fresh again: every answer": seconds(summary.all_fresh_after),
    }


def summary_rows(guard: Summary, plain: Summary) -> list[tuple[str, str, str]]:
    """What it is, with dnsguard, with the plain cache."""
    theirs = numbers(plain)
    return [(title, mine, theirs[title]) for title, mine in numbers(guard).items()]


def _maybe(value: float | None) -> str:
    return NOTHING if value is None else latency(value)


def verdict(lost: int, answered: int, plain: Summary) -> str:
    """One sentence that says how it went."""
    missed = plain.sent - plain.answered
    if lost:
        return f"dnsguard lost {lost:,} of {answered + lost:,} queries. That should not happen."
    return (
        f"dnsguard answered all {answered:,} queries of this run. "
        f"The plain cache left {missed:,} without an answer."
    )


TRY_NAME = "postgres.data.svc.cluster.local"
TRY_SRV = "_pg._tcp.postgres.data.svc.cluster.local SRV"


def try_it(show: Show) -> list[tuple[str, str]]:
    """Commands for another terminal, and what each one shows."""
    settings, listen = show.settings, show.listen
    elsewhere = "" if listen == Address("127.0.0.1", 5353) else f" --server {listen}"
    return [
        (f"dig @{listen.host} -p {listen.port} {TRY_NAME}", "asks dnsguard"),
        (f"{settings.query_command} {TRY_NAME}{elsewhere}", "the same, and says what is stale"),
        (f"{settings.query_command} {TRY_SRV}{elsewhere}", "named ports"),
        (f"dig @127.0.0.1 -p {show.plain_port} +tries=1 {TRY_NAME}", "asks the plain cache"),
        *settings.extras,
    ]


def break_it(show: Show) -> list[tuple[str, str]]:
    """Signals for the cluster DNS."""
    pid = show.cluster_pid
    return [
        (f"kill -STOP {pid}", "the cluster DNS hangs"),
        (f"kill -CONT {pid}", "and runs again"),
    ]
